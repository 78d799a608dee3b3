"""ZeRO through DeepSpeed, in two processes: the losses of DDP, and exact resuming."""

import importlib.util
import json
import sys

import pytest

from minimind.errors import UserError
from minimind.train.checkpoint import load_model
from minimind.train.log import read_log
from minimind.train.zero import FOLDER, zero_config
from tests.test_distributed import launch
from tests.test_loop import numbers_of
from tests.training_kit import token_file

needs_deepspeed = pytest.mark.skipif(
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


@needs_deepspeed
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


@needs_deepspeed
def test_bad_steps_are_left_out_and_counted(folder):
    """As without DeepSpeed, whether the loss, its gradient or both are no number."""
    status, printed = launch("bad", folder)
    assert status == 0, printed
    expected = numbers_of(folder / "bad-None")
    assert [line["skipped"] for line in expected] == [0, 1, 1, 2, 2, 3, 3]
    for kind in ("zero1", "zero2", "zero3"):
        lines = numbers_of(folder / f"bad-{kind}")
        for line, its in zip(lines, expected, strict=True):
            assert line["skipped"] == its["skipped"]
            assert line["loss"] == pytest.approx(its["loss"], abs=1e-5, nan_ok=True)
        for weight in load_model(folder / f"bad-{kind}")[0].state_dict().values():
            assert weight.isfinite().all()


@needs_deepspeed
def test_experts_do_not_go_with_zero3(folder):
    status, printed = launch("moe-zero3", folder / "moe")
    assert status != 0 and "ZeRO-3 and experts" in printed


def test_configurations_that_are_refused(tmp_path):
    with pytest.raises(UserError, match="zero1, zero2, zero3 or a json file"):
        zero_config("zero4")
    own = tmp_path / "own.json"
    for given, said in (
        ({"zero_optimization": {"stage": 0}}, "stage has to be 1, 2 or 3"),
        ({}, "stage has to be 1, 2 or 3"),
        ({"zero_optimization": {"stage": 1}, "fp16": {}}, "'fp16'; give --dtype"),
        (
            {"zero_optimization": {"stage": 1}, "gradient_clipping": 9},
            "'gradient_clipping'; give --grad-clip",
        ),
    ):
        own.write_text(json.dumps(given))
        with pytest.raises(UserError, match=said):
            zero_config(str(own))


def test_the_configurations():
    for stage in (1, 2, 3):
        text = (FOLDER / f"zero{stage}.json").read_text("utf-8")
        assert json.loads(text)["zero_optimization"]["stage"] == stage
