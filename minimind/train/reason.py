"""Reasoning tags: supervised fine-tuning on replies with thoughts.

Explained in chapter 13. Sources: Wei et al. 2022, "Chain-of-Thought Prompting
Elicits Reasoning in Large Language Models"; DeepSeek-AI 2025, "DeepSeek-R1"
(distillation by fine-tuning on a teacher's thoughts).

Generated from notebooks/13_reasoning.ipynb by tools/export.py; edit it there.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimind.errors import UserError
from minimind.text.chat import IGNORE
from minimind.text.thinking import REASON_TAGS, with_switch
from minimind.text.tokenizer import Tokenizer
from minimind.train.objective import Batch, Numbers, with_aux_loss


def tag_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of the four tags. Raises UserError where one is not a single id."""
    spelt = {tag: tokenizer.encode(tag) for tag in REASON_TAGS}
    for tag, ids in spelt.items():
        if len(ids) != 1:
            raise UserError(
                f"the tokenizer spells {tag} in {len(ids)} tokens, so its "
                "parts cannot be told from other text; train one with "
                "`minimind tokenizer train`, where each tag is one"
            )
    return [i for (i,) in spelt.values()]


def target_weights(targets: Tensor, tags: list[int], weight: float) -> Tensor:
    """How much each target, (N,), counts: `weight` for tags, else 1."""
    tag = torch.isin(targets, torch.tensor(tags, device=targets.device))
    return torch.where(tag, weight, 1.0)


def reason_loss(
    model: nn.Module, batch: Batch, tags: list[int], tag_weight: float
) -> tuple[Tensor, Numbers]:
    """Weighted mean of the cross-entropy, in nats, over a batch's targets.

    The sum of weight times loss over the sum of weights. Logged beside it,
    unweighted: the mean loss of the tags and that of the other targets.
    """
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    output = model(**inputs)
    asked = batch["labels"][:, 1:] != IGNORE
    targets = batch["labels"][:, 1:][asked]  # (N,)
    logits = output.logits[:, :-1][asked].float()  # (N, V)
    each = F.cross_entropy(logits, targets, reduction="none")
    weights = target_weights(targets, tags, tag_weight)
    tag = torch.isin(targets, targets.new_tensor(tags))
    parts = {"tag_loss": each[tag], "text_loss": each[~tag]}
    numbers = {k: v.detach().mean() for k, v in parts.items() if len(v)}
    loss = (weights * each).sum() / weights.sum()
    return with_aux_loss(loss, output, numbers)


def count_weights(batch: Batch, tags: list[int], tag_weight: float) -> float:
    """How much a batch weighs: the sum of the weights of its targets."""
    targets = batch["labels"][:, 1:]
    targets = targets[targets != IGNORE]
    return target_weights(targets, tags, tag_weight).sum().item()


@dataclass(frozen=True)
class ReasonConfig:
    """What the loss is made of. Raises UserError for a bad number."""

    tag_weight: float = 10.0  # how much a tag counts beside any other token

    def __post_init__(self) -> None:
        if not self.tag_weight > 0:
            raise UserError(f"--tag-weight {self.tag_weight}: give a number above 0")


def with_thinking(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer whose chat template can switch thinking off."""
    return Tokenizer(tokenizer.backend, with_switch(tokenizer.chat_template))
