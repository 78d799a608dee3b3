"""jsonl to token files: ids, learning targets and document bounds on disk.

Explained in chapter 08 (chapter 09 for conversations). A token file is read
through a memory map, so a corpus never has to fit into memory; and it is
written part by part, so one that was stopped goes on where it was.
"""

import itertools
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from minimind.errors import UserError
from minimind.files import read_json, room_for, sha256_of, write_json
from minimind.text.chat import IGNORE, encode_chat
from minimind.text.jsonl import (
    BadRow,
    Part,
    Row,
    check_conversation,
    check_text,
    parse_rows,
    split_file,
    whole,
)
from minimind.text.parallel import map_ordered
from minimind.text.tokenizer import Tokenizer

PART_SIZE = 2**22  # bytes of jsonl that are encoded, and kept on disk, at once
FILES = ("tokens.bin", "targets.bin", "offsets.bin")


def encode_row(
    tokenizer: Tokenizer, row: Row, kind: str, max_length: int | None
) -> tuple[list[int], list[int]]:
    """Ids and labels of a row; kind as in `prepare`."""
    if kind == "sft":
        return encode_chat(tokenizer, row["conversations"], max_length)
    ids = tokenizer.encode_document(row["text"])
    return ids, [IGNORE, *ids[1:]]


def id_dtype(tokenizer: Tokenizer) -> np.dtype:
    """The smallest whole number that holds every id."""
    return np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)


@dataclass(frozen=True)
class Encoded:
    """The documents of a part of a file: ids, targets and lengths, end to end."""

    tokens: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray
    counts: dict[str, int]


@dataclass(frozen=True)
class Encoder:
    """What makes documents of a part of a file; it can be sent to a process."""

    tokenizer: Tokenizer
    kind: str
    max_length: int | None
    skip_bad: bool

    def __getstate__(self) -> dict[str, Any]:
        # A pickled backend would forget that control tokens in a text are text.
        rules = self.tokenizer.backend.to_str(), self.tokenizer.chat_template
        return {**self.__dict__, "tokenizer": rules}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rules, template = state["tokenizer"]
        backend = tokenizers.Tokenizer.from_str(rules)
        self.__dict__.update(state, tokenizer=Tokenizer(backend, template))

    def __call__(self, part: Part) -> Encoded:
        """Encode a part. Raises BadRow unless skip_bad."""
        check = {"pretrain": check_text, "sft": check_conversation}[self.kind]
        tokens = [np.empty(0, id_dtype(self.tokenizer))]
        targets, bad, no_target = [np.empty(0, bool)], 0, 0
        for row in parse_rows(part, check, self.skip_bad):
            if row is None:
                bad += 1
                continue
            ids, labels = encode_row(self.tokenizer, row, self.kind, self.max_length)
            learned = np.array(labels) != IGNORE
            if not learned.any():  # nothing fits into max_length
                no_target += 1
                continue
            tokens.append(np.array(ids, tokens[0].dtype))
            targets.append(learned)
        lengths = np.array([len(ids) for ids in tokens[1:]], np.int64)
        counts = {
            "documents": len(lengths),
            "tokens": int(lengths.sum()),
            "targets": sum(int(learned.sum()) for learned in targets),
            "bad": bad,
            "no_target": no_target,
            "source_bytes": part.end - part.start,
        }
        return Encoded(np.concatenate(tokens), np.concatenate(targets), lengths, counts)


class TokenWriter:
    """Token files that grow part by part, and how far they are for good.

    progress.json is replaced after each part is on disk. What a kill leaves
    behind its last state is cut off when the writer is opened again with the
    same settings; with others it starts anew.
    """

    def __init__(self, directory: Path, settings: dict[str, Any], width: int) -> None:
        self.directory, self.width = directory, width
        self.progress = directory / "progress.json"
        counts = "documents tokens targets bad no_target source_bytes".split()
        self.state = {"settings": settings, "parts": 0, **dict.fromkeys(counts, 0)}
        if self.progress.is_file():
            kept = read_json(self.progress)
            if kept["settings"] == settings:
                self.state = kept
        if not self.state["parts"]:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
        self.files = [(directory / name).open("ab") for name in FILES]
        for file, size in zip(self.files, self.sizes()):
            file.truncate(size)  # a new file of 8 zero bytes is the offset 0

    def sizes(self) -> tuple[int, int, int]:
        """Bytes of each of FILES, as far as they are for good."""
        documents, tokens = self.state["documents"], self.state["tokens"]
        return tokens * self.width, tokens, (documents + 1) * 8

    def append(self, part: Encoded) -> None:
        """Write a part, and then that it is there. Raises UserError on a full disk."""
        offsets = self.state["tokens"] + np.cumsum(part.lengths)
        arrays = (part.tokens, part.targets, offsets)
        with room_for(self.directory, sum(array.nbytes for array in arrays)):
            for file, array in zip(self.files, arrays):
                file.write(array.tobytes())
                file.flush()
                os.fsync(file.fileno())
        self.state["parts"] += 1
        for key, count in part.counts.items():
            self.state[key] += count
        write_json(self.progress, self.state)

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()


def prepare(
    paths: Iterable[Path],
    directory: Path,
    tokenizer: Tokenizer,
    kind: str = "pretrain",
    max_length: int | None = None,
    skip_bad: bool = False,
    workers: int = 1,
    progress: Callable[[int], None] = lambda size: None,
) -> dict[str, Any]:
    """Encode jsonl files into a token directory and return its manifest.

    kind: "pretrain" for rows of text, "sft" for conversations. max_length
    shortens conversations by whole exchanges; text keeps its length. workers:
    processes; the files are the same for any number. progress is told of every
    so many bytes read. The directory appears only when complete; stopped at any
    moment and called again, it goes on. Raises UserError for a bad row and for
    files that give no row at all, and where `directory` holds something else.
    """
    if directory.exists() and not (directory / "manifest.json").is_file():
        if directory.is_file() or any(directory.iterdir()):
            raise UserError(
                f"{directory}: holds something else, which would be deleted; name a "
                "new directory"
            )
    paths = [Path(path) for path in paths]
    stats = [whole(path).path.stat() for path in paths]
    dtype = id_dtype(tokenizer)
    manifest = {
        "kind": kind,
        "dtype": dtype.name,
        "tokenizer": tokenizer.hash,
        "max_length": max_length,
        "sources": [path.name for path in paths],
    }
    # Settings decide what the files hold; other ones must not go on with them.
    sources = [[str(p), s.st_size, s.st_mtime_ns] for p, s in zip(paths, stats)]
    template = tokenizer.chat_template if kind == "sft" else None
    settings = {**manifest, "sources": sources, "skip_bad": skip_bad}
    settings |= {"chat_template": template}
    unfinished = directory.with_name(directory.name + ".unfinished")
    writer = TokenWriter(unfinished, settings, dtype.itemsize)
    progress(writer.state["source_bytes"])
    parts = itertools.chain.from_iterable(split_file(p, PART_SIZE) for p in paths)
    parts = itertools.islice(parts, writer.state["parts"], None)
    encoder = Encoder(tokenizer, kind, max_length, skip_bad)
    try:
        for part in map_ordered(encoder, parts, workers):
            writer.append(part)
            progress(part.counts["source_bytes"])
    except BadRow:
        writer.close()
        shutil.rmtree(unfinished)
        raise
    finally:
        writer.close()
    counts = {k: v for k, v in writer.state.items() if k not in ("settings", "parts")}
    if not counts["documents"]:
        shutil.rmtree(unfinished)
        reason = "no usable row"
        if counts["no_target"]:
            reason += f"; no answer ends within {max_length} tokens (--max-length)"
        raise UserError(f"{', '.join(map(str, paths))}: {reason}")
    digest = sha256_of(*(unfinished / name for name in FILES))
    manifest |= {"sha256": digest, **counts}
    write_json(unfinished / "manifest.json", manifest)
    shutil.rmtree(directory, ignore_errors=True)
    unfinished.rename(directory)
    (directory / "progress.json").unlink()
    return manifest


class TokenFile:
    """A prepared token directory, read through memory maps.

    tokens: ids, one after the other; targets: 1 where one is to be learned;
    offsets: where each document begins, and the end. Raises UserError where
    the directory is missing, incomplete or made with another tokenizer.
    """

    def __init__(self, directory: Path, tokenizer: Tokenizer) -> None:
        path = directory / "manifest.json"
        if not path.is_file():
            raise UserError(f"{directory}: no token files; run `minimind data prepare`")
        self.manifest = read_json(path)
        if self.manifest["tokenizer"] != tokenizer.hash:
            raise UserError(
                f"{directory}: made with the tokenizer {self.manifest['tokenizer']}, "
                f"but the model's is {tokenizer.hash}; prepare the data again with it"
            )
        dtype = np.dtype(self.manifest["dtype"])
        sizes = {
            "tokens.bin": self.manifest["tokens"] * dtype.itemsize,
            "targets.bin": self.manifest["tokens"],
            "offsets.bin": (self.manifest["documents"] + 1) * 8,
        }
        for name, size in sizes.items():
            file = directory / name
            if not file.is_file() or file.stat().st_size != size:
                raise UserError(
                    f"{file}: missing or not of the {size} bytes that manifest.json "
                    "says; prepare the data again"
                )
        self.tokens = np.memmap(directory / "tokens.bin", dtype, "r")
        self.targets = np.memmap(directory / "targets.bin", np.uint8, "r")
        self.offsets = np.memmap(directory / "offsets.bin", np.int64, "r")

    def __len__(self) -> int:
        """The number of documents."""
        return len(self.offsets) - 1
