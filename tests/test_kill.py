"""One run, killed at twenty random moments: preparing, stepping, scoring, saving."""

import importlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from minimind.text.packing import PackedRows
from minimind.text.tokens import TokenFile, prepare
from minimind.train.checkpoint import load_model
from minimind.train.log import read_log
from minimind.train.loop import train
from minimind.train.pretrain import next_token_loss
from tests.training_kit import (
    CONFIG,
    new_model,
    random_texts,
    same_weights,
    tokenizer,
    write_rows,
)

ROOT = Path(__file__).resolve().parents[1]
KILLS = 20
STEPS = replace(CONFIG, steps=120, save_every=2, eval_every=3)


def whole_road(folder):
    """From the text to a trained model, or on from where it was."""
    tokens = folder / "tokens"
    if not tokens.is_dir():
        prepare([folder.parent / "text.jsonl"], tokens, tokenizer())
    rows = PackedRows(TokenFile(tokens, tokenizer()), 48)
    train(new_model(), tokenizer(), rows, next_token_loss, STEPS, folder / "run", rows)


def start(folder):
    """`whole_road` in a process of its own, which has nothing to import any more."""
    child = os.fork()
    if not child:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        try:
            whole_road(folder)
        finally:
            os._exit(sys.exc_info()[0] is not None)
    return child


def seconds_of(folder):
    """How long it takes when nothing stops it."""
    began = time.monotonic()
    assert os.waitpid(start(folder), 0)[1] == 0
    return time.monotonic() - began


def main(folder):
    """Go the road once straight, and once with many stops; print where they were."""
    write_rows(folder / "text.jsonl", [{"text": text} for text in random_texts(400)])
    tokenizer()  # once, for all processes, as what the first step would import
    importlib.import_module("torch._dynamo")
    seconds, rng = seconds_of(folder / "straight"), random.Random(0)
    stops = []
    while len(stops) < KILLS:
        child = start(folder / "killed")
        time.sleep(rng.uniform(0, 0.1) * seconds)
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] == 0:
            break  # it was faster, and the test fails
        lines = read_log(folder / "killed" / "run")
        stops.append(lines[-1]["step"] if lines else 0)
    seconds_of(folder / "killed")
    print(*stops)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_killed_at_twenty_moments(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_kill", tmp_path],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    stops = [int(step) for step in done.stdout.split()]
    assert len(stops) == KILLS and len(set(stops)) >= KILLS / 4, stops
    straight, killed = (tmp_path / name / "run" for name in ("straight", "killed"))
    assert same_weights(load_model(straight)[0], load_model(killed)[0])
    assert same_weights(
        load_model(straight / "best")[0], load_model(killed / "best")[0]
    )
    timed = {"tokens_per_second", "data_wait", "memory_gb"}
    logs = [
        [{k: v for k, v in line.items() if k not in timed} for line in read_log(run)]
        for run in (straight, killed)
    ]
    assert logs[0] == logs[1] and len(logs[0]) == STEPS.steps


if __name__ == "__main__":
    main(Path(sys.argv[1]))
