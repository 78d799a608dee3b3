"""`minimind train dpo`."""

import io
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from minimind.commands.train import Config, refuse_same_place, refuse_unheeded, run
from minimind.files import write_atomically
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.pairs import PairRows, read_pairs
from minimind.train.checkpoint import fingerprint, load_model
from minimind.train.config import TrainConfig
from minimind.train.distributed import is_main, say
from minimind.train.dpo import (
    DPOConfig,
    check_start,
    count_pairs,
    preference_loss,
    reference_logps,
)
from minimind.train.precision import pick_device, pick_dtype

Options = Annotated[DPOConfig, tyro.conf.arg(name="")]


def kept_reference(
    model: MiniMindForCausalLM, rows: PairRows, out: Path, batch_size: int
) -> np.ndarray:
    """The reference's log-probabilities, (N, 2), read from `out` if they are there."""
    path = out / "reference.npz"
    made_of = f"{fingerprint(model.state_dict())} {rows.fingerprint}"
    if path.is_file():
        with np.load(path) as kept:
            if kept["made_of"] == made_of:
                return kept["logps"]
    logps = reference_logps(model, rows, batch_size)
    if is_main():
        buffer = io.BytesIO()
        np.savez(buffer, logps=logps, made_of=made_of)
        write_atomically(path, buffer.getvalue())
    return logps


def dpo(
    data: Path,
    model: Path,
    out: Path,
    max_length: int = 512,
    options: Options = DPOConfig(),
    config: Config = TrainConfig(weight_decay=0.0),
) -> int:
    """Train on pairs of answers: rather the chosen one than the rejected one.

    The model as it is now is the reference; its log-probabilities are computed once
    and kept in reference.npz. Without --learning-rate it is 5e-5 at 128 channels and
    falls with the width.

    Args:
        data: jsonl file of {"chosen": [...], "rejected": [...]}.
        model: directory of the model to start from.
        out: run directory; holds the model, its log and the state to go on from.
        max_length: tokens of a conversation; pairs with a longer one are left out.
        options: what the loss is made of.
        config: options of the training loop.
    """
    refuse_same_place(out, model)
    refuse_unheeded(
        config, loss_chunk="whose loss is made of the logits of whole answers"
    )
    policy, tokenizer = load_model(model)
    # A row holds both answers.
    max_length = min(max_length, policy.config.max_position_embeddings // 2)
    rows = read_pairs(data, tokenizer, max_length, config.seed)
    say(f"{len(rows)} pairs, {rows.too_long} left out as too long")
    rate = config.learning_rate or 5e-5 * 128 / policy.config.hidden_size
    config = replace(config, learning_rate=rate)
    device = pick_device(config.device)
    dtype = pick_dtype(device, config.dtype)
    exact = dtype == torch.float32
    policy.to(device)
    with torch.autocast(device.type, dtype, enabled=not exact):
        rows.reference = kept_reference(policy, rows, out, config.batch_size)
        # Sums over many tokens in 16 bits differ a little between batch sizes.
        first = check_start(policy, rows, options, 1e-4 if exact else 1e-2)
    say(f"loss before the first step {first:.4f}")
    info = {
        "stage": "dpo",
        "parent": str(model),
        "seq_len": max_length,
        "settings": asdict(options),
    }
    loss_fn = partial(preference_loss, options=options)
    return run(
        policy, tokenizer, rows, loss_fn, out, None, config, info, count=count_pairs
    )
