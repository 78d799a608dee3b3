"""Bits per byte against sums made token by token, outside of batches and packing."""

import math

import pytest
import torch

from minimind.text.packing import PackedRows
from minimind.text.tokenizer import TAG_TOKENS
from minimind.train.validate import byte_lengths, validate
from tests.training_kit import TEXTS, new_model, token_file, tokenizer

HELD_OUT = [*TEXTS[:12], "the 猫 看见 ball. \U0001f98a", "<think>red</think>", "a"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return token_file(tmp_path_factory.mktemp("held_out"), HELD_OUT)


def by_hand(model):
    """(nats, targets, bytes) of the held-out texts."""
    nats = targets = size = 0
    for text in HELD_OUT:
        ids = tokenizer().encode_document(text)
        for t in range(1, len(ids)):
            chances = model(torch.tensor([ids[:t]])).logits[0, -1].softmax(-1)
            nats -= math.log(chances[ids[t]].item())
        targets += len(ids) - 1
        size += len(text.encode())
    return nats, targets, size


def test_equals_the_sum_over_tokens(data):
    model = new_model().eval()
    nats, targets, size = by_hand(model)
    got = validate(model, tokenizer(), PackedRows(data, 64))
    assert got["validation_loss"] == pytest.approx(nats / targets, abs=1e-5)
    assert got["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, abs=1e-5)


def test_holds_the_logits_of_few_positions_at_a_time(tmp_path):
    """V numbers a position: where training needs --loss-chunk, so does this."""
    rows = PackedRows(token_file(tmp_path / "many", TEXTS * 8), 64)
    model = new_model()
    positions = []
    model.lm_head.register_forward_hook(
        lambda head, given, logits: positions.append(logits[..., 0].numel())
    )
    validate(model, tokenizer(), rows, batch_size=40)
    assert len(rows) >= 40 and sum(positions) == len(rows) * 63
    assert max(positions) == 1024


def test_a_model_that_knows_nothing_scores_ln_v(data):
    model = new_model()
    torch.nn.init.zeros_(model.lm_head.weight)
    _, targets, size = by_hand(model)
    got = validate(model, tokenizer(), PackedRows(data, 64))
    v = model.config.vocab_size
    assert got["validation_loss"] == pytest.approx(math.log(v), abs=1e-5)
    assert got["bits_per_byte"] == pytest.approx(targets * math.log2(v) / size)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_does_not_depend_on_the_batch_size(data, batch_size):
    model, rows = new_model(), PackedRows(data, 64)
    assert len(rows) > 3
    one = validate(model, tokenizer(), rows, batch_size=16)
    assert validate(model, tokenizer(), rows, batch_size) == pytest.approx(
        one, abs=1e-6
    )


def test_limit(data):
    """The first rows only: the same as a set that holds nothing else."""
    model, rows = new_model(), PackedRows(data, 64)
    whole = validate(model, tokenizer(), rows)
    assert validate(model, tokenizer(), rows, limit=1000) == whole
    first = validate(model, tokenizer(), rows, limit=1)
    output = model(**{k: torch.from_numpy(v)[None] for k, v in rows[0].items()})
    assert first["validation_loss"] == pytest.approx(output.loss.item(), abs=1e-5)
    assert first != whole


@pytest.mark.parametrize("training", [True, False])
def test_leaves_the_model_as_it_was(data, training):
    model = new_model().train(training)
    seen = []
    model.lm_head.register_forward_hook(lambda *a: seen.append(model.training))
    validate(model, tokenizer(), PackedRows(data, 64))
    assert seen and not any(seen)
    assert model.training == training
    assert all(p.grad is None and not p.is_inference() for p in model.parameters())


def test_byte_lengths():
    lengths = byte_lengths(tokenizer()).tolist()
    assert len(lengths) == tokenizer().vocab_size
    assert lengths[:3] == [0, 0, 0]
    tags = [lengths[tokenizer().encode(tag)[0]] for tag in TAG_TOKENS]
    assert tags == [len(tag) for tag in TAG_TOKENS]
    for text in HELD_OUT:
        ids = tokenizer().encode(text)
        assert sum(lengths[i] for i in ids) == len(text.encode())
