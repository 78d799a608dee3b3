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
from claim import save
from torch import Tensor
from tqdm import tqdm

from minimind.commands.zero import SEQ_LEN, build
from minimind.model.config import get_preset
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows, collate
from minimind.text.tokenizer import Tokenizer
from minimind.text.tokens import TokenFile
from minimind.train.config import TrainConfig
from minimind.train.pretrain import next_token_loss
from minimind.train.run import Run
from minimind.train.validate import validate

SEEDS = [0, 1, 2]
STEPS = 200
DATA = ("pretrain", "pretrain_heldout")
NANO, MIXTURE = get_preset("nano"), get_preset("nano-moe")
EXPERTS = MIXTURE.num_experts + MIXTURE.num_shared_experts
KINDS = {
    "experts": MIXTURE,
    "experts, no balancing": replace(MIXTURE, router_aux_loss_coef=0.0),
    "dense, equal active": NANO,
    "dense, equal total": replace(
        NANO, intermediate_size=EXPERTS * MIXTURE.intermediate_size
    ),
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
    tokenizer = Tokenizer.load(zero / "tokenizer")
    files = [TokenFile(zero / "data" / n, tokenizer) for n in DATA]
    rows, held_out = (PackedRows(file, SEQ_LEN, seed) for file in files)
    config = TrainConfig(steps=steps, batch_size=8, learning_rate=6e-3, seed=seed)
    torch.manual_seed(seed)
    model = MiniMindForCausalLM(KINDS[kind])
    run = Run(model, tokenizer, rows, next_token_loss, config, Path("out/claims"))
    losses, loads = [], []
    for step in tqdm(range(steps), desc=f"{kind}, seed {seed}", unit="step"):
        run.take_step()
        losses.append(round(run.numbers["loss"], 4))
        if "expert_load" in run.numbers and step % 10 == 9:
            loads.append(rounded(run.numbers["expert_load"]))
    load = held_out_load(model, held_out)
    return {
        "kind": kind,
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "losses": losses,
        "loads": loads,
        "held_out_load": None if load is None else rounded(load.tolist()),
        **validate(model, tokenizer, held_out),
    }


def rounded(load: list[list[float]]) -> list[list[float]]:
    """A load to four digits."""
    return [[round(share, 4) for share in layer] for layer in load]


def main() -> None:
    """Train all of them and write the losses and loads."""
    zero = Path("out/zero")
    build(zero, seed=0, until=f"data/{DATA[-1]}")
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
