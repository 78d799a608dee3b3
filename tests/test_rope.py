"""Rotary embedding: turns by complex numbers, properties, and transformers' own."""

import math

import pytest
import torch
from torch.testing import assert_close

from minimind.model.rope import RotaryEmbedding, apply_rope, rope_table, rotate_half

DIM, LENGTH, THETA = 16, 300, 1e4


def heads(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


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
    cos, sin = rope_table(dim, LENGTH, theta)
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
    table = rope_table(DIM, LENGTH, THETA)
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
    for ours, fresh in zip((moved.cos, moved.sin), rope_table(DIM, LENGTH, THETA)):
        assert_close(ours, fresh, rtol=0, atol=0)


def test_table_of_a_model_made_on_meta():
    with torch.device("meta"):
        rope = RotaryEmbedding(DIM, LENGTH, THETA)
    assert rope.cos.is_meta
    rope.to_empty(device="cpu")
    assert_close(rope.cos, rope_table(DIM, LENGTH, THETA)[0], rtol=0, atol=0)


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
