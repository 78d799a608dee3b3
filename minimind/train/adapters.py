"""Other places for a run's numbers: tensorboard, wandb, swanlab.

Explained in chapter 14. Each continues the same record when a run goes on, none
makes a request unless its own environment variable asks for it (WANDB_MODE,
SWANLAB_MODE), and none can stop a run: one that fails is told once and left out.
"""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minimind.train.distributed import is_main

# Gets the numbers and their step.
Send = Callable[[dict[str, float], int], None]


def flat(values: dict[str, Any]) -> dict[str, float]:
    """Every number under a name of its own: a list's are name/0, name/1 ..."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, list):
            found |= flat({f"{name}/{i}": item for i, item in enumerate(value)})
        elif value is not None:
            found[name] = float(value)
    return found


class Adapter:
    """One such place; `begin` opens it and returns how to send and to close."""

    def __init__(self, name: str, begin: Callable[[], tuple[Send, Callable]]) -> None:
        self.name, self.working = name, True
        self.send, self.end = self.safely(begin) or (None, None)

    def safely(self, function: Callable, *given: Any) -> Any:
        """Call the function; should it fail, say so and use this place no more."""
        if not self.working:
            return None
        try:
            return function(*given)
        except Exception as error:  # whatever it is, training goes on
            self.working = False
            hint = ""
            if isinstance(error, ImportError):
                hint = "; pip install 'build-minimind[log]'"
            print(f"{self.name}: no longer logged there ({error}){hint}")

    def write(self, values: dict[str, Any]) -> None:
        """Send the numbers of one step."""
        numbers = flat(values)
        self.safely(self.send, numbers, int(numbers.pop("step")))

    def close(self) -> None:
        """Finish what is on its way."""
        self.safely(self.end)


def run_id(directory: Path) -> str:
    """The name by which a service knows this run, drawn once."""
    path = directory / "run_id"
    if not path.is_file():
        path.write_text(uuid.uuid4().hex[:16], encoding="utf-8")
    return path.read_text(encoding="utf-8")


def tensorboard(directory: Path, step: int) -> tuple[Send, Callable]:
    """Event files in the run directory; what came after `step` is taken back."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(directory / "tensorboard", purge_step=step)

    def send(numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    return send, writer.close


def wandb(directory: Path, step: int) -> tuple[Send, Callable]:
    """Files in the run directory that `wandb sync` uploads, or online."""
    import wandb

    run = wandb.init(
        project="minimind",
        name=directory.name,
        id=run_id(directory),
        resume="allow",
        dir=directory,
        mode=os.environ.get("WANDB_MODE", "offline"),
    )
    return lambda numbers, step: run.log(numbers, step=step), run.finish


def swanlab(directory: Path, step: int) -> tuple[Send, Callable]:
    """Files in the run directory that `swanlab sync` uploads, or online."""
    import swanlab

    swanlab.init(
        project="minimind",
        experiment_name=directory.name,
        id=run_id(directory),
        resume="allow",
        logdir=str(directory / "swanlab"),
        mode=os.environ.get("SWANLAB_MODE", "offline"),
    )
    return lambda numbers, step: swanlab.log(numbers, step=step), swanlab.finish


PLACES = {"tensorboard": tensorboard, "wandb": wandb, "swanlab": swanlab}


def open_adapters(names: tuple[str, ...], directory: Path, step: int) -> list[Adapter]:
    """The places by name, for a run that goes on from `step`; process 0 has them."""
    if not is_main():
        return []
    directory.mkdir(parents=True, exist_ok=True)
    return [Adapter(n, lambda n=n: PLACES[n](directory, step)) for n in names]
