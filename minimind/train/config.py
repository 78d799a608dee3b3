"""What a training run can be told.

Explained in chapter 08.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from minimind.errors import UserError


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train; the same for every stage.

    Raises UserError for a number that makes no sense.
    """

    epochs: float = 1.0  # passes over the data
    steps: int | None = None  # optimizer steps; if not given, what epochs come to
    batch_size: int = 16  # rows in one forward pass
    accumulation: int = 1  # forward passes in one optimizer step
    learning_rate: float | None = None  # peak; if not given, by the model's width
    warmup: int = 50  # optimizer steps until the peak
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"  # of the rate
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: for the inner matrices
    weight_decay: float = 0.1  # pull of the matrices towards zero
    grad_clip: float = 1.0  # largest allowed norm of the gradient
    packing: bool = True  # whole documents side by side in a row; else one a row
    seed: int = 0  # order of the rows, and fresh weights
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"  # auto: the best here
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the maths
    deepspeed: str | None = None  # zero1, zero2, zero3 or a json file: share memory
    compile: bool = False  # faster after a slow start; without it where it fails
    gradient_checkpointing: bool = False  # compute activations twice, to keep few
    loss_chunk: int | None = None  # tokens whose logits are in memory at a time
    log_every: int = 10  # steps between two lines of log.jsonl
    log_to: tuple[Literal["tensorboard", "wandb", "swanlab"], ...] = ()  # as well
    save_every: int = 100  # steps between two checkpoints
    save_minutes: float | None = None  # and minutes, whichever is over first
    keep: int = 2  # checkpoints that stay, the newest ones
    eval_every: int = 200  # steps between two looks at the validation set
    dry_run: int | None = None  # steps to measure, to tell time and cost of a run
    price: float | None = None  # of this machine, or of all of them, an hour

    def __post_init__(self) -> None:
        positive = (
            "epochs steps batch_size accumulation learning_rate grad_clip loss_chunk "
            "log_every save_every save_minutes keep eval_every dry_run"
        )
        for name in positive.split():
            value = getattr(self, name)
            if value is not None and not value > 0:
                option = name.replace("_", "-")
                raise UserError(f"--{option} {value}: give a number above 0")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: give 0 or more")

    def complete(
        self, rows: int, hidden_size: int, processes: int = 1
    ) -> "TrainConfig":
        """Fill in what follows from the data (rows an epoch) and the model.

        The learning rate falls with the width, from 3e-3 at 128 channels: what
        suits a narrow model makes a wide one diverge (Yang et al. 2022).
        """
        per_step = self.batch_size * self.accumulation * processes
        return replace(
            self,
            steps=self.steps or math.ceil(self.epochs * rows / per_step),
            learning_rate=self.learning_rate or 3e-3 * 128 / hidden_size,
        )


# What may differ when a run goes on. The first two and the number of processes may,
# as long as their product stays: it decides which rows a step reads.
FREE = (
    "batch_size accumulation device compile gradient_checkpointing loss_chunk "
    "log_every log_to save_every save_minutes keep eval_every dry_run price"
).split()


def refuse_other_settings(
    directory: Path, old: dict[str, Any], new: dict[str, Any]
) -> None:
    """Raise UserError where a run would go on with other settings."""
    changed = [
        f"{key} {old.get(key)} -> {new[key]}" for key in new if old.get(key) != new[key]
    ]
    if changed:
        raise UserError(
            f"{directory} holds a run with other settings "
            f"({', '.join(changed)}); give the old ones, choose another "
            "--out, or delete it"
        )
