"""Knowledge distillation: a small model learns from a larger one.

Explained in chapter 12. Sources: Hinton et al. 2015, "Distilling the Knowledge
in a Neural Network" (from its probabilities); Kim and Rush 2016,
"Sequence-Level Knowledge Distillation" (from its answers).

Generated from notebooks/12_distillation.ipynb by tools/export.py; edit it there.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute

from minimind.errors import UserError
from minimind.model.generate import generate
from minimind.model.sampling import Sampling
from minimind.model.transformer import MiniMindForCausalLM, ModelOutput
from minimind.text.chat import IGNORE, Message, encode_chat
from minimind.text.tokenizer import Tokenizer
from minimind.train.objective import Batch, Numbers, with_aux_loss


def soft_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL divergence of the student from the teacher, summed over positions.

    Both logits are (N, V); the result is in nats times the squared
    temperature, computed in fp32. Source: Hinton et al. 2015, section 2.
    """
    student, teacher = (
        F.log_softmax(scores.float() / temperature, dim=-1)
        for scores in (logits, teacher_logits)
    )
    nats = F.kl_div(student, teacher, reduction="sum", log_target=True)
    return temperature**2 * nats


@dataclass(frozen=True)
class DistillConfig:
    """What the loss is made of. UserError for a bad number."""

    alpha: float = 0.5  # share of the soft loss; 0 learns from the data alone
    temperature: float = 1.0  # divides the logits of both; 1 leaves them

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UserError(f"--alpha {self.alpha}: give a share from 0 to 1")
        if not 0 < self.temperature < math.inf:
            raise UserError(f"--temperature {self.temperature}: give a number above 0")


def in_pieces(
    function: Callable[..., Tensor], size: int | None, *tensors: Tensor
) -> Tensor:
    """The sum of a function over pieces of tensors of N rows each.

    size: rows in a piece, of which nothing is kept for the backward pass but
    the rows; None takes all at once.
    """
    if size is None:
        return function(*tensors)
    pieces = zip(*(tensor.split(size) for tensor in tensors))
    return sum(recompute(function, *piece, use_reentrant=False) for piece in pieces)


def distillation_loss(
    student: MiniMindForCausalLM,
    batch: Batch,
    teacher: MiniMindForCausalLM,
    options: DistillConfig,
    chunk: int | None = None,
) -> tuple[Tensor, Numbers]:
    """Mean over labels of the teacher's soft loss and of the data's, mixed.

    chunk: labels whose logits are in memory at a time. Logged beside the
    loss are its parts, before they are mixed.
    """
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    hidden, aux_loss, expert_load = student.hidden_states(**inputs)
    with torch.no_grad():
        known, _, _ = teacher.hidden_states(**inputs)
    asked = batch["labels"][:, 1:] != IGNORE
    targets = batch["labels"][:, 1:][asked]  # (N,)

    def parts(hidden: Tensor, known: Tensor, targets: Tensor) -> Tensor:
        logits = student.lm_head(hidden).float()
        with torch.no_grad():
            teacher_logits = teacher.lm_head(known)
        hard = F.cross_entropy(logits, targets, reduction="sum")
        soft = soft_loss(logits, teacher_logits, options.temperature)
        return torch.stack([hard, soft])

    rows = hidden[:, :-1][asked], known[:, :-1][asked], targets
    hard, soft = in_pieces(parts, chunk, *rows) / len(targets)
    loss = (1 - options.alpha) * hard + options.alpha * soft
    numbers = {"ce_loss": hard.detach(), "kl_loss": soft.detach()}
    output = ModelOutput(None, loss, aux_loss, expert_load)
    return with_aux_loss(loss, output, numbers)


def check_teacher(
    teacher: MiniMindForCausalLM,
    its_tokenizer: Tokenizer,
    student: MiniMindForCausalLM,
    tokenizer: Tokenizer,
) -> None:
    """Raise UserError where an id is not the same token to both models."""
    instead = "let it write answers instead (`minimind distill generate`)"
    if its_tokenizer.hash != tokenizer.hash:
        raise UserError(
            f"the teacher's tokenizer ({its_tokenizer.hash}) is not the "
            f"student's ({tokenizer.hash}), so its probabilities are of other "
            f"tokens; {instead}"
        )
    sizes = teacher.config.vocab_size, student.config.vocab_size
    if sizes[0] != sizes[1]:
        raise UserError(
            f"the teacher has logits for {sizes[0]} ids and the student for "
            f"{sizes[1]}, so they do not compare; {instead}"
        )


def next_turns(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    chats: Sequence[list[Message]],
    sampling: Sampling,
) -> list[str | None]:
    """What the model says next in each chat.

    None where it says nothing, does not end, or has no room for as many
    tokens as sampling.max_new_tokens.
    """
    room = model.config.max_position_embeddings - sampling.max_new_tokens
    prompts = [
        encode_chat(tokenizer, chat, add_generation_prompt=True)[0] for chat in chats
    ]
    fit = [prompt for prompt in prompts if len(prompt) <= room]
    replies = iter(generate(model, tokenizer, fit, sampling) if fit else ())
    turns: list[str | None] = []
    for prompt in prompts:
        reply = next(replies) if len(prompt) <= room else None
        ended = reply and reply.finish_reason == "stop" and reply.text.strip()
        turns.append(reply.text if ended else None)
    return turns


def answer_chats(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    chats: Sequence[list[Message]],
    sampling: Sampling,
) -> list[list[Message] | None]:
    """The conversations with every answer written by the model.

    What others say stays; each answer follows the model's own earlier ones.
    None for a conversation with an answer that `next_turns` does not have.
    """
    written: list[list[Message] | None] = [[] for _ in chats]
    for turn in range(max(map(len, chats), default=0)):
        asked = []
        for number, chat in enumerate(chats):
            if turn >= len(chat) or written[number] is None:
                continue
            if chat[turn]["role"] == "assistant":
                asked.append(number)
            else:
                written[number].append(chat[turn])
        so_far = [written[number] for number in asked]
        said = next_turns(model, tokenizer, so_far, sampling)
        for number, text in zip(asked, said):
            if text is None:
                written[number] = None
            else:
                turn_said = {"role": "assistant", "content": text}
                written[number].append(turn_said)
    return written
