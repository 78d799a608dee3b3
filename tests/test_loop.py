"""The training loop: exact resuming, settings that must not change, bad gradients."""

import json
import math
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import tqdm

from minimind.errors import UserError
from minimind.text.packing import PackedRows
from minimind.train import loop
from minimind.train.checkpoint import load_model, load_state
from minimind.train.guard import MAX_BAD_STEPS, Guard
from minimind.train.log import read_log
from minimind.train.loop import train
from minimind.train.precision import pick_dtype
from minimind.train.pretrain import next_token_loss
from tests.training_kit import (
    CONFIG,
    SHAPE,
    TEXTS,
    new_model,
    new_run,
    plain_loss,
    same_weights,
    token_file,
    tokenizer,
)

ROOT = Path(__file__).resolve().parents[1]
TIMES = {"tokens_per_second", "data_wait", "memory_gb"}
MIXED = replace(CONFIG, accumulation=1, batch_size=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return token_file(tmp_path_factory.mktemp("data"))


@pytest.fixture
def rows(data):
    return PackedRows(data, 48)


def start(rows, directory, loss_fn=plain_loss, config=CONFIG, seed=0, **more):
    model = new_model(seed)
    numbers = train(model, tokenizer(), rows, loss_fn, config, directory, **more)
    return model, numbers


def at_call(number, action):
    """The usual loss, but something happens at its number-th call."""
    calls = []

    def loss_fn(model, batch):
        calls.append(1)
        if len(calls) == number:
            action()
        return plain_loss(model, batch)

    return loss_fn


def stop_at(number, which=signal.SIGTERM):
    return at_call(number, lambda: signal.raise_signal(which))


def numbers_of(directory):
    """The log without what depends on the clock."""
    return [
        {key: value for key, value in line.items() if key not in TIMES}
        for line in read_log(directory)
    ]


@pytest.fixture
def straight(rows, tmp_path):
    """A run that nothing stopped."""
    model, numbers = start(rows, tmp_path / "straight")
    return model, numbers, numbers_of(tmp_path / "straight")


def assert_as_straight(straight, model, numbers, directory):
    whole, last, log = straight
    assert same_weights(whole, model)
    assert same_weights(whole, load_model(directory)[0])
    assert numbers_of(directory) == log
    assert {k: v for k, v in numbers.items() if k not in TIMES} == {
        k: v for k, v in last.items() if k not in TIMES
    }


# Learning.


def test_the_first_loss_is_ln_v_and_it_falls(rows, tmp_path):
    config = replace(CONFIG, steps=60)
    _, numbers = start(rows, tmp_path, next_token_loss, config)
    losses = [line["loss"] for line in read_log(tmp_path)]
    assert losses[0] == pytest.approx(math.log(SHAPE.vocab_size), abs=0.1)
    assert numbers["loss"] < 3.0 < losses[0]


def test_next_token_loss_is_the_mean_over_the_targets(rows):
    batch = {k: torch.from_numpy(v)[None] for k, v in rows[0].items()}
    model = new_model()
    loss, others = next_token_loss(model, batch)
    assert others == {}
    assert loss.item() == pytest.approx(plain_loss(model, batch)[0].item(), abs=1e-6)


def test_it_learns_one_batch_by_heart(data, tmp_path):
    rows = PackedRows(data, 32)
    rows.bounds = rows.bounds[:5]
    config = replace(CONFIG, steps=200, log_every=50, save_every=1000)
    _, numbers = start(rows, tmp_path, next_token_loss, config)
    assert numbers["loss"] < 0.25


def test_accumulation_changes_no_weight(rows, tmp_path):
    """4 batches of 2 rows are 1 batch of 8: data, rate, log, steps and weights."""
    runs = []
    for size, times in ((8, 1), (2, 4), (1, 8)):
        config = replace(CONFIG, batch_size=size, accumulation=times, steps=5)
        model, _ = start(rows, tmp_path / str(size), config=config)
        log = numbers_of(tmp_path / str(size))
        runs.append((model, [[n[k] for k in WATCHED] for n in log]))
    (one, numbers), *others = runs
    assert [n[0] for n in numbers] == [1, 2, 3, 4, 5]
    for model, others_numbers in others:
        assert torch.allclose(
            torch.tensor(others_numbers), torch.tensor(numbers), rtol=1e-4, atol=1e-6
        )
        for key, value in one.state_dict().items():
            assert torch.allclose(model.state_dict()[key], value, atol=1e-5)


WATCHED = ("step", "loss", "learning_rate", "grad_norm")


def test_the_rate_counts_optimizer_steps(rows, tmp_path):
    start(rows, tmp_path, config=replace(CONFIG, schedule="constant"))
    rates = [line["learning_rate"] for line in read_log(tmp_path)]
    assert rates == [0.005] + [0.01] * 6


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits(rows, tmp_path, dtype):
    """Weights stay in fp32, and the losses are those of fp32, nearly."""
    config = replace(CONFIG, steps=20)
    start(rows, tmp_path / "full", config=config)
    model, _ = start(rows, tmp_path / "half", config=replace(config, dtype=dtype))
    assert all(p.dtype == torch.float32 for p in model.parameters())
    full, half = read_log(tmp_path / "full"), read_log(tmp_path / "half")
    assert full[0]["loss"] != half[0]["loss"]
    assert half[0]["loss"] == pytest.approx(full[0]["loss"], rel=0.005)
    assert half[-1]["loss"] == pytest.approx(full[-1]["loss"], rel=0.1)
    # The scaler begins too high and finds its factor by a step or two that overflow.
    skipped, scaler = half[-1]["skipped"], load_state(tmp_path / "half")["scaler"]
    assert (0 < skipped < 4) == (dtype == "float16")
    assert scaler.get("scale") == (2.0 ** (16 - skipped) if skipped else None)


def test_the_scaler_is_resumed(rows, tmp_path):
    config = replace(CONFIG, dtype="float16")
    whole, _ = start(rows, tmp_path / "a", config=config)
    start(rows, tmp_path / "b", stop_at(6), config=config)
    model, _ = start(rows, tmp_path / "b", config=config, seed=1)
    assert same_weights(whole, model)
    assert numbers_of(tmp_path / "a") == numbers_of(tmp_path / "b")


def test_held_out_numbers(rows, tmp_path):
    config = replace(CONFIG, eval_every=3)
    start(rows, tmp_path, config=config, validation=rows)
    log = read_log(tmp_path)
    with_numbers = [n["step"] for n in log if "bits_per_byte" in n]
    assert with_numbers == [3, 6, 7]
    assert [n["step"] for n in log] == [1, 2, 3, 4, 5, 6, 7]
    assert log[-1]["finished"] is True
    about = json.loads((tmp_path / "minimind.json").read_text("utf-8"))
    assert about["numbers"] == log[-1] and about["step"] == 7


# Going on.


def test_the_run_of_these_tests_crosses_an_epoch(rows):
    per_step = CONFIG.batch_size * CONFIG.accumulation
    assert 3 * per_step < len(rows) < 6 * per_step  # stops lie on both sides
    assert len(rows) % per_step  # and one step in two epochs


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("call", [1, 4, 7, 10, 13])
def test_stopped_and_resumed_is_straight(straight, rows, tmp_path, call, which):
    """A signal in the middle of a step, in one of its two batches."""
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    directory = tmp_path / "stopped"
    _, numbers = start(rows, directory, stop_at(call, which))
    step = (call + 1) // 2  # the step is finished first
    assert "finished" not in numbers and numbers["step"] == step
    assert load_state(directory)["step"] == step
    now = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert now == handlers
    again = start(rows, directory, seed=5)
    assert_as_straight(straight, *again, directory)


def test_stopped_after_every_step(straight, rows, tmp_path):
    directory = tmp_path / "stopped"
    for step in range(1, 8):
        _, numbers = start(rows, directory, stop_at(1), seed=step - 1)
        assert numbers["step"] == step and "finished" not in numbers
    again = start(rows, directory)
    assert_as_straight(straight, *again, directory)


def test_accumulation_of_one_resumes_too(rows, tmp_path):
    whole, _ = start(rows, tmp_path / "a", config=MIXED)
    start(rows, tmp_path / "b", stop_at(4), config=MIXED)
    model, _ = start(rows, tmp_path / "b", config=MIXED, seed=1)
    assert same_weights(whole, model)
    assert numbers_of(tmp_path / "a") == numbers_of(tmp_path / "b")


@pytest.mark.parametrize("call", [1, 6, 7, 11, 14])
def test_a_crash_goes_back_to_the_last_checkpoint(straight, rows, tmp_path, call):
    def crash():
        raise MemoryError

    directory = tmp_path / "crashed"
    with pytest.raises(MemoryError):
        start(rows, directory, at_call(call, crash))
    state = load_state(directory)
    assert (state["step"] if state else 0) == (call - 1) // 2 // 3 * 3
    again = start(rows, directory, seed=3 if state else 0)
    assert_as_straight(straight, *again, directory)


KILLED = """
import os, signal, sys
from pathlib import Path
from minimind.text.packing import PackedRows
from minimind.text.tokens import TokenFile
from tests.test_loop import at_call, start
from tests.training_kit import tokenizer

data, directory = map(Path, sys.argv[1:])
rows = PackedRows(TokenFile(data, tokenizer()), 48)
start(rows, directory, at_call(10, lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_real_kill(straight, rows, tmp_path):
    token_file(tmp_path)
    command = [sys.executable, "-c", KILLED, tmp_path / "tokens", tmp_path / "run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert read_log(tmp_path / "run")[-1]["step"] == 4
    again = start(rows, tmp_path / "run", seed=3)
    assert_as_straight(straight, *again, tmp_path / "run")


def test_a_damaged_newest_state(straight, rows, tmp_path, capsys):
    directory = tmp_path / "run"
    start(rows, directory, stop_at(9))  # states of steps 3 and 5
    newest = directory / "state" / "step-0000005.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    again = start(rows, directory)
    assert "incomplete or damaged" in capsys.readouterr().out
    assert_as_straight(straight, *again, directory)


def test_a_finished_run_returns_at_once(straight, rows, tmp_path):
    whole, last, _ = straight

    def never(model, batch):
        raise AssertionError("a step was taken")

    model, numbers = start(rows, tmp_path / "straight", never, seed=4)
    assert numbers == last and same_weights(whole, model)


def test_a_signal_in_the_evaluation_stops_one_step_later(rows, tmp_path, monkeypatch):
    def interrupted(*given):
        signal.raise_signal(signal.SIGTERM)
        return {"validation_loss": 1.0}

    monkeypatch.setattr(loop, "validate", interrupted)
    config = replace(CONFIG, eval_every=2)
    _, numbers = start(rows, tmp_path, config=config, validation=rows)
    assert numbers["step"] == 3 and load_state(tmp_path)["step"] == 3
    assert read_log(tmp_path)[1]["validation_loss"] == 1.0


def test_an_evaluation_that_fails_loses_no_step(straight, rows, tmp_path, monkeypatch):
    def fails(*given):
        raise MemoryError

    directory = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(loop, "validate", fails)
        start(rows, directory, validation=rows)
    assert load_state(directory)["step"] == CONFIG.steps
    assert same_weights(load_model(directory)[0], straight[0])
    _, numbers = start(rows, directory, validation=rows)
    assert numbers["finished"] and "bits_per_byte" in numbers


def test_a_log_line_cut_by_a_crash(straight, rows, tmp_path):
    directory = tmp_path / "run"
    start(rows, directory, stop_at(6))
    with (directory / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "lo')
    again = start(rows, directory)
    assert_as_straight(straight, *again, directory)


def test_training_in_a_thread(rows, tmp_path):
    """Where signals cannot be caught, as in a notebook server's worker."""
    done = []
    thread = threading.Thread(target=lambda: done.append(start(rows, tmp_path)))
    thread.start()
    thread.join()
    assert done[0][1]["finished"]


# What may not change.


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.02},
        {"steps": 9},
        {"schedule": "wsd"},
        {"seed": 1},
        {"dtype": "bfloat16"},
        {"optimizer": "muon"},
    ],
)
def test_other_settings_are_refused(rows, tmp_path, change):
    start(rows, tmp_path, stop_at(3))
    with pytest.raises(UserError) as caught:
        start(rows, tmp_path, config=replace(CONFIG, **change))
    ((name, value),) = change.items()
    text = str(caught.value)
    assert str(tmp_path) in text and "\n" not in text
    assert f"({name} {getattr(CONFIG, name)} -> {value})" in text
    assert load_state(tmp_path)["step"] == 2  # nothing was touched


@pytest.mark.parametrize(("size", "times"), [(4, 2), (2, 1)])
def test_other_rows_a_step_are_refused(rows, tmp_path, size, times):
    start(rows, tmp_path, stop_at(3))
    other = replace(CONFIG, batch_size=size, accumulation=times)
    expected = rf"\(batch_size x accumulation x processes 4 -> {size * times}\)"
    with pytest.raises(UserError, match=expected):
        start(rows, tmp_path, config=other)


def test_the_same_rows_in_other_batches_go_on(straight, rows, tmp_path):
    start(rows, tmp_path / "run", stop_at(3))
    other = replace(CONFIG, batch_size=4, accumulation=1)
    model, numbers = start(rows, tmp_path / "run", config=other)
    assert numbers["finished"] and numbers["loss"] == pytest.approx(
        straight[1]["loss"], abs=1e-5
    )
    for key, value in straight[0].state_dict().items():
        assert torch.allclose(model.state_dict()[key], value, atol=1e-5)


def test_other_rows_or_another_model_are_refused(rows, data, tmp_path):
    start(rows, tmp_path / "run", stop_at(3))
    with pytest.raises(UserError, match=r"\(seq_len 48 -> 32\)"):
        start(PackedRows(data, 32), tmp_path / "run")
    other = PackedRows(token_file(tmp_path / "other", TEXTS[1:]), 48)
    with pytest.raises(UserError, match=r"\(data \w+ -> \w+\)"):
        start(other, tmp_path / "run")
    deeper = new_model(shape=replace(SHAPE, num_hidden_layers=2))
    with pytest.raises(UserError, match=r"\(num_hidden_layers 1 -> 2\)"):
        train(deeper, tokenizer(), rows, plain_loss, CONFIG, tmp_path / "run")


def test_another_parent_is_refused(rows, tmp_path):
    """Fine-tuning goes on from the model it began with."""
    info = {"stage": "sft", "parent": "out/base"}
    whole, _ = start(rows, tmp_path / "a", info=info)
    start(rows, tmp_path / "b", stop_at(3), info=info)
    with pytest.raises(UserError, match=r"\(parent \w+ -> \w+\)"):
        start(rows, tmp_path / "b", seed=1, info=info)
    model, _ = start(rows, tmp_path / "b", info=info)
    assert same_weights(model, whole)


def test_what_changes_no_weight_may_change(straight, rows, tmp_path):
    directory = tmp_path / "run"
    start(rows, directory, stop_at(3))
    free = replace(CONFIG, log_every=2, save_every=1, eval_every=5, device="auto")
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        free = replace(free, device="cpu")
    model, numbers = start(rows, directory, config=free)
    assert numbers["finished"] and same_weights(model, straight[0])


def test_rows_longer_than_the_model_can_read(data, tmp_path):
    with pytest.raises(UserError, match="rows of 65 tokens.* limit is 64.*--seq-len"):
        start(PackedRows(data, 65), tmp_path)


# Gradients that are no numbers.


def broken(model, batch):
    return plain_loss(model, batch)[0] * math.nan, {}


def broken_behind(model, batch):
    """A finite loss whose gradient is not."""
    return plain_loss(model, batch)[0] + (model.lm_head.weight.sum() * 0).sqrt(), {}


@pytest.mark.parametrize("loss_fn", [broken, broken_behind])
def test_a_bad_gradient_changes_nothing(rows, tmp_path, loss_fn):
    run = new_run(rows, tmp_path)
    run.take_step()
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    moments = [s["exp_avg"].clone() for s in run.optimizers[0].state.values()]
    run.loss_fn = loss_fn
    run.take_step()
    assert (run.step, run.numbers["skipped"]) == (2, 1)
    assert not math.isfinite(run.numbers["grad_norm"])
    for key, value in run.model.state_dict().items():
        assert torch.equal(value, before[key])
    after = [s["exp_avg"] for s in run.optimizers[0].state.values()]
    assert all(map(torch.equal, moments, after))
    run.loss_fn = plain_loss
    run.take_step()
    assert run.numbers["skipped"] == 1 and math.isfinite(run.numbers["grad_norm"])
    key = "model.norm.weight"
    assert not torch.equal(run.model.state_dict()[key], before[key])


def test_bad_gradients_in_a_row_end_the_run(rows, tmp_path):
    config = replace(CONFIG, steps=30)
    good, loss_fn = [], plain_loss

    def breaks_later(model, batch):
        good.append(1)
        return (loss_fn if len(good) <= 8 else broken)(model, batch)

    with pytest.raises(UserError) as caught:
        start(rows, tmp_path, breaks_later, config)
    text = str(caught.value)
    assert "--learning-rate" in text and "bad_rows.json" in text and "\n" not in text
    first, count = 4 * 4, MAX_BAD_STEPS * 4  # of 4 rows each
    found = json.loads((tmp_path / "bad_rows.json").read_text("utf-8"))
    assert found == {"rows": list(range(first, first + count))}
    weights = load_model(tmp_path)[0].state_dict().values()
    assert all(w.isfinite().all() for w in weights)


def test_bad_gradients_apart_do_not_end_the_run(rows, tmp_path):
    run = new_run(rows, tmp_path, replace(CONFIG, steps=40))
    for step in range(20):
        good = step % MAX_BAD_STEPS == 0
        run.loss_fn = plain_loss if good else broken
        run.take_step()
    assert run.numbers["skipped"] == 20 - 20 // MAX_BAD_STEPS
    assert run.numbers["step"] == 20


def test_the_gradient_is_clipped(rows, tmp_path):
    run = new_run(rows, tmp_path, replace(CONFIG, grad_clip=1e-3))
    run.optimizers = [torch.optim.SGD(run.model.parameters(), lr=1.0)]
    run.config = replace(run.config, schedule="constant", learning_rate=1.0, warmup=0)
    before = torch.nn.utils.parameters_to_vector(run.model.parameters()).detach()
    run.take_step()
    after = torch.nn.utils.parameters_to_vector(run.model.parameters()).detach()
    assert run.numbers["grad_norm"] > 0.1  # as it was
    assert (after - before).norm().item() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize(
    ("device", "native", "dtype"),
    [
        ("cuda", True, torch.bfloat16),
        ("cuda", False, torch.float16),
        ("cpu", True, torch.float32),
        ("mps", True, torch.float32),
    ],
)
def test_the_number_format_by_hardware(monkeypatch, device, native, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)
    assert pick_dtype(torch.device(device)) == dtype


def test_the_guard_counts_and_forgets(tmp_path):
    guard = Guard(tmp_path)
    for step in range(MAX_BAD_STEPS - 1):
        guard.note(False, range(2 * step, 2 * step + 2), 0.1)
    assert guard.skipped == MAX_BAD_STEPS - 1 and guard.rows[-1] == 7
    guard.note(True, range(8, 10), 0.1)
    assert guard.rows == [] and guard.skipped == MAX_BAD_STEPS - 1
    for step in range(MAX_BAD_STEPS - 1):
        guard.note(False, range(2 * step, 2 * step + 2), 0.1)
    with pytest.raises(UserError, match=r"5 steps in a row .*--learning-rate from 0.1"):
        guard.note(False, range(8, 10), 0.1)
    written = json.loads((tmp_path / "bad_rows.json").read_text("utf-8"))
    assert written == {"rows": list(range(10))}


def test_one_of_several_processes_writes_the_bad_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    guard = Guard(tmp_path)
    with pytest.raises(UserError, match="bad_rows.json"):
        for _ in range(MAX_BAD_STEPS):
            guard.note(False, range(2), 0.1)
    assert not list(tmp_path.iterdir())


def test_the_count_of_bad_gradients_is_resumed(rows, tmp_path):
    run = new_run(rows, tmp_path)
    run.loss_fn = broken
    run.take_step()
    run.save()
    again = new_run(rows, tmp_path)
    again.resume()
    again.take_step()
    assert again.numbers["skipped"] == 1


# The bar.


def test_the_first_step_is_no_part_of_the_estimate(rows, tmp_path, monkeypatch):
    """It takes 100 s here, and each of the others 1 s."""
    now, bars = [0.0], []

    def slow_first(model, batch):
        now[0] += 100.0 if now[0] == 0.0 else 1.0
        return plain_loss(model, batch)

    class Bar(tqdm.tqdm):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            bars.append(self)

        def close(self):
            self.seen = dict(self.format_dict)
            super().close()

    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(loop, "tqdm", Bar)
    start(rows, tmp_path, slow_first, config=MIXED)
    (bar,) = bars
    seen = bar.seen
    assert (seen["n"], seen["total"]) == (MIXED.steps, MIXED.steps)
    assert seen["elapsed"] == MIXED.steps - 1
    assert (seen["n"] - seen["initial"]) / seen["elapsed"] == pytest.approx(1.0)
    assert seen["rate"] is None or seen["rate"] == pytest.approx(1.0, rel=0.01)


# What is kept.


def test_the_last_checkpoints_and_the_best_are_kept(rows, tmp_path, monkeypatch):
    """The losses on held-out rows are made up; step 2 does best."""
    scores = iter([3.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0])
    seen = []

    def score(model, *given):
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return {"validation_loss": next(scores), "bits_per_byte": 1.0}

    monkeypatch.setattr(loop, "validate", score)
    config = replace(CONFIG, save_every=1, eval_every=1, keep=3)
    start(rows, tmp_path, config=config, validation=rows)
    names = sorted(path.stem for path in (tmp_path / "state").glob("*.pt"))
    assert names == [f"step-000000{n}" for n in (5, 6, 7)]
    best = load_model(tmp_path / "best")[0].state_dict()
    assert all(torch.equal(best[key], value) for key, value in seen[1].items())
    about = json.loads((tmp_path / "best" / "minimind.json").read_text("utf-8"))
    assert about["step"] == 2 and load_state(tmp_path)["best"] == 1.0


def test_saving_by_minutes(rows, tmp_path, monkeypatch):
    """A clock that advances a minute a step, and a checkpoint every two."""
    run = new_run(rows, tmp_path, replace(CONFIG, save_every=100, save_minutes=1.5))
    now = [run.saved_at]
    monkeypatch.setattr("minimind.train.run.time.monotonic", lambda: now[0])
    saved = []
    for _ in range(6):
        run.take_step()
        now[0] += 60
        if loop.save_is_due(run):
            run.save()
            saved.append(run.step)
    assert saved == [2, 4, 6]


def test_all_random_generators_go_on(rows, tmp_path):
    """A loss that draws from each of them, stopped and resumed."""
    drawn = []

    def noisy(model, batch):
        drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))
        loss, numbers = plain_loss(model, batch)
        return loss * (1 + sum(drawn[-1])), numbers

    whole, _ = start(rows, tmp_path / "a", noisy)
    straight, drawn = drawn, []
    calls = []

    def noisy_until(model, batch):
        calls.append(1)
        if len(calls) == 6:
            signal.raise_signal(signal.SIGTERM)
        return noisy(model, batch)

    start(rows, tmp_path / "b", noisy_until)
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    model, _ = start(rows, tmp_path / "b", noisy, seed=1)
    assert drawn == straight and same_weights(model, whole)
    state = load_state(tmp_path / "b")
    assert {"python", "numpy", "torch", "cuda"} == state["rng"][0].keys()


# A compiler, and whatever wraps the model.

KEYS = set(new_model().state_dict())


@pytest.mark.parametrize("wrapped", ["not", "compiled", "spared", "both"])
def test_keys_never_show_a_wrapping(rows, tmp_path, wrapped, monkeypatch):
    """Under DDP they are those of tests/test_distributed.py, which compares them."""
    monkeypatch.setattr(torch.compiler, "set_stance", lambda stance: None)
    config = replace(
        CONFIG,
        steps=2,
        compile=wrapped in ("compiled", "both"),
        gradient_checkpointing=wrapped in ("spared", "both"),
        loss_chunk=8 if wrapped == "both" else None,
    )
    eager = partial(torch.nn.Module.compile, backend="eager")
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: eager(self))
    model, _ = start(rows, tmp_path, next_token_loss, config)
    assert set(model.state_dict()) == KEYS
    assert set(load_state(tmp_path)["model"]) == KEYS - {"lm_head.weight"}
    stored = load_model(tmp_path)[0]
    assert same_weights(stored, model)


def test_without_a_compiler_training_goes_on(straight, rows, tmp_path, capsys):
    """The run says so once, and is the same run."""

    def no_compiler(graph, inputs):
        raise RuntimeError("no C++ compiler\nand more")

    plain = torch.nn.Module.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.nn.Module, "compile", lambda self: plain(self, backend=no_compiler)
        )
        try:
            model, numbers = start(
                rows, tmp_path / "c", config=replace(CONFIG, compile=True)
            )
        finally:
            torch.compiler.set_stance("default")
    assert numbers["finished"] and same_weights(model, straight[0])
    printed = capsys.readouterr().out
    assert printed.count("--compile: not possible here (") == 1
