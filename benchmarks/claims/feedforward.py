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
from claim import save
from torch import Tensor, nn
from tqdm import tqdm

from minimind.commands.zero import SEQ_LEN, build
from minimind.model.config import ModelConfig, get_preset
from minimind.model.feedforward import FeedForward
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows
from minimind.text.tokenizer import Tokenizer
from minimind.text.tokens import TokenFile
from minimind.train.config import TrainConfig
from minimind.train.pretrain import next_token_loss
from minimind.train.run import Run
from minimind.train.validate import validate

SEEDS = [0, 1, 2]
STEPS = 300
DATA = ("pretrain", "pretrain_heldout")


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
    tokenizer = Tokenizer.load(zero / "tokenizer")
    files = [TokenFile(zero / "data" / n, tokenizer) for n in DATA]
    rows, held_out = (PackedRows(file, SEQ_LEN, seed) for file in files)
    config = TrainConfig(steps=steps, batch_size=8, learning_rate=6e-3, seed=seed)
    model = build_model(kind, seed)
    run = Run(model, tokenizer, rows, next_token_loss, config, Path("out/claims"))
    losses = []
    for _ in tqdm(range(steps), desc=f"{kind}, seed {seed}", unit="step"):
        run.take_step()
        losses.append(round(run.numbers["loss"], 4))
    return {
        "kind": kind,
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "losses": losses,
        **validate(model, tokenizer, held_out),
    }


def main() -> None:
    """Train all of them and write the losses."""
    zero = Path("out/zero")
    build(zero, seed=0, until=f"data/{DATA[-1]}")
    runs = [train(kind, seed, STEPS, zero) for seed in SEEDS for kind in BENDS]
    save("feedforward", SEEDS, {"runs": runs})
    for run in runs:
        print(f"{run['kind']:6} seed {run['seed']}: {run['validation_loss']:.4f}")


if __name__ == "__main__":
    main()
