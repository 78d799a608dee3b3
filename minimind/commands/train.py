"""`minimind train pretrain` and `minimind train sft`."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from minimind.errors import UserError
from minimind.model.config import get_preset
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows
from minimind.text.tokenizer import Tokenizer
from minimind.text.tokens import TokenFile
from minimind.train.checkpoint import load_model
from minimind.train.config import TrainConfig
from minimind.train.loop import train
from minimind.train.pretrain import next_token_loss
from minimind.train.sft import answer_loss

Config = Annotated[TrainConfig, tyro.conf.arg(name="")]


def pretrain(
    data: Path,
    tokenizer: Path,
    out: Path,
    preset: str = "nano",
    seq_len: int = 256,
    validation: Path | None = None,
    config: Config = TrainConfig(),
) -> int:
    """Train a new model on plain text, or go on with one that was stopped.

    Args:
        data: directory of `minimind data prepare`.
        tokenizer: directory of `minimind tokenizer train`.
        out: run directory; holds the model, its log and the state to go on from.
        preset: size of the model.
        seq_len: tokens in a row.
        validation: prepared held-out data.
        config: options of the training loop.
    """
    shape = get_preset(preset)
    vocabulary = Tokenizer.load(tokenizer)
    shape = replace(shape, vocab_size=vocabulary.vocab_size)
    torch.manual_seed(config.seed)
    model = MiniMindForCausalLM(shape)
    info = {"stage": "pretrain", "parent": None, "preset": preset}
    return run(model, vocabulary, data, out, seq_len, validation, config, info)


def sft(
    data: Path,
    model: Path,
    out: Path,
    seq_len: int = 256,
    validation: Path | None = None,
    config: Config = TrainConfig(),
) -> int:
    """Train a model on conversations: it learns to answer, and to stop.

    Args:
        data: directory of `minimind data prepare --kind sft`.
        model: directory of the model to start from.
        out: run directory; holds the model, its log and the state to go on from.
        seq_len: tokens in a row; no conversation may be longer.
        validation: prepared held-out data.
        config: options of the training loop.
    """
    base, tokenizer = load_model(model)
    info = {"stage": "sft", "parent": str(model)}
    return run(base, tokenizer, data, out, seq_len, validation, config, info)


def run(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    data: Path,
    out: Path,
    seq_len: int,
    validation: Path | None,
    config: TrainConfig,
    info: dict[str, Any],
) -> int:
    """Train on prepared data of either kind; print the result."""
    rows = PackedRows(TokenFile(data, tokenizer), seq_len, config.seed)
    kind, longest = (rows.data.manifest[key] for key in ("kind", "max_length"))
    if kind != info["stage"]:
        raise UserError(
            f"{data}: prepared for {kind}, not for {info['stage']}; "
            f"prepare it with --kind {info['stage']}"
        )
    if kind == "sft" and longest > seq_len:
        raise UserError(
            f"{data}: conversations of up to {longest} tokens do not fit rows of "
            f"{seq_len}; prepare it with --max-length {seq_len}"
        )
    held_out = None
    if validation is not None:
        held_out = PackedRows(TokenFile(validation, tokenizer), seq_len, config.seed)
    info = {**info, "data": rows.data.manifest["sha256"], "command": sys.argv}
    began = time.perf_counter()
    loss_fn = answer_loss if kind == "sft" else next_token_loss
    numbers = train(model, tokenizer, rows, loss_fn, config, out, held_out, info)
    shown = ("step", "loss", "validation_loss", "bits_per_byte")
    line = ", ".join(
        f"{key.replace('_', ' ')} {numbers[key]:.4g}" for key in shown if key in numbers
    )
    if "finished" not in numbers:
        print(f"{out}: stopped ({line}); the same command goes on from here")
        return 130
    print(f"{out}: {line}; {time.perf_counter() - began:.1f} s")
    return 0
