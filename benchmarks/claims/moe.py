"""Experts against dense layers, and with and without the balancing loss.

    python benchmarks/claims/moe.py

Drawn in chapter 05. Trains four models, three seeds each, on the little world's
token files: nano-moe with its balancing loss and without, and two dense models,
one with the parameters that a token meets there, one with all of them. Within a
seed the data and their order are the same. About ten minutes on one thread.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from claim import HELD_OUT, open_rows, pretrain, save, zero_directory
from torch import Tensor

from minimind.model.config import ModelConfig, get_preset
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows, collate
from minimind.train.config import TrainConfig
from minimind.train.run import Run

SEEDS = [0, 1, 2]
STEPS = 200


def dense_models(mixture: ModelConfig) -> dict[str, ModelConfig]:
    """Dense models with the parameters a token meets in a mixture, and with all."""
    shared, wide = mixture.num_shared_experts, mixture.intermediate_size
    dense = replace(mixture, num_experts=0, num_shared_experts=0)
    counts = {"active": mixture.num_experts_per_tok, "total": mixture.num_experts}
    return {
        f"dense, equal {name}": replace(
            dense, intermediate_size=(count + shared) * wide
        )
        for name, count in counts.items()
    }


MIXTURE = get_preset("nano-moe")
KINDS = {
    "experts": MIXTURE,
    "experts, no balancing": replace(MIXTURE, router_aux_loss_coef=0.0),
    **dense_models(MIXTURE),
}


@torch.no_grad()
def held_out_load(model: MiniMindForCausalLM, rows: PackedRows) -> Tensor | None:
    """Share of each layer's choices that go to each expert, (L, E)."""
    batch = collate(rows[n] for n in range(16))
    return model.eval()(**batch).expert_load


def train(kind: str, seed: int, steps: int, zero: Path) -> dict[str, Any]:
    """Train one model: its loss at each step, its experts' load, and the end.

    zero: directory of `minimind zero`, for the tokenizer and the token files.
    `loads` holds the load at every tenth step, (L, E).
    """
    config = TrainConfig(steps=steps, batch_size=8, learning_rate=6e-3, seed=seed)
    torch.manual_seed(seed)
    model = MiniMindForCausalLM(KINDS[kind])
    loads = []

    def keep_load(run: Run) -> None:
        if "expert_load" in run.numbers and run.step % 10 == 0:
            loads.append(rounded(run.numbers["expert_load"]))

    result = pretrain(model, config, zero, f"{kind}, seed {seed}", keep_load)
    load = held_out_load(model, open_rows(zero, HELD_OUT, seed))
    return {
        "kind": kind,
        "seed": seed,
        **result,
        "loads": loads,
        "held_out_load": None if load is None else rounded(load.tolist()),
    }


def rounded(load: list[list[float]]) -> list[list[float]]:
    """A load to four digits."""
    return [[round(share, 4) for share in layer] for layer in load]


def main() -> None:
    """Train all of them and write the losses and loads."""
    zero = zero_directory(until=f"data/{HELD_OUT}")
    runs = [train(kind, seed, STEPS, zero) for seed in SEEDS for kind in KINDS]
    save("moe", SEEDS, {"steps": STEPS, "runs": runs})
    for run in runs:
        largest = max(map(max, run["held_out_load"] or [[0.0]]))
        print(
            f"{run['kind']:22} seed {run['seed']}: {run['validation_loss']:.4f}, "
            f"largest load {largest:.2f}"
        )


if __name__ == "__main__":
    main()
