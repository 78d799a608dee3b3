"""Tokens a second in training: a mixture of experts beside dense models.

    python benchmarks/claims/moe_speed.py

Printed in chapter 05. A forward and a backward pass over one batch, at two sizes: the
mixture, a dense model with the parameters that a token meets in it, and one with all
of them. Weights and tokens are random: they do not change the speed. The models take
turns in one run, and medians are kept. About a minute; measure on an idle machine.
"""

from functools import partial
from typing import Any

import torch
from claim import save
from decoding import take_turns
from moe import dense_models
from tqdm import tqdm

from minimind.model.config import get_preset
from minimind.model.transformer import MiniMindForCausalLM
from minimind.train.objective import Batch
from minimind.train.pretrain import next_token_loss

BATCHES = {"nano-moe": (8, 256), "minimind2-moe": (2, 256)}  # rows, tokens in a row


def step(model: MiniMindForCausalLM, batch: Batch) -> None:
    """One forward and one backward pass."""
    next_token_loss(model, batch)[0].backward()
    model.zero_grad()


def measure(preset: str) -> dict[str, Any]:
    """Tokens a second and parameters of every kind of one size."""
    torch.manual_seed(0)
    mixture = get_preset(preset)
    shapes = {"mixture": mixture, **dense_models(mixture)}
    models = {kind: MiniMindForCausalLM(shape) for kind, shape in shapes.items()}
    ids = torch.randint(mixture.vocab_size, BATCHES[preset])
    batch = {"input_ids": ids, "labels": ids}
    steps = {kind: partial(step, model, batch) for kind, model in models.items()}
    return {
        kind: {
            "parameters": sum(p.numel() for p in models[kind].parameters()),
            "tokens_per_second": round(ids.numel() / seconds, 1),
        }
        for kind, seconds in take_turns(steps, repeats=1).items()
    }


def main() -> None:
    """Measure every size and write the speeds."""
    sizes = {preset: measure(preset) for preset in tqdm(BATCHES, unit="size")}
    save("moe_speed", [0], {"batches": BATCHES, "sizes": sizes})
    for preset, found in sizes.items():
        for kind, numbers in found.items():
            print(f"{preset:14} {kind:20} {numbers['tokens_per_second']:10,.1f}")


if __name__ == "__main__":
    main()
