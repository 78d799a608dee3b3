"""Root-mean-square normalisation, used before every sub-layer.

Explained in chapter 02. Source: Zhang and Sennrich 2019, "Root Mean Square
Layer Normalization".
"""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Scale each token to unit root mean square, then by a learned gain.

    Shape: (..., C) -> (..., C). Computed in fp32 whatever the input's dtype.
    Source: Zhang and Sennrich 2019.
    """

    def __init__(self, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of x, (..., C)."""
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * (wide * scale).to(x.dtype)
