"""`minimind plot`: loss curves of runs."""

from pathlib import Path

import tyro

from minimind.train.plot import curve, logs_of, save_picture, smooth, sparkline


def plot(runs: tyro.conf.Positional[tuple[Path, ...]], out: Path | None = None) -> int:
    """Draw the losses of runs over each other, here or into a file.

    Args:
        runs: run directories, or others with a log.jsonl.
        out: picture to write (png, svg, pdf); without it, a line of text for each.
    """
    logs = logs_of(list(runs))
    for name, log in logs.items():
        steps, losses = curve(log, "loss")
        line = f"{name}: step {steps[-1]}, loss {smooth(steps, losses)[-1]:.3f}"
        _, held_out = curve(log, "validation_loss")
        if held_out:
            line += f", held out {held_out[-1]:.3f}, lowest {min(held_out):.3f}"
        print(line)
        if out is None:
            print(f"{losses[0]:.2f} {sparkline(losses)} {losses[-1]:.2f}")
    if out is not None:
        save_picture(logs, out)
        print(f"{out}: written")
    return 0
