"""The optimizer against its formula in float64, and the schedule against numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from minimind.errors import UserError
from minimind.train.config import TrainConfig
from minimind.train.optim import build_optimizer, build_optimizers, learning_rate
from tests.training_kit import SHAPE, new_model


def test_adamw_is_its_formula():
    layer = nn.Linear(3, 4)
    optimizer = build_optimizer(layer, 0.02, weight_decay=0.1)
    rng = np.random.default_rng(0)
    ours = {n: p.detach().double().numpy().copy() for n, p in layer.named_parameters()}
    m = {name: np.zeros_like(w) for name, w in ours.items()}
    v = {name: np.zeros_like(w) for name, w in ours.items()}
    for t in range(1, 21):
        rate = 0.02 / t  # the loop sets another rate at every step
        for group in optimizer.param_groups:
            group["lr"] = rate
        for name, weight in layer.named_parameters():
            g = rng.normal(0, 10.0 ** rng.integers(-3, 3), weight.shape)
            weight.grad = torch.tensor(g, dtype=torch.float32)
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.95 * v[name] + 0.05 * g**2
            decay = 0.1 if name == "weight" else 0.0
            mean, square = m[name] / (1 - 0.9**t), v[name] / (1 - 0.95**t)
            step = decay * ours[name] + mean / (np.sqrt(square) + 1e-8)
            ours[name] = ours[name] - rate * step
        optimizer.step()
        for name, weight in layer.named_parameters():
            assert np.abs(weight.detach().numpy() - ours[name]).max() < 1e-6


def test_only_matrices_decay_and_only_trainable_ones_move():
    model = new_model()
    model.model.embed_tokens.weight.requires_grad_(False)
    groups = build_optimizer(model, 1e-3, weight_decay=0.3).param_groups
    decay = {p for g in groups for p in g["params"] if g["weight_decay"] == 0.3}
    still = {p for g in groups for p in g["params"] if g["weight_decay"] == 0}
    named = dict(model.named_parameters())
    assert still == {p for n, p in named.items() if "norm" in n}
    assert decay == {p for n, p in named.items() if "_proj" in n}


def rates(**changes):
    config = replace(TrainConfig(steps=100, learning_rate=2.0, warmup=10), **changes)
    return [learning_rate(step, config) for step in range(config.steps)]


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_warm_up(schedule):
    assert rates(schedule=schedule)[:10] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0]
    )
    assert rates(schedule=schedule, warmup=0)[0] == 2.0


def test_cosine():
    values = rates(schedule="cosine")
    assert values[10] == 2.0
    assert values[55] == pytest.approx(1.1)  # half-way between 2.0 and 0.2
    assert values[70] == pytest.approx(0.2 + 1.8 * (1 + math.cos(math.pi * 2 / 3)) / 2)
    assert 0.2 < values[-1] < 0.21
    assert all(a > b for a, b in zip(values[10:], values[11:], strict=False))


def test_wsd():
    values = rates(schedule="wsd")
    assert values[10:81] == [2.0] * 71
    assert values[90] == pytest.approx(1.1)
    assert 0.2 < values[-1] < 0.3


def test_constant():
    assert rates(schedule="constant")[10:] == [2.0] * 90


def test_a_wide_model_gets_a_lower_rate():
    filled = [TrainConfig().complete(100, width).learning_rate for width in (128, 768)]
    assert filled == pytest.approx([3e-3, 5e-4])
    assert TrainConfig(learning_rate=0.7).complete(100, 768).learning_rate == 0.7


def test_steps_follow_from_epochs():
    config = TrainConfig(batch_size=4, accumulation=2, epochs=2.5)
    assert config.complete(rows=100, hidden_size=SHAPE.hidden_size).steps == 32
    assert config.complete(rows=1, hidden_size=SHAPE.hidden_size).steps == 1
    assert replace(config, steps=7).complete(100, SHAPE.hidden_size).steps == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("accumulation", -1),
        ("steps", 0),
        ("epochs", 0.0),
        ("learning_rate", -1e-3),
        ("learning_rate", math.nan),
        ("save_every", 0),
    ],
)
def test_senseless_numbers(name, value):
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} {value}"):
        TrainConfig(**{name: value})


def test_muon_takes_the_inner_matrices():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("needs PyTorch 2.9")
    model = new_model()
    config = TrainConfig(optimizer="muon", learning_rate=0.02)
    muon, adamw = build_optimizers(model, config)
    inner = {n for n, p in model.named_parameters() if "_proj" in n}
    named = {p: n for n, p in model.named_parameters()}
    found = [
        {named[p] for g in o.param_groups for p in g["params"]} for o in (muon, adamw)
    ]
    assert found == [inner, set(named.values()) - inner]
    # Its step: a matrix with all singular values nearly one, of AdamW's usual size.
    name = "model.layers.0.mlp.up_proj.weight"
    weight = dict(model.named_parameters())[name]
    before, weight.grad = weight.detach().clone(), torch.randn_like(weight)
    muon.param_groups[0]["weight_decay"] = 0.0
    muon.step()
    step = (before - weight.detach()) / 0.02 / (0.2 * math.sqrt(max(weight.shape)))
    values = torch.linalg.svdvals(step)
    assert 0.5 < values.min() and values.max() < 1.3


def test_without_muon(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(UserError, match="needs PyTorch 2.9"):
        build_optimizers(new_model(), TrainConfig(optimizer="muon", learning_rate=1.0))
