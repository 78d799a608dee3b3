"""Cleaning jsonl: rows that break a rule go, and it is said which and why.

Explained in chapter 08. No text stays in memory: every row has a small record on disk,
by which duplicates are found, and the files are read a second time to write what stays.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minimind.errors import UserError
from minimind.files import room_for
from minimind.text.duplicates import choose_bands, find_near, first_alike, similarity
from minimind.text.jsonl import check_any, parse_line, split_file, whole
from minimind.text.parallel import map_ordered
from minimind.text.rules import RULES, CleanConfig, Examiner, forbidden_runs, texts_of

PART_SIZE = 2**20  # bytes of jsonl that a process looks at, at once
SAMPLES = 3  # rows shown of what a rule removed


@dataclass(frozen=True)
class Report:
    """What cleaning did: rows read and kept; what each rule removed, with samples."""

    rows: int
    kept: int
    removed: dict[str, int]
    samples: dict[str, list[str]]
    unchecked: int = 0  # texts of evaluation sets that are too short to look for


class Cleaner:
    """Rows of several files, and a record on disk of each."""

    def __init__(self, examiner: Examiner, path: Path) -> None:
        self.examiner, self.path = examiner, path
        self.files = [source.open("rb") for source in examiner.paths]

    def judge(self, workers: int, progress: Callable[[int], None]) -> None:
        """Judge every row by itself, and write its record."""
        paths = self.examiner.paths
        parts = (part for path in paths for part in split_file(path, PART_SIZE))
        with self.path.open("wb") as file:
            for size, records in map_ordered(self.examiner, parts, workers):
                with room_for(self.path, records.nbytes):
                    file.write(records.tobytes())
                progress(size)
        if not self.path.stat().st_size:
            raise UserError(f"{', '.join(map(str, paths))}: no row")
        self.records = np.memmap(self.path, self.examiner.dtype, "r+")

    def find_duplicates(self) -> None:
        """Judge rows by those before them: equal ones, then nearly equal ones."""
        alive = np.flatnonzero(self.records["rule"] == 0)
        first = first_alike(self.records["equal"][alive])
        again = np.flatnonzero(first < np.arange(len(first)))
        self.mark("equal", alive[again], alive[first[again]])
        alive = np.flatnonzero(self.records["rule"] == 0)
        bands = range(self.examiner.bands[0])
        columns = (self.records["bands"][alive, band] for band in bands)
        near = self.examiner.config.near
        found = find_near(columns, lambda place: self.text(alive[place]), near)
        self.mark("near", alive[list(found)], alive[list(found.values())])

    def mark(self, rule: str, records: np.ndarray, twins: np.ndarray) -> None:
        """Note of records that they break a rule, as they repeat their twins."""
        self.records["rule"][records] = 1 + RULES.index(rule)
        self.records["twin"][records] = twins

    def line(self, record: int) -> bytes:
        """The line of the file that a record stands for."""
        file = self.files[self.records["file"][record]]
        file.seek(int(self.records["offset"][record]))
        return file.readline()

    def text(self, record: int) -> str:
        """The text of a good row."""
        row, _ = parse_line(self.line(record), check_any)
        return "\n".join(texts_of(row))

    def place(self, record: int) -> str:
        """File and line of a record."""
        path = self.examiner.paths[self.records["file"][record]]
        return f"{path.name}, line {self.records['line'][record]}"

    def sample(self, record: int) -> str:
        """A removed row in one line: where it stands, why it goes, how it begins."""
        broken, texts = self.examiner.examine(self.line(record))
        if broken is None:
            twin = self.records["twin"][record]
            alike = similarity(self.text(record), self.text(twin))
            broken = "", f"{alike:.0%} of {self.place(twin)}"
        start = " ".join(" ".join(texts).split())[:60]
        return f"{self.place(record)}: {broken[1]}: {start}"

    def write(self, path: Path, unchecked: int) -> Report:
        """Write the rows that stay, as they are, and say what became of the others."""
        removed, samples = dict.fromkeys(RULES, 0), {rule: [] for rule in RULES}
        with room_for(path, 0), path.open("wb") as file:
            for record, rule in enumerate(self.records["rule"].tolist()):
                if rule == 0:
                    file.write(self.line(record).rstrip(b"\r\n") + b"\n")
                    continue
                name = RULES[rule - 1]
                removed[name] += 1
                if removed[name] <= SAMPLES:
                    samples[name].append(self.sample(record))
        rows = len(self.records)
        kept = rows - sum(removed.values())
        return Report(rows, kept, removed, samples, unchecked)

    def close(self) -> None:
        """Close the files and delete the records."""
        for file in self.files:
            file.close()
        self.records = None  # or Windows keeps the file
        self.path.unlink(missing_ok=True)


def clean(
    paths: Iterable[Path],
    out: Path,
    config: CleanConfig,
    evaluation: Iterable[Path] = (),
    skip_bad: bool = False,
    workers: int = 1,
    progress: Callable[[int], None] = lambda size: None,
) -> Report:
    """Write the rows of jsonl files that break no rule to one file, in their order.

    Rows may be of any kind. evaluation: sets of which no row may hold a run of
    words. workers: processes; the result is the same for any number. progress is
    told of every so many bytes judged. `out` appears only when complete. Raises
    UserError for a bad row, unless skip_bad, and for files that hold no row.
    """
    paths = tuple(whole(Path(path)).path for path in paths)
    if out.resolve() in [path.resolve() for path in paths]:
        raise UserError(f"{out}: is also read; give another --out")
    forbidden, unchecked = forbidden_runs(evaluation, config.overlap)
    bands = (0, 0) if config.near is None else choose_bands(config.near)
    examiner = Examiner(paths, config, forbidden, bands, skip_bad)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(out.name + ".unfinished")
    cleaner = Cleaner(examiner, out.with_name(out.name + ".records"))
    try:
        cleaner.judge(workers, progress)
        cleaner.find_duplicates()
        report = cleaner.write(unfinished, unchecked)
    finally:
        cleaner.close()
    os.replace(unfinished, out)
    return report
