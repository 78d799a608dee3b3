"""Weights from a file into a model, strictly: all of them fit, or none is copied.

Explained in chapter 06.
"""

import pickle
import re
from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from minimind.errors import UserError
from minimind.model.config import PRESETS, ModelConfig
from minimind.model.transformer import MiniMindForCausalLM

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"  # not stored where it is the embedding itself
# What DDP and torch.compile put before every name.
WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")
# Rotation tables in published files, which the model computes itself.
TABLES = ("freqs_cis", "freqs_cos", "freqs_sin")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a safetensors file, or in a state dict of torch, by name.

    Nothing in the file is run. Raises UserError for one that is damaged, or
    holds anything but tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path}: incomplete or damaged ({error}); copy or train it again"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise UserError(
            f"{path}: incomplete or damaged, or more than weights, which could "
            "run code when it is opened"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a state dict")
    weights = {}
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"{path}: {name!r} is a {type(value).__name__}, not a weight; "
                "give a file that holds the model's state dict alone"
            )
        name = WRAPPERS.sub("", name)
        if name.rpartition(".")[2] not in TABLES:
            weights[name] = value
    return weights


def is_tied(weights: dict[str, Tensor]) -> bool:
    """Whether the head of a state dict is its embedding, or left out as such."""
    embedding, head = weights.get(EMBEDDING), weights.get(HEAD)
    return head is None or (embedding is not None and torch.equal(head, embedding))


def differences(model: MiniMindForCausalLM, weights: dict[str, Tensor]) -> list[str]:
    """What keeps weights from being exactly those of the model, in words."""
    expected = model.state_dict()
    if model.config.tie_word_embeddings:
        if not is_tied(weights):
            return [f"{HEAD} differs from {EMBEDDING}, which the model uses for both"]
        del expected[HEAD]
        weights = {key: value for key, value in weights.items() if key != HEAD}
    found = [f"{key} is missing" for key in expected if key not in weights]
    found += [f"{key} is unknown" for key in weights if key not in expected]
    found += [
        f"{key} is {tuple(weights[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    return found


def nearest_preset(
    weights: dict[str, Tensor],
) -> tuple[str, ModelConfig, list[str]]:
    """The preset whose names and shapes come closest, and what still differs.

    The size of the vocabulary, and a head of its own, may be other than the
    preset's; the config returned has them as the weights do.
    """
    own = {"tie_word_embeddings": is_tied(weights)}
    if EMBEDDING in weights:
        own["vocab_size"] = len(weights[EMBEDDING])
    candidates = []
    for name, config in PRESETS.items():
        config = replace(config, **own)
        with torch.device("meta"):
            model = MiniMindForCausalLM(config)
        candidates.append((name, config, differences(model, weights)))
    return min(candidates, key=lambda candidate: len(candidate[2]))


def load_weights(
    model: MiniMindForCausalLM, weights: dict[str, Tensor], source: str
) -> None:
    """Copy weights into the model; each must be there, and no other.

    Raises UserError that says what differs, and which preset would fit.
    """
    if found := differences(model, weights):
        name, _, others = nearest_preset(weights)
        hint = "" if others else f"; they are those of the preset {name}"
        shown = "; ".join(found[:3])
        raise UserError(
            f"{source}: {len(found)} weights do not fit the model: {shown}{hint}"
        )
    if model.config.tie_word_embeddings:
        weights = {**weights, HEAD: weights[EMBEDDING]}
    model.load_state_dict(weights)
