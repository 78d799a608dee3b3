"""ReLU, GELU and SwiGLU at equal numbers of parameters, drawn in chapter 04.

    python benchmarks/claims/feedforward.py

Trains the nano model with each of the three feed-forward layers, three seeds each,
on the little world's token files; nothing but the layer differs within a seed.
About ten minutes on one thread.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from claim import HELD_OUT, pretrain, save, zero_directory
from torch import Tensor, nn

from minimind.model.config import ModelConfig, get_preset
from minimind.model.feedforward import FeedForward
from minimind.model.transformer import MiniMindForCausalLM
from minimind.train.config import TrainConfig

SEEDS = [0, 1, 2]
STEPS = 300


class PlainFeedForward(FeedForward):
    """Two matrices and a bend: down(bend(up(x))). Shape: (..., C) -> (..., C)."""

    def __init__(self, config: ModelConfig, bend: Callable[[Tensor], Tensor]) -> None:
        nn.Module.__init__(self)  # none of the gated layer's matrices
        wide, inner = config.hidden_size, config.intermediate_size * 3 // 2
        self.up_proj = nn.Linear(wide, inner, bias=False)
        self.down_proj = nn.Linear(inner, wide, bias=False)
        self.bend = bend

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of each token by itself, (..., C)."""
        return self.down_proj(self.bend(self.up_proj(x)))


# Of a gated layer, with three matrices, there is nothing to replace.
BENDS = {"ReLU": F.relu, "GELU": F.gelu, "SwiGLU": None}


def build_model(kind: str, seed: int) -> MiniMindForCausalLM:
    """The nano model with one kind of feed-forward layer.

    All its other weights are the same for every kind.
    """
    torch.manual_seed(seed)
    config = get_preset("nano")
    model = MiniMindForCausalLM(config)
    if BENDS[kind] is None:
        return model
    std = config.initializer_range
    for layer in model.model.layers:
        layer.mlp = PlainFeedForward(config, BENDS[kind])
        nn.init.normal_(layer.mlp.up_proj.weight, std=std)
        small = std / (2 * config.num_hidden_layers) ** 0.5
        nn.init.normal_(layer.mlp.down_proj.weight, std=small)
    return model


def train(kind: str, seed: int, steps: int, zero: Path) -> dict[str, Any]:
    """Train one model: its loss at each step, and on held-out rows at the end.

    zero: directory of `minimind zero`, for the tokenizer and the token files.
    """
    config = TrainConfig(steps=steps, batch_size=8, learning_rate=6e-3, seed=seed)
    model = build_model(kind, seed)
    result = pretrain(model, config, zero, f"{kind}, seed {seed}")
    return {"kind": kind, "seed": seed, **result}


def main() -> None:
    """Train all of them and write the losses."""
    zero = zero_directory(until=f"data/{HELD_OUT}")
    runs = [train(kind, seed, STEPS, zero) for seed in SEEDS for kind in BENDS]
    save("feedforward", SEEDS, {"runs": runs})
    for run in runs:
        print(f"{run['kind']:6} seed {run['seed']}: {run['validation_loss']:.4f}")


if __name__ == "__main__":
    main()
