"""A training run: what it is made of, one step of it, and how it is kept.

Explained in chapter 08. `step` counts optimizer steps, and the position in the
data is a function of it; with the state saved here a stopped run goes on, bit
for bit, as if it had not stopped.

Generated from notebooks/08_pretraining.ipynb by tools/export.py; edit it there.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minimind.errors import UserError
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows, collate
from minimind.text.tokenizer import Tokenizer
from minimind.train import distributed
from minimind.train.accumulate import Count, accumulate, count_targets
from minimind.train.checkpoint import (
    fingerprint,
    load_state,
    save_model,
    save_state,
)
from minimind.train.config import FREE, TrainConfig, refuse_other_settings
from minimind.train.distributed import rank, world_size
from minimind.train.guard import Guard
from minimind.train.malloc import keep_freed_memory
from minimind.train.memory import peak_memory, spare_memory
from minimind.train.objective import Batch, LossFn, Numbers, Objective
from minimind.train.optim import build_optimizers, learning_rate
from minimind.train.precision import pick_device, pick_dtype
from minimind.train.prefetch import Prefetcher
from minimind.train.rng import rng_state, seed_everything, set_rng_state


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
        count: Count = count_targets,
        save: Callable = save_model,
    ) -> None:
        self.device = pick_device(config.device)
        self.dtype = pick_dtype(self.device, config.dtype)
        keep_freed_memory()
        self.model, self.tokenizer = model.to(self.device), tokenizer
        self.rows, self.loss_fn = rows, loss_fn
        self.directory, self.info = directory, info or {}
        self.count, self.save_as = count, save
        width = model.config.hidden_size
        self.config = config.complete(len(rows), width, world_size())
        spare_memory(model, config.gradient_checkpointing, config.loss_chunk)
        # A run that starts from a trained model must go on from the same one.
        weights = model.state_dict()
        self.parent = self.info.get("parent") and fingerprint(weights)
        self.connect(Objective(model, self.loss))
        self.prefetcher = Prefetcher(self.load_batches)
        # fp16 loses small gradients to zero unless the loss is scaled up.
        half = self.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)
        self.step = 0  # optimizer steps taken
        self.guard = Guard(directory)
        self.best = math.inf  # lowest loss on held-out rows
        self.numbers: dict[str, Any] = {}  # of the last step
        self.saved_at = time.monotonic()
        seed_everything(config.seed + rank())

    def connect(self, objective: Objective) -> None:
        """Give the model its optimizers, and the other processes a part in it."""
        self.optimizers = build_optimizers(self.model, self.config)
        self.network = distributed.parallel(objective)

    @property
    def rows_per_step(self) -> int:
        """Rows that one optimizer step reads, in all processes together."""
        return self.config.batch_size * self.config.accumulation * world_size()

    def load_batches(self, step: int) -> list[Batch]:
        """This process's batches of a step, where the device can fetch them.

        The processes take turns, so which rows a step reads does not depend on
        how many there are.
        """
        size, first = self.config.batch_size, step * self.rows_per_step
        batches = []
        for turn in range(rank(), self.rows_per_step // size, world_size()):
            at = first + turn * size
            batch = collate(self.rows[n] for n in range(at, at + size))
            if self.device.type == "cuda":
                batch = {key: value.pin_memory() for key, value in batch.items()}
            batches.append(batch)
        return batches

    def next_batches(self) -> list[Batch]:
        """The batches of the step to be taken, on the device.

        Those of the step after it are read meanwhile (chapter 14), unless the
        rows are written by the model that is trained (chapter 18).
        """
        return [
            {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
            for batch in self.prefetcher.get(self.step, self.rows.read_ahead)
        ]

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Numbers]:
        """The stage's loss, computed in the run's number format."""
        mixed = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=mixed):
            return self.loss_fn(model, batch)

    def backward(self, loss: Tensor) -> None:
        """Backpropagate, scaled where the number format needs it."""
        self.scaler.scale(loss).backward()

    def gradient(self, batches: list[Batch], total: float) -> dict[str, Any]:
        """Compute the gradient of a step; returns its numbers.

        total: targets of the step, as many as each process has in the mean: the
        gradients are averaged over the processes.
        """
        call = nn.Module.__call__  # the network is model and loss in one
        return accumulate(self.network, batches, call, self.backward, self.count, total)

    def update_weights(self, loss: float) -> float:
        """Clip the gradient and step, unless it or the loss is no number.

        Returns its norm before clipping. Raises UserError as the guard does.
        """
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.grad_clip
        ).item()
        if finite := math.isfinite(loss) and math.isfinite(norm):
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
        self.scaler.update()
        self.model.zero_grad()
        self.note(finite)
        return norm

    def note(self, finite: bool) -> None:
        """Tell the guard whether the step's loss and gradient were finite."""
        first = self.step * self.rows_per_step
        rows = range(first, first + self.rows_per_step)
        self.guard.note(finite, rows, self.config.learning_rate)

    def take_step(self) -> None:
        """One optimizer step; its numbers are in `numbers` afterwards."""
        began = time.perf_counter()
        batches = self.next_batches()
        waited = time.perf_counter() - began
        rate = learning_rate(self.step, self.config)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        targets = sum(map(self.count, batches))
        asked = distributed.total(targets)
        numbers = self.gradient(batches, asked / world_size())
        numbers = distributed.mean_numbers(numbers, targets)
        norm = self.update_weights(numbers["loss"])
        self.step += 1
        tokens = self.rows_per_step * self.rows.row_length
        self.numbers = {
            **numbers,
            "step": self.step,
            "targets": int(asked),
            "learning_rate": rate,
            "grad_norm": norm,
            "skipped": self.guard.skipped,
            "tokens_per_second": tokens / (time.perf_counter() - began),
            "data_wait": waited,
            "memory_gb": peak_memory(self.device),
        }

    def probe(self) -> None:
        """One batch forwards and backwards, for the compiler; changes nothing."""
        loss, _ = self.loss(self.model, self.next_batches()[0])
        loss.backward()
        self.model.zero_grad()

    def save_model(self, directory: Path) -> None:
        """Write the model as it is now, for others to open."""
        about = {**self.info, "step": self.step, "numbers": self.numbers}
        if distributed.is_main():
            self.save_as(self.model, self.tokenizer, directory, about)

    def trained_weights(self) -> dict[str, Tensor]:
        """The weights that move, by name; the others are those of the parent."""
        named = self.model.named_parameters()
        return {name: p.detach() for name, p in named if p.requires_grad}

    def optimizer_states(self) -> list[dict[str, Any]]:
        """What the optimizers remember of earlier gradients."""
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_optimizers(self, state: dict[str, Any]) -> None:
        """Give the optimizers back what they remembered."""
        pairs = zip(self.optimizers, state["optimizers"], strict=True)
        for optimizer, saved in pairs:
            optimizer.load_state_dict(saved)

    def settings(self) -> dict[str, Any]:
        """Everything that decides what the weights become."""
        fixed = {k: v for k, v in asdict(self.config).items() if k not in FREE}
        return {
            **fixed,
            **asdict(self.model.config),
            "batch_size x accumulation x processes": self.rows_per_step,
            "data": self.rows.fingerprint,
            "seq_len": self.rows.row_length,
            "tokenizer": self.tokenizer.hash,
            "parent": self.parent,
            **self.info.get("settings", {}),  # the stage's own
        }

    def save(self) -> None:
        """Write the model, for others to open, and the state to go on from."""
        self.save_model(self.directory)
        rng = distributed.gather(rng_state())
        if distributed.is_main():
            state = {
                "step": self.step,
                "samples": self.step * self.rows_per_step,
                "skipped": self.guard.skipped,
                "best": self.best,
                "numbers": self.numbers,
                "settings": self.settings(),
                "model": self.trained_weights(),
                "optimizers": self.optimizer_states(),
                "scaler": self.scaler.state_dict(),
                "rng": rng,  # of each process
                "world_size": world_size(),
            }
            # Last: what is half written before it will be written again.
            save_state(self.directory, self.step, state, self.config.keep)
        distributed.barrier()
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Go on from the newest whole state, if there is one.

        Raises UserError where the directory holds a run with other settings, or
        where not every process finds the same state there.
        """
        state = load_state(self.directory, distributed.say)
        steps = distributed.gather(state["step"] if state else 0)
        if len(set(steps)) > 1:
            raise UserError(
                f"{self.directory}: the processes find steps {steps} there; "
                "--out has to be one directory that all machines share"
            )
        if state is None:
            return
        refuse_other_settings(self.directory, state["settings"], self.settings())
        for name, weight in self.trained_weights().items():
            weight.copy_(state["model"][name])
        self.load_optimizers(state)
        self.scaler.load_state_dict(state["scaler"])
        if state["world_size"] == world_size():
            set_rng_state(state["rng"][rank()])
        self.step, self.numbers = state["step"], state["numbers"]
        self.guard.skipped, self.best = state["skipped"], state["best"]
