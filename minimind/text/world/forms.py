"""The shape of the phrasing tables: what is trained and what is held out."""

from typing import NamedTuple


class Split(NamedTuple):
    """Phrasings that SFT uses, and those kept for the evaluation."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


class Forms(NamedTuple):
    """How one relation is asked: noun phrases, indirect questions, whole cores."""

    np: tuple[str, ...]
    clause: tuple[str, ...]
    cores: Split


class Frames(NamedTuple):
    """Sentences around a noun phrase {np} or an indirect question {cl}."""

    np: Split
    clause: Split
