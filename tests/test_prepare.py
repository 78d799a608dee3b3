"""Preparing data at scale: the same bytes from any number of processes, and after
any kill; nothing of the corpus stays in memory; what is said when it goes wrong."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc

import numpy as np
import pytest

from minimind.errors import UserError
from minimind.text import tokens
from minimind.text.tokens import FILES, TokenFile, prepare
from tests.training_kit import random_texts, tokenizer, write_rows

PART = 150  # bytes of jsonl in a part: the corpus below has some thirty
TEXTS = [*random_texts(120, seed=4), "<|im_end|> is text here. <think>", "猫" * 400]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(tokens, "PART_SIZE", PART)


@pytest.fixture
def source(tmp_path):
    return write_rows(tmp_path / "text.jsonl", [{"text": text} for text in TEXTS])


def contents(directory):
    """The bytes of every file of a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def undisturbed(source, directory, **options):
    """What the files hold if nothing happens."""
    prepare([source], directory, tokenizer(), **options)
    assert set(contents(directory)) == {*FILES, "manifest.json"}
    return contents(directory)


def test_parts_are_the_whole(source, tmp_path, monkeypatch):
    many = undisturbed(source, tmp_path / "many")
    monkeypatch.setattr(tokens, "PART_SIZE", 10**9)
    assert undisturbed(source, tmp_path / "one") == many
    ids = np.frombuffer(many["tokens.bin"], np.uint16).tolist()
    assert ids == sum((tokenizer().encode_document(text) for text in TEXTS), [])


@pytest.mark.parametrize("kind", ["pretrain", "sft"])
def test_several_processes_write_the_same_bytes(tmp_path, kind):
    rows = [{"text": text} for text in TEXTS]
    if kind == "sft":
        rows = [
            {"conversations": [{"role": "user", "content": text}]
             + [{"role": "assistant", "content": f"<|im_end|>{i}"}]}
            for i, text in enumerate(TEXTS)
        ]  # fmt: skip
    source = write_rows(tmp_path / "rows.jsonl", rows)
    options = {"kind": kind, "max_length": 100 if kind == "sft" else None}
    alone = undisturbed(source, tmp_path / "alone", **options)
    assert undisturbed(source, tmp_path / "many", workers=2, **options) == alone


class Stop(BaseException):
    """Stands for the end of the process."""


def stopping(patch, name, at):
    """Let the function `name` of the module raise Stop when called the at-th time."""
    original, calls = getattr(tokens, name), [0]

    def replacement(*args, **kwargs):
        calls[0] += 1
        if calls[0] == at:
            raise Stop
        return original(*args, **kwargs)

    patch.setattr(tokens, name, replacement)


@pytest.mark.parametrize("at", [1, 2, 7, 20])
@pytest.mark.parametrize("name", ["write_json", "parse_rows", "sha256_of"])
def test_a_stop_at_any_point_of_a_part(source, tmp_path, monkeypatch, name, at):
    """write_json: the part is written, but not that it is there."""
    expected = undisturbed(source, tmp_path / "undisturbed")
    out = tmp_path / "out"
    if name == "sha256_of" and at > 1:
        pytest.skip("called once")
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stopping(patch, name, at)
        prepare([source], out, tokenizer())
    assert not out.exists()
    prepare([source], out, tokenizer())
    assert contents(out) == expected
    assert not out.with_name("out.unfinished").exists()


def test_it_goes_on_and_does_not_begin_again(source, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stopping(patch, "parse_rows", 9)
        prepare([source], tmp_path / "out", tokenizer())
    read = []
    original = tokens.parse_rows
    monkeypatch.setattr(
        tokens, "parse_rows", lambda part, *a: read.append(part) or original(part, *a)
    )
    told = []
    prepare([source], tmp_path / "out", tokenizer(), progress=told.append)
    parts = list(tokens.split_file(source, PART))
    assert read == parts[8:]
    assert told[0] == sum(part.end - part.start for part in parts[:8])
    assert sum(told) == source.stat().st_size


CHANGES = {
    "source": lambda source: source.write_text(
        source.read_text(encoding="utf-8").replace("cat", "dog"), encoding="utf-8"
    ),
    "options": lambda source: None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_settings_begin_anew(source, tmp_path, monkeypatch, change):
    """What was prepared of another text, or in another way, is not gone on with."""
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stopping(patch, "parse_rows", 9)
        prepare([source], tmp_path / "out", tokenizer())
    os.utime(source, ns=(0, 0))
    CHANGES[change](source)
    options = {"skip_bad": True} if change == "options" else {}
    prepare([source], tmp_path / "out", tokenizer(), **options)
    expected = undisturbed(source, tmp_path / "undisturbed", **options)
    assert contents(tmp_path / "out") == expected


def test_another_template_begins_anew(tmp_path, monkeypatch):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    source = write_rows(tmp_path / "a.jsonl", [{"conversations": turns}] * 40)
    plain, other = tokenizer(), type(tokenizer())(tokenizer().backend)
    other.chat_template = plain.chat_template.replace("a helpful", "an old")
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stopping(patch, "parse_rows", 5)
        prepare([source], tmp_path / "out", plain, "sft", 100)
    prepare([source], tmp_path / "out", other, "sft", 100)
    prepare([source], tmp_path / "fresh", other, "sft", 100)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


SCRIPT = """
    import sys
    from pathlib import Path
    from minimind.text import tokens
    from minimind.text.tokenizer import Tokenizer

    source, vocabulary, out = map(Path, sys.argv[1:4])
    tokens.PART_SIZE = int(sys.argv[4])
    if __name__ == "__main__":
        tokens.prepare(
            [source], out, Tokenizer.load(vocabulary), workers=2,
            progress=lambda size: print(size, flush=True),
        )
"""


def test_kill_9_at_random_moments(source, tmp_path):
    """With two processes at work; each time it is run again until it is done."""
    expected = undisturbed(source, tmp_path / "undisturbed")
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(textwrap.dedent(SCRIPT))
    tokenizer().save(tmp_path / "vocabulary")
    rng, kills = random.Random(0), 0
    given = (script, source, tmp_path / "vocabulary", out, PART)
    command = [sys.executable, *map(str, given)]
    while True:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines = rng.randint(1, 9)
        finished = [process.stdout.readline() for _ in range(lines)][-1] == ""
        if not finished:
            time.sleep(rng.random() / 100)
            process.send_signal(signal.SIGKILL)
            kills += 1
        assert process.wait(60) == (0 if finished else -signal.SIGKILL)
        process.stdout.close()
        if out.exists():
            break
    assert kills >= 3
    assert contents(out) == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_row_in_the_middle_is_named(source, tmp_path, workers):
    lines = source.read_text(encoding="utf-8").splitlines()
    for number in (60, 90):
        lines[number] = '{"text": 3}'
    source.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError, match=r"text.jsonl, line 61: the field 'text' is"):
        prepare([source], tmp_path / "out", tokenizer(), workers=workers)
    assert [path.name for path in tmp_path.iterdir()] == ["text.jsonl"]
    options = {"skip_bad": True, "workers": workers}
    manifest = prepare([source], tmp_path / "out", tokenizer(), **options)
    assert (manifest["bad"], manifest["documents"]) == (2, len(TEXTS) - 2)


def test_a_missing_file_costs_nothing(source, tmp_path, monkeypatch):
    """It is named before anything is read, and what was done before is kept."""
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stopping(patch, "parse_rows", 9)
        prepare([source], tmp_path / "out", tokenizer())
    before = contents(tmp_path / "out.unfinished")
    with pytest.raises(UserError, match="none.jsonl: no such file"):
        prepare([source, tmp_path / "none.jsonl"], tmp_path / "out", tokenizer())
    assert contents(tmp_path / "out.unfinished") == before


def test_a_full_disk_loses_nothing(source, tmp_path, monkeypatch):
    expected = undisturbed(source, tmp_path / "undisturbed")
    calls = []

    def fsync(number):
        calls.append(number)
        if len(calls) == 20:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError) as caught:
        patch.setattr(tokens.os, "fsync", fsync)
        prepare([source], tmp_path / "out", tokenizer())
    assert "no room on the disk" in str(caught.value)
    assert json.loads((tmp_path / "out.unfinished" / "progress.json").read_text())
    prepare([source], tmp_path / "out", tokenizer())
    assert contents(tmp_path / "out") == expected


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "PART_SIZE", 20_000)
    peaks = []
    for count in (1000, 4000):
        rows = [{"text": text} for text in random_texts(count, seed=1)]
        source = write_rows(tmp_path / f"{count}.jsonl", rows)
        del rows
        tracemalloc.start()
        prepare([source], tmp_path / f"{count}", tokenizer())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert source.stat().st_size > 8 * 20_000
    assert peaks[1] < 1.2 * peaks[0] + 50_000


def test_a_prepared_corpus_is_not_read_into_memory(source, tmp_path):
    prepare([source], tmp_path / "out", tokenizer())
    data = TokenFile(tmp_path / "out", tokenizer())
    arrays = (data.tokens, data.targets, data.offsets)
    assert all(isinstance(array, np.memmap) for array in arrays)
