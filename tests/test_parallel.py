"""An ordered map over processes: the order, how far ahead, and what goes wrong."""

import os
import signal
import subprocess
import sys
import textwrap

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


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_no_process_outlives_a_killed_parent(tmp_path):
    """They hold the pipe's other end: reading comes to an end when they do."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import os, signal
            from minimind.text.parallel import map_ordered

            if __name__ == "__main__":
                results = map_ordered(abs, range(100), 2)
                print(next(results), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    command = [sys.executable, str(script)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "0\n")
