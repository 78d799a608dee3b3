"""Deep and narrow, or shallow and wide, at equal size; drawn in chapter 06.

    python benchmarks/claims/shapes.py

Trains models of the nano's number of parameters, from one block to sixteen, on the
little world's token files: for a short time with three seeds each, five times as
long with one, and with other learning rates. About twenty minutes on one thread.
"""

from pathlib import Path
from typing import Any

import torch
from claim import HELD_OUT, pretrain, save, zero_directory

from minimind.model.config import ModelConfig
from minimind.model.transformer import MiniMindForCausalLM
from minimind.train.config import TrainConfig

SEEDS = [0, 1, 2]
STEPS, LONG = 300, 1500
RATES = (0.5, 2.0)  # times the usual learning rate

# Blocks, channels, channels inside the feed-forward layer: each shape has the
# nano's 984,192 parameters to within a percent, embedding included.
SHAPES = {1: (224, 728), 2: (176, 500), 4: (128, 384), 8: (96, 267), 16: (72, 181)}


def shape(blocks: int) -> ModelConfig:
    """The config of the shape with so many blocks; the rest is the nano's."""
    channels, inner = SHAPES[blocks]
    return ModelConfig(
        vocab_size=1536,
        hidden_size=channels,
        intermediate_size=inner,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        max_position_embeddings=512,
        rope_theta=1e4,
        initializer_range=0.9 / channels**0.5,  # the nano's 0.08, by the width
    )


def train(
    blocks: int, seed: int, steps: int, zero: Path, factor: float = 1.0
) -> dict[str, Any]:
    """Train one shape: its loss at each step, and on held-out rows at the end.

    zero: directory of `minimind zero`, for the tokenizer and the token files.
    factor: of the learning rate.
    """
    torch.manual_seed(seed)
    model = MiniMindForCausalLM(shape(blocks))
    rate = factor * 6e-3 * 128 / model.config.hidden_size  # the nano's, by the width
    config = TrainConfig(steps=steps, batch_size=4, learning_rate=rate, seed=seed)
    return {
        "blocks": blocks,
        "hidden_size": model.config.hidden_size,
        "seed": seed,
        "steps": steps,
        "factor": factor,
        **pretrain(model, config, zero, f"{blocks} blocks, seed {seed}"),
    }


def main() -> None:
    """Train all of them and write the losses."""
    zero = zero_directory(until=f"data/{HELD_OUT}")
    runs = [train(blocks, seed, STEPS, zero) for seed in SEEDS for blocks in SHAPES]
    more = [train(blocks, 0, LONG, zero) for blocks in SHAPES]
    more += [train(b, 0, STEPS, zero, f) for f in RATES for b in (1, 4, 8, 16)]
    for run in more:
        del run["losses"]  # their ends are enough
    save("shapes", SEEDS, {"runs": runs, "more": more})
    for run in runs + more:
        print(
            f"{run['blocks']:2} blocks, seed {run['seed']}, {run['steps']} steps, "
            f"rate x {run['factor']}: {run['validation_loss']:.4f}"
        )


if __name__ == "__main__":
    main()
