"""Memory of preparing a large jsonl and of training on it.

    python benchmarks/prepare.py --gb 2

Makes a jsonl file of the little world, as large as asked for, in rows of about a
kilobyte; learns a vocabulary, prepares the file, and takes some training steps, each
by its command. Writes benchmarks/results/prepare.json: the seconds of each command and
the largest resident memory of any of its processes. Fails where one had a gigabyte or
more.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from claims.claim import processor
from zero import peak_memory

from minimind.text.world import pretrain_rows

RESULTS = Path(__file__).parent / "results" / "prepare.json"
LIMIT = 1.0  # GB of resident memory of each process


def write_file(path: Path, size: int) -> int:
    """Write so many bytes of jsonl; returns the number of rows."""
    texts = [row["text"] for row in pretrain_rows(seed=0, n=20_000)]
    rows = written = at = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        while written < size:
            text = f"{rows}."  # no two rows are the same
            while len(text) < 800:
                text += " " + texts[at]
                at = (at + 7919) % len(texts)  # a prime: another order each time round
            line = json.dumps({"text": text}, ensure_ascii=False) + "\n"
            file.write(line)
            rows, written = rows + 1, written + len(line.encode())
    return rows


def measure(*command: str) -> dict[str, float]:
    """Run a minimind command: its seconds, and GB of its largest process."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "minimind", *command])
    memory = peak_memory(process)
    if process.returncode:
        raise SystemExit(f"minimind {' '.join(command)}: {process.returncode}")
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 1), "peak_memory_gb": round(memory, 3)}


def main() -> None:
    """Make the file, measure each command, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--scratch", type=Path, help="a folder with room for it")
    given = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(dir=given.scratch))
    text, vocabulary, data, run = (
        scratch / name for name in ("text.jsonl", "tokenizer", "data", "run")
    )
    try:
        rows = write_file(text, int(given.gb * 1e9))
        commands = {
            "tokenizer train": ["--data", str(text), "--out", str(vocabulary)]
            + ["--vocab-size", "6400"],
            "data prepare": ["--data", str(text), "--out", str(data)]
            + ["--tokenizer", str(vocabulary)],
            "train pretrain": ["--data", str(data), "--out", str(run)]
            + ["--tokenizer", str(vocabulary), "--steps", str(given.steps)]
            + ["--seq-len", "512", "--batch-size", "4", "--device", "cpu"],
        }
        found = {
            name: measure(*name.split(), *options) for name, options in commands.items()
        }
        manifest = json.loads((data / "manifest.json").read_text(encoding="utf-8"))
    finally:
        shutil.rmtree(scratch)
    result = {
        "command": f"python benchmarks/prepare.py --gb {given.gb:g}",
        "hardware": processor(),
        "torch": torch.__version__,
        "source_bytes": manifest["source_bytes"],
        "rows": rows,
        "tokens": manifest["tokens"],
        "workers": os.cpu_count(),
        "commands": found,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    if any(numbers["peak_memory_gb"] >= LIMIT for numbers in found.values()):
        raise SystemExit(f"a process had {LIMIT} GB or more")


if __name__ == "__main__":
    main()
