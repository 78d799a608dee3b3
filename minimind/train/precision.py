"""Which device to compute on, in which number format, compiled or not.

Explained in chapter 08. Sources: Micikevicius et al. 2018, "Mixed Precision
Training"; Ansel et al. 2024, "PyTorch 2" (compiling).

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

import os
from collections.abc import Callable

import torch

from minimind.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """The device by name ("cuda", "mps", "cpu"), or the best there is.

    Of several processes each has the GPU of its own number. Raises UserError
    for a device that this machine does not have, and for too few GPUs.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device in present if present[device])
    if not present.get(name.split(":")[0], False):
        here = ", ".join(device for device in present if present[device])
        raise UserError(f"device {name!r} is not available here; there is: {here}")
    if name != "cuda":
        return torch.device(name)
    local = int(os.environ.get("LOCAL_RANK", 0))
    if local >= (gpus := torch.cuda.device_count()):
        raise UserError(
            f"process {local} of this machine finds only {gpus} GPUs; "
            f"give torchrun --nproc_per_node {gpus}"
        )
    return torch.device("cuda", local)


def pick_dtype(device: torch.device, name: str = "auto") -> torch.dtype:
    """The dtype by name, or the fastest that is safe on the device.

    bf16 where the hardware has it, else fp16 (with a loss scaler) on CUDA,
    else fp32: on most CPUs bf16 is emulated and slower.
    """
    if name != "auto":
        return {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
        }[name]
    if device.type != "cuda":
        return torch.float32
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def compile_model(model: torch.nn.Module, probe: Callable[[], None]) -> None:
    """Compile the model in place, so that its state dict keeps its keys.

    probe: runs it once, forwards and backwards. Where that fails (there is no
    C++ compiler, say), training goes on without.
    """
    model.compile()
    try:
        probe()
    except Exception as error:  # whatever it is, it must not stop the run
        torch.compiler.set_stance("force_eager")
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(f"--compile: not possible here ({reason}); going on without")
