"""The SFT stage: its loss over targets only, and what teaches a model to stop."""

import copy
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from minimind.commands import train as commands
from minimind.errors import UserError
from minimind.evaluate.world import answer
from minimind.model.config import ModelConfig
from minimind.model.sampling import Sampling
from minimind.model.transformer import MiniMindForCausalLM, causal_lm_loss
from minimind.text.chat import IGNORE
from minimind.text.packing import PackedRows, collate
from minimind.text.tokenizer import EOS_ID, train_tokenizer
from minimind.text.tokens import TokenFile, prepare
from minimind.train.accumulate import accumulate
from minimind.train.checkpoint import load_model, save_model
from minimind.train.config import TrainConfig
from minimind.train.log import read_log
from minimind.train.loop import train
from minimind.train.sft import answer_loss

PAIRS = {"sky": "blue", "grass": "green", "snow": "white", "blood": "red"}
ROW = 64
SHORT = Sampling(temperature=0.0, max_new_tokens=12)


@pytest.fixture(scope="module")
def tokenizer():
    words = "\n".join([*PAIRS, *PAIRS.values(), "system", "user", "assistant"])
    return train_tokenizer([words + "\nYou are a helpful assistant"] * 3, 420)


@pytest.fixture(scope="module")
def rows(tokenizer, tmp_path_factory):
    """Chats of one word each way, two or three to a row."""
    folder = tmp_path_factory.mktemp("sft")
    with (folder / "sft.jsonl").open("w", encoding="utf-8") as file:
        for said, reply in PAIRS.items():
            turns = [("user", said), ("assistant", reply)]
            chat = [{"role": role, "content": content} for role, content in turns]
            file.write(json.dumps({"conversations": chat}) + "\n")
    prepare([folder / "sft.jsonl"], folder / "data", tokenizer, "sft", ROW)
    return PackedRows(TokenFile(folder / "data", tokenizer), ROW)


def build(tokenizer):
    torch.manual_seed(0)
    return MiniMindForCausalLM(
        ModelConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=ROW,
            initializer_range=0.1,
        )
    )


def test_the_loss_is_a_sum_over_targets_divided_by_their_number(tokenizer, rows):
    model, batch = build(tokenizer).eval(), collate([rows[0], rows[1]])
    labels = batch["labels"].tolist()
    with torch.no_grad():
        loss, numbers = answer_loss(model, batch)
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        logits = model(**inputs).logits.double()
    nats, stops = [], []
    for row, line in enumerate(labels):
        for t, label in enumerate(line):
            if label == IGNORE:
                continue
            scores = logits[row, t - 1].tolist()
            top = max(scores)
            log_sum = top + math.log(sum(math.exp(s - top) for s in scores))
            nats.append(log_sum - scores[label])
            if label == EOS_ID:
                stops.append(math.exp(scores[label] - log_sum))
    assert len(stops) == 4 and len(nats) >= 8
    assert loss.item() == pytest.approx(sum(nats) / len(nats), abs=1e-5)
    expected = sum(stops) / len(stops)
    assert numbers == {"stop_probability": pytest.approx(expected, rel=1e-4)}
    assert loss.item() != pytest.approx(sum(nats) / (2 * ROW), abs=0.1)


def test_only_targets_reach_the_gradient(rows):
    """d loss / d logits is zero but where the next token is a target."""
    batch = collate([rows[0]])
    logits = torch.randn(1, ROW, 420, requires_grad=True)

    def model(labels, **inputs):
        loss = causal_lm_loss(logits, labels)
        return SimpleNamespace(logits=logits, loss=loss, aux_loss=None)

    answer_loss(model, batch)[0].backward()
    touched = logits.grad.abs().sum(-1)[0] > 0
    expected = (batch["labels"][0] != IGNORE).roll(-1)
    assert torch.equal(touched, expected) and 0 < touched.sum() < ROW / 2


def test_stop_probability_does_not_need_the_end_as_a_target(tokenizer, rows):
    """A run whose mask forgets the end tokens must show in the log."""
    model, batch = build(tokenizer), collate([rows[0]])
    masked = batch["labels"].masked_fill(batch["labels"] == EOS_ID, IGNORE)
    with torch.no_grad():
        loss, numbers = answer_loss(model, batch)
        other_loss, other = answer_loss(model, {**batch, "labels": masked})
    assert other == numbers and other_loss != loss


def test_stop_probability_is_left_out_where_no_answer_ends(tokenizer):
    ids = torch.tensor([[5, 6, 7, EOS_ID, 8]])
    labels = torch.tensor([[IGNORE, 6, IGNORE, IGNORE, IGNORE]])
    batch = {"input_ids": ids, "labels": labels}
    loss, numbers = answer_loss(build(tokenizer), batch)
    assert numbers == {} and loss.isfinite()


def test_a_step_without_a_target_is_an_error(tokenizer, rows):
    model, batch = build(tokenizer), collate([rows[0]])
    empty = {**batch, "labels": torch.full_like(batch["labels"], IGNORE)}
    with pytest.raises(ValueError, match="no target"):
        accumulate(model, [empty, empty], answer_loss)
    numbers = accumulate(model, [empty, batch], answer_loss)  # the step has some
    assert math.isfinite(numbers["loss"])
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_packed_chat_is_as_if_alone(tokenizer, rows):
    model, batch = build(tokenizer).eval(), collate([rows[0]])
    numbers = batch["document_ids"][0]
    assert numbers.max() > 0
    with torch.no_grad():
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        packed = model(**inputs).logits[0]
        for number in range(numbers.max() + 1):
            here = numbers == number
            alone = model(batch["input_ids"][:, here]).logits[0]
            assert_close(packed[here], alone, atol=1e-5, rtol=0)


def forget_ends(model, batch):
    labels = batch["labels"].masked_fill(batch["labels"] == EOS_ID, IGNORE)
    return answer_loss(model, {**batch, "labels": labels})


@pytest.fixture(scope="module")
def tuned(tokenizer, rows, tmp_path_factory):
    """The same training with the end token as a target and without; the logs."""
    config = TrainConfig(steps=80, warmup=5, batch_size=2, learning_rate=1e-2)
    models, logs = {}, {}
    for name, loss_fn in {"with": answer_loss, "without": forget_ends}.items():
        models[name] = build(tokenizer)
        folder = tmp_path_factory.mktemp(name)
        train(models[name], tokenizer, rows, loss_fn, config, folder)
        models[name].eval()
        logs[name] = read_log(folder)
    return models, logs


def test_a_model_stops_because_the_end_token_was_a_target(tokenizer, tuned):
    models, logs = tuned
    replies = answer(models["with"], tokenizer, list(PAIRS), SHORT)
    assert [reply.text for reply in replies] == list(PAIRS.values())
    assert all(reply.finish_reason == "stop" for reply in replies)
    endless = answer(models["without"], tokenizer, list(PAIRS), SHORT)
    assert [reply.finish_reason for reply in endless] == ["length"] * len(PAIRS)
    for reply, right in zip(endless, PAIRS.values(), strict=True):
        assert reply.text.startswith(right) and reply.text != right
    assert logs["with"][-1]["stop_probability"] > 0.9
    assert logs["without"][-1]["stop_probability"] < 0.1


def test_the_loss_does_not_tell_which_model_will_not_stop(tuned):
    _, logs = tuned
    assert logs["with"][-1]["loss"] < 0.1 and logs["without"][-1]["loss"] < 0.1


def test_answers_in_a_batch_are_those_given_one_by_one(tokenizer, tuned):
    models, _ = tuned
    said = ["sky", "what is the colour of grass", "snow", "blood blood"]
    for model in (models["with"], models["without"]):
        together = answer(model, tokenizer, said, SHORT, batch_size=4)
        alone = answer(model, tokenizer, said, SHORT, batch_size=1)
        assert [reply.ids for reply in together] == [reply.ids for reply in alone]


def longer_chats(folder):
    """Every pair twice in one chat: too long for rows of ROW tokens."""
    said = [text for pair in PAIRS.items() for text in pair] * 2
    chat = [
        {"role": role, "content": text}
        for role, text in zip(("user", "assistant") * (len(said) // 2), said)
    ]
    (folder / "long.jsonl").write_text(json.dumps({"conversations": chat}), "utf-8")
    return folder / "long.jsonl"


def test_going_on_with_longer_chats(tokenizer, tuned, tmp_path):
    """All weights train on, from the saved model, in rows of another length."""
    models, _ = tuned
    first = copy.deepcopy(models["with"])
    first.config = replace(first.config, max_position_embeddings=2 * ROW)
    save_model(first, tokenizer, tmp_path / "first", {})
    source = longer_chats(tmp_path)
    for length in (ROW, 2 * ROW):
        prepare([source], tmp_path / str(length), tokenizer, "sft", length)
    short, long = (tmp_path / str(length) for length in (ROW, 2 * ROW))
    assert TokenFile(short, tokenizer).targets.sum() < 16  # the last answers go
    assert TokenFile(long, tokenizer).targets.sum() == 16
    config = TrainConfig(steps=2, batch_size=1, learning_rate=1e-3, device="cpu")
    out, start = tmp_path / "second", tmp_path / "first"
    assert commands.sft((long,), start, out, 2 * ROW, config=config) == 0
    about = json.loads((out / "minimind.json").read_text("utf-8"))
    assert about["parent"] == str(start) and about["stage"] == "sft"
    second, _ = load_model(out)
    before = first.state_dict()
    assert all(not torch.equal(w, before[k]) for k, w in second.state_dict().items())
    with pytest.raises(UserError, match="do not fit rows of 64"):
        commands.sft((long,), start, tmp_path / "third", ROW, config=config)
