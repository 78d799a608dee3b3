"""Pretraining: predict the next token of plain text.

Explained in chapter 08. Source: Radford et al. 2019, "Language Models are
Unsupervised Multitask Learners".

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

import torch
from torch import Tensor

from minimind.train.objective import Batch, Numbers, with_aux_loss


def next_token_loss(model: torch.nn.Module, batch: Batch) -> tuple[Tensor, Numbers]:
    """Mean cross-entropy, in nats, over the labels of a packed batch."""
    output = model(**batch)
    return with_aux_loss(output.loss, output, {})
