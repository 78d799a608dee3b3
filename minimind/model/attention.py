"""Causal attention with grouped key/value heads, and the cache it reads from.

Explained in chapter 03. Sources: Vaswani et al. 2017, "Attention Is All You
Need"; Ainslie et al. 2023, "GQA".

Generated from notebooks/03_attention.ipynb by tools/export.py; edit it there.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minimind.model.config import ModelConfig
from minimind.model.norm import RMSNorm
from minimind.model.rope import apply_rope


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention: q (B, H, T, D), k and v (B, K, S, D).

    mask: True where a query may look, (B or 1, 1, T, S). None means causal,
    which needs S = T or a single query, T = 1, that stands at the end; else
    ValueError. Returns (B, H, T, D).
    """
    tokens, seen, groups = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    if tokens == 1:
        # A group's queries read the same keys: as rows, nothing is copied.
        q = rearrange(q, "b (k g) 1 d -> b k g d", g=groups)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return rearrange(y, "b k g d -> b (k g) 1 d")
    if mask is None and tokens != seen:
        raise ValueError(f"{tokens} queries for {seen} keys need a mask")
    k, v = (z.repeat_interleave(groups, dim=1) for z in (k, v))
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None
    )


def attention_mask_for(
    tokens: int,
    past: int,
    attention_mask: Tensor | None = None,
    document_ids: Tensor | None = None,
    device: torch.device | None = None,
) -> Tensor | None:
    """True where a query may look: (B or 1, 1, T, S), S = past + T.

    attention_mask: (B, S), 0 at padding, which nobody may see. document_ids:
    (B, T), equal within a document, which alone its tokens may see. Returns
    None where plain causality says it all, so that the fast kernel can run.
    Raises ValueError where attention_mask does not cover all S tokens, and
    for document_ids with a past, whose documents they leave out.
    """
    plain = attention_mask is None and document_ids is None
    if plain and (not past or tokens == 1):
        return None
    query = torch.arange(past, past + tokens, device=device)[:, None]
    key = torch.arange(past + tokens, device=device)
    mask = (key <= query)[None, None]
    if attention_mask is not None:
        covered = attention_mask.shape[1]
        if covered != past + tokens:
            raise ValueError(
                f"attention_mask covers {covered} tokens, not {past + tokens}"
            )
        # A padding query still sees itself: softmax over nothing is NaN.
        mask = mask & (attention_mask[:, None, None].bool() | (key == query))
    if document_ids is not None:
        if past:
            raise ValueError("document_ids cannot continue a cache")
        ours = document_ids[:, None]
        mask = mask & (ours[..., None] == ours[..., None, :])
    return mask


class KVCache:
    """Keys and values of the tokens so far, one preallocated block per layer.

    Holds 2 * layers tensors of shape (B, K, max_length, D), for use without
    gradients. `length` tokens are filled; it moves on once per forward pass
    of the model, by `advance`.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        max_length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (
            config.num_hidden_layers,
            batch_size,
            config.num_key_value_heads,
            max_length,
            config.head_dim,
        )
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.max_length = max_length
        self.length = 0

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write new keys and values, (B, K, T, D), and return all up to them.

        Raises ValueError past the end: an overwritten past would be garbage.
        """
        end = self.length + key.shape[2]
        if end > self.max_length:
            raise ValueError(f"{end} tokens, but the cache holds {self.max_length}")
        self.keys[layer, :, :, self.length : end] = key
        self.values[layer, :, :, self.length : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, tokens: int) -> None:
        """Count `tokens` more as filled, once every layer has written them."""
        self.length += tokens

    def nbytes(self) -> int:
        """Memory the cache occupies, in bytes."""
        return self.keys.nbytes + self.values.nbytes


class Attention(nn.Module):
    """Causal self-attention of H query heads; H / K share a key/value head.

    Shape: (B, T, C) -> (B, T, C). Sources: Ainslie et al. 2023; for `qk_norm`
    Henry et al. 2020, "Query-Key Normalization for Transformers".
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        wide = config.num_attention_heads * self.head_dim
        narrow = config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, wide, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, narrow, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, narrow, bias=False)
        self.o_proj = nn.Linear(wide, config.hidden_size, bias=False)
        self.q_norm = self.k_norm = nn.Identity()
        if config.qk_norm:
            self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Let every token of x, (B, T, C), read itself and what came before.

        rope: cosine and sine of the tokens' positions, each (B or 1, 1, T, D).
        mask: True where a query may look, (B or 1, 1, T, S) with S the tokens so
        far, from `attention_mask_for`. cache: the past to read and extend.
        """
        q = rearrange(self.q_proj(x), "b t (h d) -> b h t d", d=self.head_dim)
        k = rearrange(self.k_proj(x), "b t (k d) -> b k t d", d=self.head_dim)
        v = rearrange(self.v_proj(x), "b t (k d) -> b k t d", d=self.head_dim)
        q, k = self.q_norm(q), self.k_norm(k)
        q, k = apply_rope(q, *rope), apply_rope(k, *rope)
        if cache is not None:
            k, v = cache.update(self.layer, k, v)
        y = attend(q, k, v, mask)
        return self.o_proj(rearrange(y, "b h t d -> b t (h d)"))
