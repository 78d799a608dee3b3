"""The whole model: embedding, blocks, final norm, logits.

Explained in chapter 06. Names and arithmetic of a dense model are those of
`transformers`' `LlamaForCausalLM`, weight for weight. Sources: Vaswani et al.
2017; Touvron et al. 2023, "LLaMA"; Press and Wolf 2017 (tied embeddings).

Generated from notebooks/06_model.ipynb by tools/export.py; edit it there.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimind.model.attention import Attention, KVCache, attention_mask_for
from minimind.model.config import ModelConfig
from minimind.model.feedforward import FeedForward
from minimind.model.moe import MoEFeedForward, Routing
from minimind.model.norm import RMSNorm
from minimind.model.rope import RotaryEmbedding


class DecoderLayer(nn.Module):
    """One block: attention, then feed-forward, each added to the stream.

    Shape: (B, T, C) -> (B, T, C), and what the router did where there is one.
    The norm comes before each sub-layer.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = RMSNorm(size, eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(size, eps)
        kind = MoEFeedForward if config.num_experts else FeedForward
        self.mlp = kind(config)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KVCache | None,
    ) -> tuple[Tensor, Routing | None]:
        """Pass x, (B, T, C), through; the rest is as in `Attention`."""
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, cache)
        normed = self.post_attention_layernorm(x)
        if isinstance(self.mlp, FeedForward):
            return x + self.mlp(normed), None
        y, routing = self.mlp(normed)
        return x + y, routing


class MiniMindModel(nn.Module):
    """Token ids to hidden states: embedding, blocks, final norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, depth = config.hidden_size, config.num_hidden_layers
        self.embed_tokens = nn.Embedding(config.vocab_size, size)
        self.layers = nn.ModuleList(
            DecoderLayer(config, layer) for layer in range(depth)
        )
        self.norm = RMSNorm(size, config.rms_norm_eps)
        self.rotary_emb = RotaryEmbedding(
            config.head_dim,
            config.max_position_embeddings,
            config.rope_theta,
            config.rope_scaling,
        )

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        routings: list[Routing] | None = None,
    ) -> Tensor:
        """Hidden states, (B, T, C), of ids, (B, T), at given positions.

        What the layers' routers did is appended to `routings`, if given.
        """
        x = self.embed_tokens(input_ids)
        rope = self.rotary_emb(position_ids)
        for layer in self.layers:
            x, routing = layer(x, rope, mask, cache)
            if routings is not None and routing is not None:
                routings.append(routing)
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return self.norm(x)


def positions_of(
    tokens: int,
    past: int,
    attention_mask: Tensor | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Position of each of the new tokens, (B or 1, T), counted from 0.

    attention_mask: (B, past + T), 0 at padding, which is not counted.
    """
    if attention_mask is None:
        return torch.arange(past, past + tokens, device=device)[None]
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, past:]


def causal_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, of each token given those before it.

    logits (B, T, V), labels (B, T) with -100 where nothing is asked; asking
    nothing at all gives NaN. Computed in fp32. The shift by one happens here
    and nowhere else.
    """
    # The labels move, not the logits: those would have to be copied. What
    # follows the last token is not asked.
    answers = F.pad(labels[:, 1:], (0, 1), value=-100)
    return F.cross_entropy(
        logits.flatten(0, 1).float(), answers.flatten(), ignore_index=-100
    )


class ModelOutput(NamedTuple):
    """What a forward pass returns; None where it does not apply."""

    logits: Tensor  # (B, T, V)
    loss: Tensor | None = None  # the mean cross-entropy alone
    aux_loss: Tensor | None = None  # of all routers, to be added to the loss
    expert_load: Tensor | None = None  # (L, E): share of a layer's choices


class MiniMindForCausalLM(nn.Module):
    """The language model: the next token's logits at every position.

    `state_dict` keys and shapes of a dense model are `LlamaForCausalLM`'s.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = MiniMindModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for name, weight in self.named_parameters():
            self._init_weight(name, weight)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def _init_weight(self, name: str, weight: nn.Parameter) -> None:
        std = self.config.initializer_range
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            std /= (2 * self.config.num_hidden_layers) ** 0.5
        if weight.dim() == 2:  # the gains of the norms stay at one
            nn.init.normal_(weight, std=std)

    def hidden_states(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What comes before the logits, (B, T, C), and what the routers did.

        The arguments are those of `forward`; the last two of the result are the
        `aux_loss` and `expert_load` of `ModelOutput`.
        """
        tokens, past = input_ids.shape[1], cache.length if cache else 0
        limit = self.config.max_position_embeddings
        if (end := past + tokens) > limit:
            raise ValueError(f"{end} tokens, but the model's limit is {limit}")
        device = input_ids.device
        if position_ids is None:
            position_ids = positions_of(tokens, past, attention_mask, device)
        mask = attention_mask_for(tokens, past, attention_mask, document_ids, device)
        routings: list[Routing] = []
        hidden = self.model(input_ids, position_ids, mask, cache, routings)
        if not routings:
            return hidden, None, None
        aux_losses, loads = map(torch.stack, zip(*routings, strict=True))
        return hidden, aux_losses.sum(), loads

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        cache: KVCache | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
    ) -> ModelOutput:
        """Logits, the loss where labels are given, and what the routers did.

        input_ids, labels, document_ids: (B, T). Label t is the id *at* t; it is
        scored against the logits at t - 1, and -100 is not scored.
        attention_mask: (B, S), 0 at left padding, S the past plus T.
        document_ids: tokens see only tokens of the same document (packing).
        logits_to_keep: only the last so many positions get logits; 0 is all.
        Raises ValueError past `max_position_embeddings`.
        """
        hidden, aux_loss, expert_load = self.hidden_states(
            input_ids, position_ids, attention_mask, document_ids, cache
        )
        logits = self.lm_head(hidden[:, -logits_to_keep:])
        loss = None if labels is None else causal_lm_loss(logits, labels)
        return ModelOutput(logits, loss, aux_loss, expert_load)
