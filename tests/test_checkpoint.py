"""Checkpoints: whole or not there, strict when loaded, open to transformers."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from minimind.errors import UserError
from minimind.files import write_atomically
from minimind.model.weights import load_weights
from minimind.text.packing import PackedRows
from minimind.text.tokenizer import train_tokenizer
from minimind.train.checkpoint import (
    load_model,
    load_state,
    save_model,
    save_state,
    saved_states,
)
from tests.training_kit import (
    SHAPE,
    TEXTS,
    new_model,
    new_run,
    random_texts,
    same_weights,
    token_file,
    tokenizer,
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return PackedRows(token_file(tmp_path_factory.mktemp("data")), 32)


def one_line(caught):
    message = str(caught.value)
    assert "\n" not in message
    return message


# A model directory.


def test_what_is_saved_is_loaded(tmp_path):
    model = new_model()
    save_model(model, tokenizer(), tmp_path, {"stage": "pretrain", "step": 3})
    loaded, its_tokenizer = load_model(tmp_path)
    assert loaded.config == SHAPE and same_weights(model, loaded)
    assert not loaded.training
    assert its_tokenizer.hash == tokenizer().hash
    about = json.loads((tmp_path / "minimind.json").read_text("utf-8"))
    assert about == {"stage": "pretrain", "step": 3, "tokenizer": tokenizer().hash}
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in stored  # it is the embedding
    assert sum(w.numel() for w in stored.values()) == sum(
        w.numel() for w in model.parameters()
    )


def test_an_untied_head_is_stored(tmp_path):
    model = new_model(shape=replace(SHAPE, tie_word_embeddings=False))
    save_model(model, tokenizer(), tmp_path, {})
    assert same_weights(model, load_model(tmp_path)[0])


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_opens_it(tmp_path, tied):
    transformers = pytest.importorskip("transformers")
    model = new_model(shape=replace(SHAPE, tie_word_embeddings=tied)).eval()
    save_model(model, tokenizer(), tmp_path, {})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (*TEXTS[:9], "Ünïcode \U0001f98a 1984", "<|im_end|> <think>"):
        ids = tokenizer().encode(text)
        if "<|im_end|>" not in text:  # spelt out, it is text for us alone
            assert their_tokenizer(text, add_special_tokens=False).input_ids == ids
        batch = torch.tensor([[1, *ids, 2]])
        assert (theirs(batch).logits - model(batch).logits).abs().max() < 1e-5
    assert their_tokenizer.eos_token_id == theirs.generation_config.eos_token_id[0] == 2
    assert their_tokenizer.pad_token_id == theirs.config.pad_token_id == 0


def test_weights_of_another_shape(tmp_path):
    save_model(new_model(), tokenizer(), tmp_path, {})
    path = tmp_path / "config.json"
    wider = json.loads(path.read_text()) | {
        "intermediate_size": 64,
        "num_hidden_layers": 2,
    }
    path.write_text(json.dumps(wider))
    with pytest.raises(UserError) as caught:
        load_model(tmp_path)
    message = one_line(caught)
    assert "model.safetensors: 12 weights do not fit" in message
    assert "model.layers.1." in message and "is missing" in message


def test_load_weights_says_what_differs():
    model, other = new_model(), new_model(seed=1)
    weights = dict(other.state_dict())
    weights["model.layers.0.mlp.up_proj.weight"] = torch.zeros(5, 32)
    weights["adapter.weight"] = weights.pop("model.norm.weight")
    with pytest.raises(UserError) as caught:
        load_weights(model, weights, "some file")
    assert one_line(caught) == (
        "some file: 3 weights do not fit the model: model.norm.weight is missing; "
        "adapter.weight is unknown; "
        "model.layers.0.mlp.up_proj.weight is (5, 32), not (48, 32)"
    )
    assert same_weights(model, new_model())  # nothing was copied


def test_a_tokenizer_of_another_model(tmp_path):
    save_model(new_model(), tokenizer(), tmp_path, {})
    other = train_tokenizer(random_texts(60, seed=9), 290)
    other.save(tmp_path)
    with pytest.raises(UserError, match="not the one this model was trained") as caught:
        load_model(tmp_path)
    assert other.hash in one_line(caught) and tokenizer().hash in one_line(caught)


def test_a_tokenizer_with_more_ids_than_the_model(tmp_path):
    save_model(new_model(), tokenizer(), tmp_path, {})
    (tmp_path / "minimind.json").unlink()  # as from another program
    train_tokenizer(TEXTS, 310).save(tmp_path)
    with pytest.raises(UserError, match="310 ids, but the model only 300"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file(tmp_path, name):
    save_model(new_model(), tokenizer(), tmp_path, {})
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=name):
        load_model(tmp_path)


def test_a_file_that_was_cut(tmp_path):
    save_model(new_model(), tokenizer(), tmp_path, {})
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="incomplete or damaged"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "minimind.json"])
@pytest.mark.parametrize("damaged", ['{"a": 1', "[1]", b"\xff"])
def test_a_json_file_that_was_cut(tmp_path, name, damaged):
    save_model(new_model(), tokenizer(), tmp_path, {})
    data = damaged if isinstance(damaged, bytes) else damaged.encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name}: not (JSON|an object)"):
        load_model(tmp_path)


# The state of a run.


def save_states(directory, *steps):
    for step in steps:
        save_state(directory, step, {"step": step, "weights": torch.full((9,), step)})


def test_the_newest_state_is_loaded(tmp_path):
    assert load_state(tmp_path) is None
    save_states(tmp_path, 5, 10)
    state = load_state(tmp_path)
    assert state["step"] == 10 and state["weights"].tolist() == [10] * 9


def test_two_states_are_kept(tmp_path):
    save_states(tmp_path, 5, 10, 15, 20)
    names = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert names == [f"step-00000{n}.{end}" for n in (15, 20) for end in ("json", "pt")]


DAMAGE = {
    "cut": lambda pt, record: pt.write_bytes(pt.read_bytes()[:-1]),
    "empty": lambda pt, record: pt.write_bytes(b""),
    "one bit": lambda pt, record: pt.write_bytes(
        pt.read_bytes()[:-40] + b"#" + pt.read_bytes()[-39:]
    ),
    "no checksum": lambda pt, record: record.unlink(),
    "checksum cut": lambda pt, record: record.write_bytes(b'{"sha2'),
    "checksum of zeros": lambda pt, record: record.write_bytes(b"\0" * 82),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_falls_back(tmp_path, damage):
    save_states(tmp_path, 5, 10)
    newest = saved_states(tmp_path)[0]
    DAMAGE[damage](newest, newest.with_suffix(".json"))
    said = []
    assert load_state(tmp_path, said.append)["step"] == 5
    assert said == [f"{newest}: incomplete or damaged; taking the state before it"]
    # The run goes on from there; the damaged state does not count as one of two.
    save_states(tmp_path, 7)
    assert [path.stem[-2:] for path in saved_states(tmp_path)] == ["07", "05"]
    assert load_state(tmp_path)["step"] == 7


def test_no_whole_state_is_said(tmp_path):
    save_states(tmp_path, 5)
    saved_states(tmp_path)[0].write_bytes(b"")
    said = []
    assert load_state(tmp_path, said.append) is None
    assert said[-1].endswith("no whole state is left; starting from the beginning")


# Saving that is cut short.


class FullDisk:
    """Files that take `room` more bytes in all, and then have no room left."""

    def __init__(self, room):
        self.room, self.open = room, Path.open

    def __call__(self, path, mode="r", **options):
        file = self.open(path, mode, **options)
        return _Writer(file, self) if mode in ("wb", "a") else file


class _Writer:
    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def write(self, data):
        fits = data[: self.disk.room]
        self.file.write(fits)
        self.disk.room -= len(fits)
        if len(fits) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


def run_at(rows, directory, steps):
    """A run after some steps, and what it becomes after three more."""
    run = new_run(rows, directory)
    for _ in range(steps):
        run.take_step()
    return run


def assert_usable(rows, directory, steps, end):
    """The directory opens, and the run goes on to the same end."""
    loaded, _ = load_model(directory)
    references = [run_at(rows, directory, step).model for step in steps]
    assert any(same_weights(loaded, model) for model in references)
    resumed = new_run(rows, directory, seed=1)
    resumed.resume()
    assert resumed.step in steps
    while resumed.step < end.step:
        resumed.take_step()
    assert same_weights(resumed.model, end.model)
    resumed.save()
    left = [path.name for path in directory.rglob("*.unfinished")]
    assert left in ([], ["tokenizer.unfinished"])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path, monkeypatch, rows, share):
    run = run_at(rows, tmp_path / "run", 2)
    run.save()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    run.take_step()
    with monkeypatch.context() as patch:
        disk = FullDisk(int(share * size))
        patch.setattr(Path, "open", lambda *a, **k: disk(*a, **k))
        with pytest.raises(UserError, match="no room on the disk") as caught:
            run.save()
    assert "the earlier one is kept" in one_line(caught)
    assert list((tmp_path / "run").rglob("*.unfinished")) == []
    assert load_state(tmp_path / "run")["step"] == 2
    assert_usable(rows, tmp_path / "run", (2, 3), run_at(rows, tmp_path / "x", 5))


def test_another_error_is_not_called_a_full_disk(tmp_path, monkeypatch):
    def refuse(*given):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        write_atomically(tmp_path / "a", b"data")
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, sys
from pathlib import Path
from minimind.errors import UserError
from minimind.text.packing import PackedRows
from minimind.text.tokens import TokenFile
from tests.training_kit import new_run, tokenizer

data, directory = map(Path, sys.argv[1:])
run = new_run(PackedRows(TokenFile(data, tokenizer()), 32), directory)
run.take_step()
run.save()
size = max(path.stat().st_size for path in (directory / "state").iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
run.take_step()
try:
    run.save()
except UserError as error:
    print(error)
"""


def test_a_real_limit_on_file_size(tmp_path):
    pytest.importorskip("resource")
    token_file(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "tokens", tmp_path / "run"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert "step-0000002.pt: no room on the disk" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert load_state(tmp_path / "run")["step"] == 1
    load_model(tmp_path / "run")


class Killed(BaseException):
    """Stands for a kill: nothing catches it and nothing is tidied up."""


def killing_replace(patch, at, after):
    """os.replace that is the process's last act the at-th time, done or not."""
    calls, replace_file = [], os.replace

    def replace_or_die(*names):
        calls.append(names)
        if len(calls) - 1 != at:
            return replace_file(*names)
        if after:
            replace_file(*names)
        raise Killed

    patch.setattr(os, "replace", replace_or_die)


WRITES = 8  # files of one checkpoint


def test_number_of_writes(tmp_path, monkeypatch, rows):
    run = new_run(rows, tmp_path)
    killing_replace(monkeypatch, WRITES, after=False)
    run.save()
    with pytest.raises(Killed):
        run.save()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(WRITES))
def test_a_kill_between_writes(tmp_path, monkeypatch, rows, at, after):
    run = run_at(rows, tmp_path / "run", 1)
    run.save()
    run.take_step()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killing_replace(patch, at, after)
        run.save()
    assert_usable(rows, tmp_path / "run", (1, 2), run_at(rows, tmp_path / "x", 3))


@pytest.mark.parametrize("at", range(WRITES))
def test_a_kill_in_the_first_checkpoint(tmp_path, monkeypatch, rows, at):
    """Nothing to go on from, which is said or harmless, and no obstacle."""
    run = run_at(rows, tmp_path / "run", 1)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killing_replace(patch, at, after=False)
        run.save()
    try:
        loaded, _ = load_model(tmp_path / "run")
    except UserError as error:
        assert "missing" in str(error) or "no such file" in str(error)
    else:
        assert same_weights(loaded, run.model)
    again = new_run(rows, tmp_path / "run")
    again.resume()
    assert again.step == 0
    again.take_step()
    again.save()
    assert same_weights(load_model(tmp_path / "run")[0], run.model)
