"""`minimind distill generate`: whose words are written, and which rows are not."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from minimind.cli import main
from minimind.commands import distill as command
from minimind.evaluate.world import answer
from minimind.model.generate import Completion
from minimind.model.sampling import Sampling
from minimind.text.chat import encode_chat
from minimind.text.jsonl import check_conversation, read_jsonl
from minimind.text.packing import PackedRows
from minimind.text.tokens import TokenFile, prepare
from minimind.train import distill
from minimind.train.checkpoint import load_model
from minimind.train.distill import answer_chats
from minimind.train.loop import train
from minimind.train.sft import answer_loss
from tests.training_kit import CONFIG, SHAPE, new_model, tokenizer, write_rows

PAIRS = {"cat": "red", "dog": "ball", "bird": "a house", "猫": "红色", "the": "finds"}
GREEDY = Sampling(temperature=0.0, max_new_tokens=12)


def chat(*said):
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A model that answers a word by another, and then stops."""
    root = tmp_path_factory.mktemp("teacher")
    rows = [{"conversations": chat(*pair)} for pair in PAIRS.items()]
    prepare([write_rows(root / "sft.jsonl", rows)], root / "data", tokenizer(), "sft")
    model = new_model(shape=replace(SHAPE, max_position_embeddings=128))
    rows = PackedRows(TokenFile(root / "data", tokenizer()), 64)
    config = replace(CONFIG, steps=60, accumulation=1, batch_size=4)
    train(model, tokenizer(), rows, answer_loss, config, root / "model")
    replies = answer(model.eval(), tokenizer(), list(PAIRS), GREEDY)
    assert [reply.text for reply in replies] == list(PAIRS.values())
    return root / "model"


def generate(teacher, data, out, *more):
    words = ["distill", "generate", "--teacher", teacher, "--data", data, "--out", out]
    words += ["--device", "cpu", "--max-new-tokens", "12", *more]
    return main([str(word) for word in words])


def chats_of(path):
    return [row["conversations"] for row in read_jsonl(path, check_conversation)]


def test_answers_are_the_teachers_and_questions_stay(teacher, tmp_path, capsys):
    given = [{"role": "system", "content": "a"}, *chat("cat", "wrong")]
    rows = [chat("dog", "nothing", "猫", "nothing"), given, chat("bird", "?", "cat")]
    data = write_rows(tmp_path / "in.jsonl", [{"conversations": c} for c in rows])
    assert generate(teacher, data, tmp_path / "deep" / "out.jsonl") == 0
    written = chats_of(tmp_path / "deep" / "out.jsonl")
    assert len(written) == 3
    for old, new in zip(rows, written):
        assert [turn["role"] for turn in old] == [turn["role"] for turn in new]
        for before, after in zip(old, new):
            if before["role"] != "assistant":
                assert before == after
            else:
                assert after["content"] not in ("nothing", "wrong", "?")
    assert written[0][1]["content"] == "ball"
    assert "3 of 3 conversations" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "deep").iterdir()} == {"out.jsonl"}


def test_an_answer_follows_the_models_own_earlier_ones(teacher, monkeypatch):
    model, _ = load_model(teacher)
    seen = []

    def echo(model, tokenizer, prompts, sampling):
        seen.append(prompts)
        return [Completion(f"own {len(seen)}", [], "stop") for _ in prompts]

    monkeypatch.setattr(distill, "generate", echo)
    (written,) = answer_chats(
        model, tokenizer(), [chat("a", "given", "b", "given")], GREEDY
    )
    assert [t["content"] for t in written] == ["a", "own 1", "b", "own 2"]
    prompt, _ = encode_chat(tokenizer(), written[:3], add_generation_prompt=True)
    assert seen[1] == [prompt]


def test_what_does_not_end_is_dropped_and_counted(
    teacher, tmp_path, capsys, monkeypatch
):
    """An answer that is cut, an empty one, a prompt without room."""
    endings = iter([("ball", "length"), (" ", "stop"), ("red", "stop")])

    def replies(model, tokenizer, prompts, sampling):
        return [Completion(text, [], why) for _, (text, why) in zip(prompts, endings)]

    monkeypatch.setattr(distill, "generate", replies)
    rows = [
        chat("dog", "x"),
        chat("cat", "x"),
        chat("cat " * 200, "x"),
        chat("cat", "x"),
    ]
    data = write_rows(tmp_path / "in.jsonl", [{"conversations": c} for c in rows])
    assert generate(teacher, data, tmp_path / "out.jsonl") == 0
    assert chats_of(tmp_path / "out.jsonl") == [chat("cat", "red")]
    printed = capsys.readouterr().out
    assert "1 of 4 conversations; left out: 3 with an answer that did not" in printed


@pytest.fixture
def many(tmp_path):
    rows = [{"conversations": chat(word, "x")} for word in [*PAIRS] * 5]
    return write_rows(tmp_path / "in.jsonl", rows)


DRAWN = ["--temperature", "1.5", "--batch-size", "4"]


def test_a_seed_decides_what_is_drawn(teacher, many, tmp_path):
    texts = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        out = tmp_path / f"{name}.jsonl"
        assert generate(teacher, many, out, *DRAWN, "--seed", seed) == 0
        texts.append(out.read_text("utf-8"))
    assert texts[0] == texts[1] != texts[2]


def test_every_batch_has_dice_of_its_own(teacher, tmp_path):
    """With the same ones, four chats at a time would get the same four answers."""
    rows = [{"conversations": chat("the cat", "x")}] * 40
    data, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    assert generate(teacher, data, out, *DRAWN) == 0
    assert len({c[1]["content"] for c in chats_of(out)}) > 4


def test_a_stopped_one_goes_on(teacher, many, tmp_path, capsys, monkeypatch):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert generate(teacher, many, whole, *DRAWN) == 0
    calls, real = [], command.answer_chats

    def three(*given):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(len(given[2]))
        return real(*given)

    monkeypatch.setattr(command, "answer_chats", three)
    assert generate(teacher, many, out, *DRAWN) == 130
    assert not out.exists()
    unfinished = tmp_path / "out.jsonl.unfinished"
    with unfinished.open("ab") as file:  # a line that a kill left behind
        file.write(b'{"conversa')
    monkeypatch.undo()
    capsys.readouterr()
    assert generate(teacher, many, out, *DRAWN, "--seed", "7") == 2
    assert "seed 0 -> 7" in capsys.readouterr().err
    answered = []
    monkeypatch.setattr(
        command, "answer_chats", lambda *a: answered.append(len(a[2])) or real(*a)
    )
    assert generate(teacher, many, out, *DRAWN) == 0
    assert sum(answered) == 25 - 12
    assert out.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("out.jsonl.*"))


def test_one_batch_in_memory(teacher, many, tmp_path, monkeypatch):
    sizes = []
    real = command.answer_chats
    monkeypatch.setattr(
        command, "answer_chats", lambda *a: sizes.append(len(a[2])) or real(*a)
    )
    assert generate(teacher, many, tmp_path / "out.jsonl", *DRAWN) == 0
    assert sizes == [4] * 6 + [1]


def test_refusals(teacher, many, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    assert generate(teacher, many, out) == 2
    assert "is there already" in capsys.readouterr().err
    assert out.read_text() == "mine"
    out.unlink()
    assert generate(teacher, many, out, "--batch-size", "0") == 2
    assert generate(teacher, tmp_path / "none.jsonl", out) == 2
    assert "none.jsonl: no such file" in capsys.readouterr().err
    with many.open("a") as file:
        file.write('{"text": "a"}\n')
    assert generate(teacher, many, out, *DRAWN) == 2
    assert "in.jsonl, line 26: the field 'conversations'" in capsys.readouterr().err
    assert generate(teacher, many, out, *DRAWN, "--skip-bad") == 0  # goes on
    printed = capsys.readouterr()
    assert "of 26 conversations" in printed.out and "1 bad" in printed.out
    assert "| 24/26" in printed.err


def test_a_model_that_never_stops_is_named(tmp_path, many, capsys, monkeypatch):
    from minimind.train.checkpoint import save_model

    torch.manual_seed(0)
    save_model(new_model(), tokenizer(), tmp_path / "raw", {})
    endless = SimpleNamespace(text="a", finish_reason="length")
    monkeypatch.setattr(distill, "generate", lambda m, t, p, s: [endless] * len(p))
    assert generate(tmp_path / "raw", many, tmp_path / "out.jsonl") == 2
    assert "no answer came to an end" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
