"""Choosing the next token from the model's distribution.

Explained in chapter 07. Sources: Holtzman et al. 2020, "The Curious Case of
Neural Text Degeneration" (top-p); Keskar et al. 2019, "CTRL" (repetition
penalty); Nguyen et al. 2024, "Turning Up the Heat" (min-p); Paulus et al.
2018, "A Deep Reinforced Model for Abstractive Summarization" (n-grams).

Generated from notebooks/07_generation.ipynb by tools/export.py; edit it there.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minimind.errors import UserError

# The least and the largest value of each setting, both allowed.
SAMPLING_RANGES = {
    "temperature": (0, math.inf),
    "top_k": (0, math.inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.1, 10),
    "no_repeat_ngram_size": (0, math.inf),
    "max_new_tokens": (1, math.inf),
}


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from the model's distribution.

    temperature 0 is greedy: the likeliest token, always. top_k 0, top_p 1,
    min_p 0, repetition_penalty 1 and no_repeat_ngram_size 0 change nothing.
    Raises UserError for a number out of range.
    """

    temperature: float = 0.7  # below 1 sharpens the odds, above 1 flattens
    top_k: int = 0  # keep the k likeliest tokens
    top_p: float = 0.95  # keep the likeliest tokens that hold this probability
    min_p: float = 0.0  # drop tokens under this share of the likeliest one's
    repetition_penalty: float = 1.0  # divide the score of tokens already there
    no_repeat_ngram_size: int = 0  # never write so many tokens in a row twice
    max_new_tokens: int = 256  # stop here if the model does not stop itself
    seed: int | None = None  # row i of a batch draws with seed + i

    def __post_init__(self) -> None:
        for name, (low, high) in SAMPLING_RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                between = f"between {low:g} and {high:g}"
                raise UserError(f"{name} must be {between}, not {value}")


GREEDY = Sampling(temperature=0.0)


def filter_logits(logits: Tensor, sampling: Sampling) -> Tensor:
    """Set the logits of tokens that may not be drawn to -inf. Shape (B, V).

    The likeliest token always stays. Order: top-k, top-p, min-p.
    """
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, index = logits.sort(descending=True)
        share = ordered.softmax(-1)
        before = share.cumsum(-1) - share  # what the likelier tokens hold
        drop = before >= sampling.top_p
        drop[:, 0] = False
        drop = torch.zeros_like(drop).scatter(1, index, drop)
        logits = logits.masked_fill(drop, -torch.inf)
    if sampling.min_p > 0:
        share = logits.softmax(-1)
        floor = sampling.min_p * share.amax(-1, keepdim=True)
        logits = logits.masked_fill(share < floor, -torch.inf)
    return logits


def next_tokens(logits: Tensor, sampling: Sampling, dice: Tensor) -> Tensor:
    """Choose one id per row of logits, (B, V). Returns (B,).

    dice: (B,), evenly distributed from 0 to below 1; greedy leaves it unread.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits.float() / sampling.temperature
    chances = filter_logits(scaled, sampling).softmax(-1)
    # A sum that rounds must not let a token through that was cut.
    ends = chances.cumsum(-1).masked_fill(chances == 0, 0)
    point = dice[:, None] * ends.amax(-1, keepdim=True)
    return (ends > point).int().argmax(-1)  # the first that ends beyond


def penalise_repetition(logits: Tensor, written: Tensor, penalty: float) -> Tensor:
    """Make tokens that were written less likely. logits (B, V), ids (B, S).

    Positive scores are divided and negative ones multiplied, so that both
    move down. Source: Keskar et al. 2019.
    """
    seen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, written, True)
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lowered, logits)


def forbid_ngrams(logits: Tensor, written: Tensor, size: int) -> Tensor:
    """Set to -inf what would repeat `size` tokens in a row, (B, V).

    written: the ids so far, (B, S). Source: Paulus et al. 2018.
    """
    tokens = written.shape[1]
    if not 0 < size <= tokens:
        return logits
    runs = written.unfold(1, size, 1)  # (B, N, size): every run there is
    last = written[:, None, tokens - size + 1 :]  # the run now being written
    again = (runs[:, :, :-1] == last).all(-1)  # (B, N)
    followed = torch.zeros_like(logits).scatter_add(
        1, runs[:, :, -1], again.to(logits.dtype)
    )
    return logits.masked_fill(followed > 0, -torch.inf)


def hold_back(logits: Tensor, written: Tensor, sampling: Sampling) -> Tensor:
    """Apply the penalty and the guard to logits, (B, V).

    written: what the model itself has written so far, (B, S). The prompt does
    not count: an answer may use its words, and say again what an earlier one
    said.
    """
    size, penalty = sampling.no_repeat_ngram_size, sampling.repetition_penalty
    if penalty != 1:
        logits = penalise_repetition(logits, written, penalty)
    return forbid_ngrams(logits, written, size)


# What chat, server and command line draw with unless they are told otherwise.
CHAT = Sampling(repetition_penalty=1.02, no_repeat_ngram_size=12)
