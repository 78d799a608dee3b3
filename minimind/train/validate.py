"""How well a model predicts text it was not trained on, in bits per byte.

Explained in chapter 08. Loss per token depends on the tokenizer: longer tokens
are harder to guess. Bits per byte divides by what was really said, so models
with different vocabularies compare. Source: Gao et al. 2020, "The Pile".

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

import math

import torch
from torch import Tensor

from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.chat import IGNORE
from minimind.text.packing import PackedRows, collate
from minimind.text.tokenizer import CONTROL_TOKENS, Tokenizer
from minimind.train.distributed import rank, total, world_size
from minimind.train.memory import summed_loss


def byte_lengths(tokenizer: Tokenizer) -> Tensor:
    """Bytes of text behind each id, (V,); control tokens have none."""
    return torch.tensor(
        [
            0 if i < len(CONTROL_TOKENS) else len(tokenizer.token_bytes(i))
            for i in range(tokenizer.vocab_size)
        ]
    )


def score(model: MiniMindForCausalLM, batch: dict[str, Tensor]) -> tuple[float, Tensor]:
    """The summed loss of a batch, in nats, and the ids it was asked for."""
    inputs = {key: batch[key] for key in batch if key != "labels"}
    hidden, labels = model.hidden_states(**inputs)[0], batch["labels"]
    nats = summed_loss(hidden, model.lm_head, labels, chunk=1024)
    return nats.item(), labels[:, 1:][labels[:, 1:] != IGNORE]


@torch.inference_mode()
def validate(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    rows: PackedRows,
    batch_size: int = 16,
    limit: int | None = None,
) -> dict[str, float]:
    """Loss in nats per target and bits per byte over one epoch of rows.

    limit: look at the first so many rows only. Several processes share the
    rows and get the same answer.
    """
    training, device = model.training, model.lm_head.weight.device
    model.eval()
    lengths = byte_lengths(tokenizer).to(device)
    nats = targets = said = 0.0
    count = min(len(rows), limit or len(rows))
    for start in range(0, count, world_size() * batch_size):
        first = start + rank() * batch_size
        numbers = range(first, min(first + batch_size, count))
        batch = collate(rows[n] for n in numbers or [0])
        if not numbers:  # keeps step with the others, and asks nothing
            batch["labels"].fill_(IGNORE)
        cost, asked = score(model, {k: v.to(device) for k, v in batch.items()})
        nats += cost
        targets += asked.numel()
        said += lengths[asked].sum().item()
    model.train(training)
    nats = total(nats)
    return {
        "validation_loss": nats / total(targets),
        "bits_per_byte": nats / math.log(2) / total(said),
    }
