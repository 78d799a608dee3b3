"""`minimind zero` on a world of a few rows: the whole road, killed and resumed."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from minimind.cli import main

# A model and a world so small that the road takes seconds.
SMALL = """
import sys
from minimind.cli import main
from minimind.commands import zero
from minimind.model import config
from minimind.train.config import TrainConfig

config.PRESETS["nano"] = config.ModelConfig(
    hidden_size=16, intermediate_size=32, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=320,
)
zero.SIZE, zero.VOCAB_SIZE = 200, 400
zero.PRETRAIN = TrainConfig(steps=30, batch_size=2, save_every=4)
zero.SFT = TrainConfig(steps=20, batch_size=2, save_every=4)
sys.exit(main(["zero", "--out", sys.argv[1]]))
"""


def start(out: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", SMALL, str(out)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    out = tmp_path_factory.mktemp("zero") / "run"
    began = time.monotonic()
    process = start(out)
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    return out, printed, time.monotonic() - began


def test_asks_its_questions_without_a_terminal(undisturbed):
    out, printed, _ = undisturbed
    for question in ("> What is the capital of France?", "> 法国的首都是哪里？"):
        assert question in printed
    for stage in ("world", "tokenizer", "data/sft", "pretrain", "sft"):
        assert f"{out}/{stage}: " in printed.replace("\\", "/")
    assert "bits per byte" in printed
    assert "held-out questions answered to the letter" in printed
    assert (out / "scores.json").is_file()


def test_another_seed_is_another_model(undisturbed, capsys):
    out, _, _ = undisturbed
    assert main(["zero", "--out", str(out), "--seed", "1"]) == 2
    assert "was made with seed 0" in capsys.readouterr().err
    assert (out / "scores.json").is_file()


def test_second_run_goes_straight_to_the_chat(undisturbed):
    out, first, _ = undisturbed
    process = start(out)
    printed = process.communicate()[0]
    assert process.returncode == 0
    assert printed.count(": done") == 8
    assert "step/s" not in printed
    assert first[first.index("> ") :] == printed[printed.index("> ") :]


def test_killed_at_any_moment_it_goes_on(undisturbed, tmp_path):
    whole, _, seconds = undisturbed
    out, rng = tmp_path / "run", random.Random(0)
    for _ in range(6):
        process = start(out)
        time.sleep(rng.uniform(0.4, 0.9) * seconds)
        process.kill()  # SIGKILL: no chance to tidy up
        process.communicate()
    process = start(out)
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    for stage in ("pretrain", "sft"):
        straight = load_file(whole / stage / "model.safetensors")
        resumed = load_file(out / stage / "model.safetensors")
        assert all(straight[key].equal(resumed[key]) for key in straight)
    scores = [
        json.loads((run / "scores.json").read_text("utf-8")) for run in (whole, out)
    ]
    assert scores[0]["facts"] == scores[1]["facts"]
    assert scores[0]["wrong"] == scores[1]["wrong"]
