"""Packing: every document once, no row too long, and no neighbour noticed."""

import random
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from minimind.errors import UserError
from minimind.text.packing import MixedRows, PackedRows, collate, pack
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
    documents, bounds = pack(lengths, row_length, seed)
    assert sorted(documents) == list(range(count))
    rows = np.split(documents, bounds[1:-1])
    space = [row_length - int(lengths[row].sum()) for row in rows]
    assert min(space) >= 0
    assert sorted(space) == best_fit(lengths.tolist(), row_length)


def test_pack_depends_on_the_seed_alone():
    lengths = np.array([3] * 40)
    once, again, other = (pack(lengths, 9, seed)[0].tolist() for seed in (1, 1, 2))
    assert once == again != other


def test_a_corpus_without_documents_has_no_rows():
    documents, bounds = pack(np.array([], np.int64), 9)
    assert documents.tolist() == [] and bounds.tolist() == [0]


def test_row_order_takes_few_bytes_a_document():
    """Arrays, not lists: a corpus of many million documents is packed in memory."""
    data, _ = corpus([5] * 2000)
    tracemalloc.start()
    rows = PackedRows(data, 64)
    rows[0]
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / 2000 < 40 and peak / 2000 < 120


def corpus(lengths, seed=0, given=1):
    """Documents of random ids as token arrays; the first `given` are not learned."""
    rng = np.random.default_rng(seed)
    documents = [rng.integers(3, 300, n).tolist() for n in lengths]
    targets = [[0] * given + [1] * (n - given) for n in lengths]
    data = SimpleNamespace(
        tokens=np.array(sum(documents, []), np.uint16),
        targets=np.array(sum(targets, []), np.uint8),
        offsets=np.cumsum([0, *lengths]),
        manifest={"sha256": f"sha of {seed}"},
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


def test_without_packing_a_row_holds_one_piece():
    data, documents = corpus([7, 8, 9, 15, 16, 2])
    rows = PackedRows(data, 10, packing=False)
    pieces = [segments(rows[n]) for n in range(len(rows))]
    assert all(len(piece) == 1 for piece in pieces)
    expected = [d[start : start + 10] for d in documents for start in (0, 10)]
    expected = [ids for ids in expected if len(ids) > 1]
    assert sorted(piece[0][0] for piece in pieces) == sorted(expected)
    assert rows.padding == pytest.approx(1 - sum(map(len, expected)) / (10 * len(rows)))
    assert rows.padding > PackedRows(data, 10).padding
    assert rows.fingerprint != PackedRows(data, 10).fingerprint


def mixture(weights, counts=(70, 40, 90)):
    """Sets of the given numbers of rows, and their mixture."""
    sets = [
        PackedRows(corpus([9] * count, seed)[0], 9, seed)
        for seed, count in enumerate(counts[: len(weights)])
    ]
    return sets, MixedRows(sets, weights)


@pytest.mark.parametrize("weights", [[1], [7, 3], [0.5, 0.2, 0.3], [1, 1, 1], [9, 1]])
def test_each_set_has_its_share_and_keeps_its_order(weights):
    sets, mixed = mixture(weights)
    taken = [0] * len(sets)
    for n in range(1000):
        number, row = mixed.row_of(n)
        assert row == taken[number]  # in order, none left out
        taken[number] += 1
        for count, weight in zip(taken, weights, strict=True):
            # Each set takes its share of what those before it leave over.
            assert abs(count - (n + 1) * weight / sum(weights)) <= len(sets)
    if len(sets) < 3:
        assert taken == [1000 * w / sum(weights) for w in weights]


def test_a_mixed_row_is_a_function_of_its_number():
    sets, mixed = mixture([0.7, 0.3])
    for n in (999, 0, 500, 3):
        number, row = mixture([0.7, 0.3])[1].row_of(n)
        for key, values in mixed[n].items():
            assert (values == sets[number][row][key]).all()
    assert mixed.row_length == 9 and len(mixed) == 110


def test_weights_by_size_visit_every_row_once():
    sets, _ = mixture([1, 1, 1])
    mixed = MixedRows(sets, [len(rows) for rows in sets])
    drawn = [mixed.row_of(n) for n in range(len(mixed))]
    assert sorted(drawn) == [(i, n) for i, s in enumerate(sets) for n in range(len(s))]


def test_what_a_mixture_says_of_itself():
    sets = [PackedRows(corpus(lengths)[0], 10) for lengths in ([10] * 4, [5, 6] * 2)]
    mixed = MixedRows(sets, [3, 1])
    assert mixed.padding == pytest.approx(0.25 * sets[1].padding) != 0
    prints = {
        MixedRows(sets, weights).fingerprint for weights in ([3, 1], [1, 3], [6, 2])
    }
    assert len(prints) == 2  # 6 to 2 is 3 to 1


@pytest.mark.parametrize(
    "weights", [[1], [1, 2, 3], [1, 0], [-1, 2], [1, float("nan")], [1, float("inf")]]
)
def test_weights_that_make_no_sense(weights):
    sets, _ = mixture([1, 1])
    with pytest.raises(UserError, match="--weights .*: give one number above 0"):
        MixedRows(sets, weights)
