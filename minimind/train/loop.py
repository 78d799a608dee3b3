"""The training loop of every stage: rows in, checkpoints and a log out.

Explained in chapter 08. A stage gives the rows, the loss and the model; the
loop decides when to log, to look at held-out text and to save.

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minimind.errors import UserError
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows
from minimind.text.tokenizer import Tokenizer
from minimind.train.accumulate import LossFn
from minimind.train.config import TrainConfig
from minimind.train.log import Log
from minimind.train.run import Run
from minimind.train.validate import validate


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list, to be looked at between steps."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # Python gives signals to the main thread only
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = [
        signal.signal(number, lambda got, frame: caught.append(got))
        for number in wanted
    ]
    try:
        yield caught
    finally:
        for number, handler in zip(wanted, before, strict=True):
            signal.signal(number, handler)


def check_row_length(model: MiniMindForCausalLM, rows: PackedRows) -> None:
    """Raise UserError where rows are longer than the model can read."""
    limit = model.config.max_position_embeddings
    if rows.row_length > limit:
        raise UserError(
            f"rows of {rows.row_length} tokens, but the model's limit is "
            f"{limit}; give a smaller --seq-len"
        )


def advance(bar: tqdm, run: Run, first: int) -> None:
    """Show a step on the bar, whose clock starts after the first one."""
    if run.step == first:
        bar.unpause()
        bar.initial = bar.n = bar.last_print_n = first
    else:
        bar.update()
    bar.set_postfix_str(f"loss {run.numbers['loss']:.3f}", refresh=False)


def take_steps(
    run: Run, log: Log, validation: PackedRows | None, stopped: list[int]
) -> None:
    """Take steps until all are done, or until a signal is in `stopped`."""
    config, first = run.config, run.step + 1
    bar = tqdm(
        total=config.steps,
        initial=run.step,
        unit="step",
        desc=run.directory.name,
    )
    with bar:
        while run.step < config.steps and not stopped:
            run.take_step()
            advance(bar, run, first)
            if run.step == config.steps:
                return
            if run.step % config.save_every == 0:
                run.save()
            if run.step % config.eval_every == 0:
                run.numbers |= held_out_numbers(run, validation)
            if run.step % config.log_every == 0:
                log.write(**run.numbers)


def held_out_numbers(run: Run, validation: PackedRows | None) -> dict[str, float]:
    """How the model does on held-out rows, where there are any."""
    if validation is None:
        return {}
    size = run.config.batch_size
    return validate(run.model, run.tokenizer, validation, size)


def finish(run: Run, log: Log, validation: PackedRows | None) -> None:
    """Save, look at the held-out rows once more, and mark the run finished."""
    run.save()  # before the evaluation, which may fail
    run.numbers |= held_out_numbers(run, validation)
    run.numbers["finished"] = True
    log.write(**run.numbers)
    run.save()


def train(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    rows: PackedRows,
    loss_fn: LossFn,
    config: TrainConfig,
    directory: Path,
    validation: PackedRows | None = None,
    info: dict[str, Any] | None = None,
) -> dict[str, float]:
    """Train the model on rows; everything is kept in a run directory.

    The directory is a model directory (checkpoint.py) with the state to go on
    from in state/ and the numbers in log.jsonl. Called again, it goes on where
    it was; a finished run returns at once. Returns the last numbers, with
    "finished" among them unless a signal ended the run early.
    """
    check_row_length(model, rows)
    run = Run(model, tokenizer, rows, loss_fn, config, directory, info)
    run.resume()
    if "finished" in run.numbers:
        return run.numbers
    model.train()
    log = Log(directory, run.step)
    with stop_signals() as stopped:
        take_steps(run, log, validation, stopped)
        if stopped:
            run.save()
        else:
            finish(run, log, validation)
    return run.numbers
