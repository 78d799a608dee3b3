"""What an adapter teaches and what is forgotten, drawn in chapter 10.

    python benchmarks/claims/lora.py

Each base learns the identity set: with adapters of several ranks, with all of
its weights, and both without the ordinary chats. Every run sees as many
rows. About ten minutes a base on one thread.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from claim import chosen_seeds, fact_questions, packed_chats, save, zero_directory

from minimind.evaluate.world import answer
from minimind.model.sampling import Sampling
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.tokenizer import Tokenizer
from minimind.text.world.tuning import identity_exam, identity_rows
from minimind.train.checkpoint import load_model
from minimind.train.config import TrainConfig
from minimind.train.loop import train
from minimind.train.lora import (
    LoRAConfig,
    add_adapter,
    merge_adapter,
    trainable_share,
)
from minimind.train.sft import answer_loss

RANKS = [1, 4, 16]
ROWS = 2400
THIN = TrainConfig(
    steps=300, batch_size=2, warmup=10, learning_rate=4e-3, weight_decay=0
)
FULL = replace(THIN, learning_rate=1e-3)  # all weights, which are good already
SHORT = Sampling(temperature=0.0, max_new_tokens=48)
# Name, rank or None for all weights, and whether ordinary chats are among the rows.
PLANS = [(f"LoRA, rank {rank}", rank, True) for rank in RANKS]
PLANS += [("all weights", None, True)]
PLANS += [("LoRA, rank 4, new only", 4, False), ("all weights, new only", None, False)]

Exam = list[tuple[str, str]]  # question, answer


def right(model: MiniMindForCausalLM, tokenizer: Tokenizer, exam: Exam) -> float:
    """Share of greedy replies that equal the answer to the letter."""
    replies = answer(model.eval(), tokenizer, [q for q, _ in exam], SHORT)
    return sum(r.text == a for r, (_, a) in zip(replies, exam)) / len(exam)


def difference_when_merged(model: MiniMindForCausalLM, ids: torch.Tensor) -> float:
    """Largest difference of a logit between the adapted and the merged model."""
    with torch.no_grad():
        adapted = model(ids).logits
        merge_adapter(model)
        return (model(ids).logits - adapted).abs().max().item()


def measure(base: Path, seed: int) -> list[dict[str, Any]]:
    """All runs from one base."""
    model, tokenizer = load_model(base / "sft")
    facts = fact_questions(base)
    new = [(q.text, q.answer) for q in identity_exam(seed)]
    chats = list(identity_rows(seed, ROWS))
    only_new = [chat for n, chat in enumerate(chats) if not n // 2 % 3]
    runs = [{"name": "before", "seed": seed, "share": 0.0}]
    runs[0]["new"] = right(model, tokenizer, new)
    runs[0]["facts"] = right(model, tokenizer, facts)
    print(runs[0], flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        sets = {
            True: packed_chats(chats, Path(scratch) / "mixed", tokenizer, 0),
            False: packed_chats(only_new, Path(scratch) / "new", tokenizer, 0),
        }
        for number, (name, rank, mixed) in enumerate(PLANS):
            model, _ = load_model(base / "sft")
            config = FULL
            if rank:
                torch.manual_seed(seed)
                add_adapter(model, "identity", LoRAConfig(rank, 2 * rank))
                config = THIN
            out = Path(scratch) / str(number)
            config = replace(config, seed=seed)
            run = {"name": name, "seed": seed, "share": trainable_share(model)}
            numbers = train(model, tokenizer, sets[mixed], answer_loss, config, out)
            run["loss"] = numbers["loss"]
            run["new"] = right(model, tokenizer, new)
            run["facts"] = right(model, tokenizer, facts)
            if rank:
                ids = torch.tensor([tokenizer.encode_document(new[0][0])])
                run["merged_difference"] = difference_when_merged(model, ids)
            runs.append(run)
            print(run, flush=True)
        del sets  # close the memory maps before the folder goes
    return runs


def main() -> None:
    """Measure every base and write lora.json."""
    seeds = chosen_seeds(__doc__.splitlines()[0])
    runs = [run for seed in seeds for run in measure(zero_directory(seed), seed)]
    result = {
        "rows": THIN.steps * THIN.batch_size,
        "ranks": RANKS,
        "forgetting": [name for name, rank, _ in PLANS if rank in (4, None)],
        "runs": runs,
    }
    save("lora", seeds, result)


if __name__ == "__main__":
    main()
