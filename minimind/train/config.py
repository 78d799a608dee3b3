"""What a training run can be told.

Explained in chapter 08.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

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
    weight_decay: float = 0.1  # pull of the matrices towards zero
    grad_clip: float = 1.0  # largest allowed norm of the gradient
    seed: int = 0  # order of the rows, and fresh weights
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"  # auto: the best here
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the maths
    log_every: int = 10  # steps between two lines of log.jsonl
    save_every: int = 100  # steps between two checkpoints
    eval_every: int = 200  # steps between two looks at the validation set

    def __post_init__(self) -> None:
        counts = "steps batch_size accumulation log_every save_every eval_every"
        for name in (*counts.split(), "epochs", "learning_rate", "grad_clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                option = name.replace("_", "-")
                raise UserError(f"--{option} {value}: give a number above 0")

    def complete(self, rows: int, hidden_size: int) -> "TrainConfig":
        """Fill in what follows from the data (rows an epoch) and the model.

        The learning rate falls with the width, from 3e-3 at 128 channels: what
        suits a narrow model makes a wide one diverge (Yang et al. 2022).
        """
        per_step = self.batch_size * self.accumulation
        return replace(
            self,
            steps=self.steps or math.ceil(self.epochs * rows / per_step),
            learning_rate=self.learning_rate or 3e-3 * 128 / hidden_size,
        )


# What may differ when a run goes on, since it changes no weight.
FREE = {"device", "log_every", "save_every", "eval_every"}
