"""What a stage gives to the loop: a loss, and the numbers to log beside it.

Explained in chapter 08.

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

from collections.abc import Callable

from torch import Tensor, nn

from minimind.model.transformer import ModelOutput

Batch = dict[str, Tensor]
Numbers = dict[str, float | Tensor]
# A stage's loss: the mean over the batch's targets, and numbers to log.
LossFn = Callable[[nn.Module, Batch], tuple[Tensor, Numbers]]


def with_aux_loss(
    loss: Tensor, output: ModelOutput, numbers: Numbers
) -> tuple[Tensor, Numbers]:
    """A stage's loss plus that of the model's routers; logged apart.

    `loss` stays the stage's own in the log; `aux_loss` and `expert_load`,
    (L, E), stand beside it. A dense model has neither.
    """
    if output.aux_loss is None:
        return loss, numbers
    apart = {
        "loss": loss.detach(),
        "aux_loss": output.aux_loss.detach(),
        "expert_load": output.expert_load,
    }
    return loss + output.aux_loss, {**numbers, **apart}


class Objective(nn.Module):
    """A model and its stage's loss as one module: batch -> (loss, numbers).

    What shares the work between processes (chapter 14) has to see the whole
    forward pass, whatever a stage does in it.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFn) -> None:
        super().__init__()
        self.model, self.loss_fn = model, loss_fn

    def forward(self, batch: Batch) -> tuple[Tensor, Numbers]:
        """The loss of a batch and what to log beside it."""
        return self.loss_fn(self.model, batch)
