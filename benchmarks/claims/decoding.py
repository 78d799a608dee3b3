"""Speed of writing, with and without a cache, drawn in chapters 03 and 07.

    python benchmarks/claims/decoding.py

One step after a past of several lengths, for one, two and all key/value heads, with
the cache and by a full pass over the text; then whole texts in batches of several
sizes. Weights are random: they do not change the speed. The variants take turns in
one run, and medians are kept. About five minutes; measure on an idle machine.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from claim import save
from tqdm import tqdm

from minimind.model.attention import KVCache
from minimind.model.config import ModelConfig, get_preset
from minimind.model.generate import generate_ids
from minimind.model.sampling import GREEDY
from minimind.model.transformer import MiniMindForCausalLM

LENGTHS = [64, 128, 256, 512, 1024, 2048]  # tokens of the past
KINDS = {"MHA": 8, "GQA": 2, "MQA": 1}  # key/value heads of eight
BATCHES = [1, 4, 16, 64]
TURNS = 5  # times that each variant is measured
NEW, PROMPT = 64, 64  # tokens of the texts that are written in batches


def build(config: ModelConfig) -> MiniMindForCausalLM:
    """A model with random weights."""
    torch.manual_seed(0)
    return MiniMindForCausalLM(config).eval().requires_grad_(False)


def cached_step(model: MiniMindForCausalLM, past: int) -> Callable[[], Any]:
    """A function that computes one token after a past that a cache holds."""
    cache = KVCache(model.config, 1, past + 1)
    cache.keys.normal_()
    cache.values.normal_()
    token = torch.ones(1, 1, dtype=torch.long)

    def step() -> None:
        cache.length = past
        model(token, cache=cache, logits_to_keep=1)

    return step


def full_step(model: MiniMindForCausalLM, past: int) -> Callable[[], Any]:
    """A function that computes the past again for the sake of one token."""
    text = torch.ones(1, past + 1, dtype=torch.long)
    return lambda: model(text, logits_to_keep=1)


def take_turns(steps: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each function, called in turns after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(TURNS + 1):
        for name, step in steps.items():
            count = repeats if name.endswith(", cache") else 1
            began = time.perf_counter()
            for _ in range(count):
                step()
            if turn:
                seconds[name].append((time.perf_counter() - began) / count)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure_lengths(config: ModelConfig) -> dict[str, Any]:
    """Tokens a second by length for every kind, and the bytes of its cache."""
    models = {
        kind: build(replace(config, num_key_value_heads=heads))
        for kind, heads in KINDS.items()
    }
    rates: dict[str, list[float]] = {}
    for past in tqdm(LENGTHS, desc="lengths", unit="length"):
        steps = {}
        for kind, model in models.items():
            steps[f"{kind}, cache"] = cached_step(model, past)
            steps[f"{kind}, no cache"] = full_step(model, past)
        for name, seconds in take_turns(steps, repeats=10).items():
            rates.setdefault(name, []).append(round(1 / seconds, 2))
    caches = {kind: KVCache(m.config, 1, 1, "meta") for kind, m in models.items()}
    bytes_a_token = {kind: cache.nbytes() for kind, cache in caches.items()}
    return {"rates": rates, "cache bytes a token": bytes_a_token}


def measure_batches(config: ModelConfig) -> list[float]:
    """Tokens a second of whole greedy texts, by batch size."""
    model, sampling = build(config), replace(GREEDY, max_new_tokens=NEW)

    def write(batch: int) -> Callable[[], Any]:
        prompts = [[1] * PROMPT] * batch
        return lambda: list(generate_ids(model, prompts, sampling, stop_ids=()))

    seconds = take_turns({str(b): write(b) for b in BATCHES}, repeats=1)
    return [round(b * NEW / seconds[str(b)], 1) for b in BATCHES]


def main() -> None:
    """Measure and write the rates."""
    small, nano = get_preset("minimind2-small"), get_preset("nano")
    result = {
        "lengths": LENGTHS,
        "model": "minimind2-small",
        **measure_lengths(small),
        "batches": BATCHES,
        "batch": {
            "nano": measure_batches(nano),
            "minimind2-small": measure_batches(small),
        },
    }
    save("decoding", [0], result)
    print(result)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
