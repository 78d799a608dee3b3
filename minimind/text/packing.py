"""Token files to training rows: several whole documents packed into each row.

Explained in chapter 08. Source: Ding et al. 2024, "Fewer Truncations Improve
Language Modeling" (best-fit packing).

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from minimind.text.chat import IGNORE
from minimind.text.tokenizer import PAD_ID
from minimind.text.tokens import TokenFile


def pack(lengths: np.ndarray, row_length: int, seed: int = 0) -> list[list[int]]:
    """Put documents together into rows of at most row_length tokens.

    Best fit, longest first: each document goes to the row with the least
    space that still holds it. Returns the document numbers of each row. The
    seed decides between documents of equal length.
    """
    order = np.random.default_rng(seed).permutation(len(lengths))
    order = order[np.argsort(-lengths[order], kind="stable")]
    rows: list[list[int]] = []
    # Numbers of the rows with room, by the space that is left in them.
    open_rows: list[list[int]] = [[] for _ in range(row_length + 1)]
    spaces = 0  # bit s is set where some row has s tokens of space left
    for document in order.tolist():
        length = int(lengths[document])
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[space].pop()
            if not open_rows[space]:
                spaces ^= 1 << space
        else:
            space, row = row_length, len(rows)
            rows.append([])
        rows[row].append(document)
        if space > length:
            open_rows[space - length].append(row)
            spaces |= 1 << (space - length)
    return rows


class PackedRows:
    """Endless training rows of T tokens, each of several whole documents.

    Row n is a pure function of the seed and n, so the position in the data is
    one number. Every epoch visits all rows in another order. A document
    longer than T is cut into pieces of T.
    """

    def __init__(self, data: TokenFile, row_length: int, seed: int = 0) -> None:
        self.data, self.row_length, self.seed = data, row_length, seed
        lengths = np.diff(data.offsets)
        # A last piece of a single token would ask nothing: it is left out.
        pieces = -(-(lengths - 1) // row_length)
        first = np.cumsum(pieces) - pieces
        number = np.arange(pieces.sum()) - np.repeat(first, pieces)
        starts = np.repeat(data.offsets[:-1], pieces)
        self.start = starts + number * row_length
        self.end = np.minimum(
            self.start + row_length, np.repeat(data.offsets[1:], pieces)
        )
        self.rows = pack(self.end - self.start, row_length, seed)
        self.epoch, self.order = -1, np.arange(0)

    def __len__(self) -> int:
        """Rows in one epoch."""
        return len(self.rows)

    @property
    def padding(self) -> float:
        """Share of all positions that hold no token."""
        tokens = float((self.end - self.start).sum())
        return 1 - tokens / (len(self) * self.row_length)

    def pieces_of(self, n: int) -> list[int]:
        """Which pieces row n of the endless sequence holds."""
        epoch, index = divmod(n, len(self))
        if epoch != self.epoch:
            shuffle = np.random.default_rng((self.seed, epoch))
            self.epoch, self.order = epoch, shuffle.permutation(len(self))
        return self.rows[self.order[index]]

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
            source = slice(int(self.start[piece]), int(self.end[piece]))
            here = slice(at, at + source.stop - source.start)
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
