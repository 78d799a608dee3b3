"""A training run: what it is made of, one step of it, and how it is kept.

Explained in chapter 08. `step` counts optimizer steps, and the position in the
data is a function of it; with the state saved here a stopped run goes on, bit
for bit, as if it had not stopped.

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

import hashlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minimind.errors import UserError
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows, collate
from minimind.text.tokenizer import Tokenizer
from minimind.train.accumulate import Batch, LossFn, accumulate
from minimind.train.checkpoint import (
    load_state,
    save_model,
    save_state,
    write_json,
)
from minimind.train.config import FREE, TrainConfig
from minimind.train.optim import build_optimizer, learning_rate
from minimind.train.precision import pick_device, pick_dtype

MAX_BAD_STEPS = 5  # in a row without a finite gradient, before a run gives up


def fingerprint(model: torch.nn.Module) -> str:
    """A short sha256 of all weights."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        data = value.detach().cpu().contiguous().view(torch.uint8)
        digest.update(data.numpy())
    return digest.hexdigest()[:16]


class Run:
    """A training run: a model, its optimizer, and how far they have come."""

    def __init__(
        self,
        model: MiniMindForCausalLM,
        tokenizer: Tokenizer,
        rows: PackedRows,
        loss_fn: LossFn,
        config: TrainConfig,
        directory: Path,
        info: dict[str, Any] | None = None,
    ) -> None:
        self.config = config.complete(len(rows), model.config.hidden_size)
        self.device = pick_device(config.device)
        self.dtype = pick_dtype(self.device, config.dtype)
        self.model, self.tokenizer = model.to(self.device), tokenizer
        self.rows, self.loss_fn = rows, loss_fn
        self.directory, self.info = directory, info or {}
        self.optimizer = build_optimizer(
            model, self.config.learning_rate, config.weight_decay
        )
        # fp16 loses small gradients to zero unless the loss is scaled up.
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.dtype == torch.float16
        )
        self.step = 0  # optimizer steps taken
        self.skipped = 0  # of them, those without a finite gradient
        self.numbers: dict[str, float] = {}  # of the last step
        self.bad_rows: list[int] = []  # of the last steps, if they were bad
        # A run that starts from a trained model must go on from the same one.
        self.parent = fingerprint(model) if self.info.get("parent") else None
        torch.manual_seed(config.seed)

    @property
    def rows_per_step(self) -> int:
        """Rows that one optimizer step reads."""
        return self.config.batch_size * self.config.accumulation

    def load_batches(self) -> list[Batch]:
        """The batches of the next step, on the device."""
        size, first = self.config.batch_size, self.step * self.rows_per_step
        batches = []
        for at in range(first, first + self.rows_per_step, size):
            batch = collate(self.rows[n] for n in range(at, at + size))
            batches.append({k: v.to(self.device) for k, v in batch.items()})
        return batches

    def loss(
        self, model: torch.nn.Module, batch: Batch
    ) -> tuple[Tensor, dict[str, float]]:
        """The stage's loss, computed in the run's number format."""
        mixed = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=mixed):
            return self.loss_fn(model, batch)

    def backward(self, loss: Tensor) -> None:
        """Backpropagate, scaled where the number format needs it."""
        self.scaler.scale(loss).backward()

    def update_weights(self) -> float:
        """Clip the gradient and step; a gradient that is no number is dropped.

        Returns its norm before clipping. Raises UserError after MAX_BAD_STEPS
        dropped ones in a row.
        """
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.grad_clip
        )
        if norm.isfinite():
            self.scaler.step(self.optimizer)
            self.bad_rows = []
        else:
            self.count_bad_step()
        self.scaler.update()
        self.optimizer.zero_grad()
        return norm.item()

    def count_bad_step(self) -> None:
        """Remember the rows of a step that gave no finite gradient."""
        self.skipped += 1
        first = self.step * self.rows_per_step
        self.bad_rows += range(first, first + self.rows_per_step)
        if len(self.bad_rows) >= MAX_BAD_STEPS * self.rows_per_step:
            write_json(self.directory / "bad_rows.json", {"rows": self.bad_rows})
            raise UserError(
                f"{self.directory}: {MAX_BAD_STEPS} steps in a row without a "
                "finite gradient (their rows are in bad_rows.json); lower "
                f"--learning-rate from {self.config.learning_rate:g}, or give "
                "--dtype float32"
            )

    def take_step(self) -> None:
        """One optimizer step; its numbers are in `numbers` afterwards."""
        began = time.perf_counter()
        batches = self.load_batches()
        waited = time.perf_counter() - began
        rate = learning_rate(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        numbers = accumulate(self.model, batches, self.loss, self.backward)
        norm = self.update_weights()
        self.step += 1
        tokens = self.rows_per_step * self.rows.row_length
        self.numbers = {
            **numbers,
            "step": self.step,
            "learning_rate": rate,
            "grad_norm": norm,
            "skipped": self.skipped,
            "tokens_per_second": tokens / (time.perf_counter() - began),
            "data_wait": waited,
        }

    def settings(self) -> dict[str, Any]:
        """Everything that decides what the weights become."""
        return {
            **asdict(self.config),
            **asdict(self.model.config),
            "data": self.rows.data.manifest["sha256"],
            "seq_len": self.rows.row_length,
            "tokenizer": self.tokenizer.hash,
            "parent": self.parent,
        }

    def save(self) -> None:
        """Write the model, for others to open, and the state to go on from."""
        about = {**self.info, "step": self.step, "numbers": self.numbers}
        save_model(self.model, self.tokenizer, self.directory, about)
        state = {
            "step": self.step,
            "skipped": self.skipped,
            "numbers": self.numbers,
            "settings": self.settings(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
        }
        # Last: what is half written before it will be written again.
        save_state(self.directory, self.step, state)

    def resume(self) -> None:
        """Go on from the newest whole state, if there is one.

        Raises UserError where the directory holds a run with other settings.
        """
        state = load_state(self.directory)
        if state is None:
            return
        refuse_other_settings(self.directory, state["settings"], self.settings())
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        self.step, self.numbers = state["step"], state["numbers"]
        self.skipped = state["skipped"]


def refuse_other_settings(
    directory: Path, old: dict[str, Any], new: dict[str, Any]
) -> None:
    """Raise UserError where a run would go on with other settings."""
    changed = [
        f"{key} {old.get(key)} -> {new.get(key)}"
        for key in new
        if key not in FREE and old.get(key) != new.get(key)
    ]
    if changed:
        raise UserError(
            f"{directory} holds a run with other settings "
            f"({', '.join(changed)}); give the old ones, choose another "
            "--out, or delete it"
        )
