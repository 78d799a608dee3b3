"""What tests/test_distributed.py starts under torchrun."""

import math
import os
import random
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import torch
from torch.testing import assert_close

from minimind.text.packing import PackedRows
from minimind.text.tokens import TokenFile
from minimind.train import distributed
from minimind.train.accumulate import accumulate
from minimind.train.loop import train
from minimind.train.objective import Objective
from minimind.train.pretrain import next_token_loss
from tests.test_accumulate import batch_of, split
from tests.training_kit import CONFIG, SHAPE, new_model, tokenizer

# Of the choices of sixteen tokens, some of these experts get none.
MOE = replace(SHAPE, num_experts=32, num_shared_experts=1)
STEP = {1: replace(CONFIG, accumulation=4), 2: CONFIG}  # 8 rows a step


def gradient(model, network, batches, total=None):
    model.zero_grad()
    call = torch.nn.Module.__call__
    numbers = accumulate(network, batches, call, total=total)
    return numbers, {n: p.grad.clone() for n, p in model.named_parameters()}


def assert_same_gradients(shape, sizes, empty):
    """Batches dealt out to the processes, against all of them in one."""
    model = new_model(shape=shape)
    whole = batch_of()
    for row in empty:
        whole["labels"][row] = -100
    batches = split(whole, sizes)
    alone = Objective(model, next_token_loss)
    expected, truth = gradient(model, alone, batches)
    mine = batches[distributed.rank() :: distributed.world_size()]
    targets = sum(int((b["labels"][:, 1:] >= 0).sum()) for b in mine)
    mean = distributed.total(targets) / distributed.world_size()
    numbers, ours = gradient(model, distributed.parallel(alone), mine, mean)
    numbers = distributed.mean_numbers(numbers, targets)
    assert_close(ours, truth, rtol=0, atol=1e-6)
    assert_close(numbers, expected, rtol=1e-5, atol=1e-6)


def check(directory):
    """The parts of minimind.train.distributed, without a run."""
    with distributed.process_group(torch.device("cpu")):
        me = distributed.rank()
        assert distributed.world_size() == 2
        assert distributed.gather(me) == [0, 1]
        assert distributed.total(me + 0.5) == 2.0
        assert distributed.any_of(me == 1) and not distributed.any_of(False)
        for shape in (SHAPE, MOE):
            assert_same_gradients(shape, [4, 4], empty=[])
            assert_same_gradients(shape, [1, 2, 3, 2], empty=[0, 5])
            assert_same_gradients(shape, [2, 1, 1, 4], empty=[2, 4, 5, 6, 7])
    assert distributed.world_size() == 1


# What a loss becomes in the first batch of a step, by the number of the step.
BAD = {
    2: lambda loss: loss * math.nan,
    4: lambda loss: loss + (loss - loss.detach()).sqrt(),  # only its gradient is bad
    6: lambda loss: loss + math.nan,  # only its value is
}


def run(
    directory,
    kill=None,
    term=None,
    bad=None,
    shape=SHAPE,
    at_call=lambda calls: None,
    **changes,
):
    """A run of tests/test_loop.py; process 1 is killed, stopped or errs at a call."""
    rows = PackedRows(TokenFile(directory.parent / "tokens", tokenizer()), 48)
    calls = []

    def loss_fn(model, batch):
        calls.append(1)
        at_call(len(calls))
        loss, numbers = next_token_loss(model, batch)
        if distributed.rank() == 1 and len(calls) in (kill, term):
            os.kill(os.getpid(), signal.SIGKILL if kill else signal.SIGTERM)
        if distributed.rank() == 1 and bad and len(calls) % 2:
            loss = BAD.get(len(calls) // 2 + 1, lambda loss: loss)(loss)
        return loss, numbers

    config = replace(STEP[int(os.environ["WORLD_SIZE"])], **changes)
    model = new_model(shape=shape)
    train(model, tokenizer(), rows, loss_fn, config, directory, rows)


LONG = {"steps": 60, "save_every": 1}


def run_and_die(directory, call, rank):
    """The long run; one process dies soon after a call of the loss."""
    timer = threading.Timer(
        random.Random(call).uniform(0, 0.01), os.kill, (os.getpid(), signal.SIGKILL)
    )

    def start(calls):
        if distributed.rank() == rank and calls == call:
            timer.start()

    run(directory, at_call=start, **LONG)


def run_all_with_bad_steps(directory):
    """The same run without and with DeepSpeed, in one pair of processes."""
    with distributed.process_group(torch.device("cpu")):
        for kind in (None, "zero1", "zero2", "zero3"):
            run(directory / f"bad-{kind}", bad=True, deepspeed=kind)


if __name__ == "__main__":
    what, directory, *call = sys.argv[1:]
    directory, rank = Path(directory), int(call[1]) if call[1:] else None
    call = int(call[0]) if call else None
    if what == "check":
        check(directory)
    elif what == "long":
        run(directory, **LONG)
    elif what == "die":
        run_and_die(directory, call, rank)
    elif what == "bad":
        run_all_with_bad_steps(directory)
    elif what == "moe-zero3":
        run(directory, shape=MOE, deepspeed="zero3")
    elif what.startswith("zero"):
        run(directory, term=call, deepspeed=what)
    else:
        run(directory, **({what: call} if call else {}))
    print(f"process {distributed.rank()} is done")
