"""Root-mean-square normalisation, used before every sub-layer.

Explained in chapter 02. Source: Zhang and Sennrich 2019, "Root Mean Square
Layer Normalization".

Generated from notebooks/02_norm_rope.ipynb by tools/export.py; edit it there.
"""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Scale each token to unit root mean square, then by a learned gain.

    Shape: (..., C) -> (..., C). Normalised in fp32, rounded to the
    input's dtype, then times the gain. Source: Zhang and Sennrich 2019.
    """

    def __init__(self, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of x, (..., C)."""
        wide = x.float()
        mean_square = wide.pow(2).mean(-1, keepdim=True)
        unit = wide * torch.rsqrt(mean_square + self.eps)
        # Rounded before the gain, as Llama does: the same bits come out.
        return self.weight * unit.to(x.dtype)
