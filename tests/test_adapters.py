"""Other places for the numbers: they go on with a run, and never stop one."""

import importlib.util
import json
from dataclasses import replace

import pytest

from minimind.text.packing import PackedRows
from minimind.train import adapters
from minimind.train.adapters import flat, open_adapters, run_id
from minimind.train.log import read_log
from tests.test_loop import start, stop_at
from tests.training_kit import CONFIG, token_file


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return PackedRows(token_file(tmp_path_factory.mktemp("data")), 48)


class Place:
    """Stands for a service: keeps what it is sent, and may fail."""

    def __init__(self, monkeypatch, fails=""):
        self.fails, self.sent, self.opened, self.closed = fails, [], [], 0
        monkeypatch.setitem(adapters.PLACES, "wandb", self.begin)

    def begin(self, directory, step):
        self.opened.append(step)
        if self.fails == "begin":
            raise ConnectionError("no network")
        return self.send, self.end

    def send(self, numbers, step):
        if self.fails == "send":
            raise TimeoutError("the server is slow")
        self.sent.append((step, numbers))

    def end(self):
        self.closed += 1
        if self.fails == "end":
            raise OSError("could not upload")


CONFIG = replace(CONFIG, log_to=("wandb",))


def test_a_place_gets_what_the_log_gets(rows, tmp_path, monkeypatch):
    place = Place(monkeypatch)
    start(rows, tmp_path, config=CONFIG)
    lines = read_log(tmp_path)
    assert [step for step, _ in place.sent] == [line["step"] for line in lines]
    assert [n["loss"] for _, n in place.sent] == [line["loss"] for line in lines]
    assert (place.opened, place.closed) == ([0], 1)


def test_a_place_goes_on_with_a_run(rows, tmp_path, monkeypatch):
    place = Place(monkeypatch)
    start(rows, tmp_path, stop_at(6), config=CONFIG)
    first = run_id(tmp_path)
    start(rows, tmp_path, config=CONFIG)
    assert place.opened == [0, 3] and place.closed == 2
    assert [step for step, _ in place.sent] == [1, 2, 3, 4, 5, 6, 7]
    assert run_id(tmp_path) == first


@pytest.mark.parametrize("when", ["begin", "send", "end"])
def test_a_place_that_fails_stops_nothing(rows, tmp_path, monkeypatch, capsys, when):
    Place(monkeypatch, fails=when)
    _, numbers = start(rows, tmp_path, config=CONFIG)
    assert numbers["finished"] and len(read_log(tmp_path)) == CONFIG.steps
    assert capsys.readouterr().out.count("wandb: no longer logged there (") == 1


def test_a_package_that_is_missing_is_named(rows, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    _, numbers = start(rows, tmp_path, config=CONFIG)
    assert numbers["finished"]
    assert "pip install 'build-minimind[log]'" in capsys.readouterr().out


def test_every_number_has_a_name():
    line = {"step": 3, "loss": 1.5, "expert_load": [[0.25, 0.75], [0.5, 0.5]]}
    assert flat({**line, "memory_gb": None, "finished": True}) == {
        "step": 3.0,
        "loss": 1.5,
        "expert_load/0/0": 0.25,
        "expert_load/0/1": 0.75,
        "expert_load/1/0": 0.5,
        "expert_load/1/1": 0.5,
        "finished": 1.0,
    }


needs = {
    name: pytest.mark.skipif(
        importlib.util.find_spec(name) is None, reason=f"{name} is not installed"
    )
    for name in ("tensorboard", "wandb", "swanlab")
}


@needs["tensorboard"]
def test_tensorboard_keeps_one_curve(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, last in ((0, 6), (3, 8)):  # six steps, then on from step 3
        (place,) = open_adapters(("tensorboard",), tmp_path, first)
        for step in range(max(first, 1), last):
            place.write({"step": step, "loss": 10.0 * step + first})
        place.close()
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    events = [(event.step, event.value) for event in found.Scalars("loss")]
    assert events == [(1, 10.0), (2, 20.0)] + [(s, 10.0 * s + 3) for s in range(3, 8)]


@needs["wandb"]
def test_wandb_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for first in (0, 3):
        (place,) = open_adapters(("wandb",), tmp_path, first)
        place.write({"step": first + 1, "loss": 1.0})
        assert place.working
        place.close()
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) == 2 and all(run_id(tmp_path) in f.name for f in folders)


@needs["swanlab"]
def test_swanlab_offline(tmp_path, monkeypatch):
    monkeypatch.delenv("SWANLAB_MODE", raising=False)
    for first in (0, 3):
        (place,) = open_adapters(("swanlab",), tmp_path, first)
        place.write({"step": first + 1, "loss": 1.0})
        assert place.working
        place.close()
        assert place.working
    assert any((tmp_path / "swanlab").iterdir())


def test_the_log_is_json(rows, tmp_path):
    start(rows, tmp_path, config=replace(CONFIG, log_to=()))
    lines = (tmp_path / "log.jsonl").read_text("utf-8").splitlines()
    steps = [json.loads(line, parse_constant=pytest.fail)["step"] for line in lines]
    assert steps == list(range(1, CONFIG.steps + 1))
