"""Loss curves: several runs over each other, as a picture, live, or in a terminal.

Explained in chapter 08. They are read from the runs' log.jsonl.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind.errors import UserError
from minimind.train.log import read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = "▁▂▃▄▅▆▇█"


def smooth(steps: list[int], values: list[float], keep: float = 0.9) -> list[float]:
    """Running mean that forgets: with each step a value counts `keep` times as much.

    So runs that were logged at different steps compare.
    """
    means, total, weight, before = [], 0.0, 0.0, 0
    for step, value in zip(steps, values, strict=True):
        fade, before = keep ** (step - before), step
        total, weight = fade * total + value, fade * weight + 1
        means.append(total / weight)
    return means


def curve(log: list[dict[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """Steps and values of the lines that have a number."""
    lines = [line for line in log if key in line]
    return [line["step"] for line in lines], [line[key] for line in lines]


def draw(logs: dict[str, list[dict[str, Any]]], axes: "Axes") -> None:
    """Losses of named logs: each step faint, their mean, held-out rows as dots."""
    for number, (name, log) in enumerate(logs.items()):
        colour = f"C{number}"
        steps, losses = curve(log, "loss")
        axes.plot(steps, losses, color=colour, alpha=0.25)
        axes.plot(steps, smooth(steps, losses), color=colour, label=name)
        axes.plot(*curve(log, "validation_loss"), "o", color=colour, markersize=4)
    axes.set(xlabel="optimizer step", ylabel="nats per token")
    axes.legend()


def pyplot() -> Any:
    """matplotlib's pyplot. Raises UserError where it is not installed."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise UserError(
            "drawing needs matplotlib: pip install 'build-minimind[book]'"
        ) from error
    return pyplot


def save_picture(logs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw logs into a file; its ending says in which format."""
    figure, axes = pyplot().subplots(figsize=(8, 4.5), layout="constrained")
    draw(logs, axes)
    figure.savefig(path, dpi=150, facecolor="white")
    pyplot().close(figure)


def sparkline(values: list[float], width: int = 60) -> str:
    """A curve as one line of text, the highest value as a full block."""
    size = -(-len(values) // width)
    means = [sum(part) / len(part) for part in split(values, size)]
    low, high = min(means), max(means)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((mean - low) * scale)] for mean in means)


def split(values: list[float], size: int) -> list[list[float]]:
    """Consecutive pieces of at most `size` values."""
    return [values[at : at + size] for at in range(0, len(values), size)]


class LivePlot:
    """Draws a run in a notebook while it trains: `train(..., watchers=[LivePlot()])`.

    behind: logs to draw as well, such as that of an earlier run.
    """

    def __init__(self, behind: dict[str, list[dict[str, Any]]] | None = None) -> None:
        from IPython.display import display

        self.behind, self.log, self.drawn = behind or {}, [], 0.0
        self.figure, self.axes = pyplot().subplots(figsize=(6.5, 3.2))
        pyplot().close(self.figure)  # shown below, and not once more by the cell
        self.handle = display(self.figure, display_id=True)

    def write(self, values: dict[str, Any]) -> None:
        """Take in a line of the log; draws once a second."""
        self.log.append(values)
        if time.monotonic() - self.drawn > 1:
            self.close()

    def close(self) -> None:
        """Draw what there is."""
        self.axes.clear()
        draw({"this run": self.log, **self.behind}, self.axes)
        self.handle.update(self.figure)
        self.drawn = time.monotonic()


def logs_of(directories: list[Path]) -> dict[str, list[dict[str, Any]]]:
    """The logs of runs by name. Raises UserError for a directory without one."""
    logs = {}
    for directory in directories:
        log = read_log(directory)
        if not log:
            raise UserError(f"{directory}: no log.jsonl with a line in it")
        logs[str(directory)] = log
    return logs
