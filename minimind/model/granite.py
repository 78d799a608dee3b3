"""Experts in the tensors of `GraniteMoeSharedForCausalLM`, and back.

Explained in chapter 06. The names are those of the file, which transformers
4 and 5, vLLM and llama.cpp read.
"""

import re

import torch
from torch import Tensor

from minimind.model.config import ModelConfig
from minimind.model.hf import model_type


def experts_of(
    weights: dict[str, Tensor], prefix: str, count: int
) -> list[list[Tensor]]:
    """The gate, up and down matrices of experts 0 to count - 1."""
    return [
        [weights[f"{prefix}.{e}.{part}_proj.weight"] for e in range(count)]
        for part in ("gate", "up", "down")
    ]


def weights_to_hf(config: ModelConfig, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under the names, and in the shapes, of the file."""
    if model_type(config) != "granitemoeshared":
        return weights
    stored = {k: v for k, v in weights.items() if ".mlp." not in k}
    for layer in range(config.num_hidden_layers):
        name = f"model.layers.{layer}."
        mlp, moe = name + "mlp.", name + "block_sparse_moe."
        stored[moe + "router.layer.weight"] = weights[mlp + "gate.weight"]
        gates, ups, downs = experts_of(weights, mlp + "experts", config.num_experts)
        both = [torch.cat(pair) for pair in zip(gates, ups, strict=True)]
        stored[moe + "input_linear.weight"] = torch.stack(both)
        stored[moe + "output_linear.weight"] = torch.stack(downs)
        gates, ups, downs = experts_of(
            weights, mlp + "shared_experts", config.num_shared_experts
        )
        if downs:
            shared = name + "shared_mlp."
            stored[shared + "input_linear.weight"] = torch.cat(gates + ups)
            stored[shared + "output_linear.weight"] = torch.cat(downs, dim=1)
    return stored


GRANITE = re.compile(
    r"(.+)\.(block_sparse_moe|shared_mlp)\."
    r"(router\.layer|input_linear|output_linear)\.weight"
)


def weights_from_hf(
    config: ModelConfig, stored: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The other way round; what is not an expert's keeps its name."""
    weights, inner = {}, config.intermediate_size
    for key, value in stored.items():
        found = GRANITE.fullmatch(key)
        if found is None:
            weights[key] = value
            continue
        layer, place, part = found.groups()
        routed = place == "block_sparse_moe"
        prefix = f"{layer}.mlp." + ("experts" if routed else "shared_experts")
        if part == "router.layer":
            weights[f"{layer}.mlp.gate.weight"] = value
        elif part == "input_linear":
            pairs = [expert.chunk(2) for expert in value]
            if not routed:
                pairs = zip(*(half.split(inner) for half in value.chunk(2)))
            for e, (gate, up) in enumerate(pairs):
                weights[f"{prefix}.{e}.gate_proj.weight"] = gate
                weights[f"{prefix}.{e}.up_proj.weight"] = up
        else:
            downs = value if routed else value.split(inner, dim=1)
            for e, down in enumerate(downs):
                weights[f"{prefix}.{e}.down_proj.weight"] = down
    return weights
