"""Several processes that train one model: what each has to know of the others.

Explained in chapter 14. `torchrun` starts the processes and tells each its number in
the environment. Without it there is one process, and all of this does nothing.
Source: Li et al. 2020, "PyTorch Distributed".
"""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from minimind.errors import UserError
from minimind.train.accumulate import Means

NCCL_HINT = (
    "if it stays here, NCCL_DEBUG=INFO says why; NCCL_P2P_DISABLE=1, NCCL_IB_DISABLE=1 "
    "or NCCL_SOCKET_IFNAME=NAME help where the GPUs or nodes have no such link"
)

# PyTorch 2.13 gave this option another name.
SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)


def rank() -> int:
    """The number of this process, from 0; it is known before they are connected."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """How many processes train together; 1 outside of `process_group`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that prints, logs and saves."""
    return rank() == 0


def say(text: str) -> None:
    """Print, once for all processes."""
    if is_main():
        print(text)


def backend_for(device: torch.device) -> str:
    """nccl between GPUs, gloo between CPUs.

    Raises UserError for a device that cannot be shared.
    """
    if device.type == "cpu":
        return "gloo"
    if device.type != "cuda":
        raise UserError(f"{device.type} trains in one process; give --device cpu")
    torch.cuda.set_device(device)  # "cuda" alone is this one from now on
    return "nccl"


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Connect the processes that torchrun started, and part them at the end."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield
        return
    backend = backend_for(device)
    hint = f" ({NCCL_HINT})" if backend == "nccl" else ""
    say(f"processes: {os.environ['WORLD_SIZE']}, backend {backend}{hint}")
    dist.init_process_group(backend)
    try:
        yield
    finally:
        dist.destroy_process_group()


def parallel(module: nn.Module) -> nn.Module:
    """The module, its gradients averaged over the processes during backward.

    Its parameters become those of process 0.
    """
    if world_size() == 1:
        return module
    # The only buffers are the angles of RoPE, which are everywhere the same.
    return DistributedDataParallel(module, **{SYNC_BUFFERS: False})


def gather(value: Any) -> list[Any]:
    """What each process gave, in the order of their numbers."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def total(value: float) -> float:
    """The sum of what each process gave."""
    if world_size() == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return tensor.item()


def any_of(flag: bool) -> bool:
    """Whether any process gave True; all of them get the same answer."""
    return total(flag) > 0


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def mean_numbers(numbers: dict[str, Any], weight: float) -> dict[str, Any]:
    """Mean over the processes of numbers, or lists of them, by weight.

    A number that a process does not have is the mean over the others.
    """
    if world_size() == 1:
        return numbers
    sums = Means()
    for part_weight, part in gather((weight, numbers)):
        sums.add({k: torch.tensor(v) for k, v in part.items()}, part_weight)
    return sums.means()
