"""Several sets in one run, by `--weights` on the command line."""

import json

import pytest

from minimind.cli import main
from minimind.commands import train
from minimind.text.tokens import TokenFile
from tests.training_kit import random_texts, token_file, tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tokenizer, and two prepared sets of unequal size."""
    folder = tmp_path_factory.mktemp("mixing")
    tokenizer().save(folder / "tok")
    token_file(folder / "a", random_texts(40, seed=1))
    token_file(folder / "b", random_texts(90, seed=2))
    return folder


def command(made, out, *weights):
    data = [str(made / name / "tokens") for name in ("a", "b")]
    argv = ["train", "pretrain", "--data", *data, "--tokenizer", str(made / "tok")]
    argv += ["--out", str(out), "--seq-len", "48", "--steps", "3", "--warmup", "1"]
    argv += ["--batch-size", "2", "--device", "cpu"]
    return [*argv, *(["--weights", *weights] if weights else [])]


def test_weights_give_each_set_its_share(made, tmp_path, monkeypatch):
    taken, whole = [], train.train

    def watched(model, vocabulary, rows, *more, **options):
        taken.extend(rows.row_of(n)[0] for n in range(80))
        return whole(model, vocabulary, rows, *more, **options)

    monkeypatch.setattr(train, "train", watched)
    assert main(command(made, tmp_path / "run", "3", "1")) == 0
    assert (taken.count(0), taken.count(1)) == (60, 20)
    about = json.loads((tmp_path / "run" / "minimind.json").read_text("utf-8"))
    prints = [
        TokenFile(made / name / "tokens", tokenizer()).manifest["sha256"]
        for name in ("a", "b")
    ]
    assert about["data"] == f"0.75 of {prints[0]}; 0.25 of {prints[1]}"


def test_other_weights_are_another_run(made, tmp_path, capsys):
    assert main(command(made, tmp_path, "3", "1")) == 0
    assert main(command(made, tmp_path, "1", "3")) == 2
    assert "other settings (data 0.75 of" in capsys.readouterr().err


@pytest.mark.parametrize("weights", [(), ("1",), ("1", "0"), ("1", "2", "3")])
def test_weights_that_do_not_fit(made, tmp_path, capsys, weights):
    assert main(command(made, tmp_path / "run", *weights)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --weights ") and "each of the 2 sets" in line
    assert not (tmp_path / "run").exists()
