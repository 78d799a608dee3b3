"""The numbers of a run, one json object a line in its log.jsonl.

Explained in chapter 08.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from minimind.files import room_for, write_atomically
from minimind.train.distributed import is_main


class Watcher(Protocol):
    """What gets every line of a log as well: `Adapter`, `LivePlot`."""

    def write(self, values: dict[str, Any]) -> None:
        """Take in one line."""

    def close(self) -> None:
        """Finish."""


class Log:
    """Append-only record of a run that goes on after `step`; process 0 keeps it.

    What was logged for that step and later ones is forgotten: it is logged again.
    """

    def __init__(
        self, directory: Path, step: int, watchers: Sequence[Watcher] = ()
    ) -> None:
        self.path, self.watchers = directory / "log.jsonl", watchers
        kept = [line for line in read_log(directory) if line["step"] < step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        if is_main():
            write_atomically(self.path, text.encode())

    def write(self, **values: Any) -> None:
        """Append one line. Raises UserError on a full disk."""
        if not is_main():
            return
        line = json.dumps(values) + "\n"
        with room_for(self.path, len(line)), self.path.open("a", encoding="utf-8") as f:
            f.write(line)
        for watcher in self.watchers:
            watcher.write(values)

    def close(self) -> None:
        """Let the watchers finish."""
        for watcher in self.watchers:
            watcher.close()


def read_log(directory: Path) -> list[dict[str, Any]]:
    """All lines of a run's log; a last one cut off by a crash is left out."""
    path = directory / "log.jsonl"
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]
