"""Steps without a finite loss and gradient: left out, and counted.

Explained in chapter 08.

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

from pathlib import Path

from minimind.errors import UserError
from minimind.files import write_json
from minimind.train.distributed import is_main

MAX_BAD_STEPS = 5  # in a row, before a run gives up


class Guard:
    """Watches whether the steps of a run have finite numbers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.skipped = 0  # steps without, so far
        self.rows: list[int] = []  # of the last steps, if they were such

    def note(self, finite: bool, rows: range, learning_rate: float) -> None:
        """Take notice of a step; rows: their numbers in the data.

        Raises UserError after MAX_BAD_STEPS without finite numbers in a row.
        """
        self.rows = [] if finite else [*self.rows, *rows]
        self.skipped += not finite
        if len(self.rows) >= MAX_BAD_STEPS * len(rows):
            if is_main():
                record = self.directory / "bad_rows.json"
                write_json(record, {"rows": self.rows})
            raise UserError(
                f"{self.directory}: {MAX_BAD_STEPS} steps in a row without a "
                "finite loss and gradient (their rows are in bad_rows.json); "
                f"lower --learning-rate from {learning_rate:g}, or give "
                "--dtype float32"
            )
