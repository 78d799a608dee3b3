"""Token files to training rows: several whole documents packed into each row.

Explained in chapter 08. Source: Ding et al. 2024, "Fewer Truncations Improve
Language Modeling" (best-fit packing).

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from minimind.errors import UserError
from minimind.text.chat import IGNORE
from minimind.text.tokenizer import PAD_ID
from minimind.text.tokens import TokenFile


def pack(
    lengths: np.ndarray, row_length: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Put documents together into rows of at most row_length tokens.

    Best fit, longest first: each document goes to the row with the least
    space that still holds it. Returns the document numbers, row after row,
    and where each row begins among them, and the end. The seed decides
    between documents of equal length.
    """
    order = np.random.default_rng(seed).permutation(len(lengths))
    order = order.astype(np.int32)  # half the memory, for 2**31 documents
    order = order[np.argsort(-lengths[order], kind="stable")]
    row_of, below = np.empty((2, len(order)), np.int32)
    # For each amount of space a stack of rows: the one on top, and for each
    # row the one below it. Views, as they give whole numbers of Python.
    row_at, below_at, top = memoryview(row_of), memoryview(below), {}
    spaces = rows = 0  # bit s of spaces: some row has s tokens of space left
    for place, length in enumerate(memoryview(lengths[order])):
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = top[space]
            top[space] = below_at[row]
            if top[space] < 0:
                spaces ^= 1 << space
        else:
            space, row, rows = row_length, rows, rows + 1
        row_at[place] = row
        if space > length:
            below_at[row] = top.get(space - length, -1)
            top[space - length] = row
            spaces |= 1 << (space - length)
    bounds = np.concatenate([[0], np.cumsum(np.bincount(row_of))])
    return order[np.argsort(row_of, kind="stable")], bounds


class PackedRows:
    """Endless training rows of T tokens, each of several whole documents.

    Row n is a pure function of the seed and n, so the position in the data is
    one number. Every epoch visits all rows in another order. A document
    longer than T is cut into pieces of T. Without packing each row holds one
    piece, and the rest of it is padding.
    """

    read_ahead = True  # a row does not depend on the training so far

    def __init__(
        self,
        data: TokenFile,
        row_length: int,
        seed: int = 0,
        packing: bool = True,
    ) -> None:
        self.data, self.row_length, self.seed = data, row_length, seed
        self.packing = packing
        offsets, T = data.offsets, row_length
        # A last piece of a single token would ask nothing: it is left out.
        count = -((1 - np.diff(offsets).astype(np.int32)) // T)
        place = np.cumsum(count, dtype=np.int64)
        self.start = np.repeat(offsets[:-1] - (place - count) * T, count)
        self.start += np.arange(len(self.start)) * T
        left = np.repeat(offsets[1:], count) - self.start
        self.length = np.minimum(left, T).astype(np.int32)
        if packing:
            self.pieces, self.bounds = pack(self.length, T, seed)
        else:
            self.pieces = np.arange(len(self.start))
            self.bounds = np.arange(len(self.start) + 1)
        self.shuffled = -1, np.arange(0)  # an epoch, and its order of rows

    def __len__(self) -> int:
        """Rows in one epoch."""
        return len(self.bounds) - 1

    @property
    def padding(self) -> float:
        """Share of all positions that hold no token."""
        tokens = self.length.sum(dtype=np.int64)
        return 1 - float(tokens) / (len(self) * self.row_length)

    @property
    def fingerprint(self) -> str:
        """Tells these rows from others; order and T not included."""
        padded = "" if self.packing else ", padded"
        return self.data.manifest["sha256"] + padded

    def pieces_of(self, n: int) -> np.ndarray:
        """Which pieces row n of the endless sequence holds."""
        epoch, index = divmod(n, len(self))
        known, order = self.shuffled  # at once: another thread may read, too
        if epoch != known:
            shuffle = np.random.default_rng((self.seed, epoch))
            order = shuffle.permutation(len(self))
            self.shuffled = epoch, order
        row = order[index]
        return self.pieces[self.bounds[row] : self.bounds[row + 1]]

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        """Row n of the endless sequence: four arrays of T whole numbers.

        input_ids; labels, -100 where nothing is learned; position_ids, from 0
        in each document; document_ids, which differ between documents.
        """
        row = {
            "input_ids": np.full(self.row_length, PAD_ID),
            "labels": np.full(self.row_length, IGNORE),
            "position_ids": np.zeros(self.row_length, np.int64),
            "document_ids": np.full(self.row_length, -1),
        }
        at = 0
        for number, piece in enumerate(self.pieces_of(n)):
            start, length = int(self.start[piece]), int(self.length[piece])
            source, here = slice(start, start + length), slice(at, at + length)
            ids = self.data.tokens[source].astype(np.int64)
            learned = self.data.targets[source].astype(bool)
            learned[0] = False  # its cause, if any, lies in another row
            row["input_ids"][here] = ids
            row["labels"][here] = np.where(learned, ids, IGNORE)
            row["position_ids"][here] = np.arange(len(ids))
            row["document_ids"][here] = number
            at = here.stop
        return row


def collate(rows: Iterable[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """Stack rows of T numbers into a batch of (B, T) int64 tensors."""
    rows = list(rows)
    return {
        key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]
    }


class MixedRows:
    """Rows of several sets, each with a fixed share of all rows.

    Row n is a pure function of n and the sets' seeds. An epoch has as many
    rows as the sets have together; a set with a larger share than its size
    comes round more than once. Raises UserError for weights that are not one
    number above 0 for each set.
    """

    read_ahead = True

    def __init__(self, sets: list[PackedRows], weights: list[float]) -> None:
        fine = [w for w in weights if 0 < w < math.inf]
        if not len(fine) == len(weights) == len(sets):
            raise UserError(
                f"--weights {' '.join(map(str, weights))}: give one number "
                f"above 0 for each of the {len(sets)} sets of --data"
            )
        self.sets, self.row_length = sets, sets[0].row_length
        exact = [Fraction(str(weight)) for weight in weights]
        # The share of each set in what the sets before it leave over.
        self.shares = [w / sum(exact[i:]) for i, w in enumerate(exact)]
        self.weights = [float(w / sum(exact)) for w in exact]

    def __len__(self) -> int:
        """Rows in one epoch."""
        return sum(map(len, self.sets))

    def row_of(self, n: int) -> tuple[int, int]:
        """Which set row n comes from, and which of its rows it is."""
        for number, share in enumerate(self.shares):
            before, after = n * share // 1, (n + 1) * share // 1
            if after > before:  # always so for the last set: its share is 1
                return number, before
            n -= before

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        """Row n of the endless sequence, as `PackedRows` gives it."""
        number, row = self.row_of(n)
        return self.sets[number][row]

    @property
    def padding(self) -> float:
        """Share of all positions that hold no token."""
        shares = zip(self.weights, self.sets)
        return sum(weight * rows.padding for weight, rows in shares)

    @property
    def fingerprint(self) -> str:
        """Tells these rows from others; order and T not included."""
        shares = zip(self.weights, self.sets)
        return "; ".join(f"{w:g} of {rows.fingerprint}" for w, rows in shares)
