"""Trading time for memory, and what to say when it was not enough.

Explained in chapter 08. Source: Chen et al. 2016, "Training Deep Nets with
Sublinear Memory Cost".

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from minimind.errors import UserError
from minimind.model.transformer import MiniMindForCausalLM, ModelOutput
from minimind.text.chat import IGNORE


def recompute_blocks(model: MiniMindForCausalLM) -> None:
    """Keep only the input of each block; compute the rest a second time."""
    for layer in model.model.layers:
        plain = partial(type(layer).forward, layer)
        layer.forward = partial(recompute, plain, use_reentrant=False)


def summed_loss(hidden: Tensor, head: nn.Module, labels: Tensor, chunk: int) -> Tensor:
    """The summed cross-entropy, in nats, with few logits at a time.

    hidden: (B, T, C); labels: (B, T). At most `chunk` positions have logits.
    """
    hidden, labels = hidden[:, :-1].flatten(0, 1), labels[:, 1:].flatten()

    def nats(hidden: Tensor, labels: Tensor) -> Tensor:
        logits = head(hidden).float()
        return F.cross_entropy(logits, labels, reduction="sum")

    total = hidden.new_zeros((), dtype=torch.float32)
    for part in zip(hidden.split(chunk), labels.split(chunk)):
        total = total + recompute(nats, *part, use_reentrant=False)
    return total


def chunked_loss(hidden: Tensor, head: nn.Module, labels: Tensor, chunk: int) -> Tensor:
    """`causal_lm_loss(head(hidden), labels)`, as `summed_loss` makes it."""
    total = summed_loss(hidden, head, labels, chunk)
    return total / (labels[:, 1:] != IGNORE).sum()


def lean_forward(
    model: MiniMindForCausalLM,
    chunk: int,
    *given: Tensor,
    labels: Tensor | None = None,
    **inputs: Any,
) -> ModelOutput:
    """The model's forward pass; where it has labels, without the logits."""
    if labels is None:
        return type(model).forward(model, *given, **inputs)
    hidden, aux_loss, load = model.hidden_states(*given, **inputs)
    loss = chunked_loss(hidden, model.lm_head, labels, chunk)
    return ModelOutput(None, loss, aux_loss, load)


def spare_memory(
    model: MiniMindForCausalLM, blocks: bool, loss_chunk: int | None
) -> None:
    """Recompute the blocks, and the logits in pieces, where asked for.

    Neither changes a gradient (but for rounding) or a key of the state dict.
    """
    if blocks:
        recompute_blocks(model)
    if loss_chunk is not None:
        model.forward = partial(lean_forward, model, loss_chunk)


def peak_memory(device: torch.device) -> float | None:
    """The most memory in use so far, in GB; on a CPU, of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    if device.type == "mps":
        return torch.mps.driver_allocated_memory() / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


@contextmanager
def explain_out_of_memory() -> Iterator[None]:
    """Say what to change where the memory was not enough, as a UserError."""
    try:
        yield
    except RuntimeError as error:
        signs = ("out of memory", "can't allocate memory")
        if not any(sign in str(error) for sign in signs):
            raise
        raise UserError(
            "out of memory; halve --batch-size and double --accumulation, "
            "which changes nothing else, or add --gradient-checkpointing, "
            "or --loss-chunk 1024 (pretrain, sft, lora, distill)"
        ) from error
