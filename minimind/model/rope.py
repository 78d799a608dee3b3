"""Rotary position embedding: a token's place, told as an angle.

Explained in chapter 02. The two halves of a head rotate as pairs (channel i
with channel i + D/2), as in `transformers`. Sources: Su et al. 2021,
"RoFormer"; for longer contexts Chen et al. 2023, "Positional Interpolation",
and Peng et al. 2023, "YaRN".

Generated from notebooks/02_norm_rope.ipynb by tools/export.py; edit it there.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


def rope_frequencies(
    head_dim: int, theta: float, device: torch.device | None = None
) -> Tensor:
    """Radians per token of pair i: theta^(-2i/D). Shape (D/2,), fp32."""
    pairs = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32)
    return 1.0 / theta ** (pairs / head_dim)


def rope_table(frequencies: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle, two tensors of shape (length, D), fp32.

    frequencies: radians per token of each pair, (D/2,).
    """
    position = torch.arange(length, device=frequencies.device, dtype=torch.float32)
    angle = torch.outer(position, frequencies)  # (length, D/2)
    angle = torch.cat((angle, angle), dim=-1)  # both members of a pair
    return angle.cos(), angle.sin()


def rotate_half(x: Tensor) -> Tensor:
    """Turn every pair by a quarter: (a, b) -> (-b, a). Shape (..., D)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the heads x, (B, H, T, D), by tables of shape (B or 1, 1, T, D).

    The product is formed in the tables' fp32 and rounded once, to x's dtype.
    """
    return (x * cos + rotate_half(x) * sin).to(x.dtype)


def ntk_theta(theta: float, factor: float, head_dim: int) -> float:
    """The base that slows the slowest pair by `factor`, and the fastest not.

    Source: the "NTK-aware" scaling described in Peng et al. 2023.
    """
    return theta * factor ** (head_dim / (head_dim - 2))


@dataclass(frozen=True)
class RopeScaling:
    """How a trained model's frequencies are stretched for longer contexts.

    Field names are those of `rope_parameters` in `transformers`. Raises
    ValueError for a number that makes no sense.
    """

    rope_type: Literal["linear", "yarn"]
    factor: float  # the new length, in trained lengths
    original_max_position_embeddings: int  # the trained length, in tokens
    beta_fast: float = 32.0  # YaRN: pairs with so many turns stay as they are
    beta_slow: float = 1.0  # YaRN: pairs with fewer turns slow down in full

    def __post_init__(self) -> None:
        if self.rope_type not in ("linear", "yarn"):
            known = "only 'linear' and 'yarn' are known"
            raise ValueError(f"rope_type is {self.rope_type!r}, but {known}")
        if self.factor < 1:
            raise ValueError(f"factor={self.factor} must be at least 1")
        if self.original_max_position_embeddings < 1:
            length = self.original_max_position_embeddings
            raise ValueError(f"original_max_position_embeddings={length}")
        if not self.beta_fast > self.beta_slow > 0:
            betas = f"beta_fast={self.beta_fast}, beta_slow={self.beta_slow}"
            raise ValueError(f"{betas}: fast must be above slow, slow above 0")

    @property
    def attention_factor(self) -> float:
        """What YaRN multiplies cosines and sines by; 1 for linear scaling."""
        return 0.1 * math.log(self.factor) + 1 if self.rope_type == "yarn" else 1.0


def scaled_frequencies(
    frequencies: Tensor, theta: float, scaling: RopeScaling
) -> Tensor:
    """Radians per token of each pair, (D/2,), stretched by `scaling`.

    frequencies: as trained, (D/2,), made from theta. Linear slows every pair
    by the factor (Chen et al. 2023). YaRN slows pairs that hardly turn within
    the trained length, keeps fast ones, and blends those in between.
    """
    slowed = frequencies / scaling.factor
    if scaling.rope_type == "linear":
        return slowed
    length, half = scaling.original_max_position_embeddings, len(frequencies)

    def pair_with(turns: float) -> float:
        """The pair, as a real number, with so many turns in the length."""
        return half * math.log(length / (math.tau * turns)) / math.log(theta)

    # Whole pairs, and this upper bound, as in the authors' code.
    first = max(math.floor(pair_with(scaling.beta_fast)), 0)
    last = min(math.ceil(pair_with(scaling.beta_slow)), 2 * half - 1)
    pair = torch.arange(half, device=frequencies.device, dtype=torch.float32)
    keep = 1 - ((pair - first) / max(last - first, 0.001)).clamp(0, 1)
    return frequencies * keep + slowed * (1 - keep)


class RotaryEmbedding(nn.Module):
    """The table for all positions a model may see; looked up, never learned.

    Shape: position ids (B or 1, T) -> cosine and sine, (B or 1, 1, T, D).
    The table stays in fp32, whatever becomes of the module around it, and it
    is the same for every length up to max_length.
    """

    def __init__(
        self,
        head_dim: int,
        max_length: int,
        theta: float,
        scaling: RopeScaling | None = None,
    ) -> None:
        super().__init__()
        self.head_dim, self.max_length = head_dim, max_length
        self.theta, self.scaling = theta, scaling
        cos, sin = self.table()
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def table(self, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """Cosine and sine of all positions, each (max_length, D), fp32."""
        plain = rope_frequencies(self.head_dim, self.theta, device)
        if self.scaling is None:
            return rope_table(plain, self.max_length)
        slowed = scaled_frequencies(plain, self.theta, self.scaling)
        cos, sin = rope_table(slowed, self.max_length)
        factor = self.scaling.attention_factor
        return cos * factor, sin * factor

    def forward(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Angles of the given positions, whole numbers from 0."""
        cos, sin = self.cos[position_ids], self.sin[position_ids]
        return cos.unsqueeze(1), sin.unsqueeze(1)  # one for all heads

    def _apply(self, fn, recurse: bool = True):
        # `model.bfloat16()` would round the table, and rounding back does not
        # heal it: whatever moves the module, the table is made anew in fp32.
        nn.Module._apply(self, fn, recurse)
        self.cos, self.sin = self.table(self.cos.device)
        return self
