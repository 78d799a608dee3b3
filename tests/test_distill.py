"""Distillation: soft labels against hand sums and libraries, and the stage's run."""

import copy
import importlib
import json
import math
import os
import subprocess
import sys
import warnings
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from minimind.cli import main
from minimind.errors import UserError
from minimind.model.config import PRESETS
from minimind.text.chat import IGNORE
from minimind.text.packing import PackedRows
from minimind.train.accumulate import accumulate
from minimind.train.checkpoint import load_model, load_state, save_model
from minimind.train.distill import (
    DistillConfig,
    check_teacher,
    distillation_loss,
    soft_loss,
)
from minimind.train.log import read_log
from minimind.train.loop import train
from minimind.train.sft import answer_loss
from tests.test_accumulate import batch_of, split
from tests.training_kit import (
    CONFIG,
    SHAPE,
    new_model,
    random_model,
    same_weights,
    stop_after,
    token_file,
    tokenizer,
)

ROOT = Path(__file__).resolve().parents[1]
SMALL = replace(SHAPE, hidden_size=16, intermediate_size=24)
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "num_shared_experts": 1}
MOE, SMALL_MOE = replace(SHAPE, **EXPERTS), replace(SMALL, **EXPERTS)
HALF = DistillConfig(alpha=0.5, temperature=2.0)


def gradient(loss, *models):
    """Gradients of the models' weights."""
    for model in models:
        model.zero_grad()
    loss.backward()
    return [p.grad.clone() for model in models for p in model.parameters()]


def logits_of(model, batch):
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    return model(**inputs).logits


# --- the loss -----------------------------------------------------------------------


def test_by_hand():
    """Halves against (3/4, 1/4): ln(4/3) / 2."""
    teacher, student = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    loss = soft_loss(student, teacher, 1.0)
    assert loss.item() == pytest.approx(math.log(4 / 3) / 2, abs=1e-7)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_a_sum_over_positions_and_ids(temperature):
    torch.manual_seed(0)
    student, teacher = 5 * torch.randn(2, 7, 11)
    total = 0.0
    for ours, theirs in zip(student.tolist(), teacher.tolist()):
        q, p = (
            [math.exp(z / temperature) for z in scores] for scores in (ours, theirs)
        )
        q, p = [x / sum(q) for x in q], [x / sum(p) for x in p]
        total += sum(b * math.log(b / a) for a, b in zip(q, p))
    found = soft_loss(student, teacher, temperature).item()
    assert found == pytest.approx(temperature**2 * total, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_computed_in_fp32(dtype):
    torch.manual_seed(0)
    student, teacher = (3 * torch.randn(2, 40, 200)).to(dtype)
    assert_close(
        soft_loss(student, teacher, 2.0),
        soft_loss(student.float(), teacher.float(), 2.0),
    )


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_loss_is_that_of_trl(temperature):
    """Its generalised divergence with beta 0, which has no factor T^2."""
    pytest.importorskip("trl")
    with warnings.catch_warnings(record=True):  # trl says that it may change
        from trl.experimental.gkd import GKDTrainer

    batch = batch_of()
    models = random_model(SMALL, 1), random_model(SHAPE, 2)
    with torch.no_grad():
        student, teacher = (logits_of(model, batch)[:, :-1] for model in models)
        theirs = GKDTrainer.generalized_jsd_loss(
            student, teacher, batch["labels"][:, 1:], 0, temperature
        )
        options = DistillConfig(1.0, temperature)
        ours, _ = distillation_loss(models[0], batch, models[1], options)
    assert_close(ours, temperature**2 * theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [SHAPE, MOE], ids=["dense", "moe"])
@pytest.mark.parametrize("chunk", [None, 7])
def test_nothing_to_learn_from_oneself(shape, chunk):
    model = random_model(shape)
    teacher = copy.deepcopy(model)
    options = DistillConfig(alpha=1.0, temperature=3.0)
    loss, numbers = distillation_loss(model, batch_of(), teacher, options, chunk)
    assert numbers["kl_loss"].item() == pytest.approx(0, abs=1e-5)
    if shape is SHAPE:  # the routers of the other have a loss of their own
        for weight in gradient(loss, model):
            assert_close(weight, torch.zeros_like(weight), atol=1e-5, rtol=0)


def test_alpha_0_is_plain_training():
    student, teacher, batch = new_model(1, SMALL), new_model(2), batch_of()
    options = DistillConfig(alpha=0.0)
    loss, _ = distillation_loss(student, batch, teacher, options)
    plain, _ = answer_loss(student, batch)
    assert_close(loss, plain)
    assert_close(gradient(loss, student), gradient(plain, student))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_mix_and_its_parts(alpha):
    student, teacher, batch = new_model(1, SMALL), random_model(SHAPE), batch_of()
    options = DistillConfig(alpha, temperature=2.0)
    loss, numbers = distillation_loss(student, batch, teacher, options)
    asked = batch["labels"][:, 1:] != IGNORE
    ours, theirs = (
        logits_of(model, batch)[:, :-1][asked] for model in (student, teacher)
    )
    hard = F.cross_entropy(ours, batch["labels"][:, 1:][asked])
    p, q = (theirs / 2).softmax(-1), (ours / 2).softmax(-1)
    soft = 4 * F.kl_div(q.log(), p, reduction="batchmean")
    assert_close(numbers["ce_loss"], hard.detach())
    assert_close(numbers["kl_loss"], soft.detach(), atol=1e-6, rtol=1e-4)
    assert_close(loss, (1 - alpha) * hard + alpha * soft)


def test_the_pull_hardly_depends_on_the_temperature():
    """With the factor T^2; without it, it falls with T^2."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 50, 30)
    student.requires_grad_()
    sizes = []
    for temperature in (4.0, 8.0, 16.0):
        loss = soft_loss(student, teacher, temperature)
        sizes.append(torch.autograd.grad(loss, student)[0].norm().item())
    assert max(sizes) < 1.1 * min(sizes)


def test_softened_probabilities_have_the_gradient_of_the_paper():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 9, dtype=torch.float64).float()
    student.requires_grad_()
    (found,) = torch.autograd.grad(soft_loss(student, teacher, 3.0), student)
    with torch.no_grad():
        expected = 3.0 * ((student / 3).softmax(-1) - (teacher / 3).softmax(-1))
    assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_the_teacher_learns_nothing():
    student, teacher = new_model(1, SMALL), new_model(2)
    before, recording = copy.deepcopy(teacher), []
    for part in (teacher.model, teacher.lm_head):
        part.register_forward_hook(lambda *_: recording.append(torch.is_grad_enabled()))
    for chunk in (None, 5):
        loss, _ = distillation_loss(student, batch_of(), teacher, HALF, chunk)
        loss.backward()
        assert all(p.grad is None for p in teacher.parameters())
        assert all(p.grad is not None for p in student.parameters())
    assert same_weights(teacher, before)
    assert recording and not any(recording), "nothing is kept for a backward pass"


@pytest.mark.parametrize("chunk", [1, 13, 63, 64, 65, 1000])  # there are 64 labels
@pytest.mark.parametrize("shapes", [(SMALL, MOE), (SMALL_MOE, SHAPE)], ids=str)
def test_in_pieces_it_is_the_same(chunk, shapes):
    student, teacher, batch = (
        new_model(1, shapes[0]),
        new_model(2, shapes[1]),
        batch_of(),
    )
    loss, numbers = distillation_loss(student, batch, teacher, HALF)
    whole = gradient(loss, student)
    loss, pieces = distillation_loss(student, batch, teacher, HALF, chunk)
    assert_close(pieces, numbers, atol=1e-6, rtol=1e-5)
    assert_close(gradient(loss, student), whole, atol=1e-6, rtol=1e-4)


def largest_logits(student, teacher, batch, chunk):
    """The most rows of logits that either head makes at a time."""
    rows = []
    hooks = [
        model.lm_head.register_forward_hook(lambda m, i, out: rows.append(len(out)))
        for model in (student, teacher)
    ]
    loss, _ = distillation_loss(student, batch, teacher, HALF, chunk)
    loss.backward()
    for hook in hooks:
        hook.remove()
    return max(rows)


def test_logits_of_labels_only_and_few_at_a_time():
    student, teacher, batch = new_model(1, SMALL), new_model(2), batch_of()
    labels = int((batch["labels"][:, 1:] != IGNORE).sum())
    assert labels < batch["labels"].numel() - 8
    assert largest_logits(student, teacher, batch, None) == labels
    assert largest_logits(student, teacher, batch, 10) == 10


def test_what_has_no_label_changes_nothing():
    """Behind the last label of its row, where nothing looks at it."""
    student, teacher = new_model(1, SMALL), new_model(2)
    batch, other = batch_of(), batch_of()
    for row in range(1, 8):
        other["input_ids"][row, 16 - 2 * row :] = 7
    assert not torch.equal(batch["input_ids"], other["input_ids"])
    found = [
        gradient(distillation_loss(student, b, teacher, HALF)[0], student)
        for b in (batch, other)
    ]
    assert_close(*found, atol=1e-7, rtol=0)


def test_the_routers_of_a_student_are_balanced():
    student, teacher = new_model(1, SMALL_MOE), new_model(2, MOE)
    loss, numbers = distillation_loss(student, batch_of(), teacher, HALF)
    stage = 0.5 * numbers["ce_loss"] + 0.5 * numbers["kl_loss"]
    assert_close(numbers["loss"], stage)
    assert_close(loss.detach(), stage + numbers["aux_loss"])
    assert numbers["aux_loss"] > 0 and numbers["expert_load"].shape == (1, 4)


def test_half_precision_stays_finite_and_close():
    student, teacher, batch = random_model(SMALL, 1), random_model(SHAPE, 2), batch_of()
    exact, _ = distillation_loss(student, batch, teacher, HALF)
    with torch.autocast("cpu", torch.bfloat16):
        loss, numbers = distillation_loss(student, batch, teacher, HALF, chunk=9)
    assert loss.dtype == numbers["kl_loss"].dtype == torch.float32
    assert_close(loss, exact, atol=0, rtol=0.02)
    assert all(g.isfinite().all() for g in gradient(loss, student))


def test_micro_batches_weigh_by_labels():
    student, teacher, batch = new_model(1, SMALL), new_model(2), batch_of()
    loss, _ = distillation_loss(student, batch, teacher, HALF)
    whole = gradient(loss, student)
    student.zero_grad()
    loss_fn = partial(distillation_loss, teacher=teacher, options=HALF)
    accumulate(student, split(batch, [1, 4, 3]), loss_fn)
    assert_close([p.grad for p in student.parameters()], whole, atol=1e-6, rtol=1e-4)


# --- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"alpha": -0.1}, {"alpha": 1.5}, {"temperature": 0}, {"temperature": math.inf}],
)
def test_senseless_numbers(options):
    with pytest.raises(UserError, match=f"--{next(iter(options))} "):
        DistillConfig(**options)


def test_another_vocabulary_is_refused():
    from minimind.text.tokenizer import train_tokenizer

    student, teacher = new_model(1, SMALL), new_model(2)
    check_teacher(teacher, tokenizer(), student, tokenizer())
    other = train_tokenizer(["other words of another text"] * 3, 290)
    with pytest.raises(UserError, match="probabilities are of other tokens"):
        check_teacher(teacher, other, student, tokenizer())
    padded = new_model(1, replace(SMALL, vocab_size=320))
    with pytest.raises(UserError, match="for 300 ids and the student for 320"):
        check_teacher(teacher, tokenizer(), padded, tokenizer())


# --- a run ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Token files, a teacher that was trained on them, a student's shape."""
    root = tmp_path_factory.mktemp("made")
    rows = PackedRows(token_file(root), 48)
    teacher = new_model(9)
    config = replace(CONFIG, steps=60, accumulation=1, batch_size=8)
    train(teacher, tokenizer(), rows, answer_loss, config, root / "teacher")
    (root / "small.json").write_text(json.dumps(asdict(SMALL)))
    return root


def distill(made, directory, seed=1, shape=SMALL, **changes):
    rows = PackedRows(token_file(directory.parent), 48)
    teacher, _ = load_model(made / "teacher")
    student = new_model(seed, shape)
    loss_fn = partial(distillation_loss, teacher=teacher, options=HALF)
    config = replace(CONFIG, **changes)
    train(student, tokenizer(), rows, loss_fn, config, directory, rows)
    return student, teacher


def test_a_run_logs_the_parts_and_keeps_the_student_alone(made, tmp_path):
    student, teacher = distill(made, tmp_path / "run")
    assert not teacher.training and same_weights(
        teacher, load_model(made / "teacher")[0]
    )
    for line in read_log(tmp_path / "run"):
        mixed = 0.5 * line["ce_loss"] + 0.5 * line["kl_loss"]
        assert line["loss"] == pytest.approx(mixed, rel=1e-5)
    held = load_state(tmp_path / "run")
    assert held["model"].keys() == dict(student.named_parameters()).keys()
    count = sum(value.numel() for value in held["model"].values())
    assert count == sum(p.numel() for p in student.parameters())


def test_a_student_comes_near_its_teacher(made, tmp_path):
    distill(made, tmp_path / "run", steps=60, learning_rate=2e-2)
    log = read_log(tmp_path / "run")
    assert log[-1]["kl_loss"] < 0.3 * log[0]["kl_loss"]


def test_a_stopped_run_goes_on_bit_for_bit(made, tmp_path, monkeypatch):
    straight, _ = distill(made, tmp_path / "straight", shape=SMALL_MOE)
    stop_after(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        distill(made, tmp_path / "stopped", shape=SMALL_MOE)
    monkeypatch.undo()
    again, _ = distill(made, tmp_path / "stopped", shape=SMALL_MOE)
    assert same_weights(again, straight)


def command_of(made, out, *more):
    command = ["train", "distill", "--kind", "pretrain", "--data", made / "tokens"]
    command += ["--teacher", made / "teacher", "--out", out, "--seq-len", "48"]
    command += ["--steps", "5", "--batch-size", "2", "--learning-rate", "1e-2"]
    return [str(word) for word in (*command, "--device", "cpu", *more)]


def error_of(command, capsys):
    capsys.readouterr()
    assert main(command) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "error: " in x]
    return line


def test_command(made, tmp_path, capsys):
    new = command_of(made, tmp_path / "new", "--preset", str(made / "small.json"))
    assert main(new) == 0
    student, _ = load_model(tmp_path / "new")
    assert student.config.hidden_size == 16 and student.config.vocab_size == 300
    about = json.loads((tmp_path / "new" / "minimind.json").read_text())
    assert about["stage"] == "distill" and about["settings"]["alpha"] == 0.5
    go_on = command_of(made, tmp_path / "more", "--model", str(tmp_path / "new"))
    assert main([*go_on, "--alpha", "1", "--loss-chunk", "16"]) == 0
    assert "temperature 1.0 -> 2.0" in error_of([*new, "--temperature", "2"], capsys)


def test_what_the_command_refuses(made, tmp_path, capsys):
    neither = command_of(made, tmp_path / "run")
    assert "--model or as --preset" in error_of(neither, capsys)
    new = [*neither, "--preset", str(made / "small.json")]
    both = [*new, "--model", str(made / "teacher")]
    assert "--model or as --preset" in error_of(both, capsys)
    assert "prepared for pretrain" in error_of([*new, "--kind", "sft"], capsys)
    short, _ = load_model(made / "teacher")
    short = new_model(0, replace(SHAPE, max_position_embeddings=32))
    save_model(short, tokenizer(), tmp_path / "short", {})
    new[new.index("--teacher") + 1] = str(tmp_path / "short")
    assert "the teacher reads 32 tokens" in error_of(new, capsys)
    assert not (tmp_path / "run").exists()


def test_another_teacher_is_not_taken_for_the_same(made, tmp_path, capsys):
    new = command_of(made, tmp_path / "run", "--preset", str(made / "small.json"))
    assert main(new) == 0
    save_model(new_model(5), tokenizer(), tmp_path / "other", {})
    new[new.index("--teacher") + 1] = str(tmp_path / "other")
    assert "teacher" in error_of(new, capsys)


@pytest.mark.skipif(
    sys.platform == "win32", reason="torchrun needs a store that Windows lacks"
)
def test_two_processes_learn_what_one_learns(made, tmp_path):
    more = ["--preset", str(made / "small.json"), "--accumulation"]
    assert main(command_of(made, tmp_path / "one", *more, "2")) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc_per_node", "2", "-m", "minimind.train"]
    done = subprocess.run(
        launch + command_of(made, tmp_path / "two", *more, "1")[1:],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    logs = [read_log(tmp_path / name) for name in ("one", "two")]
    for one, two in zip(*logs, strict=True):
        for key in ("loss", "ce_loss", "kl_loss", "grad_norm"):
            assert one[key] == pytest.approx(two[key], rel=1e-4), key
    one, two = (load_model(tmp_path / n)[0].state_dict() for n in ("one", "two"))
    assert_close(one, two, atol=1e-5, rtol=0)


# --- the measured claim -----------------------------------------------------------


def test_the_student_has_half_and_equal_work_is_equal(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "claims"))
    claim = importlib.import_module("distill")
    student, teacher = new_model(shape=claim.HALF), new_model(shape=PRESETS["nano"])
    sizes = claim.size(student), claim.size(teacher)
    assert sizes[0] / sizes[1] == pytest.approx(0.5, abs=0.02)
    steps = claim.equal_work(*sizes)
    cost = steps * (6 * sizes[0] + 2 * sizes[1])
    assert cost == pytest.approx(claim.STEPS * 6 * sizes[0], rel=0.01)
