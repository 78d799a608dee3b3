"""Time, memory and scores of `minimind zero`, for several seeds.

    python benchmarks/zero.py --seeds 0 1 2

Runs the command in a new directory for each seed, without a terminal, and
writes benchmarks/results/zero.json: seconds a stage, peak memory, scores, and
the hardware it ran on. The models stay in out/claims/zero-SEED, for the scripts in
benchmarks/claims. Measure on an idle machine.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from claims.claim import processor

RESULTS = Path(__file__).parent / "results" / "zero.json"


def peak_memory(process: subprocess.Popen) -> float:
    """Wait for a process; its largest resident memory in GB."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 1e9


def measure(seed: int) -> dict[str, Any]:
    """Run the whole road once."""
    out = Path(f"out/claims/zero-{seed}")
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "minimind", "zero"]
    command += ["--out", str(out), "--seed", str(seed)]
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=printed)
        memory = peak_memory(process)
        seconds = time.perf_counter() - began
        printed.seek(0)
        text = printed.read()
    if process.returncode:
        raise SystemExit(text)
    stages = re.findall(rf"^{re.escape(str(out))}/(\S+): .*; ([\d.]+) s$", text, re.M)
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    about = json.loads((out / "pretrain" / "minimind.json").read_text("utf-8"))
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "stages": {name: float(spent) for name, spent in stages},
        "peak_memory_gb": round(memory, 2),
        "bits_per_byte": about["numbers"]["bits_per_byte"],
        "facts": scores["facts"],
        "stops": scores["stops"],
        "stories": scores["stories"],
        "later_stories": scores["later_stories"],
    }


def main() -> None:
    """Measure every seed and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    result = {
        "command": "python benchmarks/zero.py --seeds " + " ".join(map(str, seeds)),
        "hardware": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "runs": [measure(seed) for seed in seeds],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for run in result["runs"]:
        print(
            f"seed {run['seed']}: {run['seconds']} s, {run['peak_memory_gb']} GB, "
            f"English {run['facts']['en']['all']['share']:.3f}, "
            f"Chinese {run['facts']['zh']['all']['share']:.3f}, "
            f"stops {run['stops']['share']:.3f}, "
            f"stories {run['stories']['share']:.3f} "
            f"(later in a chat {run['later_stories']['share']:.3f}), "
            f"{run['bits_per_byte']:.3f} bits per byte"
        )


if __name__ == "__main__":
    main()
