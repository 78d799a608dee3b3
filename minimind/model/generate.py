"""Writing text: one token after the other, until the model ends it.

Explained in chapter 07, as is `minimind.model.sampling`, which chooses tokens.

Generated from notebooks/07_generation.ipynb by tools/export.py; edit it there.
"""

import codecs
from collections.abc import Generator, Iterator, Sequence
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


def row_generators(rows: int, seed: int | None) -> list[torch.Generator]:
    """A source of random numbers for each row, row i's seeded with seed + i.

    They are the CPU's, so every device is given the same numbers. A seed of
    None gives others every time.
    """
    generators = [torch.Generator() for _ in range(rows)]
    for row, generator in enumerate(generators):
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed + row)
    return generators


@torch.inference_mode()
def generate_ids(
    model: MiniMindForCausalLM,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling = GREEDY,
    stop_ids: Sequence[int] = (EOS_ID,),
) -> Iterator[list[int | None]]:
    """Continue a batch of prompts; yields one id per prompt and step.

    A prompt that has drawn a stop id (which is yielded) gives None from then
    on; the iterator ends when all have, or after max_new_tokens. Prompt i of
    a seeded batch is drawn as it would be alone, with seed + i. Raises
    UserError where a prompt leaves no room within the model's limit.
    """
    config, weight = model.config, model.lm_head.weight
    ids, mask = (x.to(weight.device) for x in left_pad(prompts))
    steps = room(config, ids.shape[1], sampling.max_new_tokens)
    cache = KVCache(config, len(ids), ids.shape[1] + steps, weight.device, weight.dtype)
    generators = row_generators(len(ids), sampling.seed)
    padding = None if mask.all() else mask  # no mask is the faster kernel
    written, done = ids[:, :0], [False] * len(ids)
    for _ in range(steps):
        output = model(ids, None, padding, cache=cache, logits_to_keep=1)
        logits = hold_back(output.logits[:, -1].float(), written, sampling)
        dice = torch.cat([torch.rand(1, generator=g) for g in generators])
        ids = next_tokens(logits, sampling, dice.to(logits.device))[:, None]
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

    text: str  # up to, and without, a stop string
    ids: list[int]  # without the stop id
    finish_reason: str  # "stop": a stop id or string; "length": it was cut off


def settled(text: str, stop: Sequence[str]) -> int:
    """Length of the part of text that cannot belong to a stop string."""
    begun = [n for s in stop for n in range(len(s)) if text.endswith(s[:n])]
    return len(text) - max(begun, default=0)


class Reply:
    """A text in the making: takes ids one by one, gives out what is settled.

    Control ids are left out of the text; a character comes out when its last
    byte is there; what may begin a stop string waits until that is clear.
    Raises UserError for a stop string without a character.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop_ids: Sequence[int] = (EOS_ID,),
        stop: Sequence[str] = (),
    ) -> None:
        if "" in stop:
            raise UserError("a stop string needs at least one character")
        self.tokenizer, self.stop_ids, self.stop = tokenizer, stop_ids, stop
        # A model may know more ids than its tokenizer; those say nothing.
        self.spoken = range(len(CONTROL_TOKENS), tokenizer.vocab_size)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.ids: list[int] = []
        self.text = ""  # what was given out
        self.held = ""  # perhaps the beginning of a stop string
        self.stopped = False  # by a stop id or a stop string

    def add(self, new: int) -> str:
        """Take the next id; returns what it adds to the text, or nothing yet."""
        if new in self.stop_ids:
            self.stopped = True
            return ""
        self.ids.append(new)
        if new in self.spoken:
            self.held += self.decoder.decode(self.tokenizer.token_bytes(new))
        found = [self.held.index(s) for s in self.stop if s in self.held]
        if not found:
            return self._give(settled(self.held, self.stop))
        self.stopped = True
        piece = self._give(min(found))
        self.held = ""
        self.decoder.reset()
        return piece

    def finish(self) -> str:
        """The rest of the text, once no more ids come."""
        self.held += self.decoder.decode(b"", final=True)
        return self._give(len(self.held))

    def _give(self, length: int) -> str:
        piece, self.held = self.held[:length], self.held[length:]
        self.text += piece
        return piece

    @property
    def completion(self) -> Completion:
        """The text so far, and why it ended if it has ended."""
        reason = "stop" if self.stopped else "length"
        return Completion(self.text, self.ids, reason)


def generate(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling = GREEDY,
    stop_ids: Sequence[int] = (EOS_ID,),
    stop: Sequence[str] = (),
) -> list[Completion]:
    """Continue a batch of encoded prompts, each to its end."""
    replies = [Reply(tokenizer, stop_ids, stop) for _ in prompts]
    for step in generate_ids(model, prompts, sampling, stop_ids):
        for reply, new in zip(replies, step):
            if not reply.stopped:
                reply.add(new)
        if all(reply.stopped for reply in replies):
            break
    for reply in replies:
        reply.finish()
    return [reply.completion for reply in replies]


def stream(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    sampling: Sampling = GREEDY,
    stop_ids: Sequence[int] = (EOS_ID,),
    stop: Sequence[str] = (),
) -> Generator[str, None, Completion]:
    """Continue one encoded prompt, giving the text out as it is written.

    The pieces, none of them empty, add up to the text that `generate` gives;
    the generator's return value is the completion.
    """
    reply = Reply(tokenizer, stop_ids, stop)
    for (new,) in generate_ids(model, [prompt], sampling, stop_ids):
        if piece := reply.add(new):
            yield piece
        if reply.stopped:
            break
    if rest := reply.finish():
        yield rest
    return reply.completion
