"""Read a Llama from a GGUF file: its shape, its weights and its tokenizer.

Explained in chapter 06. The format is llama.cpp's; the package `gguf` is its
own reader, with the names of the tensors and the arithmetic of every quantised type.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from torch import Tensor

from minimind.errors import UserError
from minimind.model.config import ModelConfig
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.tokenizer import CHAT_TEMPLATE, CONTROL_TOKENS, Tokenizer

# What llama.cpp calls our two ways of cutting a text before BPE.
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS = pre_tokenizers.Digits(individual_digits=True)
PRE_TOKENIZERS = {
    "gpt-2": BYTES,
    "smollm": pre_tokenizers.Sequence([DIGITS, BYTES]),
}
CONTROL, USER_DEFINED = 3, 4  # token types that BPE must not cut


def read_gguf(path: Path) -> tuple[ModelConfig, dict[str, Tensor], Tokenizer]:
    """The config, the weights under our names, in fp32, and the tokenizer.

    Quantised weights are turned back into numbers. A tensor that a Llama does
    not have keeps its name in the file. Raises UserError for a file that is
    damaged, or whose model this package would compute differently.
    """
    try:
        import gguf
    except ImportError:
        raise UserError(
            f"{path}: reading GGUF needs the package gguf; "
            "install it with `pip install gguf`"
        ) from None
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(f"{path}: not a whole GGUF file ({error})") from None
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type)
        for tensor in reader.tensors
    }
    config = read_config(fields, tensors, path)
    with torch.device("meta"):
        expected = MiniMindForCausalLM(config).state_dict()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    ours = {names.get_name(key, try_suffixes=(".weight",)): key for key in expected}
    weights = {}
    for name, array in tensors.items():
        key = ours.get(name, name)
        if key.endswith("q_proj.weight"):
            array = half_split_rows(array, config.num_attention_heads)
        elif key.endswith("k_proj.weight"):
            array = half_split_rows(array, config.num_key_value_heads)
        # What is not quantised is still a read-only view of the file.
        weights[key] = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    return config, weights, read_tokenizer(fields, path)


def half_split_rows(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undo the order in which GGUF keeps a Llama's query and key rows.

    llama.cpp turns neighbours, rows (0, 1), (2, 3), ... of a head; we turn
    rows half a head apart, (0, D/2), (1, D/2 + 1), ... rows: (heads * D, C).
    """
    pairs = rows.reshape(heads, -1, 2, rows.shape[-1])  # head, pair, member, C
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def read_config(
    fields: dict[str, Any], tensors: dict[str, np.ndarray], path: Path
) -> ModelConfig:
    """The shape that a GGUF file declares in its metadata.

    Raises UserError, naming the field, for one that is missing or that asks
    for what this package does not compute.
    """

    def number(name: str) -> Any:
        value = fields.get(f"llama.{name}")
        if not isinstance(value, int | float):
            wrong = "missing" if value is None else f"{value!r}, not a number"
            raise UserError(f"{path}: the field llama.{name} is {wrong}")
        return value

    if fields.get("general.architecture") != "llama":
        other = fields.get("general.architecture")
        raise UserError(f"{path}: architecture is {other!r}, only 'llama' is read")
    for name, fixed in {"rope.scaling.type": "none", "expert_count": 0}.items():
        if (value := fields.get(f"llama.{name}", fixed)) != fixed:
            raise UserError(
                f"{path}: llama.{name} is {value!r}, only {fixed!r} is supported"
            )
    embedding, head = (
        tensors.get(f"{name}.weight") for name in ("token_embd", "output")
    )
    if embedding is None:
        raise UserError(f"{path}: the tensor token_embd.weight is missing")
    try:
        config = ModelConfig(
            vocab_size=len(embedding),
            hidden_size=number("embedding_length"),
            intermediate_size=number("feed_forward_length"),
            num_hidden_layers=number("block_count"),
            num_attention_heads=number("attention.head_count"),
            num_key_value_heads=number("attention.head_count_kv"),
            max_position_embeddings=number("context_length"),
            # As it was before it became a float of 32 bits: 1e-5, not 9.99...e-6.
            rms_norm_eps=float(
                str(np.float32(number("attention.layer_norm_rms_epsilon")))
            ),
            rope_theta=number("rope.freq_base"),
            tie_word_embeddings=head is None or np.array_equal(head, embedding),
        )
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    for name in ("rope.dimension_count", "attention.key_length"):
        width = fields.get(f"llama.{name}", config.head_dim)
        if width != config.head_dim:
            raise UserError(
                f"{path}: llama.{name} is {width}, only embedding_length / "
                f"attention.head_count = {config.head_dim} works"
            )
    return config


def read_tokenizer(fields: dict[str, Any], path: Path) -> Tokenizer:
    """The tokenizer that a GGUF file carries: vocabulary, merges, template.

    Raises UserError where it cuts texts in a way that we do not know, or its
    special ids differ from ours.
    """

    def field(name: str) -> Any:
        if f"tokenizer.ggml.{name}" not in fields:
            raise UserError(f"{path}: the field tokenizer.ggml.{name} is missing")
        return fields[f"tokenizer.ggml.{name}"]

    for name, known in {"model": ["gpt2"], "pre": list(PRE_TOKENIZERS)}.items():
        if field(name) not in known:
            raise UserError(
                f"{path}: tokenizer.ggml.{name} is {field(name)!r}, "
                f"only {' or '.join(map(repr, known))} is supported"
            )
    tokens, kinds = field("tokens"), field("token_type")
    if tuple(tokens[:3]) != CONTROL_TOKENS:
        raise UserError(
            f"{path}: the first ids are {', '.join(tokens[:3])}, "
            f"but the package counts on {', '.join(CONTROL_TOKENS)}"
        )
    merges = [tuple(merge.split(" ")) for merge in field("merges")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = PRE_TOKENIZERS[field("pre")]
    backend.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, kinds):
        if kind in (CONTROL, USER_DEFINED):
            whole = AddedToken(token, special=kind == CONTROL, normalized=False)
            backend.add_tokens([whole])
    template = fields.get("tokenizer.chat_template", CHAT_TEMPLATE)
    return Tokenizer(backend, template)
