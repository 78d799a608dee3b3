"""What thinking before answering is worth, and what the tag weight does: chapter 13.

    python benchmarks/claims/reason.py

Each base learns long sums from equally many tokens: with their working written out,
with several weights on the tags, and by their answers alone. All are examined on
sums that no row holds. About six minutes a base on one thread.
"""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from claim import (
    chosen_seeds,
    fact_questions,
    facts_right,
    packed_chats,
    save,
    zero_directory,
)
from tqdm import tqdm

from minimind.commands.reason import NANO
from minimind.evaluate.reason import score_reasoning
from minimind.model.sampling import Sampling
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows
from minimind.text.tokenizer import Tokenizer
from minimind.text.world.reasoning import reason_exam, reason_rows
from minimind.text.world.write import TUNING
from minimind.train.checkpoint import load_model
from minimind.train.reason import count_weights, reason_loss, tag_ids, with_thinking
from minimind.train.run import Run

ROWS = TUNING["reason.jsonl"]
# Name, whether the rows have the working, and the weight on tags.
PLANS = [
    ("thinking", True, 10.0),
    ("direct", False, 10.0),
    ("thinking, weight 1", True, 1.0),
]
# Steps after which a few are asked.
LOOKS = [20, 40, 60, 80, 120, 160, 200, 240, 300, 370]
LOGGED = 10  # steps between two losses that are written down
FEW, MANY = 48, 200  # questions asked on the way, and in the end
DRAWN = Sampling(temperature=1.0, seed=0, max_new_tokens=96)


def learn(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    rows: PackedRows,
    weight: float,
    seed: int,
    name: str,
) -> dict[str, Any]:
    """Train a model; what it could do on the way, and its losses."""
    stage = {"tags": tag_ids(tokenizer), "tag_weight": weight}
    exam = list(reason_exam(seed, MANY))
    run = Run(
        model,
        tokenizer,
        rows,
        partial(reason_loss, **stage),
        replace(NANO, seed=seed),
        Path("out/claims"),
        count=partial(count_weights, **stage),
    )
    looks, losses = [], {"tag_loss": [], "text_loss": []}
    for step in tqdm(range(1, NANO.steps + 1), desc=name, unit="step"):
        run.take_step()
        if step % LOGGED == 0:
            for key in losses:
                losses[key].append(round(run.numbers[key], 5))
        if step in LOOKS or step == NANO.steps:
            few = exam if step == NANO.steps else exam[:FEW]
            found = score_reasoning(model.eval(), tokenizer, few)
            looks.append({"step": step, **found})
            model.train()
    return {"looks": looks, **losses}


def measure(base: Path, seed: int) -> list[dict[str, Any]]:
    """All runs from one base."""
    model, tokenizer = load_model(base / "sft")
    tokenizer = with_thinking(tokenizer)
    facts, exam = fact_questions(base)[::3], list(reason_exam(seed, MANY))
    runs = [{"name": "before", "seed": seed}]
    runs[0]["facts"] = facts_right(model, tokenizer, facts)
    with tempfile.TemporaryDirectory() as scratch:
        sets = {
            thinking: packed_chats(
                reason_rows(seed, ROWS, thinking),
                Path(scratch) / str(thinking),
                tokenizer,
                seed,
            )
            for thinking in (True, False)
        }
        for name, thinking, weight in PLANS:
            model, _ = load_model(base / "sft")
            run = learn(model, tokenizer, sets[thinking], weight, seed, name)
            run |= {key: run["looks"][-1][key] for key in run["looks"][-1]}
            run["facts"] = facts_right(model, tokenizer, facts)
            if name == "thinking":
                run["drawn"] = score_reasoning(model, tokenizer, exam, DRAWN)
                run["off"] = score_reasoning(
                    model, tokenizer, exam, enable_thinking=False
                )
            runs.append({"name": name, "seed": seed, "weight": weight, **run})
            print({k: v for k, v in run.items() if k in ("right", "off")}, flush=True)
        del sets  # close the memory maps before the folder goes
    return runs


def main() -> None:
    """Measure every base and write reason.json."""
    runs, seeds = [], []
    for seed in chosen_seeds(__doc__.splitlines()[0]):
        runs += measure(zero_directory(seed), seed)
        seeds.append(seed)
        tokens = NANO.steps * NANO.batch_size * 256
        about = {"tokens": tokens, "exam": MANY, "logged": LOGGED}
        save("reason", seeds, about | {"runs": runs})


if __name__ == "__main__":
    main()
