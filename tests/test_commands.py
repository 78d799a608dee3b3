"""The command line: what it says about a user's mistakes, and that it works."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minimind.cli import COMMANDS, main
from minimind.commands import chat
from minimind.model.sampling import CHAT
from minimind.text.packing import PackedRows
from minimind.text.tokenizer import Tokenizer
from minimind.text.tokens import TokenFile
from minimind.train.checkpoint import trained_length
from minimind.train.log import read_log

TEXTS = [f"The cat number {i} sleeps. 第{i}只猫在睡觉。" for i in range(60)]
CHATS = [
    [
        {"role": "user", "content": f"How many cats are there on day {i}?"},
        {"role": "assistant", "content": f"There are {i} cats."},
    ]
    for i in range(60)
]
TINY = ["--steps", "4", "--batch-size", "2", "--seq-len", "128", "--device", "cpu"]


def write_jsonl(path: Path, rows: list) -> str:
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        encoding="utf-8",
    )
    return str(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with jsonl files, a tokenizer, token files and a trained model."""
    root = tmp_path_factory.mktemp("made")
    texts = write_jsonl(root / "text.jsonl", [{"text": text} for text in TEXTS])
    chats = write_jsonl(root / "chat.jsonl", [{"conversations": c} for c in CHATS])
    tok, pre, sft = str(root / "tok"), str(root / "pre"), str(root / "sft")
    prepare = ["data", "prepare", "--tokenizer", tok, "--max-length", "128"]
    for command in (
        ["tokenizer", "train", "--data", texts, "--out", tok, "--vocab-size", "300"],
        [*prepare, "--data", texts, "--out", pre],
        [*prepare, "--data", chats, "--out", sft, "--kind", "sft"],
        ["train", "pretrain", "--data", pre, "--tokenizer", tok]
        + ["--out", str(root / "base"), *TINY],
    ):
        assert main(command) == 0, command
    return root


def error_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line a command prints about a mistake."""
    capsys.readouterr()
    assert main(argv) == 2
    lines = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("error: ")
    ]
    assert len(lines) == 1
    return lines[0]


BAD_TEXT_ROWS = {
    "not json": ('{"text": "a"', "not JSON"),
    "not an object": ('["a"]', "not a JSON object"),
    "no field": ('{"txt": "a"}', "the field 'text' is missing"),
    "wrong type": ('{"text": 7}', "the field 'text' is of type int, not a string"),
    "empty": ('{"text": "  "}', "the field 'text' is empty"),
}
GOOD_TURN = '{"role": "user", "content": "a"}'
BAD_CHAT_ROWS = {
    "no field": ('{"chat": []}', "the field 'conversations' is missing"),
    "wrong type": ('{"conversations": 3}', "'conversations' is not a list of turns"),
    "empty": ('{"conversations": []}', "'conversations' is not a list of turns"),
    "no content": (
        f'{{"conversations": [{GOOD_TURN}, {{"role": "assistant"}}]}}',
        "turn 1 of 'conversations' has no string 'content'",
    ),
    "no answer": (f'{{"conversations": [{GOOD_TURN}]}}', "no answer"),
}


def prepare_with(made: Path, tmp_path: Path, kind: str, row: str) -> list[str]:
    good = "text.jsonl" if kind == "pretrain" else "chat.jsonl"
    lines = (made / good).read_text(encoding="utf-8").splitlines()[:5]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join([*lines[:2], row, *lines[2:]]) + "\n", encoding="utf-8")
    return [
        *("data", "prepare", "--data", str(data), "--tokenizer", str(made / "tok")),
        *("--out", str(tmp_path / "out"), "--kind", kind),
    ]


@pytest.mark.parametrize(
    ("kind", "row", "wrong"),
    [("pretrain", *bad) for bad in BAD_TEXT_ROWS.values()]
    + [("sft", *bad) for bad in BAD_CHAT_ROWS.values()],
)
def test_bad_row_is_named_and_can_be_skipped(made, tmp_path, capsys, kind, row, wrong):
    command = prepare_with(made, tmp_path, kind, row)
    line = error_of(command, capsys)
    assert "rows.jsonl, line 3: " in line
    assert wrong in line
    assert "--skip-bad" in line
    assert not (tmp_path / "out").exists()

    assert main([*command, "--skip-bad"]) == 0
    assert "left out: {'bad': 1}" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["documents"], manifest["bad"]) == (5, 1)


def test_bytes_that_are_not_utf8(made, tmp_path, capsys):
    command = prepare_with(made, tmp_path, "pretrain", "")
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(b'{"text": "\xff\xfe"}\n')
    assert "line 7: not UTF-8" in error_of(command, capsys)


def test_missing_file(made, tmp_path, capsys):
    missing = str(tmp_path / "none.jsonl")
    command = ["data", "prepare", "--data", missing, "--out", str(tmp_path / "out")]
    line = error_of([*command, "--tokenizer", str(made / "tok")], capsys)
    assert f"{missing}: no such file" in line


@pytest.mark.parametrize(
    "command",
    [
        "tokenizer train --data {made}/text.jsonl --out",
        "data prepare --data {made}/text.jsonl --tokenizer {made}/tok --out",
        "train pretrain --data {made}/pre --tokenizer {made}/tok --steps 2 --out",
        "zero --out",
    ],
)
@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_place_that_cannot_be_written(made, tmp_path, capsys, command, place):
    """Such as one below a file, or of another user."""
    (tmp_path / "file").write_text("mine")
    argv = [*command.format(made=made).split(), str(tmp_path / place)]
    assert str(tmp_path / "file") in error_of(argv, capsys)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", [["--help"], ["train", "pretrain", "--help"]])
def test_a_pipe_that_nobody_reads(command):
    """`minimind --help | head -1` ends without a word."""
    process = subprocess.Popen(
        [sys.executable, "-m", "minimind", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.mark.parametrize("command", ["tokenizer", "data"])
def test_empty_set(made, tmp_path, capsys, command):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    argv = {
        "tokenizer": ["tokenizer", "train"],
        "data": ["data", "prepare", "--tokenizer", str(made / "tok")],
    }[command]
    out = tmp_path / "out"
    line = error_of([*argv, "--data", str(empty), "--out", str(out)], capsys)
    assert "empty.jsonl: no usable row" in line
    assert not out.exists()


def test_missing_tokenizer(made, tmp_path, capsys):
    data = ["--data", str(made / "text.jsonl"), "--out", str(tmp_path / "out")]
    nowhere = str(tmp_path / "nowhere")
    line = error_of(["data", "prepare", *data, "--tokenizer", nowhere], capsys)
    assert "tokenizer.json: no such file" in line


def test_vocabulary_without_room(made, tmp_path, capsys):
    argv = ["tokenizer", "train", "--data", str(made / "text.jsonl")]
    argv += ["--out", str(tmp_path / "out"), "--vocab-size", "100"]
    assert "--vocab-size 100: at least 267 ids" in error_of(argv, capsys)


@pytest.fixture
def other_tokenizer(made, tmp_path) -> Path:
    """A tokenizer that the model was not trained with."""
    out = tmp_path / "other"
    argv = ["tokenizer", "train", "--data", str(made / "text.jsonl")]
    assert main([*argv, "--out", str(out), "--vocab-size", "290"]) == 0
    return out


def test_data_of_another_tokenizer(made, tmp_path, other_tokenizer, capsys):
    argv = ["train", "pretrain", "--data", str(made / "pre"), *TINY]
    argv += ["--tokenizer", str(other_tokenizer), "--out", str(tmp_path / "run")]
    line = error_of(argv, capsys)
    assert "made with the tokenizer" in line
    assert "prepare the data again" in line


def test_tokenizer_that_is_not_the_models(made, tmp_path, other_tokenizer, capsys):
    model = tmp_path / "model"
    model.mkdir()
    for file in (made / "base").iterdir():
        if file.is_file():
            (model / file.name).write_bytes(file.read_bytes())
    tokenizer = (other_tokenizer / "tokenizer.json").read_bytes()
    (model / "tokenizer.json").write_bytes(tokenizer)
    line = error_of(["generate", str(model), "--prompt", "The"], capsys)
    assert "is not the one this model was trained with" in line


def test_rows_longer_than_the_model(made, tmp_path, capsys):
    argv = ["train", "pretrain", "--data", str(made / "pre"), *TINY]
    argv += ["--tokenizer", str(made / "tok"), "--out", str(tmp_path / "run")]
    line = error_of([*argv, "--seq-len", "600"], capsys)
    assert "rows of 600 tokens, but the model's limit is 512" in line
    assert "--seq-len" in line


def test_padding_instead_of_packing(made, tmp_path, capsys):
    argv = ["train", "pretrain", "--data", str(made / "pre"), *TINY]
    argv += ["--tokenizer", str(made / "tok")]
    padded, packed = str(tmp_path / "padded"), str(tmp_path / "packed")
    shares = []
    for words in (["--out", padded, "--no-packing"], ["--out", packed]):
        assert main([*argv, *words]) == 0
        rows, share = re.search(
            r"(\d+) rows of 128 tokens, ([\d.]+)% padding", capsys.readouterr().out
        ).groups()
        shares.append(float(share))
        assert (rows == "60") == ("--no-packing" in words)  # a text a row
    assert shares[0] > 50 > 20 > shares[1]
    line = error_of([*argv, "--out", padded], capsys)
    assert "packing False -> True" in line


@pytest.mark.parametrize("length", ["0", "1"])
def test_rows_in_which_nothing_is_predicted(made, tmp_path, length, capsys):
    argv = ["train", "pretrain", "--data", str(made / "pre"), *TINY]
    argv += ["--tokenizer", str(made / "tok"), "--out", str(tmp_path / "run")]
    line = error_of([*argv, "--seq-len", length], capsys)
    assert f"--seq-len {length}: give 2 or more" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("out", ["tok", "base", "."])
def test_prepared_data_does_not_replace_something_else(made, out, capsys):
    before = {p: p.stat().st_mtime_ns for p in made.rglob("*") if p.is_file()}
    argv = ["data", "prepare", "--data", str(made / "text.jsonl")]
    argv += ["--tokenizer", str(made / "tok"), "--out", str(made / out)]
    line = error_of(argv, capsys)
    assert "holds something else" in line and "new directory" in line
    after = {p: p.stat().st_mtime_ns for p in made.rglob("*") if p.is_file()}
    assert after == before
    assert main([*argv[:-1], str(made / "pre")]) == 0  # prepared data it may replace


def test_a_run_does_not_overwrite_the_model_it_starts_from(made, capsys):
    weights = (made / "base" / "model.safetensors").read_bytes()
    argv = ["train", "sft", "--data", str(made / "sft"), *TINY]
    argv += ["--model", str(made / "base")]
    same = made / "sft" / ".." / "base"  # by another name
    line = error_of([*argv, "--out", str(same)], capsys)
    assert "would overwrite" in line and "name another place" in line
    assert (made / "base" / "model.safetensors").read_bytes() == weights


def test_a_seed_below_zero(made, tmp_path, capsys):
    argv = ["train", "pretrain", "--data", str(made / "pre"), *TINY]
    argv += ["--tokenizer", str(made / "tok"), "--out", str(tmp_path / "run")]
    assert "--seed -1: give 0 or more" in error_of([*argv, "--seed", "-1"], capsys)


def test_prompt_longer_than_the_model(made, capsys):
    prompt = "The cat sleeps. " * 200
    line = error_of(["generate", str(made / "base"), "--prompt", prompt], capsys)
    assert "the model's limit is 512" in line


def test_chats_longer_than_the_rows(made, tmp_path, capsys):
    argv = ["train", "sft", "--data", str(made / "sft"), "--model", str(made / "base")]
    argv += ["--out", str(tmp_path / "run"), "--seq-len", "32"]
    assert "prepare it with --max-length 32" in error_of(argv, capsys)


def test_no_answer_fits(made, tmp_path, capsys):
    argv = ["data", "prepare", "--data", str(made / "chat.jsonl"), "--kind", "sft"]
    argv += ["--tokenizer", str(made / "tok"), "--out", str(tmp_path / "out")]
    line = error_of([*argv, "--max-length", "20"], capsys)
    assert "no answer ends within 20 tokens (--max-length)" in line


def test_data_of_another_kind(made, tmp_path, capsys):
    argv = ["train", "sft", "--data", str(made / "pre"), "--model", str(made / "base")]
    line = error_of([*argv, "--out", str(tmp_path / "run")], capsys)
    assert "prepared for pretrain, not for sft" in line


def test_plain_text_beside_conversations(made, tmp_path):
    argv = ["train", "sft", "--data", str(made / "sft"), str(made / "pre")]
    argv += ["--model", str(made / "base"), "--out", str(tmp_path / "run")]
    argv += ["--weights", "3", "1", "--steps", "2", "--batch-size", "4"]
    assert main([*argv, "--warmup", "1", "--log-every", "1"]) == 0
    tokenizer = Tokenizer.load(made / "tok")
    chats, texts = (
        PackedRows(TokenFile(made / name, tokenizer), 256) for name in ("sft", "pre")
    )
    rows = [chats[0], chats[1], chats[2], texts[0]]  # three parts to one
    asked = sum(int((row["labels"] != -100).sum()) for row in rows)
    assert read_log(tmp_path / "run")[0]["targets"] == asked


def test_unknown_preset(made, tmp_path, capsys):
    argv = ["train", "pretrain", "--data", str(made / "pre"), "--preset", "minimind-2"]
    argv += ["--tokenizer", str(made / "tok"), "--out", str(tmp_path / "run")]
    line = error_of(argv, capsys)
    assert "unknown preset 'minimind-2'; did you mean minimind2" in line


def test_run_with_other_settings(made, capsys):
    argv = ["train", "pretrain", "--data", str(made / "pre"), *TINY]
    argv += ["--tokenizer", str(made / "tok"), "--out", str(made / "base")]
    line = error_of([*argv, "--learning-rate", "0.5"], capsys)
    assert "holds a run with other settings (learning_rate 0.003 -> 0.5)" in line


def test_no_model(tmp_path, capsys):
    line = error_of(["chat", str(tmp_path)], capsys)
    assert "no model here (config.json is missing)" in line


def test_device_that_is_not_there(made, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    argv = ["generate", str(made / "base"), "--prompt", "The", "--device", "cuda"]
    assert "device 'cuda' is not available here" in error_of(argv, capsys)


def test_unknown_command_and_flag(made, capsys):
    line = error_of(["trian", "pretrain"], capsys)
    assert "did you mean `minimind train pretrain`?" in line
    with pytest.raises(SystemExit) as stop:
        main([*"train pretrain --data a --tokenizer b --out c --epoch 1".split()])
    assert stop.value.code == 2
    assert "--epochs" in capsys.readouterr().err


def test_full_disk_keeps_the_checkpoint(made, tmp_path, monkeypatch, capsys):
    import errno

    argv = ["train", "pretrain", "--data", str(made / "pre"), *TINY]
    argv += ["--tokenizer", str(made / "tok"), "--out", str(tmp_path / "run")]
    argv += ["--save-every", "2"]
    real, states = os.fsync, tmp_path / "run" / "state"

    def fsync(descriptor: int) -> None:  # full from the first whole state on
        if list(states.glob("*.json")):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    line = error_of(argv, capsys)
    assert "no room on the disk" in line
    assert "the earlier one is kept" in line
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "run/state").glob("*.pt")] == [
        "step-0000002.pt"
    ]
    assert not list((tmp_path / "run").rglob("*.unfinished"))
    assert main(argv) == 0  # and the run goes on from there
    assert "step 4" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*COMMANDS, ""])
def test_help_reads_well(name, capsys):
    argv = [*name.split(), "--help"]
    if name:
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 0
    else:
        assert main(argv) == 0
    text = capsys.readouterr().out
    assert f"minimind {name}".strip() in text
    # Every option says what it is for before it says its default.
    assert not re.search(r"--\S+ \S+\s+(│\s*\n│\s*)?\(default", text)


def test_python_m_is_the_same_command():
    for module, argv in (("minimind", ["train", "sft"]), ("minimind.train", ["sft"])):
        shown = subprocess.run(
            [sys.executable, "-m", module, *argv, "--help"],
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert shown.returncode == 0
        assert "usage: minimind train sft" in shown.stdout


def test_sft_chat_and_generate(made, tmp_path, capsys, monkeypatch):
    argv = ["train", "sft", "--data", str(made / "sft"), "--model", str(made / "base")]
    assert main([*argv, "--out", str(tmp_path / "run"), *TINY]) == 0
    monkeypatch.setattr("sys.stdin", open(write_jsonl(tmp_path / "in", ["Hi", "Oh"])))
    capsys.readouterr()
    chat = ["chat", str(tmp_path / "run"), "--max-new-tokens", "5"]
    assert main([*chat, "--seed", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '> "Hi"'
    assert '> "Oh"' in lines
    talks = []
    for options in (["--seed", "1"], ["--seed", "1"], ["--greedy"], ["--greedy"]):
        monkeypatch.setattr("sys.stdin", open(tmp_path / "in"))
        assert main([*chat, *options]) == 0
        talks.append(capsys.readouterr().out)
    assert talks[0] == talks[1] and talks[2] == talks[3]
    texts = []
    generate = ["generate", str(made / "base"), "--prompt", "The cat"]
    for options in (["--seed", "3"], ["--seed", "3"], ["--seed", "4"], ["--greedy"]):
        assert main([*generate, *options, "--max-new-tokens", "20"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert all(text.startswith("The cat") for text in texts)


@pytest.mark.parametrize("command", [chat.chat, chat.generate])
def test_a_chat_draws_with_the_gentle_remedies(command):
    assert inspect.signature(command).parameters["sampling"].default is CHAT


def test_how_long_the_rows_were_is_kept(made, tmp_path):
    """Of all stages the longest ones: so far a model can read."""
    assert trained_length(made / "base") == 128
    assert trained_length(made / "tok") is None
    argv = ["train", "sft", "--data", str(made / "sft"), *TINY]
    for parent, out, length in (("base", "long", "256"), ("long", "short", "128")):
        where = made if parent == "base" else tmp_path
        more = ["--model", str(where / parent), "--out", str(tmp_path / out)]
        assert main([*argv, *more, "--seq-len", length]) == 0
        assert trained_length(tmp_path / out) == 256


def test_tokenizer_reads_no_more_than_it_is_told(made, tmp_path, capsys):
    """The cap bounds the memory; what it took is printed."""
    data = ["--data", str(made / "text.jsonl"), "--vocab-size", "300"]
    for name, cap in (("whole", []), ("capped", ["--max-bytes", "300"])):
        argv = ["tokenizer", "train", *data, "--out", str(tmp_path / name), *cap]
        assert main(argv) == 0
    printed = capsys.readouterr()
    assert printed.out.count("peak memory") == 2 or sys.platform == "win32"
    assert "reading: 60row" in printed.err and "reading: 6row" in printed.err


def test_evaluate_text(made, capsys):
    argv = ["evaluate", "text", str(made / "base"), "--seq-len", "64"]
    argv += ["--data", str(made / "text.jsonl")]
    assert main(argv) == 0
    assert "bits per byte" in capsys.readouterr().out
    line = error_of([*argv, "--seq-len", "600"], capsys)
    assert "rows of 600 tokens, but the model's limit is 512" in line
