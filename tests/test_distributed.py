"""Two processes under torchrun: one gradient, one run, and one end."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from minimind.errors import UserError
from minimind.train.checkpoint import load_model, load_state
from minimind.train.log import read_log
from minimind.train.precision import pick_device
from tests.test_loop import TIMES, numbers_of
from tests.training_kit import CONFIG, same_weights, token_file

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="torchrun needs a store that Windows lacks"
)


def launch(what, directory, *more, processes=2):
    """Run tests/parallel.py under torchrun; returns its exit status and output."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(processes), "-m", "tests.parallel"]
    done = subprocess.run(
        [*command, what, str(directory), *map(str, more)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=240,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of two processes that nothing stopped, and what it printed."""
    folder = tmp_path_factory.mktemp("two")
    token_file(folder)
    status, printed = launch("run", folder / "run")
    assert status == 0, printed
    return folder / "run", printed


def processes_of(directory):
    """Numbers of the living processes that work on a directory."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,args"], capture_output=True, encoding="utf-8"
    )
    return [line for line in listed.stdout.splitlines() if str(directory) in line]


def test_gradients_are_those_of_one_process(tmp_path):
    status, printed = launch("check", tmp_path)
    assert status == 0, printed


def test_what_is_printed_and_by_whom(straight):
    directory, printed = straight
    assert printed.count("processes: 2, backend gloo") == 1
    assert "process 0 is done" in printed and "process 1 is done" in printed
    assert printed.count(" 0/7 ") == 1  # one bar
    steps = [line["step"] for line in read_log(directory)]
    assert steps == list(range(1, CONFIG.steps + 1))
    state = load_state(directory)
    assert (state["world_size"], len(state["rng"]), state["samples"]) == (2, 2, 56)


def assert_nearly(directory, other):
    """Two runs whose sums were taken in another order."""
    ours, theirs = read_log(directory), read_log(other)
    assert len(ours) == len(theirs)
    for line, its in zip(ours, theirs, strict=True):
        assert line.keys() == its.keys()
        for key in line.keys() - TIMES:
            assert line[key] == pytest.approx(its[key], rel=1e-4, abs=1e-5), key
    ours, theirs = (load_model(d)[0].state_dict() for d in (directory, other))
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=0, atol=1e-5)


def assert_equal(directory, other):
    assert same_weights(load_model(directory)[0], load_model(other)[0])
    assert numbers_of(directory) == numbers_of(other)


def test_a_killed_process_ends_all_and_the_run_goes_on(straight):
    whole, _ = straight
    directory = whole.parent / "killed"
    status, printed = launch("kill", directory, 10)  # in step 5, of batches of 2
    assert status != 0 and "is done" not in printed
    assert load_state(directory)["step"] == 3
    limit = time.monotonic() + 20
    while processes_of(directory) and time.monotonic() < limit:
        time.sleep(0.1)
    assert processes_of(directory) == []
    status, printed = launch("run", directory)
    assert status == 0, printed
    assert_equal(directory, whole)


def test_killed_anywhere_either_process(straight):
    """Also while it saves: five times, soon after some call of the loss."""
    whole, directory = (straight[0].parent / name for name in ("long", "killed often"))
    assert launch("long", whole)[0] == 0
    steps = []
    for call, rank in ((2, 0), (5, 1), (4, 0), (7, 1), (6, 0)):
        status, printed = launch("die", directory, call, rank)
        assert status != 0, printed
        lines = read_log(directory)
        steps.append(lines[-1]["step"] if lines else 0)
    assert steps == sorted(steps) and steps[-1] < 60
    status, printed = launch("long", directory)
    assert status == 0, printed
    assert_equal(directory, whole)


def test_a_signal_to_one_stops_all_at_the_same_step(straight):
    """And one process goes on from there, by the rows seen."""
    whole, _ = straight
    directory = whole.parent / "stopped"
    status, printed = launch("term", directory, 5)  # in step 3
    assert status == 0, printed
    assert len(re.findall(r"process \d is done", printed)) == 2
    assert load_state(directory)["step"] == 3
    status, printed = launch("run", directory, processes=1)
    assert status == 0, printed
    assert_nearly(directory, whole)


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    """The commands move models before the processes are connected."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert pick_device("cuda") == pick_device() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("cuda") == pick_device() == torch.device("cuda", 1)
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="only 2 GPUs; .*--nproc_per_node 2"):
        pick_device()
