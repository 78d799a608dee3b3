"""LoRA: train a thin addition to frozen weights, keep it, merge it, switch it.

Explained in chapter 10. An adapter directory has the layout of `peft`, so
`PeftModel.from_pretrained(base, directory)` opens it. Source: Hu et al. 2021,
"LoRA: Low-Rank Adaptation of Large Language Models".

Generated from notebooks/10_lora.ipynb by tools/export.py; edit it there.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimind.errors import UserError
from minimind.files import write_atomically, write_json
from minimind.model.weights import read_weights
from minimind.train.checkpoint import fingerprint

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
TARGETS += ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoRAConfig:
    """Shape of an adapter. Raises UserError for a number that makes no sense."""

    rank: int = 8  # r: channels between A and B
    alpha: float = 16.0  # the addition is scaled by alpha / rank
    dropout: float = 0.0  # share of A's inputs set to zero in training
    targets: tuple[str, ...] = TARGETS  # names of the layers that get one

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise UserError(
                f"--rank {self.rank}, --alpha {self.alpha}: give numbers above 0"
            )
        if not 0 <= self.dropout < 1:
            raise UserError(
                f"--dropout {self.dropout}: give a number from 0 up to below 1"
            )

    @property
    def scaling(self) -> float:
        """What the addition is multiplied with."""
        return self.alpha / self.rank


class LoRALinear(nn.Linear):
    """A linear layer, without bias, that holds adapters by name.

    y = W x + alpha / r * B A x. Shape: (..., n) -> (..., m), with W (m, n),
    A (r, n) and B (m, r). Source: Hu et al. 2021.
    """

    def __init__(self, linear: nn.Linear) -> None:
        shape = linear.in_features, linear.out_features
        super().__init__(*shape, bias=False, device="meta")  # no new weight
        self.weight = linear.weight
        self.lora_A, self.lora_B = nn.ParameterDict(), nn.ParameterDict()
        self.adapters: dict[str, LoRAConfig] = {}
        self.active: str | None = None  # the adapter that is added
        self.unmerged: Tensor | None = None  # the plain weight, while merged

    def add_adapter(self, name: str, config: LoRAConfig) -> None:
        """A new adapter that adds nothing yet: A is random, B is zero."""
        weight, rank = self.weight, config.rank
        self.lora_A[name] = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.lora_B[name] = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.lora_A[name], a=5**0.5)
        self.adapters[name] = config

    def forward(self, x: Tensor) -> Tensor:
        """W x, and the active adapter's addition unless it is merged."""
        y = F.linear(x, self.weight)
        if self.active is None or self.unmerged is not None:
            return y
        config = self.adapters[self.active]
        x = F.dropout(x, config.dropout, self.training)
        thin = F.linear(x, self.lora_A[self.active])  # (..., r)
        return y + config.scaling * F.linear(thin, self.lora_B[self.active])


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The layers with adapters, by their path in the model."""
    modules = model.named_modules()
    return {path: m for path, m in modules if isinstance(m, LoRALinear)}


def add_adapter(model: nn.Module, name: str, config: LoRAConfig) -> None:
    """Give the target layers an adapter, and make it the active one.

    Raises UserError for a target that is no layer's name, and for an adapter
    that the model has already.
    """
    layers = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and path.split(".")[-1] in config.targets
    }
    found = {path.split(".")[-1] for path in layers}
    if missing := [target for target in config.targets if target not in found]:
        raise UserError(
            f"--targets {' '.join(missing)}: no layer of the model is called so; "
            f"usual names: {' '.join(TARGETS)}"
        )
    for path, module in layers.items():
        if not isinstance(module, LoRALinear):
            module = LoRALinear(module)
            parent, _, last = path.rpartition(".")
            setattr(model.get_submodule(parent), last, module)
        if name in module.adapters:
            raise UserError(f"the model already has an adapter {name!r}")
        module.add_adapter(name, config)
    set_adapter(model, name)


def set_adapter(model: nn.Module, name: str | None) -> None:
    """Use this adapter, and let only it train; None: the model as it was.

    Raises UserError for an adapter that the model does not have, or while
    another one is merged into the weights.
    """
    layers = lora_layers(model).values()
    known = {known for layer in layers for known in layer.adapters}
    if name is not None and name not in known:
        raise UserError(f"no adapter {name!r}; there are {sorted(known)}")
    if any(layer.unmerged is not None for layer in layers):
        raise UserError("an adapter is merged into the weights; unmerge it first")
    model.requires_grad_(False)
    for layer in layers:
        layer.active = name if name in layer.adapters else None
        if layer.active:
            layer.lora_A[name].requires_grad_()
            layer.lora_B[name].requires_grad_()


def trainable_share(model: nn.Module) -> float:
    """Trainable parameters over those of the model without adapters."""
    count = {True: 0, False: 0}  # of the adapters, of the model itself
    trainable = 0
    for path, weight in model.named_parameters():
        count[".lora_" in path] += weight.numel()
        trainable += weight.numel() * weight.requires_grad
    return trainable / count[False]


PEFT = "base_model.model."  # where peft has our model


def active_adapter(model: nn.Module) -> tuple[str, LoRAConfig]:
    """Name and config of the adapter in use. Raises UserError if none is."""
    for layer in lora_layers(model).values():
        if layer.active is not None:
            return layer.active, layer.adapters[layer.active]
    raise UserError("no adapter is in use")


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
    """
    name, config = active_adapter(model)
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
        raise UserError(f"{directory}: no adapter here ({path.name} is missing)")
    given = json.loads(path.read_text(encoding="utf-8"))
    for key, plain in PLAIN.items():
        if given.get(key, plain) != plain:
            raise UserError(
                f"{path}: {key} is {given[key]!r}, but only {plain!r} is supported"
            )
    keys = ("r", "lora_alpha", "lora_dropout", "target_modules")
    if missing := [key for key in keys if key not in given]:
        raise UserError(f"{path}: the field {missing[0]} is missing")
    rank, alpha, dropout, targets = (given[key] for key in keys)
    if not isinstance(targets, list):
        raise UserError(f"{path}: target_modules is no list of layer names")
    return LoRAConfig(rank, alpha, dropout, tuple(sorted(targets)))


def load_adapter(model: nn.Module, directory: Path, name: str) -> None:
    """Read an adapter directory into the model, and make it the active one.

    Raises UserError where a file is missing or damaged, where it does not
    fit the model, or where it was trained on other weights.
    """
    config = read_adapter_config(directory)
    own = directory / "minimind.json"
    if own.is_file():
        wanted = json.loads(own.read_text(encoding="utf-8"))["base"]
        if wanted != (here := base_fingerprint(model)):
            raise UserError(
                f"{directory}: trained on a model with the weights {wanted}, but "
                f"this one's are {here}; open its own base, not yet merged"
            )
    path = directory / "adapter_model.safetensors"
    weights = read_weights(path)
    add_adapter(model, name, config)
    expected = adapter_weights(model, name)
    wrong = [f"{key} is missing" for key in expected if key not in weights]
    wrong += [f"{key} is unknown" for key in weights if key not in expected]
    wrong += [
        f"{key} is {tuple(weights[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if wrong:
        raise UserError(f"{path}: does not fit the model: {'; '.join(wrong[:3])}")
    for key, value in expected.items():
        value.data.copy_(weights[key])


def merge_adapter(model: nn.Module) -> None:
    """Add the active adapter to the weights, which then do without it.

    Raises UserError if that has been done already.
    """
    name, _ = active_adapter(model)
    layers = [layer for layer in lora_layers(model).values() if layer.active]
    if any(layer.unmerged is not None for layer in layers):
        raise UserError(f"{name!r} is merged already; twice would add it twice")
    for layer in layers:
        a, b = layer.lora_A[name].data, layer.lora_B[name].data
        layer.unmerged = layer.weight.data
        addition = layer.adapters[name].scaling * (b.float() @ a.float())
        merged = layer.weight.data.float() + addition
        layer.weight.data = merged.to(layer.weight.dtype)


def unmerge_adapter(model: nn.Module) -> None:
    """Put the plain weights back, bit for bit; without a merge nothing happens."""
    for layer in lora_layers(model).values():
        if layer.unmerged is not None:
            layer.weight.data, layer.unmerged = layer.unmerged, None


def remove_adapters(model: nn.Module) -> None:
    """Make plain linear layers of all layers, with the weights they have now."""
    for path, layer in lora_layers(model).items():
        shape = layer.in_features, layer.out_features
        plain = nn.Linear(*shape, bias=False, device="meta")
        plain.weight = layer.weight
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, plain)
    model.requires_grad_()
