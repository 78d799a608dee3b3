"""How well a model predicts text it was not trained on, in bits per byte.

Explained in chapter 08. Loss per token depends on the tokenizer: longer tokens
are harder to guess. Bits per byte divides by what was really said, so models
with different vocabularies compare. Source: Gao et al. 2020, "The Pile".
"""

import math

import torch
import torch.nn.functional as F

from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.chat import IGNORE
from minimind.text.packing import PackedRows, collate
from minimind.text.tokenizer import CONTROL_TOKENS, Tokenizer


def byte_lengths(tokenizer: Tokenizer) -> torch.Tensor:
    """Bytes of text that each id stands for, (V,); control tokens have none."""
    return torch.tensor(
        [
            0 if i < len(CONTROL_TOKENS) else len(tokenizer.token_bytes(i))
            for i in range(tokenizer.vocab_size)
        ]
    )


@torch.inference_mode()
def validate(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    rows: PackedRows,
    batch_size: int = 16,
    limit: int | None = None,
) -> dict[str, float]:
    """Loss in nats per target and bits per byte over one epoch of rows.

    limit: look at the first so many rows only.
    """
    model.eval()
    device = model.lm_head.weight.device
    lengths = byte_lengths(tokenizer).to(device)
    nats = targets = said = 0.0
    count = min(len(rows), limit or len(rows))
    for start in range(0, count, batch_size):
        numbers = range(start, min(start + batch_size, count))
        batch = collate(rows[n] for n in numbers)
        batch = {key: value.to(device) for key, value in batch.items()}
        labels = batch.pop("labels")[:, 1:]
        logits = model(**batch).logits[:, :-1]
        losses = F.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), reduction="sum"
        )
        asked = labels[labels != IGNORE]
        nats += losses.item()
        targets += asked.numel()
        said += lengths[asked].sum().item()
    model.train()
    return {
        "validation_loss": nats / targets,
        "bits_per_byte": nats / math.log(2) / said,
    }
