"""Saving and loading: a model as a directory, and the state to resume from.

Explained in chapter 08. A model directory has the layout of `transformers`,
so `AutoModelForCausalLM.from_pretrained(directory)` opens it. What a stopped
run needs to go on lies in its `state/`. Every file is written beside its
place and then renamed, so a crash leaves the old one or the new one, and the
file that declares the others whole is written last.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from minimind.errors import UserError
from minimind.files import read_json, write_atomically, write_json
from minimind.model.config import ModelConfig
from minimind.model.granite import weights_from_hf, weights_to_hf
from minimind.model.hf import from_hf, to_hf
from minimind.model.transformer import MiniMindForCausalLM
from minimind.model.weights import HEAD, load_weights, read_weights
from minimind.text.tokenizer import BOS_ID, EOS_ID, PAD_ID, Tokenizer


def save_model(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    directory: Path,
    info: dict[str, Any],
) -> None:
    """Write a model directory. info goes to minimind.json (stage, step, ...).

    Raises UserError where no class of `transformers` computes the same as the
    model, before anything is written.
    """
    config = to_hf(model.config)
    weights = {
        key: value.detach().cpu().contiguous()
        for key, value in model.state_dict().items()
        if key != HEAD or not model.config.tie_word_embeddings
    }
    weights = weights_to_hf(model.config, weights)
    # The largest first: on a disk with too little room, nothing has changed yet.
    data = safetensors.torch.save(weights, metadata={"format": "pt"})
    write_atomically(directory / "model.safetensors", data)
    tokenizer.save(directory)
    write_json(directory / "config.json", config)
    write_json(
        directory / "generation_config.json",
        {"pad_token_id": PAD_ID, "bos_token_id": BOS_ID, "eos_token_id": [EOS_ID]},
    )
    write_json(directory / "minimind.json", {"tokenizer": tokenizer.hash, **info})


def check_vocabulary(tokenizer: Tokenizer, config: ModelConfig, source: Path) -> None:
    """Raise UserError for a tokenizer with ids that the model does not have."""
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} ids, but the model "
            f"only {config.vocab_size}; they do not belong together"
        )


def load_model(directory: Path) -> tuple[MiniMindForCausalLM, Tokenizer]:
    """Open a model directory, in evaluation mode.

    Raises UserError where a file is missing, the weights do not fit the
    config, or the tokenizer is not the one the model was trained with.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise UserError(f"{directory}: no model here (config.json is missing)")
    config = from_hf(read_json(path), str(path))
    tokenizer = Tokenizer.load(directory)
    own = directory / "minimind.json"
    if own.is_file():
        trained_with = read_json(own).get("tokenizer")
        if trained_with != tokenizer.hash:
            raise UserError(
                f"{directory}: tokenizer.json ({tokenizer.hash}) is not the one this "
                f"model was trained with ({trained_with}); put the right one back"
            )
    check_vocabulary(tokenizer, config, directory)
    # As published models have them; safetensors first, it opens faster.
    paths = [directory / name for name in ("model.safetensors", "pytorch_model.bin")]
    path = next((path for path in paths if path.is_file()), paths[0])
    weights = read_weights(path)
    model = MiniMindForCausalLM(config)
    load_weights(model, weights_from_hf(config, weights), str(path))
    return model.eval(), tokenizer


def trained_length(directory: Path) -> int | None:
    """Tokens of the longest rows that a model was trained on, where it tells."""
    own = directory / "minimind.json"
    if not own.is_file():
        return None
    return read_json(own).get("seq_len")


def fingerprint(weights: dict[str, torch.Tensor]) -> str:
    """A short sha256 of weights."""
    digest = hashlib.sha256()
    for value in weights.values():
        data = value.detach().cpu().contiguous().view(torch.uint8)
        digest.update(data.numpy())
    return digest.hexdigest()[:16]


def save_state(
    directory: Path, step: int, state: dict[str, Any], keep: int = 2
) -> None:
    """Write a training state, state/step-NNNNNNN.pt; the last `keep` stay.

    Its sha256 is written last, beside it: a state without one is not whole.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    path = directory / "state" / f"step-{step:07d}.pt"
    write_atomically(path, data)
    write_json(path.with_suffix(".json"), {"sha256": hashlib.sha256(data).hexdigest()})
    states = saved_states(directory)
    here = states.index(path)
    # A later state is damaged, or the run would have gone on from there.
    for old in states[:here] + states[here + keep :]:
        old.with_suffix(".json").unlink(missing_ok=True)
        old.unlink(missing_ok=True)
    for left_by_a_kill in path.parent.glob("*.unfinished"):
        left_by_a_kill.unlink()


def saved_states(directory: Path) -> list[Path]:
    """The training states of a run, newest first."""
    return sorted((directory / "state").glob("step-*.pt"), reverse=True)


def load_state(
    directory: Path, say: Callable[[str], None] = print
) -> dict[str, Any] | None:
    """The newest whole training state of a run, or None.

    A damaged one is reported, and the one before it is taken.
    """
    states = saved_states(directory)
    for path in states:
        data = path.read_bytes()
        record = path.with_suffix(".json")
        sha256 = hashlib.sha256(data).hexdigest().encode()
        if record.is_file() and sha256 in record.read_bytes():
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        say(f"{path}: incomplete or damaged; taking the state before it")
    if states:
        say(f"{directory}: no whole state is left; starting from the beginning")
    return None
