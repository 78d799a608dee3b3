"""The numbers that define a model, and the table of sizes.

Field names follow `transformers`, so a config written here opens there too.
Chapter 03 explains the fields, chapter 06 the sizes.

Generated from notebooks/03_attention.ipynb, notebooks/06_model.ipynb by
tools/export.py; edit it there.
"""

import difflib
from dataclasses import asdict, dataclass, fields
from typing import Any

from minimind.errors import UserError


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a decoder-only transformer (a Llama).

    Raises ValueError where two of the numbers do not fit together.
    """

    vocab_size: int = 6400  # V: ids the embedding knows
    hidden_size: int = 512  # C: channels of a token on its way through
    intermediate_size: int = 1408  # channels inside the feed-forward layer
    num_hidden_layers: int = 8  # blocks, one after the other
    num_attention_heads: int = 8  # H: query heads
    num_key_value_heads: int = 2  # K: key/value heads; H / K queries share one
    max_position_embeddings: int = 32768  # longest sequence, in tokens
    rms_norm_eps: float = 1e-5  # keeps an all-zero token from dividing by zero
    rope_theta: float = 1e6  # base of the rotation frequencies
    initializer_range: float = 0.02  # standard deviation of fresh weights
    tie_word_embeddings: bool = True  # one matrix reads ids and writes logits

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of twice "
                f"num_attention_heads={self.num_attention_heads}"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} must be a "
                f"multiple of num_key_value_heads={self.num_key_value_heads}"
            )

    @property
    def head_dim(self) -> int:
        """D: channels of one head."""
        return self.hidden_size // self.num_attention_heads


# What a Llama's config.json may vary, and this package does in one way only.
LLAMA_FIXED: dict[str, Any] = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
}


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The config.json of a `LlamaForCausalLM` with this shape.

    `rope_theta` is written twice: transformers 5 reads it in
    `rope_parameters`, older releases and other engines at the top level, and
    either silently falls back to 10,000 where its own place is empty.
    """
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    return {
        "architectures": ["LlamaForCausalLM"],
        **LLAMA_FIXED,
        **asdict(config),
        "head_dim": config.head_dim,
        "rope_parameters": rope,
        "attention_dropout": 0.0,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
        "use_cache": True,
    }


def from_hf(hf: dict[str, Any], source: str = "config.json") -> ModelConfig:
    """Read a Llama's config.json.

    Raises UserError, naming `source` and the field, where the file describes
    a model that this package would compute differently, or leaves it open.
    """
    for key, value in LLAMA_FIXED.items():
        if hf.get(key, value) != value:
            only = f"only {value!r} is supported"
            raise UserError(f"{source}: {key} is {hf[key]!r}, but {only}")
    theta = hf.get("rope_theta")
    for key in ("rope_parameters", "rope_scaling"):
        rope = hf.get(key) or {}
        theta = rope.get("rope_theta", theta)
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            only = "only 'default' is supported"
            raise UserError(f"{source}: {key} is of type {kind!r}, but {only}")
    given = {f.name: hf.get(f.name) for f in fields(ModelConfig)}
    given["rope_theta"] = theta
    for key, value in given.items():
        if not isinstance(value, int | float):
            wrong = "missing" if value is None else f"{value!r}, not a number"
            raise UserError(f"{source}: the field {key} is {wrong}")
    try:
        config = ModelConfig(**given)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None
    head_dim = hf.get("head_dim") or config.head_dim
    if head_dim != config.head_dim:
        only = f"only hidden_size / num_attention_heads = {config.head_dim}"
        raise UserError(f"{source}: head_dim is {head_dim}, but {only} works")
    return config


# Every size by name. The comment is the exact number of parameters.
PRESETS: dict[str, ModelConfig] = {
    "nano": ModelConfig(  # 984,192: what the chapters train on a CPU
        vocab_size=1536,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        rope_theta=1e4,
        initializer_range=0.08,  # near 1 / sqrt(C), as C is small
    ),
    "minimind2-small": ModelConfig(),  # 25,829,888
    "minimind2": ModelConfig(  # 104,030,976
        hidden_size=768, intermediate_size=2048, num_hidden_layers=16
    ),
}


def nearest(name: str, names: list[str]) -> str:
    """A hint for a misspelt name: the closest ones, or all of them."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known names: " + ", ".join(names)


def get_preset(name: str) -> ModelConfig:
    """The config of a named size. Raises UserError for an unknown name."""
    if name not in PRESETS:
        hint = nearest(name, list(PRESETS))
        raise UserError(f"unknown preset {name!r}; {hint}")
    return PRESETS[name]
