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
from minimind.model.hf import model_type
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import MixedRows, PackedRows
from minimind.text.pairs import PairRows
from minimind.text.tokenizer import Tokenizer
from minimind.text.tokens import TokenFile
from minimind.train.checkpoint import load_model, trained_length
from minimind.train.config import TrainConfig
from minimind.train.distributed import say
from minimind.train.loop import train
from minimind.train.objective import LossFn
from minimind.train.pretrain import next_token_loss
from minimind.train.sft import answer_loss

Rows = PackedRows | MixedRows | PairRows
Config = Annotated[TrainConfig, tyro.conf.arg(name="")]


def pretrain(
    data: tuple[Path, ...],
    tokenizer: Path,
    out: Path,
    preset: str = "nano",
    seq_len: int = 256,
    weights: tuple[float, ...] | None = None,
    validation: Path | None = None,
    recipe: str | None = None,
    config: Config = TrainConfig(),
) -> int:
    """Train a new model on plain text, or go on with one that was stopped.

    Args:
        data: directories of `minimind data prepare`.
        tokenizer: directory of `minimind tokenizer train`.
        out: run directory; holds the model, its log and the state to go on from.
        preset: size of the model, by name, or a json file with fields of ModelConfig.
        seq_len: tokens in a row.
        weights: share of each directory in the rows, where there are several.
        validation: prepared held-out data.
        recipe: options of a published run (zero, minimind2-small, minimind2, moe) or
            of a json file; those given beside it have their way.
        config: options of the training loop.
    """
    vocabulary = Tokenizer.load(tokenizer)
    model = fresh_model(preset, vocabulary, config.seed)
    info = {"stage": "pretrain", "parent": None, "preset": preset, "recipe": recipe}
    rows = open_rows(data, weights, vocabulary, seq_len, "pretrain", config)
    return run(model, vocabulary, rows, next_token_loss, out, validation, config, info)


def sft(
    data: tuple[Path, ...],
    model: Path,
    out: Path,
    seq_len: int = 256,
    weights: tuple[float, ...] | None = None,
    validation: Path | None = None,
    recipe: str | None = None,
    config: Config = TrainConfig(),
) -> int:
    """Train a model on conversations: it learns to answer, and to stop.

    Args:
        data: directories of `minimind data prepare --kind sft`, and of plain text
            if wanted: it keeps alive what no conversation asks about.
        model: directory of the model to start from.
        out: run directory; holds the model, its log and the state to go on from.
        seq_len: tokens in a row; no conversation may be longer.
        weights: share of each directory in the rows, where there are several.
        validation: prepared held-out data.
        recipe: options of a published run (zero, minimind2-small, minimind2, moe) or
            of a json file; those given beside it have their way.
        config: options of the training loop.
    """
    base, tokenizer = load_model(model)
    info = {"stage": "sft", "parent": str(model), "recipe": recipe}
    rows = open_rows(data, weights, tokenizer, seq_len, "sft", config)
    return run(base, tokenizer, rows, answer_loss, out, validation, config, info)


def fresh_model(preset: str, tokenizer: Tokenizer, seed: int) -> MiniMindForCausalLM:
    """A new model of a size by name, or of a json file, for the tokenizer's ids.

    Raises UserError for an unknown name, and for a shape that could not be saved.
    """
    shape = replace(get_preset(preset), vocab_size=tokenizer.vocab_size)
    model_type(shape)
    torch.manual_seed(seed)
    return MiniMindForCausalLM(shape)


def open_rows(
    data: tuple[Path, ...],
    weights: tuple[float, ...] | None,
    tokenizer: Tokenizer,
    seq_len: int,
    stage: str,
    config: TrainConfig,
) -> PackedRows | MixedRows:
    """Rows of one prepared set, or of several by weight; prints how full they are.

    Conversations may have plain text beside them. Raises UserError for any other
    set of another kind, and for conversations that do not fit.
    """
    if seq_len < 2:
        raise UserError(f"--seq-len {seq_len}: give 2 or more, or nothing is predicted")
    files = [TokenFile(directory, tokenizer) for directory in data]
    kinds = [file.manifest["kind"] for file in files]
    for directory, file, kind in zip(data, files, kinds):
        beside = kind == "pretrain" and stage == "sft" and stage in kinds
        if kind != stage and not beside:
            raise UserError(
                f"{directory}: prepared for {kind}, not for {stage}; "
                f"prepare it with --kind {stage}"
            )
        longest = file.manifest["max_length"]
        if kind == "sft" and longest > seq_len:
            raise UserError(
                f"{directory}: conversations of up to {longest} tokens do not fit "
                f"rows of {seq_len}; prepare it with --max-length {seq_len}"
            )
    sets = [PackedRows(file, seq_len, config.seed, config.packing) for file in files]
    mixed = len(sets) > 1 or weights is not None
    rows = MixedRows(sets, list(weights or ())) if mixed else sets[0]
    say(f"{len(rows):,} rows of {seq_len} tokens, {rows.padding:.1%} padding")
    return rows


def refuse_same_place(out: Path, *models: Path) -> None:
    """Raise UserError where `out` is one of the directories it is made from."""
    for model in models:
        if out.resolve() == model.resolve():
            raise UserError(f"--out {out}: would overwrite {model}; name another place")


def refuse_unheeded(config: TrainConfig, **reasons: str) -> None:
    """Raise UserError for an option that a stage cannot heed; the reason, by option."""
    for option, reason in reasons.items():
        if getattr(config, option):
            flag = option.replace("_", "-")
            raise UserError(f"--{flag}: not for this stage, {reason}; leave it out")


def run(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    rows: Rows,
    loss_fn: LossFn,
    out: Path,
    validation: Path | None,
    config: TrainConfig,
    info: dict[str, Any],
    **stage: Any,
) -> int:
    """Train on rows of a stage; print the result. stage: as in `train`."""
    began = time.perf_counter()
    parent = info["parent"] and Path(info["parent"])
    if parent:
        refuse_same_place(out, parent)
    held_out = None
    if validation is not None:
        data = TokenFile(validation, tokenizer)
        held_out = PackedRows(data, rows.row_length, config.seed)
    # How far a token stood from its document's begin, now or in an earlier stage.
    before = parent and trained_length(parent)
    longest = max(info.get("seq_len", rows.row_length), before or 0)
    about = {"seq_len": longest, "data": rows.fingerprint, "command": sys.argv}
    info = {**info, **about}
    numbers = train(
        model, tokenizer, rows, loss_fn, config, out, held_out, info, **stage
    )
    if config.dry_run:
        return 0
    return report(out, numbers, time.perf_counter() - began)


def report(out: Path, numbers: dict[str, Any], seconds: float) -> int:
    """Print how a run ended, and after how long; returns the exit status."""
    shown = ("step", "loss", "validation_loss", "bits_per_byte")
    line = ", ".join(
        f"{key.replace('_', ' ')} {numbers[key]:.4g}" for key in shown if key in numbers
    )
    if "finished" not in numbers:
        say(f"{out}: stopped ({line}); the same command goes on from here")
        return 130
    say(f"{out}: {line}; {seconds:.1f} s")
    return 0
