"""`minimind tokenizer train` and `minimind data prepare`."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from minimind.errors import UserError
from minimind.text import tokens
from minimind.text.chat import CONTROL, Message, compile_template
from minimind.text.jsonl import check_conversation, check_text, read_jsonl
from minimind.text.tokenizer import (
    CHAT_TEMPLATE,
    CONTROL_TOKENS,
    TAG_TOKENS,
    Tokenizer,
    train_tokenizer,
)

Files = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]")]


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
            text = row["text"] if "text" in row else plain_chat(row["conversations"])
            left -= len(text.encode("utf-8", "surrogatepass"))
            if left < 0:
                break
            yield text


def plain_chat(messages: list[Message]) -> str:
    """A conversation as the template writes it, without its control tokens."""
    return CONTROL.sub("", compile_template(CHAT_TEMPLATE).render(messages=messages))


def peak_memory() -> str:
    """The most memory this process has held, where the system tells it."""
    try:
        import resource  # not on Windows
    except ImportError:
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (
        f", peak memory {peak / (2**30 if sys.platform == 'darwin' else 2**20):.2f} GB"
    )


def check_any(row: tokens.Row) -> str | None:
    """What is wrong with a row of either kind."""
    return check_conversation(row) if "conversations" in row else check_text(row)


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
        f"characters a token{peak_memory()}, {time.perf_counter() - began:.1f} s"
    )


def prepare(
    data: Files,
    tokenizer: Path,
    out: Path,
    kind: Literal["pretrain", "sft"] = "pretrain",
    max_length: int = 256,
    skip_bad: bool = False,
) -> None:
    """Encode jsonl files into token files, to be read by `minimind train`.

    Args:
        data: jsonl files, {"text"} rows for pretrain, {"conversations"} for sft.
        tokenizer: directory of `minimind tokenizer train`, or of a model.
        out: directory for the token files.
        kind: what the rows are.
        max_length: tokens of the longest conversation; a longer one loses its
            last exchanges. Plain text is cut into rows when it is read.
        skip_bad: leave bad rows out instead of stopping at the first.
    """
    began = time.perf_counter()
    with tqdm(desc=f"encoding {out.name}", unit="row") as bar:
        manifest = tokens.prepare(
            data,
            out,
            Tokenizer.load(tokenizer),
            kind,
            max_length if kind == "sft" else None,
            skip_bad,
            progress=lambda rows: bar.update(),
        )
    skipped = {key: manifest[key] for key in ("bad", "no_target") if manifest[key]}
    print(
        f"{out}: {manifest['documents']:,} rows, {manifest['tokens']:,} tokens, "
        f"{manifest['targets'] / manifest['tokens']:.0%} of them to be learned"
        + (f"; left out: {skipped}" if skipped else "")
        + f"; {time.perf_counter() - began:.1f} s"
    )
