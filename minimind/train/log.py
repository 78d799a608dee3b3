"""The numbers of a run, one json object a line in its log.jsonl.

Explained in chapter 08.
"""

import json
from pathlib import Path
from typing import Any

from minimind.train.checkpoint import room_for, write_atomically


class Log:
    """Append-only record of a run; `step` is where this part of it begins.

    A run that goes on from an earlier step forgets what was logged after it.
    """

    def __init__(self, directory: Path, step: int) -> None:
        self.path = directory / "log.jsonl"
        kept = [line for line in read_log(directory) if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(self.path, text.encode())

    def write(self, **values: Any) -> None:
        """Append one line. Raises UserError on a full disk."""
        line = json.dumps(values) + "\n"
        with room_for(self.path, len(line)), self.path.open("a", encoding="utf-8") as f:
            f.write(line)


def read_log(directory: Path) -> list[dict[str, Any]]:
    """All lines of a run's log; a last one cut off by a crash is left out."""
    path = directory / "log.jsonl"
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]
