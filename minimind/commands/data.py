"""`minimind tokenizer train`, `minimind data clean` and `minimind data prepare`."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from tqdm import tqdm

from minimind.errors import UserError
from minimind.text import clean as cleaning
from minimind.text import tokens
from minimind.text.chat import CONTROL, Message, compile_template
from minimind.text.jsonl import check_any, read_jsonl, whole
from minimind.text.rules import CleanConfig
from minimind.text.tokenizer import (
    CHAT_TEMPLATE,
    CONTROL_TOKENS,
    TAG_TOKENS,
    Tokenizer,
    train_tokenizer,
)
from minimind.train.memory import peak_memory

Files = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]")]
Rules = Annotated[CleanConfig, tyro.conf.arg(name="")]


def sample_texts(paths: Files, max_bytes: int, skip_bad: bool) -> Iterator[str]:
    """Texts of jsonl files of either kind, an equal part of max_bytes from each.

    A conversation counts as its rendered text, so that the words of the chat
    template, which every chat repeats, become few tokens.
    """
    for path in paths:
        left = max_bytes // len(paths)
        for row in read_jsonl(path, check_any, skip_bad):
            if row is None:
                continue
            chat = row.get("conversations") or row.get("chosen")
            text = plain_chat(chat) if chat else row["text"]
            left -= len(text.encode("utf-8", "surrogatepass"))
            if left < 0:
                break
            yield text


def plain_chat(messages: list[Message]) -> str:
    """A conversation as the template writes it, without its control tokens."""
    return CONTROL.sub("", compile_template(CHAT_TEMPLATE).render(messages=messages))


def memory_held() -> str:
    """The most memory this process has held, in words, where the system tells it."""
    peak = peak_memory(torch.device("cpu"))
    return "" if peak is None else f", peak memory {peak:.2f} GB"


def progress_bar(what: str, paths: Files) -> tqdm:
    """A bar over the bytes of files. Raises UserError for one that is not there."""
    size = sum(whole(path).end for path in paths)
    return tqdm(desc=what, total=size, unit="B", unit_scale=True, unit_divisor=1024)


def count_workers(asked: int | None, paths: Files) -> int:
    """How many processes to use: no more than there are parts to work on."""
    if asked is not None and asked < 1:
        raise UserError(f"--workers {asked}: give 1 or more")
    parts = sum(-(-whole(path).end // tokens.PART_SIZE) for path in paths)
    return max(1, min(asked or os.cpu_count() or 1, parts))


def train(
    data: Files,
    out: Path,
    vocab_size: int = 6400,
    max_bytes: int = 20_000_000,
    skip_bad: bool = False,
) -> None:
    """Learn a byte-level BPE vocabulary from jsonl files.

    Args:
        data: jsonl files with {"text"} or {"conversations"} rows.
        out: directory for tokenizer.json and tokenizer_config.json.
        vocab_size: number of ids, special tokens and the 256 bytes included.
        max_bytes: read no more than this much text; merges settle early.
        skip_bad: leave bad rows out instead of stopping at the first.
    """
    least = 256 + len(CONTROL_TOKENS) + len(TAG_TOKENS)
    if vocab_size < least:
        raise UserError(
            f"--vocab-size {vocab_size}: at least {least} ids are needed, for the 256 "
            "bytes and the special tokens"
        )
    began = time.perf_counter()
    texts = sample_texts(data, max_bytes, skip_bad)
    tokenizer = train_tokenizer(tqdm(texts, desc="reading", unit="row"), vocab_size)
    sample = list(sample_texts(data, 1_000_000, skip_bad=True))
    ids = sum(len(tokenizer.encode(text)) for text in sample)
    if not ids:
        names = ", ".join(map(str, data))
        raise UserError(f"{names}: no usable row")
    tokenizer.save(out)
    print(
        f"{out}: {tokenizer.vocab_size} ids, {sum(map(len, sample)) / ids:.2f} "
        f"characters a token{memory_held()}; {time.perf_counter() - began:.1f} s"
    )


def prepare(
    data: Files,
    tokenizer: Path,
    out: Path,
    kind: Literal["pretrain", "sft"] = "pretrain",
    max_length: int = 256,
    skip_bad: bool = False,
    workers: int | None = None,
) -> None:
    """Encode jsonl files into token files, to be read by `minimind train`.

    Stopped at any moment and run again, it goes on where it was.

    Args:
        data: jsonl files, {"text"} rows for pretrain, {"conversations"} for sft.
        tokenizer: directory of `minimind tokenizer train`, or of a model.
        out: directory for the token files.
        kind: what the rows are.
        max_length: tokens of the longest conversation; a longer one loses its
            last exchanges. Plain text is cut into rows when it is read.
        skip_bad: leave bad rows out instead of stopping at the first.
        workers: processes; if not given, one for each core.
    """
    began = time.perf_counter()
    vocabulary = Tokenizer.load(tokenizer)
    with progress_bar(f"encoding {out.name}", data) as bar:
        manifest = tokens.prepare(
            data,
            out,
            vocabulary,
            kind,
            max_length if kind == "sft" else None,
            skip_bad,
            count_workers(workers, data),
            bar.update,
        )
    skipped = {key: manifest[key] for key in ("bad", "no_target") if manifest[key]}
    print(
        f"{out}: {manifest['documents']:,} rows, {manifest['tokens']:,} tokens, "
        f"{manifest['targets'] / manifest['tokens']:.0%} of them to be learned"
        + (f"; left out: {skipped}" if skipped else "")
        + f"; {time.perf_counter() - began:.1f} s"
    )


def clean(
    data: Files,
    out: Path,
    evaluation: Files = (),
    skip_bad: bool = False,
    workers: int | None = None,
    rules: Rules = CleanConfig(),
) -> None:
    """Leave out the rows of jsonl files that are too long, noise or said before.

    Writes the rows that stay, as they are, and prints what each rule removed. Works on
    texts, conversations and preferences. A row goes by the first rule it breaks.

    Args:
        data: jsonl files of any kind.
        out: jsonl file for the rows that stay.
        evaluation: jsonl or csv files of which no row may hold a run of words.
        skip_bad: leave bad rows out instead of stopping at the first.
        workers: processes; if not given, one for each core.
        rules: what may stay.
    """
    began = time.perf_counter()
    with progress_bar(f"cleaning {out.name}", data) as bar:
        report = cleaning.clean(
            data,
            out,
            rules,
            evaluation,
            skip_bad,
            count_workers(workers, data),
            bar.update,
        )
    for rule, count in report.removed.items():
        if count:
            print(f"{rule:8} {count:>10,}  {count / report.rows:6.2%}")
        for sample in report.samples[rule]:
            print(f"           {sample}")
    if report.unchecked:
        print(
            f"{report.unchecked:,} rows of the evaluation sets are shorter than "
            f"{rules.overlap} words and were not looked for (--overlap)"
        )
    print(
        f"{out}: {report.kept:,} of {report.rows:,} rows stay"
        f"{memory_held()}; {time.perf_counter() - began:.1f} s"
    )
