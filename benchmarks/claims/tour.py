"""Loss and facts learnt while the nano model pretrains, drawn in chapter 00.

    python benchmarks/claims/tour.py

Trains the model of `make zero` once more. On the way it stops at some steps and
has the model complete the beginning of every fact of the little world ("The
capital of France is") and of a few texts. About ten minutes on one thread.
"""

import re
from dataclasses import replace
from pathlib import Path

import torch
from claim import TRAINING, open_rows, save, zero_directory
from tqdm import tqdm

from minimind.commands.zero import PRETRAIN
from minimind.model.config import get_preset
from minimind.model.generate import Sampling, generate
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.tokenizer import BOS_ID, Tokenizer
from minimind.text.world.facts import LANGS, Relation, fill
from minimind.text.world.relations import RELATIONS
from minimind.train.pretrain import next_token_loss
from minimind.train.run import Run

SEED = 0
STEPS = [0, 25, 50, 100, 150, 200, 300, 400, 500, 700, 900, 1100, 1400, 1700, 2000]
STEPS.append(PRETRAIN.steps)
OPENINGS = ["The capital of France is", "One day, Tom", "法国的首都是"]


def cloze(relation: Relation, lang: str) -> list[tuple[str, str]]:
    """The beginning of each fact's plain statement, and the answer it asks for."""
    before = relation.statements[lang][0].partition("{y}")[0]
    return [(fill(before, x).rstrip(), y) for x, y in relation.facts[lang]]


def is_right(more: str, answer: str) -> bool:
    """Whether a text goes on with the answer, and not with a longer word."""
    return re.match(re.escape(answer) + r"(?![A-Za-z0-9])", more.lstrip()) is not None


def complete(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    beginnings: list[str],
    tokens: int,
) -> list[str]:
    """What the model writes after each beginning, always the likeliest token."""
    sampling = Sampling(temperature=0.0, max_new_tokens=tokens)
    texts = []
    for at in range(0, len(beginnings), 64):
        part = beginnings[at : at + 64]
        prompts = [[BOS_ID, *tokenizer.encode(text)] for text in part]
        texts += [done.text for done in generate(model, tokenizer, prompts, sampling)]
    return texts


def look(run: Run, tokenizer: Tokenizer) -> dict:
    """How many facts of each relation are completed rightly, and some writing."""
    model = run.model.eval()
    facts = {}
    for lang in LANGS:
        for name, relation in RELATIONS.items():
            asked = cloze(relation, lang)
            got = complete(model, tokenizer, [text for text, _ in asked], 16)
            hits = [
                is_right(more, answer)
                for more, (_, answer) in zip(got, asked, strict=True)
            ]
            facts[f"{name} {lang}"] = {"right": sum(hits), "n": len(hits)}
    writing = dict(zip(OPENINGS, complete(model, tokenizer, OPENINGS, 24), strict=True))
    model.train()
    return {"step": run.step, "facts": facts, "writing": writing}


def main() -> None:
    """Train, look on the way, and write what was seen."""
    zero = zero_directory(SEED, until=f"data/{TRAINING}")
    tokenizer = Tokenizer.load(zero / "tokenizer")
    rows = open_rows(zero, TRAINING, SEED)
    torch.manual_seed(SEED)
    model = MiniMindForCausalLM(get_preset("nano"))
    config = replace(PRETRAIN, seed=SEED)
    out = Path("out/claims/tour")
    run = Run(model, tokenizer, rows, next_token_loss, config, out)
    losses, looks = [], []
    for step in tqdm(range(PRETRAIN.steps + 1), unit="step"):
        if step in STEPS:
            looks.append(look(run, tokenizer))
        if step < PRETRAIN.steps:
            run.take_step()
            losses.append(round(run.numbers["loss"], 4))
    tokens = run.rows_per_step * rows.row_length
    save(
        "tour",
        [SEED],
        {"tokens_per_step": tokens, "loss": losses, "looks": looks},
    )


if __name__ == "__main__":
    main()
