"""Reading jsonl: one row at a time, each checked before it is used.

Explained in chapter 08. The formats are MiniMind's: {"text": "..."} for
pretraining, {"conversations": [{"role": "...", "content": "..."}]} for chats,
{"chosen": [...], "rejected": [...]} for preferences.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind.errors import UserError

Row = dict[str, Any]
Check = Callable[[Row], str | None]  # what is wrong with a row; None if nothing


class BadRow(UserError):
    """A row that is not what it should be: its file, its line and what is wrong."""

    def __str__(self) -> str:
        path, line, wrong = self.args
        return (
            f"{path}, line {line}: {wrong}; mend the row, or pass --skip-bad to "
            "leave such rows out"
        )


def check_text(row: Row) -> str | None:
    """What is wrong with a pretraining row, {"text": "..."}; None if nothing."""
    if "text" not in row:
        return "the field 'text' is missing"
    if not isinstance(row["text"], str):
        return f"the field 'text' is of type {type(row['text']).__name__}, not a string"
    if not row["text"].strip():
        return "the field 'text' is empty"
    return None


def check_turns(row: Row, field: str) -> str | None:
    """What is wrong with a list of turns, [{"role": "...", "content": "..."}]."""
    turns = row.get(field)
    if turns is None:
        return f"the field '{field}' is missing"
    if not isinstance(turns, list) or not turns:
        return f"the field '{field}' is not a list of turns"
    for i, turn in enumerate(turns):
        for key in ("role", "content"):
            if not isinstance(turn, dict) or not isinstance(turn.get(key), str):
                return f"turn {i} of '{field}' has no string '{key}'"
    answers = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    for i in answers:
        if not turns[i]["content"].strip():
            return f"'content' of turn {i} of '{field}', an answer, is empty"
    return None if answers else f"'{field}' holds no answer of the role 'assistant'"


def check_conversation(row: Row) -> str | None:
    """What is wrong with a chat row, {"conversations": [{"role", "content"}]}."""
    return check_turns(row, "conversations")


def check_preference(row: Row) -> str | None:
    """What is wrong with a preference row: two answers to the same prompt."""
    if wrong := check_turns(row, "chosen") or check_turns(row, "rejected"):
        return wrong
    for field in ("chosen", "rejected"):
        if row[field][-1]["role"] != "assistant":
            return f"'{field}' does not end with the role 'assistant'"
    if row["chosen"][:-1] != row["rejected"][:-1]:
        return "'chosen' and 'rejected' do not answer the same prompt"
    return None


def check_any(row: Row) -> str | None:
    """What is wrong with a row of any of the three kinds."""
    if "conversations" in row:
        return check_conversation(row)
    if "chosen" in row or "rejected" in row:
        return check_preference(row)
    return check_text(row)


@dataclass(frozen=True)
class Part:
    """A piece of a jsonl file: bytes start to end; first is its line number."""

    path: Path
    start: int
    end: int
    first: int


def whole(path: Path) -> Part:
    """All of a file. Raises UserError for a file that is not there."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return Part(path, 0, path.stat().st_size, 1)


def split_file(path: Path, size: int) -> Iterator[Part]:
    """Cut a file into parts of about `size` bytes, each of whole lines.

    Raises UserError for a file that is not there.
    """
    part = whole(path)
    with path.open("rb") as file:
        start, first = 0, 1
        while start < part.end:
            block = file.read(size)
            block += file.readline()
            yield Part(path, start, start + len(block), first)
            start, first = start + len(block), first + block.count(b"\n")


def read_lines(part: Part) -> Iterator[tuple[int, bytes]]:
    """The lines of a part, one at a time, each with its number in the file."""
    with part.path.open("rb") as file:
        file.seek(part.start)
        number, left = part.first, part.end - part.start
        while left > 0 and (line := file.readline()):
            yield number, line
            number, left = number + 1, left - len(line)


def parse_line(line: bytes, check: Check) -> tuple[Row | None, str | None]:
    """The row that a line holds, and what is wrong with it; one of them is None."""
    try:
        row = json.loads(line.decode("utf-8-sig"))  # the first may begin with a BOM
        wrong = check(row) if isinstance(row, dict) else "not a JSON object"
    except json.JSONDecodeError as error:
        wrong = f"not JSON ({error.msg} at column {error.colno})"
    except UnicodeDecodeError:
        wrong = "not UTF-8"
    except (ValueError, RecursionError) as error:
        wrong = f"not a row ({error})"
    return (None, wrong) if wrong else (row, None)


def parse_rows(part: Part, check: Check, skip_bad: bool) -> Iterator[Row | None]:
    """Rows of a part of a file; None stands for a bad row skipped.

    Raises BadRow with file, line, field and remedy, unless skip_bad.
    """
    for number, line in read_lines(part):
        if not line.strip():
            continue
        row, wrong = parse_line(line, check)
        if wrong and not skip_bad:
            raise BadRow(part.path, number, wrong)
        yield row


def read_jsonl(
    path: Path, check: Check, skip_bad: bool = False
) -> Iterator[Row | None]:
    """Rows of a jsonl file, one at a time; None stands for a bad row skipped.

    Raises UserError with file, line, field and remedy for a file that is not
    there and for a bad row, unless skip_bad.
    """
    yield from parse_rows(whole(path), check, skip_bad)
