"""jsonl to token files: ids, learning targets and document bounds on disk.

Explained in chapter 08 (chapter 09 for conversations). A token file is read
through a memory map, so a corpus never has to fit into memory.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from minimind.errors import UserError
from minimind.text.chat import IGNORE, encode_chat
from minimind.text.jsonl import Row, check_conversation, check_text, read_jsonl
from minimind.text.tokenizer import Tokenizer


def encode_row(
    tokenizer: Tokenizer, row: Row, kind: str, max_length: int | None
) -> tuple[list[int], list[int]]:
    """Ids and labels of a row; kind as in `prepare`."""
    if kind == "sft":
        return encode_chat(tokenizer, row["conversations"], max_length)
    ids = tokenizer.encode_document(row["text"])
    return ids, [IGNORE, *ids[1:]]


def prepare(
    paths: Iterable[Path],
    directory: Path,
    tokenizer: Tokenizer,
    kind: str = "pretrain",
    max_length: int | None = None,
    skip_bad: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[str, Any]:
    """Encode jsonl files into a token directory and return its manifest.

    kind: "pretrain" for rows of text, "sft" for conversations. max_length
    shortens conversations by whole exchanges; text keeps its length. The
    directory appears only when complete. Raises UserError for a bad row and
    for files that give no row at all.
    """
    paths = [Path(path) for path in paths]
    check = {"pretrain": check_text, "sft": check_conversation}[kind]
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
    unfinished = directory.with_name(directory.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    counts = {"documents": 0, "tokens": 0, "targets": 0, "bad": 0, "no_target": 0}
    digest = hashlib.sha256()
    with (
        (unfinished / "tokens.bin").open("wb") as tokens,
        (unfinished / "targets.bin").open("wb") as targets,
        (unfinished / "offsets.bin").open("wb") as offsets,
    ):
        offsets.write(np.int64(0).tobytes())
        for path in paths:
            for row in read_jsonl(path, check, skip_bad):
                if row is None:
                    counts["bad"] += 1
                    continue
                ids, labels = encode_row(tokenizer, row, kind, max_length)
                learned = np.array(labels) != IGNORE
                if not learned.any():  # nothing fits into max_length
                    counts["no_target"] += 1
                    continue
                data, learn = np.array(ids, dtype).tobytes(), learned.tobytes()
                digest.update(data + learn)
                tokens.write(data)
                targets.write(learn)
                counts["documents"] += 1
                counts["tokens"] += len(ids)
                counts["targets"] += int(learned.sum())
                offsets.write(np.int64(counts["tokens"]).tobytes())
                progress(counts["documents"])
    if not counts["documents"]:
        shutil.rmtree(unfinished)
        reason = "no usable row"
        if counts["no_target"]:
            reason += f"; no answer ends within {max_length} tokens (--max-length)"
        raise UserError(f"{', '.join(map(str, paths))}: {reason}")
    manifest = {
        "kind": kind,
        "dtype": dtype.name,
        "tokenizer": tokenizer.hash,
        "max_length": max_length,
        "sources": [path.name for path in paths],
        "sha256": digest.hexdigest(),
        **counts,
    }
    (unfinished / "manifest.json").write_text(
        json.dumps(manifest, indent=2), encoding="utf-8"
    )
    shutil.rmtree(directory, ignore_errors=True)
    unfinished.rename(directory)
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
        self.manifest = json.loads(path.read_text(encoding="utf-8"))
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
