"""Which device to compute on, and in which number format.

Explained in chapter 08. Source: Micikevicius et al. 2018, "Mixed Precision
Training".

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

import torch

from minimind.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """The device by name ("cuda", "mps", "cpu"), or the best there is.

    Raises UserError for one that this machine does not have.
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
    return torch.device(name)


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
