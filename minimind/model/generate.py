"""Writing text: one token after the other, until the model ends it.

Explained in chapter 07. Sources: Holtzman et al. 2020, "The Curious Case of
Neural Text Degeneration" (top-p); Keskar et al. 2019, "CTRL" (repetition
penalty); Nguyen et al. 2024, "Turning Up the Heat" (min-p).
"""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minimind.errors import UserError
from minimind.model.attention import KVCache
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.tokenizer import CONTROL_TOKENS, EOS_ID, PAD_ID, Tokenizer


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from the model's distribution.

    temperature 0 is greedy: the likeliest token, always. top_k 0, top_p 1 and
    min_p 0 keep every token; repetition_penalty 1 changes nothing.
    """

    temperature: float = 0.7  # below 1 sharpens the distribution, above flattens
    top_k: int = 0  # keep the k likeliest tokens
    top_p: float = 0.95  # keep the likeliest tokens that hold this probability
    min_p: float = 0.0  # drop tokens under this share of the likeliest one's
    repetition_penalty: float = 1.0  # divide the score of tokens already there
    max_new_tokens: int = 256  # stop here if the model does not stop itself
    seed: int | None = None  # None: another text every time


GREEDY = Sampling(temperature=0.0)


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that already occurred less likely. logits, seen: (B, V).

    Positive scores are divided and negative ones multiplied, so that both move
    down. seen is True for ids that occurred.
    """
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lowered, logits)


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
        drop = torch.zeros_like(logits, dtype=torch.bool)
        drop.scatter_(1, index, before >= sampling.top_p)
        logits = logits.masked_fill(drop, -torch.inf)
    if sampling.min_p > 0:
        share = logits.softmax(-1)
        floor = sampling.min_p * share.amax(-1, keepdim=True)
        logits = logits.masked_fill(share < floor, -torch.inf)
    return logits


def next_tokens(
    logits: Tensor, sampling: Sampling, generator: torch.Generator | None = None
) -> Tensor:
    """Draw one id per row from logits, (B, V). Returns (B,)."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    logits = filter_logits(logits.float() / sampling.temperature, sampling)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


def left_pad(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Prompts of any length as one batch: ids and attention mask, both (B, T).

    Padding goes to the left, so that every prompt ends where writing begins.
    """
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), PAD_ID)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return ids, mask


@torch.inference_mode()
def generate_ids(
    model: MiniMindForCausalLM,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling = GREEDY,
    stop_ids: Sequence[int] = (EOS_ID,),
) -> Iterator[list[int | None]]:
    """Continue a batch of prompts; yields one id per prompt and step.

    A prompt that has drawn a stop id (which is yielded) gives None from then
    on; the iterator ends when all have, or after max_new_tokens. Raises
    UserError where a prompt leaves no room within the model's limit.
    """
    device = model.lm_head.weight.device
    ids, mask = (tensor.to(device) for tensor in left_pad(prompts))
    limit = model.config.max_position_embeddings
    if ids.shape[1] >= limit:
        raise UserError(
            f"the prompt is {ids.shape[1]} tokens long, but the model's limit is "
            f"{limit} with the answer; shorten the prompt"
        )
    steps = min(sampling.max_new_tokens, limit - ids.shape[1])
    cache = KVCache(
        model.config,
        len(prompts),
        ids.shape[1] + steps,
        device,
        model.lm_head.weight.dtype,
    )
    generator = None
    if sampling.seed is not None:
        generator = torch.Generator(device).manual_seed(sampling.seed)
    stops = torch.tensor(list(stop_ids), device=device)
    seen = torch.zeros(len(prompts), model.config.vocab_size, dtype=torch.bool)
    seen = seen.to(device).scatter_(1, ids, mask.bool())
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    padded = None if mask.all() else mask  # no mask is the faster kernel
    for _ in range(steps):
        logits = model(
            ids, attention_mask=padded, cache=cache, logits_to_keep=1
        ).logits[:, -1]
        if sampling.repetition_penalty != 1:
            logits = penalise_repetition(logits, seen, sampling.repetition_penalty)
        new = next_tokens(logits, sampling, generator)
        yield [
            None if d else i for d, i in zip(done.tolist(), new.tolist(), strict=True)
        ]
        done = done | torch.isin(new, stops)
        if done.all():
            return
        seen.scatter_(1, new[:, None], True)
        ids = new[:, None]
        if padded is not None:
            padded = torch.cat((padded, torch.ones_like(ids)), dim=1)


@dataclass(frozen=True)
class Completion:
    """What the model wrote after a prompt, and why it ended there."""

    text: str
    ids: list[int]  # without the token that ended it
    finish_reason: str  # "stop": it ended by itself; "length": it was cut off


def generate(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling = GREEDY,
) -> list[Completion]:
    """Continue a batch of encoded prompts to the end."""
    written: list[list[int]] = [[] for _ in prompts]
    for step in generate_ids(model, prompts, sampling):
        for ids, new in zip(written, step, strict=True):
            if new is not None:
                ids.append(new)
    completions = []
    for ids in written:
        ended = ids[-1:] == [EOS_ID]
        ids = ids[:-1] if ended else ids
        text = tokenizer.decode(ids, skip_control=True)
        completions.append(Completion(text, ids, "stop" if ended else "length"))
    return completions


def stream(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    sampling: Sampling = GREEDY,
    stop: Sequence[str] = (),
) -> Iterator[str]:
    """Continue one encoded prompt, giving the text out as it is written.

    A character whose bytes are spread over several tokens comes out whole,
    and so does everything up to, and without, the first of the stop strings.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    held = ""  # written, but perhaps the beginning of a stop string
    for (new,) in generate_ids(model, [prompt], sampling):
        if new is None or new < len(CONTROL_TOKENS):
            continue
        held += decoder.decode(tokenizer.token_bytes(new))
        found = [held.index(text) for text in stop if text in held]
        if found:
            yield held[: min(found)]
            return
        begun = [
            n for text in stop for n in range(len(text)) if held.endswith(text[:n])
        ]
        ready = len(held) - max(begun, default=0)
        if ready:
            yield held[:ready]
            held = held[ready:]
    held += decoder.decode(b"", final=True)
    if held:
        yield held
