"""One gradient from several batches, weighted by what each of them teaches.

Explained in chapter 08.

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minimind.text.chat import IGNORE

Batch = dict[str, Tensor]
# A stage's loss: the mean over the batch's targets, and numbers to log.
LossFn = Callable[[torch.nn.Module, Batch], tuple[Tensor, dict[str, float]]]


def count_targets(batch: Batch) -> int:
    """How many labels of a batch are scored; the first of a row never is."""
    return int((batch["labels"][:, 1:] != IGNORE).sum())


def accumulate(
    model: torch.nn.Module,
    batches: list[Batch],
    loss_fn: LossFn,
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> dict[str, float]:
    """Gradient of one optimizer step from batches; returns its numbers.

    Each batch counts by its targets, so the gradient is that of one large
    batch however the rows are split. Raises ValueError where nothing is to be
    learned: the mean over no target is 0 / 0.
    """
    targets = [count_targets(batch) for batch in batches]
    if not sum(targets):
        raise ValueError("no target in the whole step")
    numbers: dict[str, float] = {}
    for batch, count in zip(batches, targets, strict=True):
        if count:
            share = count / sum(targets)
            loss, metrics = loss_fn(model, batch)
            backward(loss * share)
            for key, value in {"loss": loss.item(), **metrics}.items():
                numbers[key] = numbers.get(key, 0.0) + value * share
    return numbers
