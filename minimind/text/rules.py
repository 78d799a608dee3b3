"""What a row has to be like: the rules of `minimind data clean` for single rows.

Explained in chapter 08. The published MiniMind sets were made by length, noise of
signs and share of Chinese. Overlap with evaluation sets: Brown et al. 2020, "Language
Models are Few-Shot Learners", appendix C.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minimind.errors import UserError
from minimind.text.duplicates import band_digests, digest, runs, units
from minimind.text.jsonl import (
    BadRow,
    Part,
    Row,
    check_any,
    parse_line,
    read_jsonl,
    read_lines,
)

# In the order in which they are applied; the last two compare rows.
RULES = ("bad", "length", "signs", "chinese", "overlap", "equal", "near")
SIGN = re.compile(r"[^\w\s]|_")
CHINESE = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True)
class CleanConfig:
    """What may stay. Raises UserError for a number that makes no sense."""

    max_chars: int | None = None  # the longest text; published sets: 512, 1024, 2048
    max_signs: float = 0.5  # share of signs among the characters of a text
    min_chinese: float = 0.0  # share of Chinese among the characters of a text
    near: float | None = 0.8  # similarity from which a later text is a near duplicate
    overlap: int = 13  # words in a row that are also in an evaluation set

    def __post_init__(self) -> None:
        for name in ("max_signs", "min_chinese", "near"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                option = name.replace("_", "-")
                raise UserError(f"--{option} {value}: give a share from 0 to 1")
        for name in ("max_chars", "overlap"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = name.replace("_", "-")
                raise UserError(f"--{option} {value}: give 1 or more")


def texts_of(row: Row) -> list[str]:
    """The texts of a row of any kind: one, or two answers, each with its prompt."""
    if "conversations" in row or "chosen" in row:
        chats = [row[k] for k in ("conversations", "chosen", "rejected") if k in row]
        return ["\n".join(turn["content"] for turn in chat) for chat in chats]
    return [row["text"]]


def share(pattern: re.Pattern[str], text: str) -> float:
    """Share of the characters, white space left out, that the pattern finds."""
    return len(pattern.findall(text)) / max(1, len("".join(text.split())))


def words_of(text: str) -> list[str]:
    """The words and Chinese characters of a text, in lower case, without signs."""
    return [unit for unit in units(text) if unit.isalnum()]


def forbidden_runs(paths: Iterable[Path], length: int) -> tuple[frozenset[str], int]:
    """Runs of so many words of evaluation sets, and how many texts are too short."""
    found: set[str] = set()
    short = 0
    for path in paths:
        for text in evaluation_texts(path):
            words = words_of(text)
            if len(words) < length:
                short += 1
            else:
                found.update(runs(words, length))
    return frozenset(found), short


def evaluation_texts(path: Path) -> Iterator[str]:
    """Everything that a row of an evaluation set says, for each row.

    A file is csv, or jsonl whose strings are taken wherever they stand. Raises
    UserError for a file that is not there or is neither.
    """
    if path.suffix == ".csv":
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            yield from (" ".join(cells) for cells in csv.reader(file))
        return
    for row in read_jsonl(path, lambda row: None):
        yield " ".join(strings_in(row))


def strings_in(value: Any) -> Iterator[str]:
    """All strings of a json value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings_in(inner)


@dataclass(frozen=True)
class Examiner:
    """Judges rows one by one; it can be sent to another process."""

    paths: tuple[Path, ...]
    config: CleanConfig
    forbidden: frozenset[str]  # runs of words that an evaluation set holds
    bands: tuple[int, int]  # numbers to find near duplicates by, and hashes in each
    skip_bad: bool

    @property
    def dtype(self) -> np.dtype:
        """A record: where a row stands, the rule it breaks (0: none), what it is like.

        twin: the record that a duplicate repeats. equal: the same for equal texts.
        bands: similar texts have one of them in common.
        """
        fields = [("file", "u2"), ("offset", "i8"), ("line", "i8"), ("rule", "u1")]
        fields += [("twin", "i8"), ("equal", "u8"), ("bands", "u8", self.bands[:1])]
        return np.dtype(fields)

    def __call__(self, part: Part) -> tuple[int, np.ndarray]:
        """The bytes of a part, and a record for each row; BadRow unless skip_bad."""
        records, offset, file = [], part.start, self.paths.index(part.path)
        for number, line in read_lines(part):
            if line.strip():
                broken, texts = self.examine(line)
                if broken and broken[0] == "bad" and not self.skip_bad:
                    raise BadRow(part.path, number, broken[1])
                rule = 1 + RULES.index(broken[0]) if broken else 0
                like = (0, [0] * self.bands[0]) if rule else self.likeness(texts)
                records.append((file, offset, number, rule, -1, *like))
            offset += len(line)
        return part.end - part.start, np.array(records, self.dtype)

    def examine(self, line: bytes) -> tuple[tuple[str, str] | None, list[str]]:
        """The rule that a row breaks, and how (None: it may stay); its texts."""
        row, wrong = parse_line(line, check_any)
        if wrong:
            return ("bad", wrong), [line.decode("utf-8", "replace")]
        texts, limits = texts_of(row), self.config
        longest, text = max(map(len, texts)), "\n".join(texts)
        if limits.max_chars is not None and longest > limits.max_chars:
            return ("length", f"{longest:,} characters"), texts
        if (signs := share(SIGN, text)) > limits.max_signs:
            return ("signs", f"{signs:.0%} signs"), texts
        if (chinese := share(CHINESE, text)) < limits.min_chinese:
            return ("chinese", f"{chinese:.0%} Chinese"), texts
        for run in runs(words_of(text), limits.overlap) if self.forbidden else ():
            if run in self.forbidden:
                return ("overlap", f"in an evaluation set: {run!r}"), texts
        return None, texts

    def likeness(self, texts: list[str]) -> tuple[int, list[int]]:
        """The numbers `equal` and `bands` of a record."""
        text = "\n".join(texts)
        equal = digest(" ".join(text.split()).encode("utf-8", "replace"))
        return equal, band_digests(text, self.bands) if self.bands[0] else []
