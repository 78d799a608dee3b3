"""tools/slurm.sh, with stand-ins for Slurm that start two nodes on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minimind.train.checkpoint import load_state
from tests.training_kit import token_file, tokenizer

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tools" / "slurm.sh"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs bash")

STANDINS = {
    "scontrol": "echo localhost; echo another",
    # As srun: the command on each node, a signal to all of them, the worst status.
    "srun": """
        "$@" & one=$!
        "$@" & two=$!
        trap 'kill -TERM $one $two' TERM
        status=0
        wait $one || status=$?
        wait $one 2>/dev/null || true
        wait $two || status=$?
        exit $status
    """,
}


@pytest.fixture
def cluster(tmp_path):
    """The environment that Slurm would give to a job of two nodes with one GPU each."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in STANDINS.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    path = [str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]
    return os.environ | {
        "PATH": os.pathsep.join(path),
        "SLURM_JOB_NODELIST": "localhost,another",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_JOB_ID": "7",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def test_bash_understands_it():
    assert subprocess.run(["bash", "-n", SCRIPT]).returncode == 0


def test_two_nodes_train_one_model_and_stop_when_told(cluster, tmp_path):
    token_file(tmp_path)
    tokenizer().save(tmp_path / "tok")
    out = tmp_path / "run"
    options = f"pretrain --data {tmp_path}/tokens --tokenizer {tmp_path}/tok"
    options += f" --out {out} --seq-len 48 --batch-size 2 --steps 100000"
    options += " --save-every 5 --warmup 2 --device cpu"
    job = subprocess.Popen(
        [SCRIPT, *options.split()],
        cwd=ROOT,
        env=cluster,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    )
    try:
        limit = time.monotonic() + 60
        while not (out / "state").is_dir() and time.monotonic() < limit:
            time.sleep(0.1)
        os.killpg(job.pid, signal.SIGTERM)
        printed, _ = job.communicate(timeout=60)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    assert "processes: 2, backend gloo" in printed
    state = load_state(out)
    assert state["world_size"] == 2
    assert f"stopped (step {state['step']}" in printed, printed
