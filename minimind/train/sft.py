"""Supervised fine-tuning: learn to answer, and to stop.

Explained in chapter 09. Source: Ouyang et al. 2022, "Training Language Models
to Follow Instructions with Human Feedback".

Generated from notebooks/09_sft.ipynb by tools/export.py; edit it there.
"""

import html

import torch
from torch import Tensor

from minimind.text.chat import IGNORE
from minimind.text.tokenizer import EOS_ID, Tokenizer
from minimind.train.objective import Batch, Numbers, with_aux_loss


def visible_token(tokenizer: Tokenizer, token_id: int) -> str:
    """The text of one id; spaces, newlines and broken characters show."""
    text = tokenizer.token_bytes(token_id).decode("utf-8", "backslashreplace")
    return text.replace(" ", "·").replace("\n", "\\n").replace("\t", "\\t")


STYLES = {  # of a token in a notebook
    "read": "opacity: 0.65",
    "learn": "background: #0c8076; color: white; font-weight: bold",
    "wrong": "background: #b3261e; color: white; text-decoration: underline",
}
BOX = "display: inline-block; padding: 0 2px; margin: 1px"  # may wrap after it


class MaskView:
    """Tokens beside their labels; made by `show_mask`."""

    def __init__(self, tokens: list[tuple[int, int, str, str]]) -> None:
        self.tokens = tokens  # id, label, text, kind

    def __repr__(self) -> str:
        """A table, one token a line, for the terminal."""
        lines = [f"{'at':>4} {'id':>6} {'label':>6}  token"]
        for at, (i, label, text, kind) in enumerate(self.tokens):
            shown = {"read": ".", "wrong": f"{label}?"}.get(kind, str(label))
            lines.append(f"{at:4} {i:6} {shown:>6}  {text}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The tokens in colour, as running text, for a notebook."""
        spans = []
        for at, (i, label, text, kind) in enumerate(self.tokens):
            style = f"{STYLES[kind]}; {BOX}"
            spans.append(
                f'<span style="{style}" title="position {at}, id {i}, '
                f'label {label}">{html.escape(text)}</span>'
                + ("<br>" if text.endswith("\\n") else "")
            )
        return f'<div style="font-family: monospace">{"".join(spans)}</div>'


def show_mask(tokenizer: Tokenizer, ids: list[int], labels: list[int]) -> MaskView:
    """What of a sequence is learned: each token beside its label.

    A notebook shows it in colour, `print` as a table. A label that is neither
    -100 nor the token's own id is marked as wrong: the shift by one is the
    loss's business. Raises ValueError for lists of different lengths.
    """
    tokens = []
    for i, label in zip(ids, labels, strict=True):
        kind = "learn" if label == i else "wrong"
        if label == IGNORE:
            kind = "read"
        tokens.append((i, label, visible_token(tokenizer, i), kind))
    return MaskView(tokens)


def answer_loss(model: torch.nn.Module, batch: Batch) -> tuple[Tensor, Numbers]:
    """Mean cross-entropy, in nats, over the targets of a packed batch.

    Logged beside it: `stop_probability`, the mean probability of the end
    token where it follows a target, that is where an answer is over (not with
    --loss-chunk, which keeps no logits).
    """
    output, numbers = model(**batch), {}
    after_target = batch["labels"][:, :-1] != IGNORE
    over = after_target & (batch["input_ids"][:, 1:] == EOS_ID)
    if output.logits is not None and over.any():
        logits = output.logits[:, :-1][over].float()
        stops = logits.softmax(-1)[:, EOS_ID]
        numbers["stop_probability"] = stops.mean().item()
    return with_aux_loss(output.loss, output, numbers)
