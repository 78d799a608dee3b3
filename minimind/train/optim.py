"""The optimizer and its learning-rate schedule.

Explained in chapter 08. Sources: Loshchilov and Hutter 2019, "Decoupled Weight
Decay Regularization" (AdamW); Jordan et al. 2024, "Muon"; Hu et al. 2024,
"MiniCPM" (WSD).

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

import math

import torch
from torch import nn

from minimind.errors import UserError
from minimind.train.config import TrainConfig


def build_optimizer(
    parameters: nn.Module | list[nn.Parameter],
    learning_rate: float,
    weight_decay: float,
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; only matrices decay.

    A gain of a norm has no reason to be small, so vectors are left alone.
    """
    if isinstance(parameters, nn.Module):
        parameters = list(parameters.parameters())
    trainable = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() >= 2]},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=learning_rate,
        betas=(0.9, 0.95),
        weight_decay=weight_decay,
        fused=True,
    )


def build_optimizers(
    model: nn.Module, config: TrainConfig
) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for the matrices of the blocks and AdamW for the rest.

    Muon's step is scaled to the size of AdamW's, so one rate suits both.
    Raises UserError where this PyTorch has no Muon.
    """
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "adamw":
        return [build_optimizer(model, rate, decay)]
    if not hasattr(torch.optim, "Muon"):
        raise UserError("--optimizer muon: needs PyTorch 2.9 or later")
    inner, rest = [], []
    for name, weight in model.named_parameters():
        is_inner = weight.dim() == 2 and ".layers." in name
        (inner if is_inner else rest).append(weight)
    muon = torch.optim.Muon(
        [p for p in inner if p.requires_grad],
        lr=rate,
        weight_decay=decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [muon, build_optimizer(rest, rate, decay)]


def learning_rate(step: int, config: TrainConfig, floor: float = 0.1) -> float:
    """Learning rate of optimizer step `step`, counted from 0.

    Rises in a straight line over config.warmup steps. "cosine" then sinks to
    floor * peak along half a cosine; "wsd" stays at the peak and sinks in a
    straight line over the last fifth; "constant" stays.
    """
    peak, steps = config.learning_rate, config.steps
    if step < config.warmup:
        return peak * (step + 1) / config.warmup
    if config.schedule == "constant":
        return peak
    if config.schedule == "wsd":
        left = (steps - step) / max(steps // 5, 1)
        return peak * (floor + (1 - floor) * min(1.0, left))
    progress = (step - config.warmup) / max(steps - config.warmup, 1)
    share = (1 + math.cos(math.pi * progress)) / 2
    return peak * (floor + (1 - floor) * share)
