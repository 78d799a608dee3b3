"""Perplexity beyond the trained length, with and without scaling, drawn in chapter 02.

    python benchmarks/claims/rope_scaling.py

Trains the nano model on texts of exactly 128 tokens (stories of the little world,
one after the other, with attention over all of them), three seeds. Then it reads
texts of 1,024 tokens: plain, and with each way of stretching its frequencies; as it
is, and after 30 more steps on long texts. About nine minutes on one thread.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from claim import save, zero_directory
from torch import Tensor
from tqdm import tqdm

from minimind.model.config import get_preset
from minimind.model.context import extend_context
from minimind.model.rope import RotaryEmbedding
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.tokenizer import BOS_ID, Tokenizer
from minimind.text.world.stories import tell_story
from minimind.train.config import TrainConfig
from minimind.train.optim import build_optimizer, learning_rate

SEEDS = [0, 1, 2]
TRAINED, FACTOR = 128, 8  # tokens of a training text; how much further to read
LONG = TRAINED * FACTOR
METHODS = ["plain", "linear", "ntk", "yarn"]
EDGES = [1, 64, 128, 192, 256, 384, 512, 640, 768, 896, LONG]  # of the positions
CONFIG = TrainConfig(steps=300, warmup=20, learning_rate=6e-3)
TUNING = TrainConfig(steps=30, warmup=3, learning_rate=1e-3)
TOKENS = 2048  # in a step


def texts(tokenizer: Tokenizer, seed: str, rows: int, length: int) -> Iterator[Tensor]:
    """Batches without end of English stories in a row, (rows, length) ids."""
    rng = Random(seed)
    while True:
        batch = []
        for _ in range(rows):
            ids = [BOS_ID]
            while len(ids) < length:
                ids += tokenizer.encode(" " + tell_story(rng, "en").text)
            batch.append(ids[:length])
        yield torch.tensor(batch)


def train(
    model: MiniMindForCausalLM,
    batches: Iterator[Tensor],
    config: TrainConfig,
    name: str,
) -> float:
    """Train on texts, every token of which sees all before it; the last loss."""
    optimizer = build_optimizer(model, config.learning_rate, config.weight_decay)
    model.train()
    for step in tqdm(range(config.steps), desc=name, unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        ids = next(batches)
        loss = model(ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def train_short(tokenizer: Tokenizer, seed: int, steps: int) -> MiniMindForCausalLM:
    """A nano model that has read nothing longer than TRAINED tokens."""
    torch.manual_seed(seed)
    config = replace(get_preset("nano"), max_position_embeddings=TRAINED)
    model = MiniMindForCausalLM(config)
    batches = texts(tokenizer, f"short {seed}", TOKENS // TRAINED, TRAINED)
    train(model, batches, replace(CONFIG, steps=steps), f"seed {seed}")
    return model


def lengthened(model: MiniMindForCausalLM, method: str) -> MiniMindForCausalLM:
    """A copy that accepts LONG tokens, stretched by a method or left "plain"."""
    model = copy.deepcopy(model)
    if method != "plain":
        extend_context(model, method, FACTOR)
        return model
    config = replace(model.config, max_position_embeddings=LONG)
    table = RotaryEmbedding(config.head_dim, LONG, config.rope_theta)
    model.config, model.model.rotary_emb = config, table
    return model


@torch.no_grad()
def perplexity(model: MiniMindForCausalLM, ids: Tensor) -> list[float]:
    """Perplexity of texts, (B, LONG), in each range of positions between EDGES."""
    model.eval()
    losses = []
    for part in ids.split(2):
        logits = model(part).logits[:, :-1].flatten(0, 1)
        loss = F.cross_entropy(logits, part[:, 1:].flatten(), reduction="none")
        losses.append(loss.view(len(part), -1))
    per_position = torch.cat(losses).mean(0)  # entry t belongs to position t + 1
    ranges = zip(EDGES, EDGES[1:])
    return [
        round(per_position[a - 1 : b - 1].mean().exp().item(), 3) for a, b in ranges
    ]


def measure(tokenizer: Tokenizer, seed: int) -> list[dict[str, Any]]:
    """All methods on the model of one seed, before and after tuning."""
    model = train_short(tokenizer, seed, CONFIG.steps)
    unseen = next(texts(tokenizer, "unseen", 16, LONG))
    runs = []
    for method in METHODS:
        longer = lengthened(model, method)
        before = perplexity(longer, unseen)
        batches = texts(tokenizer, f"long {seed}", TOKENS // LONG, LONG)
        train(longer, batches, TUNING, f"seed {seed}, {method}")
        after = perplexity(longer, unseen)
        runs.append({"seed": seed, "method": method, "before": before, "after": after})
    return runs


def main() -> None:
    """Measure all seeds and write the perplexities."""
    tokenizer = Tokenizer.load(zero_directory(until="tokenizer") / "tokenizer")
    runs = [run for seed in SEEDS for run in measure(tokenizer, seed)]
    about = {"trained": TRAINED, "factor": FACTOR, "edges": EDGES}
    save("rope_scaling", SEEDS, {**about, "runs": runs})
    for run in runs:
        print(run["seed"], f"{run['method']:6}", run["before"], run["after"])


if __name__ == "__main__":
    main()
