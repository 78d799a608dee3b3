"""An adapter as a directory, in the layout of `peft`.

Explained in chapter 10. `PeftModel.from_pretrained(base, directory)` opens it.

Generated from notebooks/10_lora.ipynb by tools/export.py; edit it there.
"""

from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from minimind.errors import UserError
from minimind.files import read_json, write_atomically, write_json
from minimind.model.weights import read_weights
from minimind.train.checkpoint import fingerprint
from minimind.train.lora import (
    LoRAConfig,
    active_adapter,
    add_adapter,
    is_merged,
    lora_layers,
    target_layers,
)

PEFT = "base_model.model."  # where peft has our model


def adapter_weights(model: nn.Module, name: str) -> dict[str, Tensor]:
    """A and B of every layer that has the adapter, under peft's names."""
    return {
        f"{PEFT}{path}.{side}.weight": getattr(layer, side)[name]
        for path, layer in lora_layers(model).items()
        if name in layer.adapters
        for side in ("lora_A", "lora_B")
    }


def base_fingerprint(model: nn.Module) -> str:
    """A short sha256 of the weights that the adapters stand on."""
    weights = model.state_dict().items()
    return fingerprint({key: w for key, w in weights if ".lora_" not in key})


def save_adapter(
    model: nn.Module, tokenizer: Any, directory: Path, info: dict[str, Any]
) -> None:
    """Write the active adapter; the model itself is not written.

    info goes to minimind.json; its "parent" is the directory of the base.
    Raises UserError while it is merged, as the base's weights are not there.
    """
    name, config = active_adapter(model)
    if is_merged(model):
        raise UserError(f"{name!r} is merged in; unmerge it first")
    weights = {
        key: value.detach().cpu().contiguous()
        for key, value in adapter_weights(model, name).items()
    }
    data = safetensors.torch.save(weights, metadata={"format": "pt"})
    write_atomically(directory / "adapter_model.safetensors", data)
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": info.get("parent"),
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": list(config.targets),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    write_json(directory / "adapter_config.json", described)
    known = {"tokenizer": tokenizer.hash, "base": base_fingerprint(model)}
    write_json(directory / "minimind.json", {**known, **info})


# What may stand in a peft config without changing what is computed here.
PLAIN = {
    "peft_type": "LORA",
    "bias": "none",
    "fan_in_fan_out": False,
    "use_rslora": False,
    "use_dora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "layers_to_transform": None,
}


def read_adapter_config(directory: Path) -> LoRAConfig:
    """The adapter's options. Raises UserError for what is not supported."""
    path = directory / "adapter_config.json"
    if not path.is_file():
        raise UserError(f"{directory}: no adapter ({path.name} is missing)")
    given = read_json(path)
    for key, plain in PLAIN.items():
        if given.get(key, plain) != plain:
            raise UserError(
                f"{path}: {key} is {given[key]!r}, but only {plain!r} works"
            )
    keys = ("r", "lora_alpha", "lora_dropout", "target_modules")
    if missing := [key for key in keys if key not in given]:
        raise UserError(f"{path}: the field {missing[0]} is missing")
    rank, alpha, dropout, targets = (given[key] for key in keys)
    if not isinstance(targets, list):
        raise UserError(f"{path}: target_modules is no list of layer names")
    return LoRAConfig(rank, alpha, dropout, tuple(sorted(targets)))


def misfits(
    model: nn.Module, config: LoRAConfig, weights: dict[str, Tensor]
) -> list[str]:
    """What keeps weights from being those of such an adapter, in words."""
    expected = {}
    for path, layer in target_layers(model, config.targets).items():
        place = f"{PEFT}{path}"
        expected[f"{place}.lora_A.weight"] = (config.rank, layer.in_features)
        expected[f"{place}.lora_B.weight"] = (layer.out_features, config.rank)
    found = [f"{key} is missing" for key in expected if key not in weights]
    found += [f"{key} is unknown" for key in weights if key not in expected]
    return found + [
        f"{key} is {tuple(weights[key].shape)}, not {shape}"
        for key, shape in expected.items()
        if key in weights and weights[key].shape != shape
    ]


def load_adapter(model: nn.Module, directory: Path, name: str) -> None:
    """Read an adapter directory into the model, and make it the active one.

    Raises UserError where a file is missing or damaged, where it does not
    fit the model, or where it was trained on other weights.
    """
    config = read_adapter_config(directory)
    own = directory / "minimind.json"
    if own.is_file():
        wanted = read_json(own).get("base")
        if wanted != (here := base_fingerprint(model)):
            raise UserError(
                f"{directory}: trained on a model with the weights {wanted}, "
                f"but here are {here}; open its own base, not yet merged"
            )
    path = directory / "adapter_model.safetensors"
    weights = read_weights(path)
    if wrong := misfits(model, config, weights):
        raise UserError(f"{path} does not fit: {'; '.join(wrong[:3])}")
    add_adapter(model, name, config)
    for key, value in adapter_weights(model, name).items():
        value.data.copy_(weights[key])
