"""Helpers for the chapters: methods added cell by cell, and the map of the system.

Only notebooks and the book's front page use this module. The idea of `add_to`, a
class that grows over several cells, is that of "Dive into Deep Learning"
(Zhang, Lipton, Li and Smola).
"""

from collections.abc import Callable

from IPython.display import HTML


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


# The way of the data, from top to bottom, four boxes to a row.
MAP = {
    "Text": ["little world", "tokenizer", "chat template", "token files"],
    "Model": ["norm and RoPE", "attention", "SwiGLU", "MoE"],
    "Training": ["pretraining", "SFT", "LoRA", "DPO"]
    + ["distillation", "reasoning", "GRPO", "scaling out"],
    "Use": ["generation", "evaluation", "export", "chat"],
}


def system_map(*lit: str) -> HTML:
    """The map of the whole system, with the boxes or parts named in `lit` filled.

    Lines and letters take the colour of the text around the figure, so that it reads
    in light and dark themes; 400 units wide, its letters are legible on a phone.
    """
    known = [*MAP, *(box for boxes in MAP.values() for box in boxes)]
    if unknown := [name for name in lit if name not in known]:
        raise ValueError(f"{unknown} not on the map; it has {known}")
    shapes, y = [], 1
    for part, boxes in MAP.items():
        if y > 1:  # an arrow from the part above
            shapes.append(f'<path d="M200 {y - 15}v13m-4-5l4 5l4-5" {_STROKE}/>')
        height = 25 + 35 * (len(boxes) // 4)
        shapes.append(_box(1, y, 398, height, "", part in lit))
        weight = 700 if part in lit else 400
        shapes.append(f'<text x="10" y="{y + 17}" font-weight="{weight}">{part}</text>')
        for place, box in enumerate(boxes):
            x, top = 8 + 97 * (place % 4), y + 24 + 35 * (place // 4)
            shapes.append(_box(x, top, 93, 29, box, box in lit))
        y += height + 17
    label = f"Map of the system; this chapter: {', '.join(lit)}" if lit else "Map"
    return HTML(
        f'<svg class="system-map" role="img" aria-label="{label}" fill="currentColor" '
        f'viewBox="0 0 400 {y - 16}" font-family="sans-serif" font-size="12.5" '
        f'style="max-width: 34rem; width: 100%">{"".join(shapes)}</svg>'
    )


_STROKE = 'fill="none" stroke="currentColor" stroke-opacity="0.6"'


def _box(x: int, y: int, width: int, height: int, text: str, lit: bool) -> str:
    # White letters read well on this teal, and so does its line on white and black.
    teal = 'stroke="#0c8076" stroke-width="2"'
    style = _STROKE if not lit else f'fill="{"#0c8076" if text else "none"}" {teal}'
    colour = 'fill="white" font-weight="700"' if lit else ""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" {style}/>'
        f'<text x="{x + width / 2}" y="{y + height / 2 + 4.5}" text-anchor="middle" '
        f"{colour}>{text}</text>"
    )
