"""Group relative policy optimisation: try, compare, do more of what was good.

Explained in chapter 18. Sources: Shao et al. 2024, "DeepSeekMath" (GRPO);
Schulman et al. 2017, "Proximal Policy Optimization Algorithms" (the clipped
ratio); Yu et al. 2025, "DAPO" (the mean over tokens).

Generated from notebooks/18_grpo.ipynb by tools/export.py; edit it there.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minimind.errors import UserError
from minimind.model.transformer import ModelOutput
from minimind.text.chat import IGNORE
from minimind.train.objective import Batch, Numbers, with_aux_loss


def group_advantages(rewards: Tensor, eps: float = 1e-4) -> Tensor:
    """How much better each reply is than its group, in standard deviations.

    rewards: (N, G), a row for each question. eps keeps groups in which all
    rewards are equal from dividing by zero. Source: Shao et al. 2024.
    """
    centred = rewards - rewards.mean(-1, keepdim=True)
    return centred / (rewards.std(-1, keepdim=True) + eps)


@dataclass(frozen=True)
class GRPOConfig:
    """How replies are drawn and what the loss is made of.

    Raises UserError for a number that makes no sense.
    """

    group_size: int = 8  # replies that are drawn to each question
    updates: int = 1  # optimizer steps on the same replies
    clip: float = 0.2  # how far a token's ratio may go until it stops pulling
    beta: float = 0.04  # the price of leaving the reference
    max_new_tokens: int = 256  # a reply that is longer is cut off

    def __post_init__(self) -> None:
        for name, least in (("group_size", 2), ("updates", 1), ("beta", 0)):
            value = getattr(self, name)
            if not value >= least:
                option = name.replace("_", "-")
                raise UserError(f"--{option} {value}: give {least} or more")
        if not 0 < self.clip < 1:
            raise UserError(f"--clip {self.clip}: give a number in 0 to 1")


def grpo_loss(
    logps: Tensor,
    old: Tensor,
    reference: Tensor,
    advantages: Tensor,
    options: GRPOConfig,
) -> tuple[Tensor, Numbers]:
    """The loss over the N tokens of all replies, and what to log beside it.

    logps, old, reference: (N,) log-probabilities in nats under the policy,
    the policy that drew the tokens, and the reference. advantages: (N,).
    Source: Shao et al. 2024, equations 3 and 4; the mean is over tokens.
    """
    ratio = (logps - old).exp()
    clipped = ratio.clamp(1 - options.clip, 1 + options.clip)
    gain = torch.minimum(ratio * advantages, clipped * advantages)
    log_q = reference - logps
    kl = log_q.exp() - 1 - log_q
    loss = (options.beta * kl - gain).mean()
    numbers = {
        "kl": kl.mean(),
        "ratio": ratio.mean(),
        "clipped": (gain < ratio * advantages).float().mean(),
    }
    return loss, {key: value.detach() for key, value in numbers.items()}


def reply_logps(model: nn.Module, batch: Batch) -> tuple[Tensor, ModelOutput]:
    """Log-probability in nats of each token to be learned, (N,), in fp32.

    Row by row and from left to right; and the model's output.
    """
    output = model(batch["input_ids"])
    asked = batch["labels"][:, 1:] != IGNORE
    targets = batch["labels"][:, 1:][asked]
    scores = output.logits[:, :-1][asked].float().log_softmax(-1)
    return scores.gather(-1, targets[:, None])[:, 0], output


FOR_THE_LOSS = ("input_ids", "labels", "old", "reference", "advantages")


def policy_loss(
    model: nn.Module, batch: Batch, options: GRPOConfig
) -> tuple[Tensor, Numbers]:
    """GRPO on rows of `SampledRows`; how replies were judged is logged.

    Several batches of a step count in the log as in the loss: by tokens.
    """
    logps, output = reply_logps(model, batch)
    asked = batch["labels"] != IGNORE
    advantages = batch["advantages"][:, None].expand_as(asked)[asked]
    old, reference = batch["old"][asked], batch["reference"][asked]
    loss, numbers = grpo_loss(logps, old, reference, advantages, options)
    numbers |= {
        key: values.float().mean()
        for key, values in batch.items()
        if key not in FOR_THE_LOSS
    }
    return with_aux_loss(loss, output, numbers)
