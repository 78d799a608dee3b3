"""ZeRO through DeepSpeed: processes divide the optimizer's memory, and more.

Explained in chapter 14. Stage 1 divides the optimizer's state, 2 the gradients as
well, 3 the weights too. Source: Rajbhandari et al. 2020, "ZeRO".
"""

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minimind.errors import UserError
from minimind.files import read_json
from minimind.train.accumulate import accumulate
from minimind.train.checkpoint import saved_states
from minimind.train.distributed import barrier, is_main, world_size
from minimind.train.objective import Batch, Objective
from minimind.train.optim import build_optimizers
from minimind.train.run import Run

FOLDER = Path(__file__).parent / "zero_configs"
# What a run decides by its own options; a second word on it would go unheard.
OWN = {"fp16": "--dtype", "bf16": "--dtype", "optimizer": "--optimizer"}
OWN |= {"scheduler": "--schedule", "gradient_accumulation_steps": "--accumulation"}
OWN |= {"gradient_clipping": "--grad-clip", "train_batch_size": "--batch-size"}
OWN |= {"train_micro_batch_size_per_gpu": "--batch-size"}


def zero_config(name: str) -> dict[str, Any]:
    """A configuration of DeepSpeed by name, or from a json file.

    Raises UserError for one that is not there, that divides nothing, or that
    decides what the run's options do.
    """
    path = Path(name) if name.endswith(".json") else FOLDER / f"{name}.json"
    if not path.is_file():
        raise UserError(f"--deepspeed {name}: give zero1, zero2, zero3 or a json file")
    given = read_json(path)
    if given.get("zero_optimization", {}).get("stage") not in (1, 2, 3):
        raise UserError(f"{path}: zero_optimization.stage has to be 1, 2 or 3")
    if twice := [key for key in OWN if key in given]:
        raise UserError(f"{path}: leave out {twice[0]!r}; give {OWN[twice[0]]}")
    return given


def import_deepspeed() -> Any:
    """The library. Raises UserError where it is not installed."""
    try:
        import deepspeed
        from deepspeed.ops import __compatible_ops__
    except ImportError as error:
        raise UserError(
            "--deepspeed needs DeepSpeed: pip install 'build-minimind[deepspeed]'"
        ) from error
    # An all-reduce for inference on CPUs, which would be compiled at the start.
    __compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


class ZeroRun(Run):
    """A run under DeepSpeed, with the same numbers and the same directory.

    What the processes divide between them lies in state/zero-N/.
    """

    def connect(self, objective: Objective) -> None:
        """Hand model and optimizer to DeepSpeed.

        Raises UserError for what does not go together with it.
        """
        given = zero_config(self.config.deepspeed)
        self.stage = given["zero_optimization"]["stage"]
        if self.stage == 3 and self.model.config.num_experts:
            raise UserError(
                "--deepspeed with ZeRO-3 and experts: each process would wait for "
                "weights of experts that another does not use; take zero2"
            )
        if self.dtype == torch.float16:
            raise UserError("--deepspeed: give --dtype bfloat16 or float32")
        if self.config.optimizer != "adamw":
            raise UserError("--deepspeed: give --optimizer adamw")
        if not torch.distributed.is_initialized():
            raise UserError("--deepspeed: start it with torchrun")
        self.objective, self.left = objective, 0
        self.deepspeed = import_deepspeed()
        self.deepspeed.init_distributed(torch.distributed.get_backend())
        (optimizer,) = build_optimizers(self.model, self.config)
        self.network, *_ = self.deepspeed.initialize(
            model=objective,
            model_parameters=[p for p in self.model.parameters() if p.requires_grad],
            optimizer=optimizer,
            config={
                "train_micro_batch_size_per_gpu": self.config.batch_size,
                "gradient_clipping": self.config.grad_clip,
                "steps_per_print": 10**9,
                **given,
            },
        )
        self.optimizers = [self.network.optimizer]

    def gradient(self, batches: list[Batch], total: float) -> dict[str, Any]:
        """As in `Run`; DeepSpeed is told which backward pass is the last."""
        self.left = sum(self.count(batch) > 0 for batch in batches) or 1
        return accumulate(
            self.objective,
            batches,
            lambda _, batch: self.network(batch),
            self.backward,
            self.count,
            total,
        )

    def backward(self, loss: Tensor) -> None:
        """Backpropagate; after the last batch of a step gradients are exchanged.

        A loss that is no number spoils the gradient, if that is one yet: DeepSpeed
        looks at nothing else.
        """
        self.left -= 1
        self.network.set_gradient_accumulation_boundary(self.left == 0)
        self.network.backward(loss * torch.where(loss.isfinite(), 1.0, math.nan))

    def update_weights(self, loss: float) -> float:
        """Clip and step, which DeepSpeed leaves out where the gradient is no number.

        Returns the norm before. Raises UserError as in `Run`.
        """
        self.network.step()
        if self.network.optimizer.overflow:
            self.note(False)
            return math.nan
        self.note(True)
        return float(self.network.get_global_grad_norm())

    def trained_weights(self) -> dict[str, Tensor]:
        """None of them here: DeepSpeed keeps its own."""
        return {}

    def optimizer_states(self) -> list[dict[str, Any]]:
        """None of them either."""
        return []

    def load_optimizers(self, state: dict[str, Any]) -> None:
        """Read weights and optimizer from where DeepSpeed put them.

        Raises UserError where other processes saved them.
        """
        if state["world_size"] != world_size():
            raise UserError(
                f"{self.directory}: divided between {state['world_size']} processes; "
                f"start it with as many, not with {world_size()}"
            )
        self.network.load_checkpoint(self.directory / "state", f"zero-{state['step']}")

    def settings(self) -> dict[str, Any]:
        """As in `Run`; the state of one stage is of no use to another."""
        return {**super().settings(), "deepspeed": f"ZeRO-{self.stage}"}

    def save_model(self, directory: Path) -> None:
        """Collect weights that are divided, and write the model."""
        weights = list(self.model.parameters())
        divided = self.stage == 3
        with self.deepspeed.zero.GatheredParameters(weights, enabled=divided):
            super().save_model(directory)

    def save(self) -> None:
        """Every process writes its part, then process 0 the state that names it."""
        folder = self.directory / "state"
        self.network.save_checkpoint(folder, f"zero-{self.step}", save_latest=False)
        super().save()
        if is_main():
            kept = {int(path.stem[5:]) for path in saved_states(self.directory)}
            for path in folder.glob("zero-*/"):
                if path.is_dir() and int(path.name[5:]) not in kept:
                    shutil.rmtree(path)
        barrier()
