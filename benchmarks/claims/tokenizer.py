"""Characters per token against vocabulary size, drawn in chapter 01.

    python benchmarks/claims/tokenizer.py
    python benchmarks/claims/tokenizer.py --data texts.jsonl chats.jsonl

Learns a vocabulary from the little world, from Python's own manual (English) and
from the sources of its standard library (code), three times with other parts held
out, and counts tokens on what was held out. With --data it learns from jsonl files
and prints the numbers for their Chinese rows and the others. About a minute.
"""

import json
import platform
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from pydoc_data.topics import topics
from random import Random

import tokenizers
import tyro
from claim import save
from tqdm import tqdm

from minimind.commands.data import Files, sample_texts
from minimind.text.tokenizer import Tokenizer, train_tokenizer
from minimind.text.world import pretrain_rows

SEEDS = [0, 1, 2]
SIZES = [267, 400, 600, 1000, 1536, 3000, 6400, 12800, 25600]
SHARE = 2_000_000  # bytes of each kind that are learned from
HELD_OUT = 100_000  # characters of each kind that are counted


def cut(tokenizer: Tokenizer, size: int) -> Tokenizer:
    """The tokenizer that training would have given for a smaller vocabulary.

    Merges are learned one after the other, so that the first ones do not depend
    on how many follow.
    """
    rules = json.loads(tokenizer.backend.to_str())
    vocabulary = rules["model"]["vocab"]
    rules["model"]["vocab"] = {k: i for k, i in vocabulary.items() if i < size}
    merges = rules["model"]["merges"]
    rules["model"]["merges"] = merges[: len(merges) - len(vocabulary) + size]
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(rules)))


def characters_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """How much text one token holds, on average."""
    texts = list(texts)
    return sum(map(len, texts)) / sum(len(tokenizer.encode(t)) for t in texts)


def is_chinese(text: str) -> bool:
    """Whether a text has a Chinese character in it."""
    return any("\u4e00" <= char <= "\u9fff" for char in text)


def by_language(texts: Iterable[str]) -> dict[str, list[str]]:
    """Texts with Chinese in them, and the others."""
    texts = list(texts)
    return {
        "Chinese": [text for text in texts if is_chinese(text)],
        "English": [text for text in texts if not is_chinese(text)],
    }


def library_sources() -> list[str]:
    """The modules of Python's standard library."""
    folder = Path(sysconfig.get_path("stdlib"))
    skip = ("site-packages", "test", "tests", "idlelib", "pydoc_data")
    paths = (p for p in folder.rglob("*.py") if not set(skip) & set(p.parts))
    return [path.read_text("utf-8", errors="replace") for path in sorted(paths)]


def all_kinds() -> dict[str, list[str]]:
    """Every kind of text, whole."""
    world = by_language(row["text"] for row in pretrain_rows(seed=0, n=24_000))
    return {
        "Chinese, little world": world["Chinese"],
        "English, little world": world["English"],
        "English, Python's manual": list(topics.values()),
        "code, Python's library": library_sources(),
    }


def split(texts: list[str], seed: int) -> tuple[list[str], list[str]]:
    """Texts to learn from, up to SHARE bytes, and about HELD_OUT characters."""
    order = Random(seed).sample(texts, len(texts))
    counted, learned, size = [], [], 0
    for text in order:
        if sum(map(len, counted)) < HELD_OUT:
            counted.append(text[:HELD_OUT])
            continue
        size += len(text.encode())
        if size > SHARE:
            break
        learned.append(text)
    return learned, counted


def measure(kinds: dict[str, list[str]], seed: int) -> dict[str, list[float]]:
    """Characters per token of each kind, for every size that was reached."""
    parts = {kind: split(texts, seed) for kind, texts in kinds.items()}
    learned = [text for some, _ in parts.values() for text in some]
    largest = train_tokenizer(learned, SIZES[-1])
    sizes = [size for size in SIZES if size <= largest.vocab_size]
    smaller = [cut(largest, size) for size in sizes]
    return {"sizes": sizes} | {
        kind: [round(characters_per_token(one, counted), 3) for one in smaller]
        for kind, (_, counted) in parts.items()
    }


def main(data: Files = ()) -> None:
    """Measure on what Python and the little world have, or on jsonl files.

    Args:
        data: jsonl files with {"text"} or {"conversations"} rows.
    """
    if data:
        kinds = by_language(sample_texts(data, 20_000_000, skip_bad=True))
        kinds = {kind: texts for kind, texts in kinds.items() if texts}
    else:
        kinds = all_kinds()
    runs = [measure(kinds, seed) for seed in tqdm(SEEDS)]
    if not data:
        save("tokenizer", SEEDS, {"python": platform.python_version(), "runs": runs})
    for kind, values in runs[0].items():
        print(f"{kind:24}", *(f"{value:7}" for value in values))


if __name__ == "__main__":
    tyro.cli(main)
