"""SwiGLU: formula, gradient, size, and transformers' own layer."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from minimind.model.config import PRESETS, ModelConfig
from minimind.model.feedforward import FeedForward, swiglu_size

CONFIG = ModelConfig(
    hidden_size=8, intermediate_size=20, num_attention_heads=2, num_key_value_heads=1
)


def make_layer(config: ModelConfig = CONFIG) -> FeedForward:
    torch.manual_seed(5)
    return FeedForward(config).double()


def tokens(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_formula_number_by_number():
    layer, x = make_layer(), tokens(8)
    gate = layer.gate_proj.weight.tolist()
    up = layer.up_proj.weight.tolist()
    down = layer.down_proj.weight.tolist()
    x_list = x.tolist()

    def dot(row, column):
        return math.fsum(a * b for a, b in zip(row, column))

    hidden = []
    for gate_row, up_row in zip(gate, up):
        g = dot(gate_row, x_list)
        hidden.append(g / (1 + math.exp(-g)) * dot(up_row, x_list))
    expected = torch.tensor([dot(row, hidden) for row in down], dtype=torch.float64)
    assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_gradient():
    layer = make_layer()
    weights = dict(layer.named_parameters())

    def call(x, *values):
        state = dict(zip(weights, values))
        return torch.func.functional_call(layer, state, (x,))

    x = tokens(3, 8).requires_grad_()
    assert torch.autograd.gradcheck(call, (x, *weights.values()))


def test_two_channels_multiply():
    """silu(a) b + silu(-a) (-b) = a b: what a gate can do and ReLU cannot."""
    layer = make_layer(replace(CONFIG, intermediate_size=2))
    for weight in layer.parameters():
        torch.nn.init.zeros_(weight)
    with torch.no_grad():
        layer.gate_proj.weight[:, 0] = torch.tensor([1.0, -1.0])
        layer.up_proj.weight[:, 1] = torch.tensor([1.0, -1.0])
        layer.down_proj.weight[0] = 1.0
    x = tokens(50, 8)
    assert_close(layer(x)[:, 0], x[:, 0] * x[:, 1])
    assert layer(x)[:, 1:].abs().max() == 0


def test_tokens_do_not_see_each_other():
    layer, x = make_layer(), tokens(2, 5, 8)
    other = x.clone()
    other[1, 3] += 1
    changed = (layer(other) != layer(x)).any(-1)
    assert changed.nonzero().tolist() == [[1, 3]]
    assert_close(layer(x)[0, 4], layer(x[0, 4]))


def test_names_shapes_and_no_bias():
    shapes = {name: tuple(p.shape) for name, p in make_layer().named_parameters()}
    assert shapes == {
        "gate_proj.weight": (20, 8),
        "up_proj.weight": (20, 8),
        "down_proj.weight": (8, 20),
    }


def test_size_has_the_parameters_of_a_plain_layer():
    for hidden in range(1, 5000):
        size = swiglu_size(hidden)
        surplus = 3 * hidden * size - 2 * hidden * 4 * hidden
        assert size % 64 == 0
        assert 0 <= surplus < 3 * hidden * 64, hidden
        # MiniMind's own formula
        assert size == 64 * ((int(hidden * 8 / 3) + 63) // 64), hidden


@pytest.mark.parametrize("hidden,size", [(128, 384), (512, 1408), (768, 2048)])
def test_published_sizes(hidden, size):
    assert swiglu_size(hidden) == size


def test_presets_follow_the_rule():
    """All but one with narrow experts and the line that was published wider."""
    others = {
        name
        for name, config in PRESETS.items()
        if config.intermediate_size != swiglu_size(config.hidden_size)
    }
    assert others == {"nano-moe", "minimind3", "minimind3-moe"}


def test_16_bits_stay_16_bits():
    layer, x = make_layer().bfloat16(), tokens(3, 8).bfloat16()
    assert layer(x).dtype == torch.bfloat16


def test_equals_llama():
    transformers = pytest.importorskip("transformers")
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    config = transformers.LlamaConfig(
        hidden_size=8, intermediate_size=20, num_attention_heads=2
    )
    ours, theirs, x = make_layer(), llama.LlamaMLP(config).double(), tokens(2, 5, 8)
    theirs.load_state_dict(ours.state_dict())
    assert_close(ours(x), theirs(x), rtol=0, atol=0)
