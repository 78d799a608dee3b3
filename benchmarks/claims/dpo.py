"""What a preference does to style, facts, sense, length and distance: chapter 11.

    python benchmarks/claims/dpo.py

Each base learns to prefer stories in which people speak, with several values of
beta, and once with an SFT term. Stories are drawn at temperature 1 on requests
about things that no training pair is about. About five minutes a base.
"""

import copy
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from claim import chosen_seeds, fact_questions, save, zero_directory

from minimind.evaluate.world import answer
from minimind.model.sampling import Sampling
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import collate
from minimind.text.pairs import PairRows, encode_last_answer
from minimind.text.tokenizer import Tokenizer
from minimind.text.world import check_story
from minimind.text.world.tuning import preference_exam, preference_rows, spoken
from minimind.train.checkpoint import load_model
from minimind.train.config import TrainConfig
from minimind.train.dpo import (
    DPOConfig,
    check_start,
    count_pairs,
    preference_loss,
    reference_logps,
)
from minimind.train.loop import train

BETAS = [0.1, 0.3, 1.0, 3.0]
PAIRS = 2000
CONFIG = TrainConfig(
    steps=100, batch_size=8, warmup=10, learning_rate=7e-5, weight_decay=0
)
PLANS = {f"beta {beta:g}": DPOConfig(beta) for beta in BETAS}
PLANS["beta 1, SFT term"] = DPOConfig(1.0, sft_weight=1.0)
DRAWN = Sampling(temperature=1.0, seed=0, max_new_tokens=160)
SHORT = Sampling(temperature=0.0, max_new_tokens=48)
LONGEST = 400  # tokens of a conversation


def as_rows(
    pairs: list[dict[str, list]], tokenizer: Tokenizer, seed: int = 0
) -> PairRows:
    """Pairs of conversations as training rows."""
    sides = ("chosen", "rejected")
    encoded = (
        [encode_last_answer(tokenizer, p[side]) for side in sides] for p in pairs
    )
    return PairRows(encoded, LONGEST, seed)


class Exam:
    """What every model of one base is asked."""

    def __init__(self, base: Path, seed: int) -> None:
        self.base, self.tokenizer = load_model(base / "sft")
        self.facts = fact_questions(base)
        self.pairs = list(preference_exam(seed))
        self.requests = [pair["chosen"][0]["content"] for pair in self.pairs]
        self.rows = as_rows(self.pairs, self.tokenizer)
        self.rows.reference = reference_logps(self.base, self.rows)

    def score(self, model: MiniMindForCausalLM) -> dict[str, float]:
        """Style, sense, length and distance of drawn stories; right facts."""
        told = answer(model.eval(), self.tokenizer, self.requests, DRAWN)
        said = [word for reply in told for word in spoken(reply.text)]
        given = answer(model, self.tokenizer, [q for q, _ in self.facts], SHORT)
        chats = [
            [
                {"role": "user", "content": request},
                {"role": "assistant", "content": reply.text},
            ]
            for request, reply in zip(self.requests, told)
            if reply.finish_reason == "stop"
        ]
        twice = [{"chosen": chat, "rejected": chat} for chat in chats]
        drawn = as_rows(twice, self.tokenizer)
        ratio = reference_logps(model, drawn) - reference_logps(self.base, drawn)
        with torch.no_grad():
            batch = collate(self.rows.pair(n) for n in range(len(self.rows)))
            _, held_out = preference_loss(model, batch, DPOConfig(1.0))
        return {
            "spoken": sum(said) / len(said),
            "sense": sum(not check_story(reply.text) for reply in told) / len(told),
            "tokens": sum(len(reply.ids) for reply in told) / len(told),
            "facts": sum(r.text == a for r, (_, a) in zip(given, self.facts))
            / len(self.facts),
            "kl": float(ratio.mean()),
            "held_out_accuracy": held_out["accuracy"].item(),
        }


def measure(base: Path, seed: int) -> list[dict[str, Any]]:
    """All runs from one base."""
    exam = Exam(base, seed)
    runs = [{"name": "before", "seed": seed, **exam.score(exam.base)}]
    print(runs[0], flush=True)
    rows = as_rows(list(preference_rows(seed, PAIRS)), exam.tokenizer, seed)
    rows.reference = reference_logps(exam.base, rows)
    config = replace(CONFIG, seed=seed)
    for name, options in PLANS.items():
        model = copy.deepcopy(exam.base)
        run = {"name": name, "seed": seed}
        run["first_loss"] = check_start(model, rows, options)
        loss_fn = partial(preference_loss, options=options)
        with tempfile.TemporaryDirectory() as out:
            numbers = train(
                model,
                exam.tokenizer,
                rows,
                loss_fn,
                config,
                Path(out),
                count=count_pairs,
            )
        for key in ("dpo_loss", "margin", "chosen_logp", "rejected_logp"):
            run[key] = numbers[key]
        runs.append(run | exam.score(model))
        print(runs[-1], flush=True)
    return runs


def main() -> None:
    """Measure every base and write dpo.json."""
    seeds = chosen_seeds(__doc__.splitlines()[0])
    runs = [run for seed in seeds for run in measure(zero_directory(seed), seed)]
    result = {"pairs": CONFIG.steps * CONFIG.batch_size, "betas": BETAS, "runs": runs}
    save("dpo", seeds, result)


if __name__ == "__main__":
    main()
