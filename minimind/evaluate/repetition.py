"""How much texts repeat themselves and each other.

Explained in chapter 07. Source: Li et al. 2016, "A Diversity-Promoting
Objective Function for Neural Conversation Models" (distinct-n).

Generated from notebooks/07_generation.ipynb by tools/export.py; edit it there.
"""

from collections.abc import Iterable, Sequence


def distinct(texts: Iterable[Sequence[int]], n: int) -> float:
    """Share of different runs among all runs of n ids, from 0 to 1.

    1 where no text is long enough to hold a run. Source: Li et al. 2016.
    """
    runs = [tuple(ids[i : i + n]) for ids in texts for i in range(len(ids) - n + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0


def repetition(ids: Sequence[int], n: int = 4) -> float:
    """Share of a text's runs of n ids that it had written before."""
    return 1 - distinct([ids], n)
