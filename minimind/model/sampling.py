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
from minimind.text.tokenizer import CONTROL_TOKENS

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

    temperature: float = 0.7  # below 1 sharpens the distribution, above flattens
    top_k: int = 0  # keep the k likeliest tokens
    top_p: float = 0.95  # keep the likeliest tokens that hold this probability
    min_p: float = 0.0  # drop tokens under this share of the likeliest one's
    repetition_penalty: float = 1.0  # divide the score of tokens already there
    no_repeat_ngram_size: int = 0  # never write so many tokens in a row twice
    max_new_tokens: int = 256  # stop here if the model does not stop itself
    seed: int | None = None  # None: another text every time

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


def next_tokens(
    logits: Tensor,
    sampling: Sampling,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw one id per row from logits, (B, V). Returns (B,)."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits.float() / sampling.temperature
    chances = filter_logits(scaled, sampling).softmax(-1)
    return torch.multinomial(chances, 1, generator=generator)[:, 0]


def occurring(ids: Tensor, vocab_size: int) -> Tensor:
    """Which ids occur in each row, (B, S) -> (B, V). An id of V is no id."""
    flags = ids.new_zeros(len(ids), vocab_size + 1, dtype=torch.bool)
    return flags.scatter(1, ids, True)[:, :-1]


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that already occurred less likely. logits, seen: (B, V).

    Positive scores are divided and negative ones multiplied, so that both
    move down. seen is True for ids that occurred.
    """
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lowered, logits)


def forbid_ngrams(logits: Tensor, written: Tensor, size: int) -> Tensor:
    """Set to -inf what would repeat `size` tokens in a row, (B, V).

    written: all ids so far, (B, S); a run that holds an id of V is no run.
    """
    tokens, vocab_size = written.shape[1], logits.shape[-1]
    if not 0 < size <= tokens:
        return logits
    runs = written.unfold(1, size, 1)  # (B, N, size): every run there is
    last = written[:, None, tokens - size + 1 :]  # the run now being written
    again = ((runs[:, :, :-1] == last) & (last < vocab_size)).all(-1)  # (B, N)
    forbidden = torch.where(again, runs[:, :, -1], vocab_size)
    return logits.masked_fill(occurring(forbidden, vocab_size), -torch.inf)


def hold_back(logits: Tensor, written: Tensor, sampling: Sampling) -> Tensor:
    """Apply the penalty and the guard to logits, (B, V), given ids, (B, S).

    Control ids, padding among them, do not count as written: a chat prompt is
    full of them, and the model must stay free to end its answer.
    """
    size, penalty = sampling.no_repeat_ngram_size, sampling.repetition_penalty
    vocab_size = logits.shape[-1]
    words = written.masked_fill(written < len(CONTROL_TOKENS), vocab_size)
    if penalty != 1:
        seen = occurring(words, vocab_size)
        logits = penalise_repetition(logits, seen, penalty)
    return forbid_ngrams(logits, words, size)
