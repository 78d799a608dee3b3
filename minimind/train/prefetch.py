"""The batches of the next step, read in a thread while this step is computed.

Explained in chapter 14. What a step reads follows from its number, so reading ahead
changes no batch and needs no state: a run that goes on begins to read where it is.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from minimind.train.objective import Batch


class Prefetcher:
    """Gives what `load` returns for a step, and begins with the next one."""

    def __init__(self, load: Callable[[int], list[Batch]]) -> None:
        self.load, self.pool = load, ThreadPoolExecutor(1, "prefetch")
        self.begun: dict[int, Future[list[Batch]]] = {}

    def get(self, step: int, ahead: bool = True) -> list[Batch]:
        """The batches of a step; raises what `load` raised for it.

        ahead: whether those of the next step may be read before this one is taken.
        """
        batches = self.begun.pop(step, None) or self.pool.submit(self.load, step)
        self.begun = {step + 1: self.pool.submit(self.load, step + 1)} if ahead else {}
        return batches.result()
