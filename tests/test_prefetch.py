"""Batches read ahead: the same ones, in time, and every error where it belongs."""

import threading

import numpy as np
import pytest
import torch

from minimind.errors import UserError
from minimind.text.packing import PackedRows
from minimind.train.prefetch import Prefetcher
from tests.training_kit import new_run, token_file


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return token_file(tmp_path_factory.mktemp("data"))


def test_the_next_step_is_read_before_it_is_asked_for():
    read = {step: threading.Event() for step in range(5)}

    def load(step):
        read[step].set()
        return [step]

    prefetcher = Prefetcher(load)
    assert prefetcher.get(0) == [0]
    assert read[1].wait(10)
    assert not read[2].is_set()
    assert [prefetcher.get(step) for step in (1, 2, 2, 0)] == [[1], [2], [2], [0]]


def test_nothing_is_read_ahead_where_that_is_refused():
    """As of rows that the model in training writes."""
    read = []
    prefetcher = Prefetcher(lambda step: read.append(step) or [step])
    assert [prefetcher.get(step, ahead=False) for step in (0, 1)] == [[0], [1]]
    prefetcher.pool.shutdown()
    assert read == [0, 1]


def test_an_error_belongs_to_its_step():
    def load(step):
        if step == 1:
            raise UserError("one")
        return [step]

    prefetcher = Prefetcher(load)
    assert prefetcher.get(0) == [0]
    with pytest.raises(UserError, match="one"):
        prefetcher.get(1)
    assert prefetcher.get(2) == [2]


def test_a_run_reads_what_its_steps_say(data, tmp_path):
    """Rows 4 n to 4 n + 3 in step n, also where it goes back, as a resumed run does."""
    run = new_run(PackedRows(data, 48), tmp_path)
    rows = PackedRows(data, 48)
    for run.step in (0, 1, 2, 40, 3, 4):
        batches = run.next_batches()
        ids = torch.cat([batch["input_ids"] for batch in batches])
        first = 4 * run.step
        wanted = [rows[n]["input_ids"] for n in range(first, first + 4)]
        assert torch.equal(ids, torch.from_numpy(np.stack(wanted)))
