"""The reasoning stage: weights on tags and nowhere else, and a mean by weight."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tokenizers
import torch
import torch.nn.functional as F
from tokenizers import models, pre_tokenizers
from torch.testing import assert_close

from minimind.cli import main
from minimind.errors import UserError
from minimind.evaluate.reason import prompts_of, score_reasoning, well_formed_rate
from minimind.model.generate import Completion
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.chat import IGNORE, encode_chat
from minimind.text.packing import PackedRows, collate
from minimind.text.thinking import NO_THOUGHTS, REASON_TAGS, encode_prompt, write_reply
from minimind.text.tokenizer import CONTROL_TOKENS, Tokenizer, train_tokenizer
from minimind.text.tokens import TokenFile, prepare
from minimind.text.world.reasoning import reason_exam, working
from minimind.train.accumulate import accumulate
from minimind.train.checkpoint import load_model, save_model
from minimind.train.log import read_log
from minimind.train.loop import train
from minimind.train.reason import (
    ReasonConfig,
    count_weights,
    reason_loss,
    tag_ids,
    target_weights,
    with_thinking,
)
from minimind.train.sft import answer_loss
from tests.training_kit import CONFIG, SHAPE, write_rows

ROW = 96
TAGS = [3, 4, 5, 6]
WORDS = "system user assistant You are a helpful assistant 1 2 3 plus = + \n"


def chat(asked, *reply):
    content = write_reply(*reply)
    return [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": content},
    ]


CHATS = [
    chat("1+2", "1+2=3", "3"),
    chat("1+1", "", "2"),
    chat("3 plus 3", "3\n3+3", "3+3=6"),
    [*chat("2", "", "2"), *chat("And 3?", "3", "3")],
]
# Tags in what the user says are read, not learned.
SAID = [{"role": "user", "content": "what is <think>?"}, *CHATS[0][1:]]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([WORDS] * 3, 330)


@pytest.fixture(scope="module")
def data(tokenizer, tmp_path_factory):
    """The chats as a token directory."""
    folder = tmp_path_factory.mktemp("reason")
    rows = [{"conversations": chat} for chat in [*CHATS, SAID]]
    source = write_rows(folder / "reason.jsonl", rows)
    prepare([source], folder / "tokens", tokenizer, "sft", ROW)
    return folder / "tokens"


def build(tokenizer, seed=0, **changes):
    torch.manual_seed(seed)
    shape = {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": ROW}
    return MiniMindForCausalLM(replace(SHAPE, **shape, **changes))


def batch_of(data, tokenizer, count=3):
    rows = PackedRows(TokenFile(data, tokenizer), ROW)
    return collate(rows[n] for n in range(count))


# --- the weights ------------------------------------------------------------------


def test_tags_are_single_ids(tokenizer):
    assert tag_ids(tokenizer) == TAGS
    assert [tokenizer.decode([i]) for i in TAGS] == list(REASON_TAGS)


def test_a_tokenizer_that_spells_them_is_refused():
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_special_tokens(list(CONTROL_TOKENS))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.add_tokens(alphabet)
    with pytest.raises(UserError, match=r"spells <think> in \d+ tokens"):
        tag_ids(Tokenizer(backend))


def test_the_weight_falls_on_the_tags_alone(tokenizer, data):
    """Counted in the text: each tag of an answer once, nothing else, no prompt."""
    batch = batch_of(data, tokenizer)
    asked = batch["labels"] != IGNORE
    targets = batch["labels"][asked]
    heavy = target_weights(targets, TAGS, 7.0)
    texts = [tokenizer.decode([i]) for i in targets]
    for text, weight in zip(texts, heavy.tolist(), strict=True):
        assert weight == (7.0 if text in REASON_TAGS else 1.0), text
    said = SAID[0]["content"]
    assert "<think>" in said and 3 in tokenizer.encode(said)
    ids, labels = encode_chat(tokenizer, SAID)
    assert ids.count(3) == 2 and labels.count(3) == 1


@pytest.mark.parametrize("weight", [0.5, 1.0, 10.0])
def test_the_loss_is_a_mean_by_weight(tokenizer, data, weight):
    model, batch = build(tokenizer), batch_of(data, tokenizer)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with torch.no_grad():
        loss, numbers = reason_loss(model, batch, TAGS, weight)
        logits = model(**inputs).logits.double()
    total, weights, parts = 0.0, 0.0, {True: [], False: []}
    for row, labels in zip(logits.tolist(), batch["labels"].tolist()):
        for scores, label in zip(row, labels[1:]):
            if label == IGNORE:
                continue
            nats = math.log(sum(map(math.exp, scores))) - scores[label]
            tag = tokenizer.decode([label]) in REASON_TAGS
            total += nats * (weight if tag else 1)
            weights += weight if tag else 1
            parts[tag].append(nats)
    assert loss.item() == pytest.approx(total / weights, abs=1e-5)
    assert count_weights(batch, TAGS, weight) == pytest.approx(weights)
    for key, tag in (("tag_loss", True), ("text_loss", False)):
        mean = sum(parts[tag]) / len(parts[tag])
        assert numbers[key].item() == pytest.approx(mean, abs=1e-5)
    classes = torch.ones(tokenizer.vocab_size)
    classes[TAGS] = weight
    theirs = F.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), batch["labels"][:, 1:].flatten(), classes
    )
    assert_close(loss, theirs)


def test_weight_one_is_the_loss_of_sft(tokenizer, data):
    model, batch = build(tokenizer), batch_of(data, tokenizer)
    grads = []
    for loss_fn in (answer_loss, partial(reason_loss, tags=TAGS, tag_weight=1.0)):
        model.zero_grad()
        loss, _ = loss_fn(model, batch)
        loss.backward()
        grads.append([loss.detach(), *(p.grad.clone() for p in model.parameters())])
    assert_close(*grads)


@pytest.mark.parametrize("weight", [0.1, 1.0, 10.0, 1000.0])
def test_its_scale_does_not_depend_on_the_weight(tokenizer, data, weight):
    """A model that knows nothing has a loss of ln V."""
    model, batch = build(tokenizer), batch_of(data, tokenizer)
    torch.nn.init.zeros_(model.lm_head.weight)
    loss, _ = reason_loss(model, batch, TAGS, weight)
    assert loss.item() == pytest.approx(math.log(tokenizer.vocab_size), abs=1e-4)


def test_micro_batches_weigh_by_their_weights(tokenizer, data):
    model = build(tokenizer)
    whole = batch_of(data, tokenizer, 4)
    whole["labels"][1, 20:] = IGNORE  # uneven, and one row with next to no tags
    stage = {"tags": TAGS, "tag_weight": 10.0}
    loss_fn, count = partial(reason_loss, **stage), partial(count_weights, **stage)
    grads = []
    for parts in ([slice(0, 4)], [slice(0, 1), slice(1, 2), slice(2, 4)]):
        model.zero_grad()
        batches = [{k: v[part] for k, v in whole.items()} for part in parts]
        numbers = accumulate(model, batches, loss_fn, count=count)
        grads.append([p.grad.clone() for p in model.parameters()])
    assert_close(*grads, atol=1e-6, rtol=1e-5)
    assert set(numbers) >= {"loss", "tag_loss", "text_loss"}


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_senseless_weights(weight):
    with pytest.raises(UserError, match="--tag-weight "):
        ReasonConfig(tag_weight=weight)


# --- the form, measured -------------------------------------------------------------


def test_prompts_end_where_the_answer_begins(tokenizer, data):
    prompts = prompts_of(TokenFile(data, tokenizer), 100)
    wanted = [encode_prompt(tokenizer, chat[:1]) for chat in [*CHATS, SAID]]
    assert prompts == wanted
    assert prompts_of(TokenFile(data, tokenizer), 2) == wanted[:2]


def test_well_formed_rate(tokenizer, monkeypatch):
    texts = [
        write_reply("", "2"),
        "2",
        write_reply("1", "2"),
        write_reply("1", "2")[:-3],
    ]
    replies = [Completion(text, [], "stop") for text in texts]
    monkeypatch.setattr("minimind.evaluate.reason.generate", lambda *_: replies)
    assert well_formed_rate(None, tokenizer, [[1]] * 4, 96) == 0.5


@pytest.mark.parametrize("thinking", [True, False])
def test_scores(tokenizer, monkeypatch, thinking):
    exam = list(reason_exam(0, 4))
    steps = [working(*map(int, q.subject.split("+"))) for q in exam]
    replies = [
        write_reply(steps[0] if thinking else "", exam[0].answer),
        write_reply("", exam[0].answer),
        "no idea",
        write_reply(steps[3] if thinking else "", "1"),
    ]
    if not thinking:
        replies = [reply.removeprefix(NO_THOUGHTS) for reply in replies]

    def told(model, tokenizer, questions, sampling, enable_thinking):
        assert questions == [q.text for q in exam] and enable_thinking == thinking
        return [Completion(reply, [0] * 5, "stop") for reply in replies]

    monkeypatch.setattr("minimind.evaluate.reason.answer", told)
    scores = score_reasoning(None, tokenizer, exam, enable_thinking=thinking)
    sound = 0.5 if thinking else 0.0
    assert scores == {"well_formed": 0.75, "right": 0.25, "sound": sound, "tokens": 5}


# --- training -----------------------------------------------------------------------


def test_the_form_is_learned(tokenizer, data, tmp_path):
    rows = PackedRows(TokenFile(data, tokenizer), ROW)
    stage = {"tags": TAGS, "tag_weight": 10.0}
    model = build(tokenizer, num_hidden_layers=2)
    prompts = prompts_of(rows.data, 5)
    assert well_formed_rate(model.eval(), tokenizer, prompts, 40) == 0
    config = replace(CONFIG, steps=150, accumulation=1, learning_rate=2e-2)
    run = {"count": partial(count_weights, **stage)}
    loss_fn = partial(reason_loss, **stage)
    train(model, tokenizer, rows, loss_fn, config, tmp_path / "run", **run)
    assert well_formed_rate(model.eval(), tokenizer, prompts, 40) == 1
    log = read_log(tmp_path / "run")
    assert log[-1]["tag_loss"] < 0.1 * log[0]["tag_loss"]


def test_command(tokenizer, data, tmp_path, capsys):
    save_model(build(tokenizer), tokenizer, tmp_path / "base", {})
    out = tmp_path / "run"
    command = [
        "train",
        "reason",
        "--data",
        str(data),
        "--model",
        str(tmp_path / "base"),
    ]
    command += ["--out", str(out), "--steps", "3", "--batch-size", "2", "--seq-len"]
    command += [str(ROW), "--device", "cpu", "--validation", str(data)]
    command += ["--tag-weight", "5"]
    assert main(command) == 0
    assert "% well formed on 5 held-out prompts" in capsys.readouterr().out
    record = json.loads((out / "minimind.json").read_text())
    assert record["stage"] == "reason" and record["settings"] == {"tag_weight": 5.0}
    _, saved = load_model(out)
    assert saved.chat_template == with_thinking(tokenizer).chat_template
    off = encode_prompt(saved, CHATS[0][:1], enable_thinking=False)
    assert saved.decode(off).endswith(NO_THOUGHTS)
    assert main(command) == 0  # finished: nothing more to do
    command[-1] = "1"
    assert main(command) == 2
    assert "tag_weight 5.0 -> 1.0" in capsys.readouterr().err


def test_it_begins_and_stops_where_half_is_right(
    tokenizer, data, tmp_path, monkeypatch
):
    from minimind.commands import reason

    shape = {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": 256}
    model = MiniMindForCausalLM(replace(SHAPE, **shape))
    save_model(model, tokenizer, tmp_path / "base", {})
    shares = iter([0.0, 0.45, 0.5, 0.9])
    monkeypatch.setattr(reason, "sums_of_the_world", lambda *_: data)
    monkeypatch.setattr(reason, "score_reasoning", lambda *_: {"right": next(shares)})
    reason.begin(tmp_path / "base", tmp_path / "begun")
    record = json.loads((tmp_path / "begun" / "minimind.json").read_text())
    assert record["step"] == 3 * reason.LOOK_EVERY
    begun, saved = load_model(tmp_path / "begun")
    assert saved.chat_template == with_thinking(tokenizer).chat_template
    moved = begun.model.embed_tokens.weight - model.model.embed_tokens.weight
    assert moved.abs().max() > 0.01


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs another store")
def test_two_processes_learn_what_one_does(tokenizer, data, tmp_path):
    """Weighted by the tags of both; and the form is looked at once."""
    save_model(build(tokenizer), tokenizer, tmp_path / "base", {})
    command = f"reason --data {data} --model {tmp_path / 'base'} --steps 3 --seq-len"
    command = [*f"{command} {ROW} --batch-size 1 --device cpu --out".split()]
    alone, both = str(tmp_path / "alone"), str(tmp_path / "both")
    assert main(["train", *command, alone, "--accumulation", "2"]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc_per_node", "2", "-m", "minimind.train"]
    done = subprocess.run(
        [*launch, *command, both],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("% well formed on 5 training prompts") == 1
    weights = [load_model(Path(run))[0].state_dict() for run in (alone, both)]
    assert_close(*weights, atol=1e-5, rtol=1e-4)


def test_data_of_another_kind_is_refused(tokenizer, tmp_path, capsys):
    source = write_rows(tmp_path / "text.jsonl", [{"text": "1 plus 2"}])
    prepare([source], tmp_path / "tokens", tokenizer)
    save_model(build(tokenizer), tokenizer, tmp_path / "base", {})
    command = ["train", "reason", "--data", str(tmp_path / "tokens"), "--device", "cpu"]
    command += ["--model", str(tmp_path / "base"), "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "prepared for pretrain, not for sft" in capsys.readouterr().err
