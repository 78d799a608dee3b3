"""ZeRO through DeepSpeed, in two processes: the losses of DDP, and exact resuming."""

import importlib.util
import json
import sys

import pytest

from minimind.errors import UserError
from minimind.train.log import read_log
from minimind.train.zero import FOLDER, zero_config
from tests.test_distributed import launch
from tests.test_loop import numbers_of
from tests.training_kit import token_file

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None or sys.platform == "win32",
    reason="DeepSpeed is not installed",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zero")
    token_file(folder)
    status, printed = launch("run", folder / "ddp")
    assert status == 0, printed
    return folder


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_losses_are_those_of_ddp_and_resuming_is_exact(folder, stage):
    name = f"zero{stage}"
    status, printed = launch(name, folder / name)
    assert status == 0, printed
    ours, theirs = read_log(folder / name), read_log(folder / "ddp")
    assert len(ours) == len(theirs) == 7
    for line, its in zip(ours, theirs, strict=True):
        for key in ("loss", "validation_loss"):
            assert line.get(key) == pytest.approx(its.get(key), abs=1e-5)
    status, printed = launch(name, folder / f"{name}-stopped", 5)
    assert status == 0, printed
    assert len(read_log(folder / f"{name}-stopped")) < 7
    status, printed = launch(name, folder / f"{name}-stopped")
    assert status == 0, printed
    assert numbers_of(folder / f"{name}-stopped") == numbers_of(folder / name)
    left = sorted(p.name for p in (folder / name / "state").glob("zero-*"))
    assert left == ["zero-6", "zero-7"]


def test_what_does_not_go_together(folder):
    status, printed = launch("moe-zero3", folder / "moe")
    assert status != 0 and "ZeRO-3 and experts" in printed
    with pytest.raises(UserError, match="zero1, zero2, zero3 or a json file"):
        zero_config("zero4")


def test_the_configurations():
    for stage in (1, 2, 3):
        text = (FOLDER / f"zero{stage}.json").read_text("utf-8")
        assert json.loads(text)["zero_optimization"]["stage"] == stage
