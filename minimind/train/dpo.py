"""Direct preference optimisation: rather this answer than that one.

Explained in chapter 11. Source: Rafailov et al. 2023, "Direct Preference
Optimization: Your Language Model is Secretly a Reward Model".

Generated from notebooks/11_dpo.ipynb by tools/export.py; edit it there.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimind.errors import UserError
from minimind.model.transformer import ModelOutput
from minimind.text.chat import IGNORE
from minimind.text.packing import collate
from minimind.text.pairs import PairRows
from minimind.train.objective import Batch, Numbers, with_aux_loss


def answer_logps(
    logits: Tensor, labels: Tensor, document_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probability in nats of both answers of each pair; their lengths.

    logits (B, T, V); labels and document_ids (B, T), of rows of two documents.
    Both results are (B, 2), chosen first: sums over labels, in fp32.
    """
    asked = labels[:, 1:] != IGNORE
    targets = labels[:, 1:][asked]  # (N,)
    each = logits[:, :-1][asked].float().log_softmax(-1)
    each = each.gather(-1, targets[:, None])[:, 0]
    row = torch.arange(len(labels), device=labels.device)[:, None]
    place = (2 * row + document_ids[:, 1:])[asked]
    sums = each.new_zeros(2 * len(labels)).index_add(0, place, each)
    sizes = torch.bincount(place, minlength=2 * len(labels))
    return sums.unflatten(0, (-1, 2)), sizes.unflatten(0, (-1, 2))


@dataclass(frozen=True)
class DPOConfig:
    """What the preference loss is made of. UserError for a bad number."""

    beta: float = 0.1  # size of a reward: the larger, the shorter the leash
    length_normalisation: bool = False  # log-probabilities per token
    sft_weight: float = 0.0  # how much of the chosen answer's loss is added

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise UserError(f"--beta {self.beta}: give a number above 0")
        if not self.sft_weight >= 0:
            raise UserError(f"--sft-weight {self.sft_weight}: give 0 or more")


def dpo_loss(logps: Tensor, reference: Tensor, beta: float) -> tuple[Tensor, Numbers]:
    """Mean of -ln sigmoid(margin) over pairs, and what to log beside it.

    logps and reference: (B, 2) log-probabilities of chosen and rejected under
    the policy and the reference. Source: Rafailov et al. 2023, equation 7.
    """
    rewards = beta * (logps - reference)
    margin = rewards[:, 0] - rewards[:, 1]
    numbers = {
        "margin": margin.mean(),
        "accuracy": (margin > 0).float().mean(),
        "chosen_reward": rewards[:, 0].mean(),
        "rejected_reward": rewards[:, 1].mean(),
    }
    loss = -F.logsigmoid(margin).mean()
    return loss, {key: value.detach() for key, value in numbers.items()}


def pair_logps(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, ModelOutput]:
    """`answer_logps` of a batch of pairs under a model, and its output."""
    inputs = ("input_ids", "position_ids", "document_ids")
    output = model(**{key: batch[key] for key in inputs})
    places = batch["labels"], batch["document_ids"]
    return *answer_logps(output.logits, *places), output


def preference_loss(
    model: nn.Module, batch: Batch, options: DPOConfig
) -> tuple[Tensor, Numbers]:
    """DPO on rows of `PairRows` that bring their reference along."""
    logps, sizes, output = pair_logps(model, batch)
    reference = batch["reference"]
    per_token = sizes if options.length_normalisation else 1
    loss, numbers = dpo_loss(logps / per_token, reference / per_token, options.beta)
    numbers |= {
        "dpo_loss": loss.detach(),
        "chosen_logp": logps[:, 0].detach().mean(),
        "rejected_logp": logps[:, 1].detach().mean(),
        "kl": ((logps - reference) / sizes).detach().mean(),
    }
    if options.sft_weight:
        sft_loss = -logps[:, 0].sum() / sizes[:, 0].sum()
        numbers["sft_loss"] = sft_loss.detach()
        loss = loss + options.sft_weight * sft_loss
    return with_aux_loss(loss, output, numbers)


def count_pairs(batch: Batch) -> int:
    """How much a batch weighs: its pairs, however long they are."""
    return len(batch["labels"])


@torch.no_grad()
def reference_logps(
    model: nn.Module, rows: PairRows, batch_size: int = 8
) -> np.ndarray:
    """Log-probabilities of both answers of all pairs, (N, 2), in fp32."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    found = []
    for start in range(0, len(rows), batch_size):
        numbers = range(start, min(start + batch_size, len(rows)))
        batch = collate(rows.pair(number) for number in numbers)
        batch = {key: value.to(device) for key, value in batch.items()}
        found.append(pair_logps(model, batch)[0])
    model.train(training)
    return torch.cat(found).float().cpu().numpy()


@torch.no_grad()
def check_start(
    model: nn.Module, rows: PairRows, options: DPOConfig, within: float = 1e-4
) -> float:
    """The loss before the first step, of the preference alone.

    Raises UserError where it is not ln 2: rows.reference is another model's.
    """
    device = next(model.parameters()).device
    batch = collate(rows.pair(n) for n in range(min(4, len(rows))))
    batch = {key: value.to(device) for key, value in batch.items()}
    _, numbers = preference_loss(model, batch, options)
    loss = numbers["dpo_loss"].item()
    if not abs(loss - math.log(2)) <= within:
        raise UserError(
            f"the loss before the first step is {loss:.4f}, not ln 2 = "
            "0.6931: the reference is not the model that is to be trained"
        )
    return loss
