"""LoRA: train a thin addition to frozen weights, keep it, merge it, switch it.

Explained in chapter 10. Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of
Large Language Models".

Generated from notebooks/10_lora.ipynb by tools/export.py; edit it there.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from minimind.errors import UserError

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
TARGETS += ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoRAConfig:
    """Shape of an adapter. Raises UserError for a senseless number."""

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
        # The plain weight, while an adapter is merged into it.
        self.register_buffer("unmerged", None, persistent=False)
        self.train(linear.training)

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
    return {path: m for path, m in modules if hasattr(m, "lora_A")}


def is_merged(model: nn.Module) -> bool:
    """Whether an adapter is merged into the weights."""
    return any(m.unmerged is not None for m in lora_layers(model).values())


def target_layers(model: nn.Module, targets: tuple[str, ...]) -> dict[str, nn.Linear]:
    """The layers of these names, by their path in the model.

    Raises UserError for a name that no layer has, for a layer with a bias,
    which `LoRALinear` would drop, and for one whose weight is the embedding's
    as well: merged, it would change what the model reads.
    """
    layers = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and path.split(".")[-1] in targets
    }
    found = {path.split(".")[-1] for path in layers}
    if missing := [target for target in targets if target not in found]:
        raise UserError(
            f"--targets {' '.join(missing)}: no layer is called so; "
            f"usual names: {' '.join(TARGETS)}"
        )
    embedded = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    for path, layer in layers.items():
        if layer.bias is not None:
            raise UserError(f"--targets {path}: it has a bias; leave it out")
        if any(layer.weight is table.weight for table in embedded):
            raise UserError(
                f"--targets {path}: its weight is the embedding's, too; leave it out"
            )
    return layers


def add_adapter(model: nn.Module, name: str, config: LoRAConfig) -> None:
    """Give the target layers an adapter, and make it the active one.

    Raises UserError for a target that is no layer's name, for an adapter that
    the model has already, and for a name that is empty or holds a point.
    """
    if not name or "." in name:
        raise UserError(f"adapter {name!r}: give a name without a point")
    for path, module in target_layers(model, config.targets).items():
        if not hasattr(module, "lora_A"):
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
    if is_merged(model):
        raise UserError("an adapter is merged in; unmerge it first")
    model.requires_grad_(False)
    for layer in layers:
        layer.active = name if name in layer.adapters else None
        if layer.active:
            layer.lora_A[name].requires_grad_()
            layer.lora_B[name].requires_grad_()


def active_adapter(model: nn.Module) -> tuple[str, LoRAConfig]:
    """Name and config of the adapter in use. Raises UserError if none is."""
    for layer in lora_layers(model).values():
        if layer.active is not None:
            return layer.active, layer.adapters[layer.active]
    raise UserError("no adapter is in use")


def trainable_share(model: nn.Module) -> float:
    """Trainable parameters over those of the model without adapters."""
    count = {True: 0, False: 0}  # of the adapters, of the model itself
    trainable = 0
    for path, weight in model.named_parameters():
        count[".lora_" in path] += weight.numel()
        trainable += weight.numel() * weight.requires_grad
    return trainable / count[False]


def merge_adapter(model: nn.Module) -> None:
    """Add the active adapter to the weights, which then do without it.

    Raises UserError if that has been done already.
    """
    name, _ = active_adapter(model)
    layers = [layer for layer in lora_layers(model).values() if layer.active]
    if is_merged(model):
        raise UserError(f"{name!r} is merged already; not twice")
    for layer in layers:
        a, b = layer.lora_A[name].data, layer.lora_B[name].data
        layer.unmerged = layer.weight.data
        addition = layer.adapters[name].scaling * (b.float() @ a.float())
        merged = layer.weight.data.float() + addition
        layer.weight.data = merged.to(layer.weight.dtype)


def unmerge_adapter(model: nn.Module) -> None:
    """Put the plain weights back, bit for bit, if an adapter is merged."""
    for layer in lora_layers(model).values():
        if layer.unmerged is not None:
            layer.weight.data, layer.unmerged = layer.unmerged, None


def remove_adapters(model: nn.Module) -> None:
    """Make plain layers of all, with the weights they have now."""
    for path, layer in lora_layers(model).items():
        shape = layer.in_features, layer.out_features
        plain = nn.Linear(*shape, bias=False, device="meta")
        plain.weight = layer.weight
        plain.train(layer.training)
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, plain)
    model.requires_grad_()
