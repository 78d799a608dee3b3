"""A shape in the layout of `transformers`, config.json, and back.

Explained in chapter 06. A model saved here is opened there by the class that
computes exactly the same. A file from there is read where we compute what it
asks for, and refused in words where we do not.
"""

from dataclasses import asdict
from typing import Any

from minimind.errors import UserError
from minimind.model.config import ModelConfig, build, config_from
from minimind.model.rope import RopeScaling

CLASSES = {  # model_type in config.json -> class of transformers
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "granitemoeshared": "GraniteMoeSharedForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}


def model_type(config: ModelConfig) -> str:
    """The name in `transformers` of this arithmetic; UserError without one."""
    if not config.num_experts:
        return "qwen3" if config.qk_norm else "llama"
    if config.qk_norm and not config.num_shared_experts:
        return "qwen3_moe"
    if config.norm_topk_prob and not config.qk_norm:
        return "granitemoeshared"
    what = "norm_topk_prob=False without qk_norm"
    if config.qk_norm:
        what = "qk_norm together with num_shared_experts"
    raise UserError(
        f"no class of transformers computes {what}, so such a model cannot be "
        "saved; change one of the two"
    )


SAME_NAME = (  # in our config and in config.json
    "vocab_size hidden_size intermediate_size num_hidden_layers "
    "num_attention_heads num_key_value_heads max_position_embeddings "
    "rms_norm_eps initializer_range tie_word_embeddings"
).split()
ROUTER = ["num_experts_per_tok", "router_aux_loss_coef", "seq_aux"]


def keys_of(kind: str) -> dict[str, str]:
    """Our fields, and their keys in a config.json of this model_type."""
    same = SAME_NAME + (ROUTER if "moe" in kind else [])
    keys = {field: field for field in same}
    if kind == "granitemoeshared":
        keys["num_experts"] = "num_local_experts"
    if kind == "qwen3_moe":
        keys["num_experts"] = "num_experts"
        keys["norm_topk_prob"] = "norm_topk_prob"
        keys["intermediate_size"] = "moe_intermediate_size"
    return keys


# What a config.json may vary, and this package does in one way only.
ALWAYS: dict[str, Any] = {"hidden_act": "silu", "attention_bias": False}
FIXED: dict[str, dict[str, Any]] = {
    "llama": {"mlp_bias": False},
    "qwen3": {"use_sliding_window": False},
    "granitemoeshared": {
        "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
        "logits_scaling": 1.0,
    },
    "qwen3_moe": {
        "use_sliding_window": False,
        "decoder_sparse_step": 1,  # experts in every layer
        "mlp_only_layers": [],
    },
}

LENGTH = "original_max_position_embeddings"


def rope_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The rotation's part of config.json.

    It is written twice: transformers 5 reads `rope_parameters`, older releases
    and other engines `rope_theta` and `rope_scaling`, and either silently
    falls back to 10,000, unstretched, where its own place is empty.
    """
    theta, scaling = {"rope_theta": config.rope_theta}, config.rope_scaling
    if scaling is None:
        return theta | {"rope_parameters": {"rope_type": "default"} | theta}
    written, length = asdict(scaling), {}
    if scaling.rope_type == "linear":  # transformers warns of any other key
        length = {LENGTH: written[LENGTH]}
        written = {key: written[key] for key in ("rope_type", "factor")}
    both = {"rope_scaling": written, "rope_parameters": written | theta}
    return theta | length | both


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The config.json of the model of `transformers` with this shape.

    Raises UserError where no class there computes the same.
    """
    kind, own = model_type(config), asdict(config)
    written = {key: own[field] for field, key in keys_of(kind).items()}
    if kind == "granitemoeshared":
        wide = config.num_shared_experts * config.intermediate_size
        written["shared_intermediate_size"] = wide
        written["attention_multiplier"] = config.head_dim**-0.5
    return {
        "architectures": [CLASSES[kind]],
        "model_type": kind,
        **ALWAYS,
        **FIXED[kind],
        **written,
        "head_dim": config.head_dim,
        **rope_to_hf(config),
        "attention_dropout": 0.0,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
        "use_cache": True,
    }


def rope_from_hf(hf: dict[str, Any], source: str) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` of a config.json, old style or new.

    Raises UserError for a kind we do not compute, and for two that differ.
    """
    theta, found = hf.get("rope_theta"), []
    for place in ("rope_parameters", "rope_scaling"):
        rope = dict(hf.get(place) or {})
        theta = rope.pop("rope_theta", theta)
        kind = rope.pop("type", "default")
        if rope.setdefault("rope_type", kind) == "linear":
            # Stretching all pairs alike needs no length; it is a record only.
            length = hf.get(LENGTH, hf.get("max_position_embeddings"))
            rope.setdefault(LENGTH, length)
        if set(rope) != {"rope_type"} or rope["rope_type"] != "default":
            found.append(build(RopeScaling, rope, f"{source}: {place}"))
    if len(set(found)) > 1:
        differ = "rope_parameters and rope_scaling say different things"
        raise UserError(f"{source}: {differ}")
    return {"rope_theta": theta, "rope_scaling": found[0] if found else None}


# What transformers takes where a file says nothing.
UNSAID = {
    "granitemoeshared": {"attention_multiplier": 1.0},
    "qwen3": {"head_dim": 128},
}


def require(hf: dict[str, Any], wanted: dict[str, Any], source: str) -> None:
    """Raise UserError for a key that is there with another value."""
    for key, value in wanted.items():
        if hf.get(key) is not None and hf[key] != value:
            only = f"only {value!r} is supported"
            raise UserError(f"{source}: {key} is {hf[key]!r}, but {only}")


def shared_experts_of(hf: dict[str, Any], source: str) -> int:
    """How many experts of the usual width a Granite's shared one is."""
    wide, inner = hf.get("shared_intermediate_size"), hf["intermediate_size"]
    numbers = isinstance(wide, int) and isinstance(inner, int)
    if not numbers or inner < 1 or wide % inner:
        only = f"multiples of intermediate_size={inner} are supported"
        given = f"shared_intermediate_size is {wide}"
        raise UserError(f"{source}: {given}, but only {only}")
    return wide // inner


def from_hf(hf: dict[str, Any], source: str = "config.json") -> ModelConfig:
    """Read a config.json, of any of `CLASSES`.

    Raises UserError, naming `source` and the field, where the file describes
    a model that this package would compute differently, or leaves it open.
    """
    kind = hf.get("model_type")
    if kind not in CLASSES:
        known = f"only {', '.join(CLASSES)} are supported"
        raise UserError(f"{source}: model_type is {kind!r}, but {known}")
    hf = UNSAID.get(kind, {}) | hf
    if "num_local_experts" in hf:  # transformers 5 saves every kind like that
        hf = {"num_experts": hf["num_local_experts"]} | hf
    require(hf, ALWAYS | FIXED[kind], source)
    keys = keys_of(kind)
    given = {field: hf.get(key) for field, key in keys.items()}
    given |= rope_from_hf(hf, source)
    if given.get("seq_aux", 0) is None:  # ours alone, and only for training
        del given["seq_aux"]
    for field, value in given.items():
        if value is None and field != "rope_scaling":
            raise UserError(f"{source}: {keys.get(field, field)} is missing")
    given["qk_norm"] = kind.startswith("qwen3")
    if kind == "granitemoeshared":
        given["num_shared_experts"] = shared_experts_of(hf, source)
    config = config_from(given, source)
    fitting = {"head_dim": config.head_dim}
    if kind == "granitemoeshared":
        fitting["attention_multiplier"] = config.head_dim**-0.5
    require(hf, fitting, source)
    return config
