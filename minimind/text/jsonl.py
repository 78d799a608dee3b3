"""Reading jsonl: one row at a time, each checked before it is used.

Explained in chapter 08. The formats are MiniMind's: {"text": "..."} for
pretraining, {"conversations": [{"role": "...", "content": "..."}]} for chats.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from minimind.errors import UserError

Row = dict[str, Any]


def check_text(row: Row) -> str | None:
    """What is wrong with a pretraining row, {"text": "..."}; None if nothing."""
    if "text" not in row:
        return "the field 'text' is missing"
    if not isinstance(row["text"], str):
        return f"the field 'text' is a {type(row['text']).__name__}, not a string"
    if not row["text"].strip():
        return "the field 'text' is empty"
    return None


def check_conversation(row: Row) -> str | None:
    """What is wrong with a chat row, {"conversations": [{"role", "content"}]}."""
    turns = row.get("conversations")
    if turns is None:
        return "the field 'conversations' is missing"
    if not isinstance(turns, list) or not turns:
        return "the field 'conversations' is not a list of turns"
    for i, turn in enumerate(turns):
        for key in ("role", "content"):
            if not isinstance(turn, dict) or not isinstance(turn.get(key), str):
                return f"turn {i} of 'conversations' has no string '{key}'"
    answers = [t["content"] for t in turns if t["role"] == "assistant"]
    if not any(answer.strip() for answer in answers):
        return "'conversations' holds no answer of the role 'assistant'"
    return None


def read_jsonl(
    path: Path, check: Callable[[Row], str | None], skip_bad: bool = False
) -> Iterator[Row | None]:
    """Rows of a jsonl file, one at a time; None stands for a bad row skipped.

    Raises UserError with file, line, field and remedy for a file that is not
    there and for a bad row, unless skip_bad.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.encode("utf-8"))
                wrong = check(row) if isinstance(row, dict) else "not a JSON object"
            except json.JSONDecodeError as error:
                wrong = f"not JSON ({error.msg} at column {error.colno})"
            except UnicodeEncodeError:
                wrong = "not UTF-8"
            except (ValueError, RecursionError) as error:
                wrong = f"not a row ({error})"
            if wrong and not skip_bad:
                raise UserError(
                    f"{path}, line {number}: {wrong}; mend the row, or pass "
                    "--skip-bad to leave such rows out"
                )
            yield None if wrong else row
