"""The training loop of every stage: rows in, checkpoints and a log out.

Explained in chapter 08. A stage gives the rows, the loss and the model; the
loop decides when to log, to look at held-out text and to save.
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
    """Collect SIGINT and SIGTERM in a list, to be looked at between two steps."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # Python gives signals to the main thread only
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(n, lambda got, frame: caught.append(got)) for n in wanted]
    try:
        yield caught
    finally:
        for number, handler in zip(wanted, before, strict=True):
            signal.signal(number, handler)


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
    config, model = run.config, run.model.train()
    log = Log(directory, run.step)
    bar = tqdm(total=config.steps, initial=run.step, unit="step", desc=directory.name)
    with bar, stop_signals() as stopped:
        while run.step < config.steps and not stopped:
            run.take_step()
            bar.update()
            bar.set_postfix_str(f"loss {run.numbers['loss']:.3f}", refresh=False)
            if run.step % config.save_every == 0 or run.step == config.steps or stopped:
                run.save()  # before the evaluation, which may fail
            if validation is not None and run.step % config.eval_every == 0:
                run.numbers |= validate(model, tokenizer, validation, config.batch_size)
            if run.step % config.log_every == 0:
                log.write(**run.numbers)
    if stopped:
        return run.numbers
    if validation is not None:
        run.numbers |= validate(model, tokenizer, validation, config.batch_size)
    run.numbers["finished"] = True
    log.write(**run.numbers)
    run.save()
    return run.numbers


def check_row_length(model: MiniMindForCausalLM, rows: PackedRows) -> None:
    """Raise UserError where rows are longer than the model can read."""
    limit = model.config.max_position_embeddings
    if rows.row_length > limit:
        raise UserError(
            f"rows of {rows.row_length} tokens, but the model's limit is {limit}; "
            "give a smaller --seq-len"
        )
