"""Writing text: one token after the other, until the model ends it.

Explained in chapter 07, as is `minimind.model.sampling`, which chooses tokens.

Generated from notebooks/07_generation.ipynb by tools/export.py; edit it there.
"""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minimind.errors import UserError
from minimind.model.attention import KVCache
from minimind.model.config import ModelConfig
from minimind.model.sampling import GREEDY, Sampling, hold_back, next_tokens
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.tokenizer import CONTROL_TOKENS, EOS_ID, PAD_ID, Tokenizer


def left_pad(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Prompts of any length as one batch: ids and attention mask, both (B, T).

    Padding goes to the left, so that every prompt ends where writing begins.
    Raises ValueError for an empty prompt: there is nothing to continue.
    """
    if not all(map(len, prompts)):
        raise ValueError("a prompt needs at least one id, such as bos")
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), PAD_ID)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return ids, mask


def room(config: ModelConfig, prompt_tokens: int, wanted: int) -> int:
    """How many tokens can be written after a prompt: those wanted, or fewer.

    Raises UserError where the prompt fills the model's limit by itself.
    """
    limit = config.max_position_embeddings
    if prompt_tokens >= limit:
        raise UserError(
            f"the prompt is {prompt_tokens} tokens long, but the model's "
            f"limit is {limit} with the answer; shorten the prompt"
        )
    return min(wanted, limit - prompt_tokens)


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
    config, weight = model.config, model.lm_head.weight
    ids, mask = (x.to(weight.device) for x in left_pad(prompts))
    steps = room(config, ids.shape[1], sampling.max_new_tokens)
    cache = KVCache(config, len(ids), ids.shape[1] + steps, weight.device, weight.dtype)
    generator = None
    if sampling.seed is not None:
        generator = torch.Generator(ids.device).manual_seed(sampling.seed)
    written = ids
    done = [False] * len(ids)
    padding = None if mask.all() else mask  # no mask is the faster kernel
    for _ in range(steps):
        output = model(ids, None, padding, cache=cache, logits_to_keep=1)
        logits = hold_back(output.logits[:, -1].float(), written, sampling)
        ids = next_tokens(logits, sampling, generator)[:, None]
        new = ids[:, 0].tolist()
        yield [None if end else i for end, i in zip(done, new)]
        done = [end or i in stop_ids for end, i in zip(done, new)]
        if all(done):
            return
        written = torch.cat((written, ids), dim=1)
        if padding is not None:
            padding = torch.cat((padding, torch.ones_like(ids)), dim=1)


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
        for ids, new in zip(written, step):
            if new is not None:
                ids.append(new)
    completions = []
    for ids in written:
        ended = ids[-1:] == [EOS_ID]
        ids = ids[:-1] if ended else ids
        text = tokenizer.decode(ids, skip_control=True)
        reason = "stop" if ended else "length"
        completions.append(Completion(text, ids, reason))
    return completions


def settled(text: str, stop: Sequence[str]) -> int:
    """Length of the part of text that cannot belong to a stop string."""
    begun = [n for s in stop for n in range(len(s)) if text.endswith(s[:n])]
    return len(text) - max(begun, default=0)


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
        if new < len(CONTROL_TOKENS):
            continue
        held += decoder.decode(tokenizer.token_bytes(new))
        found = [held.index(text) for text in stop if text in held]
        ready = min(found) if found else settled(held, stop)
        if ready:
            yield held[:ready]
            held = held[ready:]
        if found:
            return
    held += decoder.decode(b"", final=True)
    if held:
        yield held
