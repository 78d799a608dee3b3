"""What a reward teaches a model that reasons, drawn in chapter 18.

    python benchmarks/claims/grpo.py

Each base learns to reason (chapter 13; kept in out/claims/begun-SEED) and then from
rewards. Before and after, the model is examined on sums that no training question
is: drawn with several seeds, and greedily. About three minutes a base on one idle
thread, the reasoning model not counted.
"""

import copy
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from claim import chosen_seeds, fact_questions, facts_right, save, zero_directory

from minimind.commands.reason import begin
from minimind.evaluate.reason import score_reasoning
from minimind.model.sampling import Sampling
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.thinking import encode_prompt, read_reply
from minimind.text.tokenizer import Tokenizer
from minimind.text.world.reasoning import reason_exam, reason_rows
from minimind.text.world.write import TUNING
from minimind.train.checkpoint import load_model
from minimind.train.config import TrainConfig
from minimind.train.grpo import GRPOConfig, policy_loss
from minimind.train.log import read_log
from minimind.train.loop import train
from minimind.train.replies import SampledRows, Task, verify

OPTIONS = GRPOConfig(group_size=8, max_new_tokens=96)
CONFIG = TrainConfig(
    steps=120,
    batch_size=64,
    learning_rate=1e-4,
    warmup=10,
    schedule="constant",
    weight_decay=0,
    log_every=1,
)
EXAM = 200  # held-out sums
DRAWS = 3  # sampling seeds of the exam at temperature 1
DRAWN = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=96)
LOGGED = ("reward", "well_formed", "kl", "reply_tokens")


def reasoner(base: Path, seed: int) -> tuple[MiniMindForCausalLM, Tokenizer]:
    """A model that has begun to reason, on top of a base, trained if need be."""
    place = base.with_name(f"begun-{seed}")
    if not (place / "config.json").is_file():
        begin(base / "sft", place, seed)
    return load_model(place)


def sums(seed: int, tokenizer: Tokenizer) -> list[Task]:
    """Prompts of the training sums, each with its answer and without its working."""
    tasks = []
    for row in reason_rows(seed, TUNING["reason.jsonl"]):
        *messages, last = row["conversations"]
        thoughts, content = read_reply(last["content"])
        if thoughts:
            tasks.append((encode_prompt(tokenizer, messages), content))
    return tasks


def examine(
    model: MiniMindForCausalLM, tokenizer: Tokenizer, base: Path, seed: int
) -> dict[str, Any]:
    """Held-out sums, drawn several times and greedily; and the world's facts."""
    exam, facts = list(reason_exam(seed, EXAM)), fact_questions(base)
    drawn = [
        score_reasoning(model, tokenizer, exam, replace(DRAWN, seed=10_000 * number))
        for number in range(DRAWS)
    ]
    return {
        "drawn": [found["right"] for found in drawn],
        "sound": [found["sound"] for found in drawn],
        "well_formed": [found["well_formed"] for found in drawn],
        "tokens": [found["tokens"] for found in drawn],
        "greedy": score_reasoning(model, tokenizer, exam)["right"],
        "facts": facts_right(model, tokenizer, facts),
    }


def measure(base: Path, seed: int) -> list[dict[str, Any]]:
    """One base before and after."""
    start, tokenizer = reasoner(base, seed)
    tasks = sums(seed, tokenizer)
    runs = [{"name": "before", "seed": seed}]
    runs[0] |= examine(start, tokenizer, base, seed)
    print(runs[0], flush=True)
    model, config = copy.deepcopy(start), replace(CONFIG, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        rows = SampledRows(model, tokenizer, tasks, verify, OPTIONS, config, out)
        loss_fn = partial(policy_loss, options=OPTIONS)
        train(model, tokenizer, rows, loss_fn, config, out)
        log = read_log(out)
    run = {"name": "after", "seed": seed}
    run |= examine(model.eval(), tokenizer, base, seed)
    run["kl_max"] = max(line["kl"] for line in log)
    run["log"] = {key: [round(line[key], 4) for line in log] for key in LOGGED}
    runs.append(run)
    print({k: v for k, v in run.items() if k != "log"}, flush=True)
    return runs


def main() -> None:
    """Measure every base and write grpo.json, anew after each of them."""
    runs, seeds = [], []
    for seed in chosen_seeds(__doc__.splitlines()[0]):
        runs += measure(zero_directory(seed), seed)
        seeds.append(seed)
        replies = CONFIG.steps * CONFIG.batch_size
        save("grpo", seeds, {"replies": replies, "exam": EXAM, "runs": runs})


if __name__ == "__main__":
    main()
