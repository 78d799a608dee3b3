"""What the sampling settings do to the trained nano model, drawn in chapter 07.

    python benchmarks/claims/sampling.py

For the models of `minimind zero` with three seeds: stories and facts over
temperatures, the same for each remedy against repetition, and how much a text
repeats when nothing stops it. About three minutes a model on one thread; those
that are not in out/claims/zero-SEED yet are trained first, seven minutes each.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from claim import save, zero_directory
from tqdm import tqdm

from minimind.evaluate.repetition import distinct, repetition
from minimind.evaluate.world import answer
from minimind.model.generate import generate_ids
from minimind.model.sampling import CHAT, Sampling
from minimind.text.world.story_check import check_story
from minimind.train.checkpoint import load_model

SEEDS = [0, 1, 2]
TEMPERATURES = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2]
PLAIN = Sampling(1.0, top_p=1.0, max_new_tokens=160)
REMEDIES = {
    "none": {},
    **{f"penalty {x}": {"repetition_penalty": x} for x in (1.02, 1.05, 1.1, 1.2)},
    **{f"no {x}-gram twice": {"no_repeat_ngram_size": x} for x in (4, 8, 12)},
    "default of the chat": {
        "repetition_penalty": CHAT.repetition_penalty,
        "no_repeat_ngram_size": CHAT.no_repeat_ngram_size,
    },
}
QUESTIONS = 100  # of the world's held-out ones
ENDLESS = 48  # stories that are written on past their end, for 256 tokens


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a jsonl file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def mean(values: list[float]) -> float:
    """The mean, to four digits."""
    return round(sum(values) / len(values), 4)


def measure(zero: Path, settings: list[tuple[str, Sampling]]) -> dict[str, Any]:
    """Scores of one `minimind zero` directory under each of the settings."""
    model, tokenizer = load_model(zero / "sft")
    prompts = [row["prompt"] for row in rows(zero / "world" / "story_prompts.jsonl")]
    asked = rows(zero / "world" / "questions.jsonl")
    asked = asked[:: len(asked) // QUESTIONS]
    scores = {}
    for name, sampling in tqdm(settings, desc=str(zero), unit="setting"):
        stories = answer(model, tokenizer, prompts, sampling)
        replies = answer(model, tokenizer, [q["question"] for q in asked], sampling)
        starts = [[1, *tokenizer.encode(s.text)[:8]] for s in stories[:ENDLESS]]
        longer = replace(sampling, max_new_tokens=256)
        endless = zip(*generate_ids(model, starts, longer, stop_ids=()))
        scores[name] = {
            "facts": mean([r.text == q["answer"] for r, q in zip(replies, asked)]),
            "stories": mean([not check_story(s.text) for s in stories]),
            "stops": mean([s.finish_reason == "stop" for s in stories]),
            "length": mean([len(s.ids) for s in stories]),
            "distinct-2": round(distinct([s.ids for s in stories], 2), 4),
            "repetition": mean([repetition(s.ids) for s in stories]),
            "repetition past the end": mean([repetition(ids) for ids in endless]),
        }
    return scores


def main() -> None:
    """Measure all models under all settings."""
    runs = {}
    for seed in SEEDS:
        zero = zero_directory(seed)
        # Row i of a batch draws with seed + i: far apart, no two models share one.
        plain = replace(PLAIN, seed=1000 * seed)
        heat = [(str(t), replace(plain, temperature=float(t))) for t in TEMPERATURES]
        usual = replace(CHAT, max_new_tokens=160, seed=1000 * seed)
        usual = replace(usual, repetition_penalty=1.0, no_repeat_ngram_size=0)
        remedies = [(name, replace(usual, **new)) for name, new in REMEDIES.items()]
        runs[seed] = {
            "temperature": measure(zero, heat),
            "remedy": measure(zero, remedies),
        }
    save("sampling", SEEDS, {"runs": runs})


if __name__ == "__main__":
    main()
