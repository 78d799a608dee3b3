"""Work shared out to processes, with the results in order.

The processes are spawned, as on Windows and macOS, so it works the same everywhere.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from minimind.errors import UserError


def map_ordered(
    function: Callable[[Any], Any], items: Iterable[Any], workers: int
) -> Iterator[Any]:
    """The function of every item, in the order of the items.

    workers: processes to do it with; one does it here. No more than one item a
    process is worked on ahead, so neither items nor results pile up. The
    function is sent to each process once and must be picklable. Raises what the
    function raises, and UserError where a process dies.
    """
    if workers == 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, start_worker, (function,))
    ahead: deque = deque()
    try:
        for item in items:
            ahead.append(pool.submit(call, item))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            f"one of {workers} processes died, perhaps for want of memory; run the "
            "same command again, with fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def start_worker(function: Callable[[Any], Any]) -> None:
    """Keep the function for later calls, and end when the parent does."""
    global worker_function
    worker_function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sees to it
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)  # a killed parent cannot say that it is over

    threading.Thread(target=end_with_parent, daemon=True).start()


def call(item: Any) -> Any:
    """Do one piece of work, in a worker process."""
    return worker_function(item)
