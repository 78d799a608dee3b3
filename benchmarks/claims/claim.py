"""Shared by the scripts of this folder: data, training, and where results go.

A script NAME.py measures what a chapter claims, when that takes more minutes or
seeds than the chapter has; NAME.json is committed, and the chapter draws it.
"""

import argparse
import json
import os
import platform
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from minimind.commands.zero import SEQ_LEN, build
from minimind.evaluate.world import answer
from minimind.model.sampling import Sampling
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows
from minimind.text.thinking import split_reply
from minimind.text.tokenizer import Tokenizer
from minimind.text.tokens import TokenFile, prepare
from minimind.text.world.rows import QUESTIONS
from minimind.train.config import TrainConfig
from minimind.train.pretrain import next_token_loss
from minimind.train.run import Run
from minimind.train.validate import validate

HERE = Path(__file__).resolve().parent
TRAINING, HELD_OUT = "pretrain", "pretrain_heldout"  # token files of `minimind zero`


def processor() -> str:
    """The processor's name, as the system tells it."""
    info, cores = Path("/proc/cpuinfo"), f"{os.cpu_count()} cores"
    if info.is_file():
        names = re.findall(r"model name\s*: (.*)", info.read_text())
        return f"{names[0] if names else platform.machine()}, {cores}"
    return f"{platform.processor() or platform.machine()}, {cores}"


def save(name: str, seeds: list[int], result: dict[str, Any]) -> None:
    """Write NAME.json: the result, and how and on what it was measured."""
    about = {
        "command": f"python benchmarks/claims/{name}.py",
        "hardware": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seeds": seeds,
    }
    text = json.dumps(about | result, indent=1, ensure_ascii=False)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def zero_directory(seed: int = 0, until: str = "sft") -> Path:
    """The directory of `minimind zero` with one seed, made up to `until` if need be."""
    zero = Path(f"out/claims/zero-{seed}")
    zero.parent.mkdir(parents=True, exist_ok=True)
    if build(zero, seed, until):
        raise SystemExit(f"{zero} could not be made")
    return zero


def chosen_seeds(description: str) -> list[int]:
    """The seeds after --seeds; each has a base of its own, trained if need be."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args().seeds


def open_rows(zero: Path, name: str, seed: int) -> PackedRows:
    """Rows of one of the token files of `minimind zero`."""
    tokenizer = Tokenizer.load(zero / "tokenizer")
    return PackedRows(TokenFile(zero / "data" / name, tokenizer), SEQ_LEN, seed)


def packed_chats(
    chats: Iterable[dict[str, Any]], directory: Path, tokenizer: Tokenizer, seed: int
) -> PackedRows:
    """Chats as packed rows of 256 tokens, kept in a directory that is made for them."""
    directory.mkdir()
    source = directory / "chats.jsonl"
    source.write_text("".join(json.dumps(chat) + "\n" for chat in chats), "utf-8")
    prepare([source], directory / "tokens", tokenizer, "sft", SEQ_LEN)
    return PackedRows(TokenFile(directory / "tokens", tokenizer), SEQ_LEN, seed)


def pretrain(
    model: MiniMindForCausalLM,
    config: TrainConfig,
    zero: Path,
    name: str,
    after_step: Callable[[Run], None] = lambda run: None,
) -> dict[str, Any]:
    """Pretrain a fresh model: its loss at each step, and on held-out rows at the end.

    zero: directory of `minimind zero`, for the tokenizer and the token files.
    """
    tokenizer = Tokenizer.load(zero / "tokenizer")
    rows = open_rows(zero, TRAINING, config.seed)
    run = Run(model, tokenizer, rows, next_token_loss, config, Path("out/claims"))
    losses = []
    for _ in tqdm(range(config.steps), desc=name, unit="step"):
        run.take_step()
        losses.append(round(run.numbers["loss"], 4))
        after_step(run)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "losses": losses,
        **validate(model, tokenizer, open_rows(zero, HELD_OUT, config.seed)),
    }


def fact_questions(base: Path) -> list[tuple[str, str]]:
    """The held-out questions about facts of a base's world, and their answers."""
    lines = (base / "world" / "questions.jsonl").read_text("utf-8").splitlines()
    asked = [json.loads(line) for line in lines]
    return [(q["question"], q["answer"]) for q in asked if q["kind"] in QUESTIONS]


def facts_right(
    model: MiniMindForCausalLM, tokenizer: Tokenizer, facts: list[tuple[str, str]]
) -> float:
    """Share of questions about facts that a reasoning model answers to the letter."""
    sampling = Sampling(temperature=0.0, max_new_tokens=64)
    replies = answer(model.eval(), tokenizer, [q for q, _ in facts], sampling)
    given = [split_reply(reply.text).content for reply in replies]
    return sum(g == a for g, (_, a) in zip(given, facts)) / len(facts)
