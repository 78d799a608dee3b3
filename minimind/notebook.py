"""Helpers for the chapters: methods added cell by cell, figures, a trained model.

Importing it lets `!torchrun` and `!minimind` in a cell find the commands that lie
beside the Python of the notebook, whether or not their environment is active.
Only notebooks and the book's front page use this module. The idea of `add_to`, a
class that grows over several cells, is that of "Dive into Deep Learning"
(Zhang, Lipton, Li and Smola).
"""

import os
import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from IPython.display import HTML

os.environ["PATH"] = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ["PATH"]]
)


def add_to(owner: type) -> Callable:
    """Attach the decorated function to the class `owner` as a method.

    tools/export.py writes such a function into the class body, so the package
    holds an ordinary class.
    """

    def attach(method):
        function = method.fget if isinstance(method, property) else method
        setattr(owner, function.__name__, method)
        return method

    return attach


def trained(stage: str) -> Path:
    """Directory of the nano model after a stage, trained now if it is not there yet.

    stage: "pretrain" or "sft", the model of `make zero` in the project's out/zero,
    which takes some minutes; or "reason" (chapter 13), made of it in out/reason.
    """
    # Here, so that a chapter on the tokenizer does not load the training code.
    import torch

    from minimind.commands import reason, zero

    out = Path("../out")  # notebooks run in their own folder
    place = out / "reason" if stage == "reason" else out / "zero" / stage
    if zero.finished(place):
        return place
    if stage == "reason":
        base = trained("sft")
    threads = torch.get_num_threads()
    torch.set_num_threads(min(4, os.cpu_count() or 1))  # checks run on one thread
    try:
        if stage == "reason":
            stopped = reason.build(base, place)
        else:
            stopped = zero.build(out / "zero", seed=0, until=stage)
        if stopped:
            raise KeyboardInterrupt(f"{place}: stopped; run the cell again to go on")
    finally:
        torch.set_num_threads(threads)
    return place


def film(
    draw: Callable[[Any], Any],
    values: Sequence[Any],
    name: str,
    start: int = 0,
) -> Any:
    """A slider over pictures drawn beforehand, so that it moves on a static page.

    draw: makes one matplotlib figure of one of the values. start: index of the
    value that is shown first.
    """
    # Here, so that a chapter without pictures does not load them.
    import matplotlib.pyplot as plt
    from ipywidgets import Image, SelectionSlider, Stack, VBox, jslink

    pictures = []
    for value in values:
        draw(value)
        png = BytesIO()
        plt.savefig(png, format="png", dpi=72, bbox_inches="tight", facecolor="white")
        plt.close()
        pictures.append(Image(value=png.getvalue(), format="png"))
    slider = SelectionSlider(options=values, index=start, description=name)
    stack = Stack(pictures, selected_index=start)
    jslink((slider, "index"), (stack, "selected_index"))
    return VBox([slider, stack])


# The way of the data, from top to bottom, four boxes to a row.
MAP = {
    "Text": ["little world", "tokenizer", "chat template", "token files"],
    "Model": ["norm, RoPE", "attention", "SwiGLU", "MoE"],
    "Training": ["pretraining", "SFT", "LoRA", "DPO"]
    + ["distillation", "reasoning", "GRPO", "scaling out"],
    "Use": ["generation", "evaluation", "export", "chat"],
}


# White letters read well on this teal, and a teal line on white and on black.
TEAL = "#0c8076"
LINE = 'fill="none" stroke="currentColor" stroke-opacity="0.6"'
LIT_LINE = f'fill="none" stroke="{TEAL}" stroke-width="3"'
LIT_BOX = f'fill="{TEAL}" stroke="{TEAL}"'


def system_map(*lit: str) -> HTML:
    """The map of the whole system, with the boxes or parts named in `lit` marked.

    Lines and letters take the colour of the text around the figure, so that it reads
    in light and dark themes; 400 units wide, its letters are legible on a phone.
    """
    known = [*MAP, *(box for boxes in MAP.values() for box in boxes)]
    if unknown := [name for name in lit if name not in known]:
        raise ValueError(f"{unknown} not on the map; it has {known}")
    shapes, y = [], 2
    for part, boxes in MAP.items():
        if y > 2:  # an arrow from the part above
            shapes.append(f'<path d="M200 {y - 15}v12m-4-5l4 5l4-5" {LINE}/>')
        height = 25 + 35 * (len(boxes) // 4)
        style, weight = (LIT_LINE, 700) if part in lit else (LINE, 400)
        size = f'width="396" height="{height}"'
        shapes.append(f'<rect x="2" y="{y}" {size} rx="5" {style}/>')
        shapes.append(f'<text x="10" y="{y + 17}" font-weight="{weight}">{part}</text>')
        for place, box in enumerate(boxes):
            x, top = 8 + 97 * (place % 4), y + 24 + 35 * (place // 4)
            style, letters = (LINE, "") if box not in lit else (LIT_BOX, 'fill="white"')
            weight = 700 if box in lit else 400
            size = 'width="93" height="29"'
            shapes.append(f'<rect x="{x}" y="{top}" {size} rx="5" {style}/>')
            at = f'x="{x + 46.5}" y="{top + 19}" text-anchor="middle"'
            letters += f' font-weight="{weight}"'
            shapes.append(f"<text {at} {letters}>{box}</text>")
        y += height + 17
    label = f"Map of the system, here: {', '.join(lit)}" if lit else "Map of the system"
    return HTML(
        f'<svg class="system-map" role="img" aria-label="{label}" fill="currentColor" '
        f'viewBox="0 0 400 {y - 15}" font-family="sans-serif" font-size="12.5" '
        f'style="max-width: 34rem; width: 100%">{"".join(shapes)}</svg>'
    )
