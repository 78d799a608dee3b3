"""Tokens a second of one and of two processes on this machine, drawn in chapter 14.

    python benchmarks/claims/scaling.py

Each process has one thread, so two of them have two cores; one process with two
threads is measured beside them. Every variant takes the same rows a step. With
accumulation the processes exchange gradients once for several batches. The variants
take turns in processes of their own, and medians are kept. About ten minutes; measure
on an idle machine. `--steps 1 --turns 1` tries it out: the numbers of so short a
measurement mean little, and the result says how long it was.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claim import save
from tqdm import tqdm

from minimind.model.config import get_preset
from minimind.model.transformer import MiniMindForCausalLM
from minimind.train.config import TrainConfig
from minimind.train.distributed import is_main, process_group, world_size
from minimind.train.estimate import measure
from minimind.train.pretrain import next_token_loss
from minimind.train.run import Run

# Name of a variant -> processes, threads of each.
VARIANTS = {
    "1 process, 1 thread": (1, 1),
    "1 process, 2 threads": (1, 2),
    "2 processes, 1 thread each": (2, 1),
}
# Model -> rows in a batch, in all processes together, and tokens in a row. The larger
# one takes a fifth of the steps.
MODELS = {"nano": (16, 256), "minimind2-small": (2, 256)}
ACCUMULATIONS = (1, 4)


class RandomRows:
    """Endless rows of random ids: what is learned does not matter here."""

    fingerprint, read_ahead = "random", True

    def __init__(self, vocabulary: int, row_length: int) -> None:
        self.vocabulary, self.row_length = vocabulary, row_length

    def __len__(self) -> int:
        return 1024

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        ids = np.random.default_rng(n).integers(self.vocabulary, size=self.row_length)
        return {"input_ids": ids, "labels": ids}


def measure_here(model: str, accumulation: int, steps: int) -> None:
    """In each of the processes: take some steps; the first one prints what it took."""
    rows, length = MODELS[model]
    with process_group(torch.device("cpu")):
        config = TrainConfig(
            steps=steps + 1,
            batch_size=rows // world_size(),
            accumulation=accumulation,
            device="cpu",
        )
        shape = get_preset(model)
        run = Run(
            MiniMindForCausalLM(shape),
            None,  # nothing is saved
            RandomRows(shape.vocab_size, length),
            next_token_loss,
            config,
            Path("out/claims"),
        )
        found = measure(run, steps)
        if is_main():
            print(json.dumps(found))


def start(variant: str, *options: str) -> float:
    """Tokens a second of a variant, in processes of its own."""
    processes, threads = VARIANTS[variant]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(processes), __file__, "--measure", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])["tokens_per_second"]


def main(steps: int, turns: int) -> None:
    """Measure all variants of all models in turns, and write the medians."""
    kinds = [(model, times) for model in MODELS for times in ACCUMULATIONS]
    rates: dict[tuple[str, int, str], list[float]] = {}
    for _ in tqdm(range(turns), desc="turns", unit="turn"):
        for model, times in kinds:
            for variant in VARIANTS:
                options = ("--model", model, "--accumulation", str(times))
                taken = steps if model == "nano" else max(1, steps // 5)
                found = start(variant, *options, "--steps", str(taken))
                rates.setdefault((model, times, variant), []).append(found)
    runs = [
        {
            "model": model,
            "accumulation": times,
            "variant": variant,
            "tokens_per_second": round(statistics.median(found), 1),
        }
        for (model, times, variant), found in rates.items()
    ]
    result: dict[str, Any] = {"steps": steps, "turns": turns, "runs": runs}
    save("scaling", [0], result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--model", default="nano", help=argparse.SUPPRESS)
    parser.add_argument("--accumulation", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure_here(given.model, given.accumulation, given.steps)
    else:
        main(given.steps, given.turns)
