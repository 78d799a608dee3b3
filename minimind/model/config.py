"""The numbers that define a model, and the table of sizes.

Field names follow `transformers`, so a config written here opens there too.
Chapter 03 explains the fields, chapter 06 the sizes.

Generated from notebooks/03_attention.ipynb, notebooks/06_model.ipynb by
tools/export.py; edit it there.
"""

import difflib
import math
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from minimind.errors import UserError
from minimind.files import read_json
from minimind.model.rope import RopeScaling


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a decoder-only transformer, dense or with experts.

    Raises ValueError for an impossible number, or two that do not fit.
    """

    vocab_size: int = 6400  # V: ids the embedding knows
    hidden_size: int = 512  # C: channels of a token on its way through
    intermediate_size: int = 1408  # channels inside one feed-forward layer
    num_hidden_layers: int = 8  # blocks, one after the other
    num_attention_heads: int = 8  # H: query heads
    num_key_value_heads: int = 2  # K: key/value heads; H / K queries share one
    max_position_embeddings: int = 32768  # longest sequence, in tokens
    rms_norm_eps: float = 1e-5  # keeps an all-zero token from dividing by zero
    rope_theta: float = 1e6  # base of the rotation frequencies
    rope_scaling: RopeScaling | None = None  # for texts longer than trained on
    initializer_range: float = 0.02  # standard deviation of fresh weights
    tie_word_embeddings: bool = True  # one matrix reads ids and writes logits
    qk_norm: bool = False  # RMSNorm of each query and key before the rotation
    num_experts: int = 0  # E: routed experts in a layer; 0 is a dense model
    num_experts_per_tok: int = 2  # how many of them see a token
    num_shared_experts: int = 0  # experts that see every token
    norm_topk_prob: bool = True  # weights of the chosen experts add up to one
    router_aux_loss_coef: float = 0.01  # weight of the balancing loss
    seq_aux: bool = True  # balance in each sequence, not over the whole batch

    def __post_init__(self) -> None:
        check_numbers(self)
        check_fit(self)

    @property
    def head_dim(self) -> int:
        """D: channels of one head."""
        return self.hidden_size // self.num_attention_heads


MAY_BE_ZERO = ("num_experts", "num_shared_experts", "router_aux_loss_coef")


def check_numbers(config: ModelConfig) -> None:
    """Raise ValueError for a field of another type, or out of its range."""
    for field in fields(config):
        name, value = field.name, getattr(config, field.name)
        number = field.type in (int, float)
        wanted = int | float if field.type is float else field.type
        if not isinstance(value, wanted) or number and isinstance(value, bool):
            kind = wanted.__name__ if isinstance(wanted, type) else wanted
            raise ValueError(f"{name} is {value!r}, not of type {kind}")
        if number and not (value > 0 or name in MAY_BE_ZERO and value == 0):
            raise ValueError(f"{name}={value} must be greater than 0")
        if number and not math.isfinite(value):
            raise ValueError(f"{name}={value} must be finite")


def check_fit(config: ModelConfig) -> None:
    """Raise ValueError for numbers that do not fit together."""
    c = config
    heads, chosen = c.num_attention_heads, c.num_experts_per_tok
    if c.hidden_size % (2 * heads):
        raise ValueError(
            f"hidden_size={c.hidden_size} must be a multiple of twice "
            f"num_attention_heads={heads}"
        )
    if heads % c.num_key_value_heads:
        raise ValueError(
            f"num_attention_heads={heads} must be a multiple of "
            f"num_key_value_heads={c.num_key_value_heads}"
        )
    if not c.num_experts and c.num_shared_experts:
        raise ValueError("num_shared_experts without num_experts")
    if c.num_experts and chosen > c.num_experts:
        raise ValueError(f"num_experts_per_tok={chosen} of num_experts={c.num_experts}")
    if c.num_experts and chosen == 1 and c.norm_topk_prob:
        raise ValueError(
            "num_experts_per_tok=1 needs norm_topk_prob=False: the only "
            "weight would always be 1, and the router would learn nothing"
        )


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
    "minimind2-moe": ModelConfig(  # 145,029,760
        hidden_size=640,
        intermediate_size=1728,
        num_experts=4,
        num_shared_experts=1,
        router_aux_loss_coef=0.1,
    ),
}
PRESETS["nano-moe"] = replace(  # 1,379,456, of which a token uses nano's 984k
    PRESETS["nano"], intermediate_size=128, num_experts=4, num_shared_experts=1
)

V1 = ModelConfig(  # 26,878,464
    num_attention_heads=16,
    num_key_value_heads=8,
    max_position_embeddings=512,
    rope_theta=1e4,
)
V3 = ModelConfig(  # 63,912,192
    hidden_size=768,
    intermediate_size=2432,
    num_key_value_heads=4,
    rms_norm_eps=1e-6,
    qk_norm=True,
)
PRESETS |= {
    "minimind-v1-small": V1,
    "minimind-v1": replace(  # 108,749,568
        V1, hidden_size=768, intermediate_size=2048, num_hidden_layers=16
    ),
    "minimind-v1-moe": replace(  # 96,100,864
        V1, num_experts=4, num_shared_experts=1
    ),
    "minimind3": V3,
    "minimind3-moe": replace(  # 198,416,640
        V3,
        num_experts=4,
        num_experts_per_tok=1,
        norm_topk_prob=False,  # see chapter 05
        router_aux_loss_coef=5e-4,
        seq_aux=False,
    ),
}


def nearest(name: str, names: list[str]) -> str:
    """A hint for a misspelt name: the closest ones, or all of them."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known names: " + ", ".join(names)


def build(kind: type, given: dict[str, Any], source: str) -> Any:
    """A dataclass from the names and values of a file.

    Raises UserError that names `source` and the field: one that is unknown,
    with the nearest known name, one that is missing, or a wrong value.
    """
    known = {field.name: field.default for field in fields(kind)}
    for name in given:
        if name not in known:
            hint = nearest(name, list(known))
            raise UserError(f"{source}: unknown field {name!r}; {hint}")
    for name, default in known.items():
        if default is MISSING and given.get(name) is None:
            raise UserError(f"{source}: {name} is missing")
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: {error}") from None


def config_from(given: dict[str, Any], source: str) -> ModelConfig:
    """A config from names and values; UserError as in `build`."""
    scaling = given.get("rope_scaling")
    if isinstance(scaling, dict):
        scaling = build(RopeScaling, scaling, f"{source}: rope_scaling")
        given = given | {"rope_scaling": scaling}
    return build(ModelConfig, given, source)


def get_preset(name: str) -> ModelConfig:
    """The config of a named size, or of a json file with its fields.

    Raises UserError for an unknown name or field, or a file that is not there.
    """
    if name.endswith(".json"):
        return config_from(read_json(Path(name)), name)
    if name not in PRESETS:
        hint = nearest(name, list(PRESETS))
        raise UserError(f"unknown preset {name!r}; {hint}")
    return PRESETS[name]
