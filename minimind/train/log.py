"""The numbers of a run, one json object a line in its log.jsonl.

Explained in chapter 08.
"""

import json
from pathlib import Path
from typing import Any


class Log:
    """Append-only record of a run; `step` is where this part of it begins.

    A run that goes on from an earlier step forgets what was logged after it.
    """

    def __init__(self, directory: Path, step: int) -> None:
        self.path = directory / "log.jsonl"
        directory.mkdir(parents=True, exist_ok=True)
        kept = [
            json.dumps(line) for line in read_log(directory) if line["step"] <= step
        ]
        text = "".join(line + "\n" for line in kept)
        self.path.write_text(text, encoding="utf-8")

    def write(self, **values: Any) -> None:
        """Append one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def read_log(directory: Path) -> list[dict[str, Any]]:
    """All lines of a run's log; a last one cut off by a crash is left out."""
    path = directory / "log.jsonl"
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]
