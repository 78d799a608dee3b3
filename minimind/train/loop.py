"""The training loop of every stage: rows in, checkpoints and a log out.

Explained in chapter 08. A stage gives the rows, the loss and the model; the
loop decides when to log, to look at held-out text and to save.

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minimind.errors import UserError
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows
from minimind.text.tokenizer import Tokenizer
from minimind.train.adapters import open_adapters
from minimind.train.config import TrainConfig
from minimind.train.distributed import any_of, is_main, process_group
from minimind.train.estimate import measure
from minimind.train.log import Log, Watcher
from minimind.train.memory import explain_out_of_memory
from minimind.train.objective import LossFn
from minimind.train.precision import compile_model, pick_device
from minimind.train.run import Run
from minimind.train.validate import validate
from minimind.train.zero import ZeroRun


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


def save_is_due(run: Run) -> bool:
    """Whether it is time to save, by steps or by minutes."""
    minutes = run.config.save_minutes or math.inf
    late = time.monotonic() - run.saved_at > 60 * minutes
    return late or run.step % run.config.save_every == 0


def take_steps(
    run: Run, log: Log, validation: PackedRows | None, stopped: list[int]
) -> bool:
    """Take steps; returns whether all are done, and no signal came.

    A signal to one of several processes stops all after the same step.
    """
    config, first, stop = run.config, run.step + 1, False
    bar = tqdm(
        total=config.steps,
        initial=run.step,
        unit="step",
        desc=run.directory.name,
        disable=not is_main(),
    )
    with bar:
        # What was to be done at the step it goes on from may be undone yet.
        report(run, log, validation)
        while run.step < config.steps and not stop:
            run.take_step()
            advance(bar, run, first)
            stop, last = any_of(bool(stopped)), run.step == config.steps
            if stop or not last and any_of(save_is_due(run)):
                run.save()
            if not stop:
                report(run, log, validation)
    return not stop


def look_at_held_out(run: Run, validation: PackedRows | None) -> None:
    """Score held-out rows, where there are any, and keep the best model."""
    if validation is None:
        return
    size = run.config.batch_size
    found = validate(run.model, run.tokenizer, validation, size)
    run.numbers |= found
    if found["validation_loss"] < run.best:
        run.best = found["validation_loss"]
        run.save_model(run.directory / "best")


def report(run: Run, log: Log, validation: PackedRows | None) -> None:
    """Look at held-out rows and log, where the step is due for it."""
    config = run.config
    if run.step in (0, config.steps):
        return  # nothing yet; `finish`
    to_score = validation and run.step % config.eval_every == 0
    if to_score:
        look_at_held_out(run, validation)
    if to_score or run.step % config.log_every == 0:
        log.write(**run.numbers)


def finish(run: Run, log: Log, validation: PackedRows | None) -> None:
    """Save, look at the held-out rows once more, and mark the run finished."""
    run.save()  # before the evaluation, which may fail
    look_at_held_out(run, validation)
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
    watchers: Sequence[Watcher] = (),
    **stage: Any,
) -> dict[str, Any]:
    """Train the model on rows; a run directory keeps model, state and log.

    Called again, it goes on where it was; a finished run returns at once.
    watchers get every line of the log; stage: `count` and `save` of `Run`.
    Returns the last numbers, "finished" among them unless a signal came.
    """
    check_row_length(model, rows)
    with process_group(pick_device(config.device)), explain_out_of_memory():
        kind = ZeroRun if config.deepspeed else Run
        run = kind(model, tokenizer, rows, loss_fn, config, directory, info, **stage)
        if not config.dry_run:
            run.resume()
        if "finished" in run.numbers:
            return run.numbers
        model.train()
        if config.compile:
            compile_model(model, run.probe)
        if config.dry_run:
            return measure(run, config.dry_run, config.price)
        places = open_adapters(config.log_to, directory, run.step)
        log = Log(directory, run.step, [*places, *watchers])
        with stop_signals() as stopped, closing(log):
            if take_steps(run, log, validation, stopped):
                finish(run, log, validation)
        return run.numbers
