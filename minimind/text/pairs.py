"""Preference data: two answers to one prompt, side by side in a training row.

Explained in chapter 11. The format is MiniMind's: {"chosen": [...],
"rejected": [...]}, two conversations that differ in the last answer.

Generated from notebooks/11_dpo.ipynb by tools/export.py; edit it there.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from minimind.errors import UserError
from minimind.text.chat import IGNORE, encode_chat
from minimind.text.jsonl import check_preference, read_jsonl
from minimind.text.tokenizer import PAD_ID, Tokenizer

Encoded = tuple[list[int], list[int]]  # ids and labels
SIDES = ("chosen", "rejected")


def encode_last_answer(tokenizer: Tokenizer, messages: list[dict]) -> Encoded:
    """Ids and labels of a conversation; only its last answer is a target."""
    ids, labels = encode_chat(tokenizer, messages)
    prompt, _ = encode_chat(tokenizer, messages[:-1], add_generation_prompt=True)
    return ids, [IGNORE] * len(prompt) + labels[len(prompt) :]


def lay_out(pair: list[Encoded], row_length: int) -> dict[str, np.ndarray]:
    """Both conversations of a pair in one row of T, as `PackedRows`."""
    row = {
        "input_ids": np.full(row_length, PAD_ID),
        "labels": np.full(row_length, IGNORE),
        "position_ids": np.zeros(row_length, np.int64),
        "document_ids": np.full(row_length, -1),
    }
    at = 0
    for number, (ids, labels) in enumerate(pair):
        here = slice(at, at + len(ids))
        row["input_ids"][here], row["labels"][here] = ids, labels
        row["position_ids"][here] = np.arange(len(ids))
        row["document_ids"][here] = number
        at = here.stop
    return row


class PairRows:
    """Endless training rows of T tokens, each of one pair, all in memory.

    Row n is a pure function of the seed and n; every epoch visits all pairs
    in another order. reference: (N, 2) log-probabilities under the reference
    model, which each row then brings along. Raises UserError where no pair
    is left.
    """

    read_ahead = True  # a row does not depend on the training so far

    def __init__(
        self, pairs: Iterable[list[Encoded]], max_length: int, seed: int = 0
    ) -> None:
        self.pairs, self.seed, self.too_long = [], seed, 0
        digest = hashlib.sha256()
        for pair in pairs:
            if max(len(ids) for ids, _ in pair) > max_length:
                self.too_long += 1
                continue
            # As arrays: a list takes eight times the memory.
            self.pairs.append([np.array(side, np.int32) for side in pair])
            for side in self.pairs[-1]:
                digest.update(repr(side.shape).encode() + side.tobytes())
        if not self.pairs:
            raise UserError(f"no pair fits --max-length {max_length}")
        sizes = [sum(side.shape[1] for side in pair) for pair in self.pairs]
        self.row_length, self.fingerprint = max(sizes), digest.hexdigest()
        self.reference: np.ndarray | None = None
        self.epoch, self.order = -1, np.arange(0)

    def __len__(self) -> int:
        """Pairs in one epoch."""
        return len(self.pairs)

    def pair(self, number: int) -> dict[str, np.ndarray]:
        """The row of one pair by its number in the file."""
        row = lay_out(self.pairs[number], self.row_length)
        if self.reference is not None:
            row["reference"] = self.reference[number]
        return row

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        """Row n of the endless sequence."""
        epoch, index = divmod(n, len(self))
        if epoch != self.epoch:
            shuffle = np.random.default_rng((self.seed, epoch))
            self.epoch, self.order = epoch, shuffle.permutation(len(self))
        return self.pair(self.order[index])


def read_pairs(
    path: Path, tokenizer: Tokenizer, max_length: int, seed: int = 0
) -> PairRows:
    """The pairs of a jsonl file. Raises UserError for a bad row."""
    pairs = (
        [encode_last_answer(tokenizer, row[side]) for side in SIDES]
        for row in read_jsonl(path, check_preference)
    )
    return PairRows(pairs, max_length, seed)
