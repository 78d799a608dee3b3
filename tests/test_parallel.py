"""An ordered map over processes: the order, how far ahead, and what goes wrong."""

import os

import pytest

from minimind.errors import UserError
from minimind.text.parallel import map_ordered


def square(number):
    return number * number


def fail_at_five(number):
    if number == 5:
        raise UserError("five")
    return number


def die_at_five(number):
    if number == 5:
        os._exit(1)
    return number


@pytest.mark.parametrize("workers", [1, 3])
def test_map_ordered_keeps_the_order(workers):
    assert list(map_ordered(square, range(20), workers)) == [n * n for n in range(20)]


@pytest.mark.parametrize("workers", [1, 2])
def test_map_ordered_takes_no_more_than_it_needs(workers):
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = map_ordered(square, items(), workers)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(taken) <= 5 + workers
    results.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_process_is_the_callers(workers):
    results = map_ordered(fail_at_five, range(9), workers)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(UserError, match="five"):
        next(results)


def test_a_process_that_dies_is_told():
    with pytest.raises(UserError, match="one of 2 processes died.*--workers"):
        list(map_ordered(die_at_five, range(9), 2))
