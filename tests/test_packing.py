"""Packing: every document once, no row too long, and no neighbour noticed."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from minimind.text.packing import PackedRows, collate, pack
from tests.training_kit import new_model, plain_loss

IGNORE = -100


def best_fit(lengths, row_length):
    """The rule, word for word: longest first, to the fullest row that holds it."""
    space = []
    for length in sorted(lengths, reverse=True):
        fits = [left for left in space if left >= length]
        if fits:
            space.remove(min(fits))
        space.append((min(fits) if fits else row_length) - length)
    return sorted(space)


@pytest.mark.parametrize("seed", range(12))
def test_pack_is_best_fit(seed):
    rng = random.Random(seed)
    row_length = rng.choice([1, 2, 7, 64, 100])
    count = rng.choice([1, 2, 50, 300])
    lengths = np.array([rng.randint(1, row_length) for _ in range(count)])
    rows = pack(lengths, row_length, seed)
    assert sorted(n for row in rows for n in row) == list(range(count))
    space = [row_length - int(lengths[row].sum()) for row in rows]
    assert min(space) >= 0
    assert sorted(space) == best_fit(lengths.tolist(), row_length)


def test_pack_depends_on_the_seed_alone():
    lengths = np.array([3] * 40)
    assert pack(lengths, 9, 1) == pack(lengths, 9, 1) != pack(lengths, 9, 2)


def corpus(lengths, seed=0, given=1):
    """Documents of random ids as token arrays; the first `given` are not learned."""
    rng = np.random.default_rng(seed)
    documents = [rng.integers(3, 300, n).tolist() for n in lengths]
    targets = [[0] * given + [1] * (n - given) for n in lengths]
    data = SimpleNamespace(
        tokens=np.array(sum(documents, []), np.uint16),
        targets=np.array(sum(targets, []), np.uint8),
        offsets=np.cumsum([0, *lengths]),
    )
    return data, documents


def segments(row):
    """(ids, labels, positions) of each document of a row, in its order."""
    found = []
    for number in range(row["document_ids"].max() + 1):
        inside = row["document_ids"] == number
        keys = ("input_ids", "labels", "position_ids")
        found.append(tuple(row[key][inside].tolist() for key in keys))
    return found


LENGTHS = [random.Random(5).randint(2, 40) for _ in range(70)]


def test_an_epoch_holds_every_document_once():
    data, documents = corpus(LENGTHS)
    rows = PackedRows(data, 64)
    found = [piece for n in range(len(rows)) for piece in segments(rows[n])]
    assert sorted(ids for ids, _, _ in found) == sorted(documents)
    for ids, labels, positions in found:
        assert labels == [IGNORE, *ids[1:]]
        assert positions == list(range(len(ids)))


def test_labels_do_not_cross_documents_and_padding_is_nothing():
    data, _ = corpus(LENGTHS)
    rows = PackedRows(data, 64)
    padded = 0
    for n in range(len(rows)):
        row = rows[n]
        assert all(len(values) == 64 for values in row.values())
        for t in range(64):
            same = t and row["document_ids"][t] == row["document_ids"][t - 1]
            if not same:
                assert row["labels"][t] == IGNORE
        pad = row["document_ids"] == -1
        padded += pad.sum()
        assert (row["input_ids"][pad] == 0).all()
        assert (row["labels"][pad] == IGNORE).all()
        assert not pad[: len(pad) - pad.sum()].any()  # only at the end
    assert rows.padding == pytest.approx(padded / (64 * len(rows)), abs=1e-12)


def test_what_is_not_a_target_stays_so():
    data, documents = corpus([9, 12], given=5)
    rows = PackedRows(data, 32)
    for ids, labels, _ in segments(rows[0]):
        assert labels == [IGNORE] * 5 + ids[5:]


def test_long_documents_are_cut():
    data, documents = corpus([7, 8, 9, 15, 16])
    rows = PackedRows(data, 7)
    pieces = [piece for n in range(len(rows)) for piece in segments(rows[n])]
    # A single token left over asks nothing: of 8 and 15 the last one goes.
    expected = [
        documents[d][start : start + 7]
        for d, starts in enumerate([[0], [0], [0, 7], [0, 7], [0, 7, 14]])
        for start in starts
    ]
    assert sorted(ids for ids, _, _ in pieces) == sorted(expected)
    for ids, labels, positions in pieces:
        assert labels == [IGNORE, *ids[1:]]  # a piece's first token has no cause here
        assert positions == list(range(len(ids)))


def test_every_epoch_has_all_rows_in_an_order_of_its_own():
    data, _ = corpus(LENGTHS)
    rows = PackedRows(data, 64)

    def epoch(number):
        first = number * len(rows)
        return [tuple(rows[first + n]["input_ids"]) for n in range(len(rows))]

    one, two, three = epoch(0), epoch(1), epoch(2)
    assert sorted(one) == sorted(two) == sorted(three)
    assert one != two != three != one


def test_a_row_is_a_function_of_seed_and_number():
    data, _ = corpus(LENGTHS)
    jumping, other = PackedRows(data, 64, seed=3), PackedRows(data, 64, seed=4)
    numbers = [2 * len(jumping) + 1, 0, 3 * len(jumping), 5, 0]
    for n in numbers:
        fresh = PackedRows(data, 64, seed=3)[n]
        for key, values in jumping[n].items():
            assert (values == fresh[key]).all()
    different = [
        (other[n]["input_ids"] != jumping[n]["input_ids"]).any() for n in (0, 1)
    ]
    assert any(different)


def test_collate():
    data, _ = corpus(LENGTHS)
    rows = PackedRows(data, 64)
    batch = collate(rows[n] for n in (0, 1, 2))
    for key, values in batch.items():
        assert values.shape == (3, 64) and values.dtype == torch.int64
        assert values[2].tolist() == rows[2][key].tolist()


def alone(model, ids):
    return model(torch.tensor([ids])).logits[0]


def test_packed_equals_alone():
    data, _ = corpus(LENGTHS)
    rows, model = PackedRows(data, 64), new_model()
    batch = collate(rows[n] for n in range(4))
    labels = batch.pop("labels")
    logits = model(**batch).logits
    for b in range(4):
        for number in range(batch["document_ids"][b].max() + 1):
            inside = batch["document_ids"][b] == number
            ids = batch["input_ids"][b, inside].tolist()
            assert_close(logits[b, inside], alone(model, ids), rtol=0, atol=1e-5)
    assert labels.shape == (4, 64)


def test_packed_loss_is_the_loss_of_the_documents():
    data, documents = corpus(LENGTHS)
    rows, model = PackedRows(data, 64), new_model()
    batch = collate(rows[n] for n in range(len(rows)))
    nats = targets = 0.0
    for ids in documents:
        chances = alone(model, ids).log_softmax(-1)
        nats -= sum(chances[t, ids[t + 1]].item() for t in range(len(ids) - 1))
        targets += len(ids) - 1
    assert model(**batch).loss.item() == pytest.approx(nats / targets, abs=1e-5)
    assert plain_loss(model, batch)[0].item() == pytest.approx(nats / targets, abs=1e-5)


def test_a_changed_neighbour_changes_nothing():
    data, _ = corpus(LENGTHS)
    model, batch = new_model(), collate([PackedRows(data, 64)[0]])
    del batch["labels"]
    first = batch["document_ids"][0] == 0
    before = model(**batch).logits[0]
    batch["input_ids"][0, first] = 7
    after = model(**batch).logits[0]
    assert torch.equal(before[~first], after[~first])
    assert not torch.allclose(before[first], after[first])
    del batch["document_ids"]  # without it, the neighbour is noticed
    forgotten = model(**batch).logits[0]
    assert not torch.allclose(after[~first], forgotten[~first], atol=1e-3)
