"""One gradient from several batches, weighted by what each of them teaches.

Explained in chapter 08.

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from minimind.text.chat import IGNORE
from minimind.train.objective import Batch, LossFn

Count = Callable[[Batch], int]  # how much a batch weighs


def count_targets(batch: Batch) -> int:
    """How many labels of a batch are scored; the first of a row never is."""
    return int((batch["labels"][:, 1:] != IGNORE).sum())


class Means:
    """Means by weight, each over those who gave a number or tensor."""

    def __init__(self) -> None:
        self.sums: dict[str, Any] = {}
        self.weights: dict[str, float] = {}

    def add(self, numbers: dict[str, Any], weight: float) -> None:
        """Take in numbers, `weight` times."""
        for key, value in numbers.items():
            self.sums[key] = self.sums.get(key, 0.0) + weight * value
            self.weights[key] = self.weights.get(key, 0.0) + weight

    def means(self) -> dict[str, Any]:
        """The means, as numbers and lists."""
        return {
            key: torch.as_tensor(value / self.weights[key]).tolist()
            for key, value in self.sums.items()
            if self.weights[key]
        }


def accumulate(
    model: torch.nn.Module,
    batches: list[Batch],
    loss_fn: LossFn,
    backward: Callable[[Tensor], None] = Tensor.backward,
    count: Count = count_targets,
    total: float | None = None,
) -> dict[str, Any]:
    """Gradient of one optimizer step from batches; returns its numbers.

    Each batch counts by its targets, so the gradient is that of one large
    batch however the rows are split. total: the targets of the whole step,
    where other processes have some too. Raises ValueError where nothing is to
    be learned: the mean over no target is 0 / 0.
    """
    counted = [(batch, count(batch)) for batch in batches]
    total = sum(n for _, n in counted) if total is None else total
    if not total:
        raise ValueError("no target in the whole step")
    # A process without a target goes along, with a gradient of zero.
    idle = {**batches[0], "labels": batches[0]["input_ids"]}
    counted = [pair for pair in counted if pair[1]] or [(idle, 0)]
    wait = getattr(model, "no_sync", nullcontext)  # until the last batch
    sums = Means()
    for number, (batch, weight) in enumerate(counted, start=1):
        with nullcontext() if number == len(counted) else wait():
            loss, numbers = loss_fn(model, batch)
            backward(loss * (weight / total))
        sums.add({"loss": loss.detach(), **numbers}, weight)
    return sums.means()
