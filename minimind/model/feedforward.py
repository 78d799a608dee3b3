"""The feed-forward layer: what a token does with what it has gathered.

Explained in chapter 04. Source: Shazeer 2020, "GLU Variants Improve
Transformer" (SwiGLU).

Generated from notebooks/04_swiglu.ipynb by tools/export.py; edit it there.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from minimind.model.config import ModelConfig


def swiglu_size(hidden_size: int) -> int:
    """Inner width with the parameters of a plain 4C layer, a multiple of 64.

    Three matrices of width 8C/3 hold as much as two of width 4C.
    """
    return 64 * math.ceil(8 * hidden_size / 3 / 64)


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)). Shape: (..., C) -> (..., C).

    Source: Shazeer 2020.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        wide, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(wide, inner, bias=False)
        self.up_proj = nn.Linear(wide, inner, bias=False)
        self.down_proj = nn.Linear(inner, wide, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of each token by itself, (..., C)."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
