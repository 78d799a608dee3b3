"""Rotary embedding: turns by complex numbers, properties, and transformers' own."""

import math

import pytest
import torch
from torch.testing import assert_close

from minimind.model.rope import (
    RopeScaling,
    RotaryEmbedding,
    apply_rope,
    ntk_theta,
    rope_frequencies,
    rope_table,
    rotate_half,
    scaled_frequencies,
)

DIM, LENGTH, THETA = 16, 300, 1e4


def heads(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def plain_table(dim: int, length: int, theta: float):
    return rope_table(rope_frequencies(dim, theta), length)


def turns(dim: int, length: int, theta: float) -> torch.Tensor:
    """exp(i * angle) of every position and pair, (length, D/2), from plain maths."""
    angles = [
        [position * theta ** (-2 * i / dim) for i in range(dim // 2)]
        for position in range(length)
    ]
    return torch.polar(
        torch.ones(length, dim // 2, dtype=torch.float64),
        torch.tensor(angles, dtype=torch.float64),
    )


def rotated(x: torch.Tensor, first: int = 0) -> torch.Tensor:
    """x, (B, H, T, D), at the positions first, first + 1, ..."""
    rope = RotaryEmbedding(x.shape[-1], LENGTH, THETA)
    return apply_rope(x, *rope(torch.arange(first, first + x.shape[2])[None]))


@pytest.mark.parametrize("dim,theta", [(2, 1e4), (16, 1e4), (64, 1e6)])
def test_table_holds_the_angles(dim, theta):
    cos, sin = plain_table(dim, LENGTH, theta)
    assert cos.shape == sin.shape == (LENGTH, dim)
    assert cos.dtype == sin.dtype == torch.float32
    exact = turns(dim, LENGTH, theta)
    for half in (slice(0, dim // 2), slice(dim // 2, None)):
        assert_close(cos[:, half], exact.real.float(), rtol=0, atol=5e-5)
        assert_close(sin[:, half], exact.imag.float(), rtol=0, atol=5e-5)


def test_quarter_turn():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert rotate_half(x).tolist() == [-3.0, -4.0, 1.0, 2.0]
    assert_close(rotate_half(rotate_half(x)), -x)


def test_turns_halves_like_complex_numbers():
    x = heads(2, 3, 20, DIM)
    first, second = x.double().chunk(2, dim=-1)
    turned = torch.complex(first, second) * turns(DIM, LENGTH, THETA)[:20]
    expected = torch.cat((turned.real, turned.imag), dim=-1).float()
    assert_close(rotated(x), expected, rtol=0, atol=1e-5)


def test_keeps_norms_and_leaves_position_0_alone():
    x = heads(2, 3, 20, DIM)
    y = rotated(x)
    assert_close(y.norm(dim=-1), x.norm(dim=-1))
    assert_close(y[:, :, 0], x[:, :, 0], rtol=0, atol=0)
    assert (y[:, :, 1:] - x[:, :, 1:]).abs().amin(dim=(0, 1)).amax() > 0.1


def test_score_depends_on_the_distance_only():
    q, k = (x.expand(1, 1, LENGTH, DIM) for x in heads(2, 1, 1, 1, DIM))
    scores = (rotated(q) @ rotated(k).transpose(-1, -2))[0, 0]
    for distance in (-250, -7, 0, 1, 100):
        diagonal = scores.diagonal(-distance)
        assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=5e-4)
    near = scores[:6, 0]  # distances 0 to 5
    assert near.diff().abs().min() > 1e-2
    assert not math.isclose(scores[1, 0], scores[0, 1], abs_tol=1e-2)


def test_interleaved_pairs_are_a_permutation_away():
    """Neighbouring pairs, turned by 2x2 matrices, as the RoFormer paper writes it."""
    position = 5
    matrix = torch.zeros(DIM, DIM)
    for i in range(DIM // 2):
        angle = position * THETA ** (-2 * i / DIM)
        c, s = math.cos(angle), math.sin(angle)
        block = torch.tensor([[c, -s], [s, c]])
        matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = block
    x = heads(1, 1, 1, DIM)
    order = [i + j for i in range(DIM // 2) for j in (0, DIM // 2)]
    paper = matrix @ x[0, 0, 0, order]
    assert_close(rotated(x, first=position)[0, 0, 0, order], paper)


def test_positions_are_looked_up_per_row():
    rope = RotaryEmbedding(DIM, LENGTH, THETA)
    cos, sin = rope(torch.tensor([[0, 1, 2], [0, 0, 299]]))
    assert cos.shape == sin.shape == (2, 1, 3, DIM)
    table = plain_table(DIM, LENGTH, THETA)
    assert_close(cos[1, 0, 2], table[0][299], rtol=0, atol=0)
    assert_close(sin[0, 0, 2], table[1][2], rtol=0, atol=0)
    x = heads(1, 2, 12, DIM)
    assert_close(rotated(x)[:, :, 7:], rotated(x[:, :, 7:], first=7), rtol=0, atol=0)


def test_position_past_the_table_is_an_error():
    with pytest.raises(IndexError):
        RotaryEmbedding(DIM, LENGTH, THETA)(torch.tensor([[LENGTH]]))


def test_16_bit_heads_are_rounded_once():
    x = heads(1, 2, LENGTH, DIM).bfloat16()
    y = rotated(x)
    assert y.dtype == torch.bfloat16
    assert_close(y, rotated(x.float()).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "move",
    [
        lambda model: model.bfloat16(),
        lambda model: model.half().float(),
        lambda model: model.to(torch.float16),
        lambda model: model.double(),
        lambda model: model.to("meta").to_empty(device="cpu"),
    ],
)
def test_table_survives_a_move(move):
    """The module sits inside a model, as in real use."""
    model = torch.nn.Sequential(RotaryEmbedding(DIM, LENGTH, THETA))
    moved = move(model)[0]
    for ours, fresh in zip((moved.cos, moved.sin), plain_table(DIM, LENGTH, THETA)):
        assert_close(ours, fresh, rtol=0, atol=0)


def test_table_of_a_model_made_on_meta():
    with torch.device("meta"):
        rope = RotaryEmbedding(DIM, LENGTH, THETA)
    assert rope.cos.is_meta
    rope.to_empty(device="cpu")
    assert_close(rope.cos, plain_table(DIM, LENGTH, THETA)[0], rtol=0, atol=0)


def test_table_follows_its_module_to_another_device():
    assert RotaryEmbedding(DIM, LENGTH, THETA).to("meta").cos.is_meta


def test_nothing_is_learned_or_saved():
    rope = RotaryEmbedding(DIM, LENGTH, THETA)
    assert not list(rope.parameters())
    assert not rope.bfloat16().state_dict()
    assert {name for name, _ in rope.named_buffers()} == {"cos", "sin"}


@pytest.mark.parametrize("theta", [1e4, 1e6])
def test_equals_llama_to_the_bit(theta):
    transformers = pytest.importorskip("transformers")
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    config = transformers.LlamaConfig(
        hidden_size=2 * DIM,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        rope_theta=theta,  # where 4.x looks
        rope_parameters={"rope_type": "default", "rope_theta": theta},
    )
    q, k = heads(2, 2, 2, 9, DIM)
    position_ids = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, *range(6)]])
    position_ids[1] += LENGTH - 6
    theirs = llama.LlamaRotaryEmbedding(config)(q, position_ids)
    ours = RotaryEmbedding(DIM, LENGTH, theta)(position_ids)
    for one, other in zip(ours, theirs):
        assert_close(one[:, 0], other, rtol=0, atol=0)
    their_q, their_k = llama.apply_rotary_pos_emb(q, k, *theirs)
    assert_close(apply_rope(q, *ours), their_q, rtol=0, atol=0)
    assert_close(apply_rope(k, *ours), their_k, rtol=0, atol=0)


def of_transformers(kind: str, theta: float, length: int, seq_len=None, **more):
    """transformers' own frequencies and attention factor, for heads of DIM."""
    transformers = pytest.importorskip("transformers", minversion="5")
    rope_utils = pytest.importorskip("transformers.modeling_rope_utils")
    config = transformers.LlamaConfig(
        hidden_size=2 * DIM,
        num_attention_heads=2,
        max_position_embeddings=length,
        rope_parameters={"rope_type": kind, "rope_theta": theta, **more},
    )
    return rope_utils.ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len)


@pytest.mark.parametrize("theta", [1e4, 1e6])
@pytest.mark.parametrize("length", [20, 128, 2048, 32768])
@pytest.mark.parametrize("factor", [1.0, 1.5, 4.0, 16.0])
@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_scaling_equals_transformers(kind, factor, length, theta):
    numbers = {"factor": factor, "original_max_position_embeddings": length}
    theirs, their_factor = of_transformers(kind, theta, 16 * length, **numbers)
    scaling = RopeScaling(kind, factor, length)
    ours = scaled_frequencies(rope_frequencies(DIM, theta), theta, scaling)
    assert_close(ours, theirs, rtol=2e-7, atol=0)
    assert scaling.attention_factor == pytest.approx(their_factor, rel=1e-12)
    if factor > 1:
        assert (ours < rope_frequencies(DIM, theta)).any()


@pytest.mark.parametrize("fast,slow", [(32, 1), (8, 2), (3, 0.5)])
def test_yarn_bounds_equal_transformers(fast, slow):
    numbers = {
        "factor": 8.0,
        "original_max_position_embeddings": 512,
        "beta_fast": fast,
        "beta_slow": slow,
    }
    theirs, _ = of_transformers("yarn", THETA, 4096, **numbers)
    scaling = RopeScaling("yarn", **numbers)
    ours = scaled_frequencies(rope_frequencies(DIM, THETA), THETA, scaling)
    assert_close(ours, theirs, rtol=2e-7, atol=0)


@pytest.mark.parametrize("theta", [1e4, 1e6])
@pytest.mark.parametrize("factor", [2.0, 4.0, 10.0])
def test_ntk_equals_the_dynamic_form_of_transformers(factor, theta):
    """Theirs, from the length so far; ours is fixed at the length it reaches.

    Their base is theta * (s * length / trained - (s - 1)) ** (D / (D - 2)), so with
    s = 1 and length = factor * trained it is ours.
    """
    seq_len = int(factor * 100)
    theirs, their_factor = of_transformers("dynamic", theta, 100, seq_len, factor=1.0)
    ours = rope_frequencies(DIM, ntk_theta(theta, factor, DIM))
    assert_close(ours, theirs, rtol=2e-7, atol=0)
    assert their_factor == 1


def test_ntk_slows_the_slowest_pair_by_the_factor_and_the_fastest_not():
    plain = rope_frequencies(DIM, THETA)
    stretched = rope_frequencies(DIM, ntk_theta(THETA, 4.0, DIM))
    assert stretched[0] == plain[0] == 1
    assert_close(plain[-1] / stretched[-1], torch.tensor(4.0))
    ratio = plain / stretched
    assert (ratio.diff() > 0).all()


def test_yarn_keeps_fast_pairs_and_slows_slow_ones():
    """By hand: with 512 tokens and theta 1e4, pair i turns 81.5 * 10^(-i/2) times.

    So pairs 0 (81 turns) is kept, pairs 4 and on (less than 1) are slowed in full,
    and the ramp falls by a quarter a pair in between.
    """
    plain = rope_frequencies(DIM, THETA)
    ours = scaled_frequencies(plain, THETA, RopeScaling("yarn", 4.0, 512))
    keep = torch.tensor([1, 0.75, 0.5, 0.25, 0, 0, 0, 0])
    assert_close(ours / plain, keep + (1 - keep) / 4)


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_scaled_layer_equals_llama(kind):
    transformers = pytest.importorskip("transformers", minversion="5")
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    parameters = {"rope_type": kind, "rope_theta": THETA, "factor": 4.0}
    if kind == "yarn":
        parameters["original_max_position_embeddings"] = 75
    config = transformers.LlamaConfig(
        hidden_size=2 * DIM,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        rope_parameters=parameters,
    )
    position_ids = torch.arange(LENGTH)[None]
    theirs = llama.LlamaRotaryEmbedding(config)(heads(1, 2, 1, DIM), position_ids)
    rope = RotaryEmbedding(DIM, LENGTH, THETA, RopeScaling(kind, 4.0, 75))
    for one, other in zip(rope(position_ids), theirs):
        assert_close(one[:, 0], other, rtol=0, atol=2e-5)


def test_linear_scaling_is_position_interpolation():
    rope = RotaryEmbedding(DIM, LENGTH, THETA, RopeScaling("linear", 4.0, 75))
    cos, sin = rope(torch.arange(0, LENGTH, 4)[None])
    plain = plain_table(DIM, LENGTH // 4, THETA)
    assert_close(cos[0, 0], plain[0])
    assert_close(sin[0, 0], plain[1])


def test_scaled_table_survives_a_move():
    scaling = RopeScaling("yarn", 4.0, 75)
    fresh = RotaryEmbedding(DIM, LENGTH, THETA, scaling)
    moved = torch.nn.Sequential(RotaryEmbedding(DIM, LENGTH, THETA, scaling))
    moved = moved.bfloat16().to("meta").to_empty(device="cpu")[0]
    assert_close(moved.cos, fresh.cos, rtol=0, atol=0)
    assert_close(moved.sin, fresh.sin, rtol=0, atol=0)


def test_table_does_not_depend_on_how_much_is_asked():
    """What is asked now must not change what was cached before."""
    rope = RotaryEmbedding(DIM, LENGTH, THETA, RopeScaling("yarn", 4.0, 75))
    short = rope(torch.arange(10)[None])[0].clone()
    rope(torch.arange(LENGTH)[None])
    assert_close(rope(torch.arange(10)[None])[0], short, rtol=0, atol=0)
    longer = RotaryEmbedding(DIM, 2 * LENGTH, THETA, RopeScaling("yarn", 4.0, 75))
    assert_close(longer.cos[:LENGTH], rope.cos, rtol=0, atol=0)


@pytest.mark.parametrize(
    "wrong,told",
    [
        ({"rope_type": "yam"}, "rope_type"),
        ({"factor": 0.5}, "factor"),
        ({"original_max_position_embeddings": 0}, "original_max"),
        ({"beta_fast": 1.0, "beta_slow": 32.0}, "beta_fast"),
        ({"beta_slow": 0.0}, "beta_slow"),
    ],
)
def test_impossible_scaling_is_refused(wrong, told):
    right = {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 128,
    }
    RopeScaling(**right)
    with pytest.raises(ValueError, match=told):
        RopeScaling(**{**right, **wrong})
