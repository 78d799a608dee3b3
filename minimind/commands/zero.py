"""`minimind zero`: from nothing to a chat, in ten minutes on two CPU cores.

Each stage makes a file or directory that is complete when it appears, or goes
on where it was; so the command can be killed at any moment and run again.
"""

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from minimind.commands import chat, data, evaluate, train
from minimind.errors import UserError
from minimind.files import read_json, write_json
from minimind.text.world import write_world
from minimind.train.config import TrainConfig

SIZE = 96_000  # pretraining rows of the little world, about 5.3M tokens
VOCAB_SIZE = 1536
SEQ_LEN = 256
PRETRAIN = TrainConfig(
    steps=2350, batch_size=8, learning_rate=6e-3, save_every=200, eval_every=10_000
)
SFT = TrainConfig(steps=975, batch_size=8, learning_rate=1.5e-3, save_every=100)
SHARES = (3.0, 1.0)  # of chats and of plain text in SFT's rows

# What a stage makes, whether that is complete, and how to make it.
Stage = tuple[Path, Callable[[], bool], Callable[[], int | None]]

# Asked one after the other where there is no terminal to chat in.
QUESTIONS = (
    "Hello!",
    "What is the capital of France?",
    "法国的首都是哪里？",
    "What is the opposite of hot?",
    "草是什么颜色的？",
    "What is 4 + 3?",
    "What is the capital of Nimoland?",
    "Tell me a story about Tom and a ball.",
    "讲一个小猫的故事。",
    "谢谢！",
)


def make_world(directory: Path, seed: int) -> None:
    """Write the little world's jsonl files; the directory appears when done."""
    began = time.perf_counter()
    unfinished = directory.with_name(directory.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    report = write_world(unfinished, seed, SIZE)
    unfinished.rename(directory)
    counts = ", ".join(f"{name} {size['rows']:,}" for name, size in report.items())
    print(f"{directory}: {counts} rows; {time.perf_counter() - began:.1f} s")


def finished(run: Path) -> bool:
    """Whether a training run has come to its end."""
    record = run / "minimind.json"
    if not record.is_file():
        return False
    return "finished" in read_json(record)["numbers"]


def stages(out: Path, seed: int) -> list[Stage]:
    """Everything that is made on the way, in order."""
    world, vocabulary, scores = out / "world", out / "tokenizer", out / "scores.json"
    base, tuned = out / "pretrain", out / "sft"

    def token_file(name: str, kind: str) -> Stage:
        made = out / "data" / name
        source = (world / f"{name}.jsonl",)
        return (
            made,
            made.is_dir,
            lambda: data.prepare(source, vocabulary, made, kind, SEQ_LEN),
        )

    return [
        (world, world.is_dir, lambda: make_world(world, seed)),
        (
            vocabulary,
            (vocabulary / "tokenizer_config.json").is_file,
            lambda: data.train(
                (world / "pretrain.jsonl", world / "sft.jsonl"), vocabulary, VOCAB_SIZE
            ),
        ),
        token_file("pretrain", "pretrain"),
        token_file("pretrain_heldout", "pretrain"),
        token_file("sft", "sft"),
        (
            base,
            lambda: finished(base),
            lambda: train.pretrain(
                data=(out / "data" / "pretrain",),
                tokenizer=vocabulary,
                out=base,
                seq_len=SEQ_LEN,
                validation=out / "data" / "pretrain_heldout",
                config=replace(PRETRAIN, seed=seed),
            ),
        ),
        (
            tuned,
            lambda: finished(tuned),
            lambda: train.sft(
                data=(out / "data" / "sft", out / "data" / "pretrain"),
                model=base,
                out=tuned,
                seq_len=SEQ_LEN,
                weights=SHARES,
                config=replace(SFT, seed=seed),
            ),
        ),
        (scores, scores.is_file, lambda: evaluate.world(tuned, world, scores, seed)),
    ]


def check_seed(out: Path, seed: int) -> None:
    """Note the seed in `out`. Raises UserError where it was begun with another."""
    record = out / "zero.json"
    before = read_json(record)["seed"] if record.is_file() else seed
    if before != seed:
        raise UserError(
            f"--seed {seed}: {out} was made with seed {before}; give that one, or "
            "another --out"
        )
    write_json(record, {"seed": seed})


def build(out: Path, seed: int, until: str = "scores.json") -> int:
    """Make what is not there yet, up to and with `until`; the exit status.

    Raises UserError where `out` was begun with another seed.
    """
    check_seed(out, seed)
    for made, is_done, make in stages(out, seed):
        if is_done():
            print(f"{made}: done")
        elif status := make():
            return status
        if made == out / until:
            break
    return 0


def zero(out: Path = Path("out/zero"), seed: int = 0) -> int:
    """Train a small chat model from nothing, then talk with it.

    Writes a little world of stories, facts and sums, learns a vocabulary,
    pretrains, fine-tunes on conversations and scores the result. What is done
    is not done again, and a killed run goes on where it was. Where there is
    no terminal, it asks a list of questions in place of the chat.

    Args:
        out: directory for everything that is made.
        seed: of the world, the weights and the order of the rows.
    """
    if status := build(out, seed):
        return status
    if sys.stdin.isatty():
        chat.chat(out / "sft")
    else:
        chat.ask(out / "sft", QUESTIONS)
    return 0
