"""Shared by the scripts of this folder: where results go, and what measured them.

A script NAME.py measures what a chapter claims, when that takes more minutes or
seeds than the chapter has; NAME.json is committed, and the chapter draws it.
"""

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent


def processor() -> str:
    """The processor's name, as the system tells it."""
    info, cores = Path("/proc/cpuinfo"), f"{os.cpu_count()} cores"
    if info.is_file():
        names = re.findall(r"model name\s*: (.*)", info.read_text())
        return f"{names[0] if names else platform.machine()}, {cores}"
    return f"{platform.processor() or platform.machine()}, {cores}"


def save(name: str, seeds: list[int], result: dict[str, Any]) -> None:
    """Write NAME.json: the result, and how and on what it was measured."""
    about = {
        "command": f"python benchmarks/claims/{name}.py",
        "hardware": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seeds": seeds,
    }
    text = json.dumps(about | result, indent=1, ensure_ascii=False)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")
