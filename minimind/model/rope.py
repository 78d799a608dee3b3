"""Rotary position embedding: a token's place, told as an angle.

Explained in chapter 02. Source: Su et al. 2021, "RoFormer". The two halves of
a head rotate as pairs (channel i with channel i + D/2), as in `transformers`.

Generated from notebooks/02_norm_rope.ipynb by tools/export.py; edit it there.
"""

import torch
from torch import Tensor, nn


def rope_table(
    head_dim: int,
    length: int,
    theta: float,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle, two tensors of shape (length, D), fp32.

    Pair i of D/2 turns by position * theta^(-2i/D) radians.
    """
    pairs = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32)
    frequency = 1.0 / theta ** (pairs / head_dim)  # (D/2,)
    position = torch.arange(length, device=device, dtype=torch.float32)
    angle = torch.outer(position, frequency)  # (length, D/2)
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


class RotaryEmbedding(nn.Module):
    """The table for all positions a model may see; looked up, never learned.

    Shape: position ids (B or 1, T) -> cosine and sine, (B or 1, 1, T, D).
    The table stays in fp32, whatever becomes of the module around it.
    """

    def __init__(self, head_dim: int, max_length: int, theta: float) -> None:
        super().__init__()
        self.head_dim, self.max_length = head_dim, max_length
        self.theta = theta
        cos, sin = rope_table(head_dim, max_length, theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Angles of the given positions, whole numbers from 0."""
        cos, sin = self.cos[position_ids], self.sin[position_ids]
        return cos.unsqueeze(1), sin.unsqueeze(1)  # one for all heads

    def _apply(self, fn, recurse: bool = True):
        # `model.bfloat16()` would round the table, and rounding back does not
        # heal it: whatever moves the module, the table is made anew in fp32.
        nn.Module._apply(self, fn, recurse)
        self.cos, self.sin = rope_table(
            self.head_dim, self.max_length, self.theta, self.cos.device
        )
        return self
