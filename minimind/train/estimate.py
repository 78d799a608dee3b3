"""What a run will take: measured here in a few steps, or worked out on paper.

Explained in chapter 14. Sources: Chowdhery et al. 2022, "PaLM", appendix B (MFU);
Rajbhandari et al. 2020, "ZeRO" (memory and communication).
"""

import platform
import re
import time
from typing import Any

import torch
from torch import Tensor, nn

from minimind.errors import UserError
from minimind.model.config import ModelConfig, get_preset, nearest
from minimind.model.transformer import MiniMindForCausalLM
from minimind.train.distributed import say, world_size
from minimind.train.run import Run

# Dense 16-bit TFLOP/s by the maker's data sheet; names as PyTorch gives them.
PEAKS = {
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "RTX 4090": 165,
    "RTX 3090": 71,
    "V100": 125,
    "T4": 65,
}


def active_parameters(
    model: nn.Module, config: ModelConfig, trained: bool = False
) -> int:
    """Weights that take part in a token's matrix products.

    Of the routed experts a token uses some; an embedding is only looked up,
    unless it is the output head as well. trained: count those only that move.
    """
    share = config.num_experts_per_tok / max(config.num_experts, 1)
    used = 0.0
    for name, weight in model.named_parameters():
        looked_up = "embed_tokens" in name and not config.tie_word_embeddings
        if looked_up or trained and not weight.requires_grad:
            continue
        used += weight.numel() * (share if ".experts." in name else 1)
    return round(used)


def flops_per_token(model: nn.Module, config: ModelConfig, tokens: int) -> float:
    """Operations of training on one token of a row.

    A weight costs 2 forwards, 2 backwards, and 2 for its own gradient if it moves;
    attention 12 * layers * heads * head_dim * tokens.
    """
    width = config.num_attention_heads * config.head_dim
    attention = 12 * config.num_hidden_layers * width * tokens
    moving = active_parameters(model, config, trained=True)
    return 4 * active_parameters(model, config) + 2 * moving + attention


def peak_flops(device: torch.device) -> tuple[str, float | None]:
    """The name of the device, and its 16-bit operations a second where known."""
    if device.type != "cuda":
        return f"{platform.machine()} {device.type}", None
    name = torch.cuda.get_device_name(device)
    known = [peak for part, peak in PEAKS.items() if re.search(rf"\b{part}\b", name)]
    return name, 1e12 * known[0] if known else None


# What a parameter takes in memory, in bytes, as AdamW trains it in fp32; and the
# first stage of ZeRO that divides it between the GPUs.
STATE = {"weights": (4, 3), "gradients": (4, 2), "moments": (8, 1)}


def state_bytes(parameters: int, gpus: int = 1, stage: int = 0) -> dict[str, float]:
    """Bytes of each kind that one GPU holds; stage: of ZeRO, 0 is DDP.

    The activations come on top.
    """
    return {
        kind: size * parameters / (gpus if stage >= first else 1)
        for kind, (size, first) in STATE.items()
    }


def kept_bytes(model: nn.Module, ids: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, beside the weights.

    ids: (B, T), on the device of the model, which may be "meta" if it is dense.
    """
    places = {p.untyped_storage()._cdata for p in model.parameters()}
    kept, alive = {}, []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        alive.append(storage)  # or its place would be given to another
        if storage._cdata not in places:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(ids, labels=ids)
    return sum(kept.values())


def sent_bytes(parameters: int, gpus: int, stage: int = 0) -> float:
    """Bytes that one GPU sends for one gradient, over a ring of all of them.

    To add up what all have, a share for each, is one way round the ring; to give
    everyone all shares is another. DDP does both with the gradient, stages 1 and 2
    the second with the new weights. Stage 3 has to collect weights twice, for the
    forward and for the backward pass. All of it in fp32.
    """
    rounds = 3 if stage == 3 else 2
    return rounds * (gpus - 1) / gpus * 4 * parameters


def plan(
    model: nn.Module,
    config: ModelConfig,
    tokens: float,
    row: int,
    gpu: str,
    gpus: int = 1,
    mfu: float = 0.3,
    price: float = 0.0,
) -> dict[str, float]:
    """Operations, seconds and cost of training on so many tokens, in rows of `row`.

    gpu: a name of PEAKS; mfu: the share of its peak that will be reached, which is
    an assumption until `measure` has told; price: of one GPU an hour. The model may
    be on the "meta" device. Raises UserError for an unknown GPU.
    """
    if gpu not in PEAKS:
        raise UserError(f"gpu {gpu!r}: {nearest(gpu, list(PEAKS))}")
    flops = tokens * flops_per_token(model, config, row)
    seconds = flops / (1e12 * PEAKS[gpu] * mfu * gpus)
    return {
        "flops": flops,
        "seconds": seconds,
        "cost": price * gpus * seconds / 3600,
    }


# Of Chinese text: UTF-8, and what MiniMind's 6,400 ids come to.
BYTES_A_CHARACTER, CHARACTERS_A_TOKEN = 3, 1.6


def outlook(
    preset: str,
    gigabytes: float,
    row: int = 512,
    gpu: str = "RTX 3090",
    mfu: float = 0.25,
    price: float = 0.2,
) -> str:
    """What one pass of training over so large a jsonl will take, in words.

    Counts the file as Chinese text, its field names included, so it is rather too
    much. mfu: as chapter 14 finds it; price: an example, of one GPU an hour.
    """
    shape = get_preset(preset)
    with torch.device("meta"):
        model = MiniMindForCausalLM(shape)
    tokens = 1e9 * gigabytes / BYTES_A_CHARACTER / CHARACTERS_A_TOKEN
    found = plan(model, shape, tokens, row, gpu, mfu=mfu, price=price)
    parameters = sum(p.numel() for p in model.parameters())
    held = sum(state_bytes(parameters).values()) / 1e9
    return (
        f"{preset}: {tokens / 1e6:,.1f}M tokens, {hours(found['seconds'])}\n  on one "
        f"{gpu} at {mfu:.0%} of its peak, {found['cost']:.2f} at {price:g} an hour\n  "
        f"with {held:.2f} GB beside the activations"
    )


def hours(seconds: float) -> str:
    """A duration for people: 42 s, 3 min 5 s, 7 h 12 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def measure(run: Run, steps: int, price: float | None = None) -> dict[str, Any]:
    """Take some steps; print and return what the whole run would take.

    The first step is not counted: it compiles, and finds its memory. price: of
    an hour of all machines together.
    """
    run.take_step()
    began = time.perf_counter()
    for _ in range(steps):
        run.take_step()
    seconds = (time.perf_counter() - began) / steps
    config, row = run.config, run.rows.row_length
    tokens = run.rows_per_step * row
    name, peak = peak_flops(run.device)
    found: dict[str, Any] = {
        "device": name,
        "dtype": str(run.dtype).removeprefix("torch."),
        "processes": world_size(),
        "tokens_per_second": tokens / seconds,
        "memory_gb": run.numbers["memory_gb"],
        "seconds": seconds * config.steps,
    }
    say(
        f"{name} x {world_size()}, {found['dtype']}: {steps} steps of {tokens:,} "
        f"tokens ({config.batch_size} rows of {row} x {config.accumulation} x "
        f"{world_size()})"
    )
    line = f"{tokens / seconds:,.0f} tokens/s"
    if found["memory_gb"]:
        line += f", {found['memory_gb']:.2f} GB a process at most"
    # These two run a second model, or draw replies, which is not counted.
    if peak and run.info.get("stage") not in ("distill", "grpo"):
        done = flops_per_token(run.model, run.model.config, row) * tokens / seconds
        found["mfu"] = done / peak / world_size()
        line += f", {found['mfu']:.1%} of {peak / 1e12:.0f} TFLOP/s (MFU)"
    say(line)
    line = f"{config.steps:,} steps, {tokens * config.steps / 1e6:,.1f}M tokens: "
    line += hours(found["seconds"])
    if price is not None:
        found["cost"] = price * found["seconds"] / 3600
        line += f", {found['cost']:,.2f} at {price:g} an hour"
    say(line)
    return found
