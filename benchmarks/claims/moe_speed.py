"""Tokens a second in training: a mixture of experts beside dense models.

    python benchmarks/claims/moe_speed.py

Printed in chapter 05. A forward and a backward pass over one batch, at two sizes: the
mixture, a dense model with the parameters that a token meets in it, and one with all
of them. Weights and tokens are random: they do not change the speed. The models take
turns in one run, and medians are kept. About a minute; measure on an idle machine.
"""

import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from claim import save
from tqdm import tqdm

from minimind.model.config import ModelConfig, get_preset
from minimind.model.transformer import MiniMindForCausalLM

BATCHES = {"nano-moe": (8, 256), "minimind2-moe": (2, 256)}  # rows, tokens in a row
TURNS = 5  # times that each model is measured


def kinds(mixture: ModelConfig) -> dict[str, ModelConfig]:
    """The mixture, and the dense models that it is compared with."""
    shared, wide = mixture.num_shared_experts, mixture.intermediate_size
    dense = replace(mixture, num_experts=0, num_shared_experts=0)
    return {
        "mixture": mixture,
        "dense, equal active": replace(
            dense, intermediate_size=(mixture.num_experts_per_tok + shared) * wide
        ),
        "dense, equal total": replace(
            dense, intermediate_size=(mixture.num_experts + shared) * wide
        ),
    }


def step_seconds(model: MiniMindForCausalLM, ids: torch.Tensor) -> float:
    """Seconds of one forward and one backward pass."""
    began = time.perf_counter()
    output = model(ids, labels=ids)
    loss = output.loss if output.aux_loss is None else output.loss + output.aux_loss
    loss.backward()
    model.zero_grad()
    return time.perf_counter() - began


def measure(preset: str) -> dict[str, Any]:
    """Tokens a second and parameters of every kind of one size."""
    torch.manual_seed(0)
    shapes = kinds(get_preset(preset))
    models = {kind: MiniMindForCausalLM(shape) for kind, shape in shapes.items()}
    ids = torch.randint(get_preset(preset).vocab_size, BATCHES[preset])
    seconds: dict[str, list[float]] = {kind: [] for kind in models}
    for turn in tqdm(range(TURNS + 1), desc=preset, unit="turn"):
        for kind, model in models.items():
            spent = step_seconds(model, ids)
            if turn:  # the first one is a warm-up
                seconds[kind].append(spent)
    return {
        kind: {
            "parameters": sum(p.numel() for p in model.parameters()),
            "tokens_per_second": round(
                ids.numel() / statistics.median(seconds[kind]), 1
            ),
        }
        for kind, model in models.items()
    }


def main() -> None:
    """Measure every size and write the speeds."""
    sizes = {preset: measure(preset) for preset in BATCHES}
    save("moe_speed", [0], {"batches": BATCHES, "sizes": sizes})
    for preset, found in sizes.items():
        for kind, numbers in found.items():
            print(f"{preset:14} {kind:20} {numbers['tokens_per_second']:10,.1f}")


if __name__ == "__main__":
    main()
