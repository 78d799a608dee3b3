"""A trained model, given a longer context by stretching its rotary frequencies.

Explained in chapter 02. Sources: Chen et al. 2023, "Positional Interpolation";
Peng et al. 2023, "YaRN" (which also describes the NTK-aware base).
"""

from dataclasses import replace
from typing import Literal

from minimind.errors import UserError
from minimind.model.rope import RopeScaling, RotaryEmbedding, ntk_theta
from minimind.model.transformer import MiniMindForCausalLM

Method = Literal["linear", "ntk", "yarn"]


def extend_context(
    model: MiniMindForCausalLM,
    method: Method,
    factor: float,
    trained_length: int | None = None,
) -> None:
    """Let a model read `factor` times as far as it was trained, in place.

    trained_length: tokens of the longest texts it was trained on; None means
    its limit, max_position_embeddings. Sets the new limit and the scaling in
    model.config, and makes the rotary table anew, once for all lengths. Raises
    UserError for a factor below 1, a length below 1, and a model that is
    stretched already by linear or yarn; ntk leaves no trace but another base.
    """
    config = model.config
    length = (
        config.max_position_embeddings if trained_length is None else trained_length
    )
    if config.rope_scaling is not None:
        known = config.rope_scaling.rope_type
        raise UserError(f"the model's context is stretched already, by {known!r}")
    try:
        scaling = RopeScaling("linear" if method == "ntk" else method, factor, length)
    except ValueError as error:
        raise UserError(f"rope scaling: {error}") from None
    if method == "ntk":  # nothing but another base
        changes = {"rope_theta": ntk_theta(config.rope_theta, factor, config.head_dim)}
    else:
        changes = {"rope_scaling": scaling}
    config = replace(config, max_position_embeddings=int(factor * length), **changes)
    table = RotaryEmbedding(
        config.head_dim,
        config.max_position_embeddings,
        config.rope_theta,
        config.rope_scaling,
    )
    model.config = config
    model.model.rotary_emb = table.to(model.lm_head.weight.device)
