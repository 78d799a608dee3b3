"""`minimind memory`: what a run will hold, before it is started."""

from typing import Literal

import torch

from minimind.errors import UserError
from minimind.model.config import get_preset
from minimind.model.transformer import MiniMindForCausalLM
from minimind.train.estimate import kept_bytes, state_bytes
from minimind.train.memory import spare_memory


def memory(
    preset: str,
    batch_size: int = 32,
    seq_len: int = 512,
    gradient_checkpointing: bool = False,
    loss_chunk: int | None = None,
    gpus: int = 1,
    zero_stage: Literal[0, 1, 2, 3] = 0,
) -> None:
    """Print the memory that training a size takes on each GPU, in fp32.

    One row is computed to see what it keeps for the backward pass. Autocast to 16 bits
    about halves that part; `--dry-run` of a training command measures a real run.

    Args:
        preset: size of the model, by name, or a json file with fields of ModelConfig.
        batch_size: rows that a GPU computes at once.
        seq_len: tokens in a row.
        gradient_checkpointing: keep a block's input only, compute the rest again.
        loss_chunk: positions whose logits are in memory at a time.
        gpus: how many of them divide the state.
        zero_stage: of ZeRO, from 1 on; 0 divides nothing.
    """
    shape = get_preset(preset)
    for name, value in (("batch-size", batch_size), ("gpus", gpus)):
        if value < 1:
            raise UserError(f"--{name} {value}: give 1 or more")
    if not 1 < seq_len <= (limit := shape.max_position_embeddings):
        raise UserError(f"--seq-len {seq_len}: give 2 to {limit}, the model's limit")
    model = MiniMindForCausalLM(shape)
    spare_memory(model, gradient_checkpointing, loss_chunk)
    row = kept_bytes(model, torch.zeros(1, seq_len, dtype=torch.long))
    parameters = sum(weight.numel() for weight in model.parameters())
    parts = state_bytes(parameters, gpus, zero_stage) | {
        "activations": batch_size * row
    }
    logits = 4 * shape.vocab_size * min(loss_chunk or seq_len, seq_len)
    print(f"{preset}: {parameters:,} parameters; GB on each of {gpus} GPU")
    for part, size in parts.items():
        print(f"  {part:12} {size / 1e9:8.2f}")
    print(f"  {'sum':12} {sum(parts.values()) / 1e9:8.2f}")
    print(
        f"{batch_size} rows of {seq_len} tokens keep {row / 1e6:.1f} MB each; the "
        f"logits of a row take {logits / 1e6:.1f} MB"
    )
