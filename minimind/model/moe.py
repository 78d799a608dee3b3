"""Mixture of experts: many feed-forward layers, of which a token uses a few.

Explained in chapter 05. Sources: Shazeer et al. 2017, "Outrageously Large
Neural Networks"; Fedus et al. 2022, "Switch Transformers" (the balancing
loss); Dai et al. 2024, "DeepSeekMoE" (shared experts).

Generated from notebooks/05_moe.ipynb by tools/export.py; edit it there.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from minimind.model.config import ModelConfig
from minimind.model.feedforward import FeedForward


def route(logits: Tensor, k: int, normalise: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Choose k experts for each token. logits: (..., E).

    Returns the probabilities of all experts, (..., E), in fp32, and of the
    chosen ones their weights and numbers, (..., k), the largest first. With
    `normalise` the weights of a token add up to one.
    """
    probabilities = logits.softmax(-1, dtype=torch.float32)
    weights, chosen = probabilities.topk(k, dim=-1)
    if normalise:
        weights = weights / weights.sum(-1, keepdim=True)
    return probabilities, weights, chosen


class Routing(NamedTuple):
    """What one layer's router did with a batch.

    aux_loss: the balancing loss times its coefficient, a scalar to be added
    to the training loss. load: (E,), each expert's share of all choices.
    """

    aux_loss: Tensor
    load: Tensor


class MoEFeedForward(nn.Module):
    """E feed-forward layers, of which every token uses k, and shared ones.

    Shape: (B, T, C) -> (B, T, C), and the `Routing`. Sources: Shazeer et al.
    2017; Dai et al. 2024.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size, experts = config.hidden_size, config.num_experts
        self.gate = nn.Linear(size, experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(config) for _ in range(experts))
        self.shared_experts = nn.ModuleList(
            FeedForward(config) for _ in range(config.num_shared_experts)
        )

    def dispatch(
        self, x: Tensor, weights: Tensor, chosen: Tensor, sizes: Tensor
    ) -> Tensor:
        """Weighted sum of what each token's experts make of it.

        x (N, C), weights and chosen (N, k), sizes (E,): choices per expert. The
        choices are sorted by expert, so that each expert is called once, on one
        block; an expert that nobody chose gets an empty one, and with it a
        gradient of zero. Reading `sizes` is the only wait for the device.
        """
        k = chosen.shape[-1]
        order = chosen.flatten().argsort(stable=True)
        blocks = x[order // k].split(sizes.tolist())
        made = [
            expert(block) for expert, block in zip(self.experts, blocks, strict=True)
        ]
        made = torch.cat(made)[order.argsort()].unflatten(0, (-1, k))  # (N, k, C)
        return (made * weights[..., None]).sum(1).to(x.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        """Each token of x, (B, T, C), through its experts and the shared ones."""
        c = self.config
        # In fp32 also under autocast: rounded, another expert might win.
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            logits = self.gate(x.to(self.gate.weight.dtype))
        probabilities, weights, chosen = route(
            logits, c.num_experts_per_tok, c.norm_topk_prob
        )
        counts = count_choices(chosen, c.num_experts)
        sizes = counts.sum(0)
        y = self.dispatch(
            x.flatten(0, 1), weights.flatten(0, 1), chosen.flatten(0, 1), sizes
        ).view_as(x)
        for expert in self.shared_experts:
            y = y + expert(x)
        if not c.seq_aux:  # the batch as one long sequence
            probabilities, counts = probabilities.flatten(0, 1)[None], sizes[None]
        aux_loss = c.router_aux_loss_coef * balance_loss(probabilities, counts)
        return y, Routing(aux_loss, sizes / chosen.numel())


def count_choices(chosen: Tensor, num_experts: int) -> Tensor:
    """How often each sequence chose each expert: (B, T, k) -> (B, E)."""
    chosen = chosen.flatten(1)
    counts = chosen.new_zeros(len(chosen), num_experts)
    return counts.scatter_add_(1, chosen, torch.ones_like(chosen))


def balance_loss(probabilities: Tensor, counts: Tensor) -> Tensor:
    """How unevenly sequences use their experts; 1 where all get the same.

    probabilities (B, T, E), counts (B, E): the mean over sequences of
    E * sum over e of (share of choices) * (mean probability). The gradient
    flows through the probabilities alone. Source: Fedus et al. 2022.
    """
    share = counts / counts.sum(-1, keepdim=True)
    mean = probabilities.mean(1)
    return counts.shape[-1] * (share * mean).sum(-1).mean()
