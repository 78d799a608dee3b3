"""What a small model gains from a larger one's probabilities: chapter 12.

    python benchmarks/claims/distill.py

A student of half the size is pretrained on the data alone, and with each base's
pretrained model as its teacher, for equally many steps. With the first base also: for
as many steps with the teacher as cost the same arithmetic; both where there is little
data; and another temperature. About six minutes for three bases on one idle core.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from claim import HELD_OUT, TRAINING, chosen_seeds, open_rows, save, zero_directory
from tqdm import tqdm

from minimind.model.config import PRESETS
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows
from minimind.text.tokenizer import Tokenizer
from minimind.text.tokens import TokenFile, prepare
from minimind.train.checkpoint import load_model
from minimind.train.config import TrainConfig
from minimind.train.distill import DistillConfig, distillation_loss
from minimind.train.objective import LossFn
from minimind.train.pretrain import next_token_loss
from minimind.train.run import Run
from minimind.train.validate import validate

HALF = replace(
    PRESETS["nano"], hidden_size=96, intermediate_size=288, num_hidden_layers=3
)
STEPS = 160
CONFIG = TrainConfig(batch_size=8, learning_rate=6e-3, warmup=20)
SOFT = DistillConfig(alpha=1.0, temperature=1.0)
HOTTER = replace(SOFT, temperature=2.0)
FEW = 300  # texts, where data is scarce
LOOK_EVERY, LOOK_AT = 40, 48  # steps, and held-out rows, of a learning curve


def size(model: MiniMindForCausalLM) -> int:
    """How many numbers a model has."""
    return sum(p.numel() for p in model.parameters())


def equal_work(student: int, teacher: int) -> int:
    """Steps with a teacher that cost what STEPS on the data alone cost.

    By parameters: forwards and backwards 6 operations each a token, forwards 2.
    """
    return round(STEPS * 6 * student / (6 * student + 2 * teacher))


def learn(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    rows: PackedRows,
    held_out: PackedRows,
    loss_fn: LossFn,
    config: TrainConfig,
    name: str,
) -> dict[str, Any]:
    """Train; the loss on held-out rows on the way, and on all of them at the end."""
    run = Run(model, tokenizer, rows, loss_fn, config, Path("out/claims"))
    curve = []
    for _ in tqdm(range(config.steps), desc=name, unit="step"):
        run.take_step()
        if run.step % LOOK_EVERY == 0:
            found = validate(model, tokenizer, held_out, limit=LOOK_AT)
            curve.append([run.step, round(found["validation_loss"], 4)])
    found = validate(model, tokenizer, held_out)
    return {"steps": config.steps, "curve": curve, "loss": found["validation_loss"]}


@contextmanager
def few_rows(base: Path, tokenizer: Tokenizer, seed: int) -> Iterator[PackedRows]:
    """Rows of the first few texts of a base's pretraining set."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with (base / "world" / "pretrain.jsonl").open(encoding="utf-8") as lines:
            text = "".join(islice(lines, FEW))
        (folder / "few.jsonl").write_text(text, encoding="utf-8")
        prepare([folder / "few.jsonl"], folder / "few", tokenizer)
        rows = PackedRows(TokenFile(folder / "few", tokenizer), 256, seed)
        yield rows
        del rows.data  # close the memory maps before the folder goes


def measure(base: Path, seed: int, first: bool) -> list[dict[str, Any]]:
    """All runs of one base."""
    teacher, tokenizer = load_model(base / "pretrain")
    rows, held_out = (open_rows(base, name, seed) for name in (TRAINING, HELD_OUT))
    shape = replace(HALF, vocab_size=tokenizer.vocab_size)
    shorter = equal_work(size(MiniMindForCausalLM(shape)), size(teacher))

    def taught(options: DistillConfig) -> LossFn:
        return partial(distillation_loss, teacher=teacher, options=options)

    itself = validate(teacher, tokenizer, held_out)["validation_loss"]
    runs = [{"name": "the teacher itself", "seed": seed, "loss": itself}]
    with few_rows(base, tokenizer, seed) as few:
        plans = {
            "data": (rows, next_token_loss, STEPS),
            "teacher": (rows, taught(SOFT), STEPS),
        }
        if first:
            plans |= {
                "teacher, equal work": (rows, taught(SOFT), shorter),
                "few texts": (few, next_token_loss, STEPS),
                "few texts, teacher": (few, taught(SOFT), STEPS),
                "teacher, T 2": (rows, taught(HOTTER), STEPS),
            }
        for name, (learned, loss_fn, steps) in plans.items():
            torch.manual_seed(seed)
            student = MiniMindForCausalLM(shape)
            config = replace(CONFIG, steps=steps, seed=seed)
            found = learn(student, tokenizer, learned, held_out, loss_fn, config, name)
            runs.append({"name": name, "seed": seed, **found})
            print(runs[-1], flush=True)
    return runs


def main() -> None:
    """Measure every base and write distill.json."""
    seeds, runs = chosen_seeds(__doc__.splitlines()[0]), []
    for seed in seeds:
        runs += measure(zero_directory(seed), seed, first=not runs)
    result = {"steps": STEPS, "options": asdict(SOFT), "runs": runs}
    save("distill", seeds, result)


if __name__ == "__main__":
    main()
