"""`minimind train distill` and `minimind distill generate`."""

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from tqdm import tqdm

from minimind.commands.chat import Opening, OpeningOptions, SamplingOptions, open_model
from minimind.commands.data import Files
from minimind.commands.train import (
    Config,
    fresh_model,
    open_rows,
    refuse_same_place,
    run,
)
from minimind.errors import UserError
from minimind.files import read_json, room_for, sha256_of, write_json
from minimind.model.sampling import Sampling
from minimind.text.chat import Message
from minimind.text.jsonl import check_conversation, read_jsonl, read_lines, whole
from minimind.train.checkpoint import fingerprint, load_model
from minimind.train.config import TrainConfig, refuse_other_settings
from minimind.train.distill import (
    DistillConfig,
    answer_chats,
    check_teacher,
    distillation_loss,
)
from minimind.train.precision import pick_device

Options = Annotated[DistillConfig, tyro.conf.arg(name="")]


def distill(
    data: tuple[Path, ...],
    teacher: Path,
    out: Path,
    model: Path | None = None,
    preset: str | None = None,
    kind: Literal["pretrain", "sft"] = "sft",
    seq_len: int = 256,
    weights: tuple[float, ...] | None = None,
    validation: Path | None = None,
    options: Options = DistillConfig(),
    config: Config = TrainConfig(),
) -> int:
    """Train a small model on data and on what a larger one thinks of it.

    Teacher and student need the same tokenizer; either may have experts. The teacher
    stays as it is, and no part of it is saved.

    Args:
        data: directories of `minimind data prepare`.
        teacher: directory of the model to learn from.
        out: run directory; holds the student, its log and the state to go on from.
        model: directory of the student to start from; this or --preset.
        preset: size of a new student, by name, or a json file with fields of
            ModelConfig.
        kind: what the data was prepared for.
        seq_len: tokens in a row.
        weights: share of each directory in the rows, where there are several.
        validation: prepared held-out data.
        options: what the loss is made of.
        config: options of the training loop.
    """
    refuse_same_place(out, teacher)
    if (model is None) == (preset is None):
        raise UserError("give the student as --model or as --preset, one of them")
    guide, tokenizer = load_model(teacher)
    its_tokenizer = tokenizer
    if model is None:
        student = fresh_model(preset, tokenizer, config.seed)
    else:
        student, tokenizer = load_model(model)
    check_teacher(guide, its_tokenizer, student, tokenizer)
    rows = open_rows(data, weights, tokenizer, seq_len, kind, config)
    if rows.row_length > (limit := guide.config.max_position_embeddings):
        raise UserError(f"--seq-len {seq_len}: the teacher reads {limit} tokens")
    guide.to(pick_device(config.device))
    if config.compile:  # the loss calls these, not the models themselves
        for network in (guide, student):
            network.hidden_states = torch.compile(network.hidden_states)
    info = {
        "stage": "distill",
        "parent": str(model) if model else None,
        "preset": preset,
        "teacher": str(teacher),
        "settings": {**asdict(options), "teacher": fingerprint(guide.state_dict())},
    }
    loss_fn = partial(
        distillation_loss, teacher=guide, options=options, chunk=config.loss_chunk
    )
    return run(student, tokenizer, rows, loss_fn, out, validation, config, info)


def read_chats(data: Files, skip_bad: bool) -> Iterator[list[Message] | None]:
    """The conversations of jsonl files; None stands for a bad row skipped."""
    for path in data:
        for row in read_jsonl(path, check_conversation, skip_bad):
            yield row and row["conversations"]


class AnswerFile:
    """A jsonl file that grows batch by batch, and how far it is for good.

    It gets its name when it is complete. One that was stopped goes on after its
    last whole batch. Raises UserError where it was begun with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.unfinished = path.with_name(path.name + ".unfinished")
        self.record = path.with_name(path.name + ".progress")
        self.counts = dict.fromkeys(("rows", "written", "no_end", "bad", "bytes"), 0)
        if self.record.is_file() and self.unfinished.is_file():
            kept = read_json(self.record)
            refuse_other_settings(self.unfinished, kept["settings"], settings)
            self.counts = kept["counts"]
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.unfinished.open("ab") as file:
            file.truncate(self.counts["bytes"])

    def append(self, chats: list[list[Message] | None], bad: int) -> None:
        """Write the conversations of a batch; None stands for one without an end."""
        lines = [
            json.dumps({"conversations": chat}, ensure_ascii=False) + "\n"
            for chat in chats
            if chat
        ]
        data = "".join(lines).encode("utf-8", "replace")
        with room_for(self.unfinished, len(data)), self.unfinished.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new = {"rows": len(chats) + bad, "written": len(lines), "bad": bad}
        new |= {"no_end": len(chats) - len(lines), "bytes": len(data)}
        self.counts = {key: self.counts[key] + n for key, n in new.items()}
        write_json(self.record, {"settings": self.settings, "counts": self.counts})

    def finish(self) -> None:
        """Give the file its name. Raises UserError if nothing is in it."""
        if not self.counts["written"]:
            self.record.unlink(missing_ok=True)
            self.unfinished.unlink()
            raise UserError(
                f"{self.path}: no answer came to an end; give more "
                "--max-new-tokens, or a teacher that was trained on conversations"
            )
        os.replace(self.unfinished, self.path)
        self.record.unlink()


def generate(
    data: Files,
    teacher: Path,
    out: Path,
    batch_size: int = 64,
    skip_bad: bool = False,
    opening: OpeningOptions = Opening(),
    sampling: SamplingOptions = Sampling(seed=0),
) -> int:
    """Let a model answer the prompts of conversations: a set to train another on.

    Writes the conversations with the model's answers in place of those they have.
    One with an answer that does not end within --max-new-tokens is left out and
    counted. Stopped at any moment and run again, it goes on where it was.

    Args:
        data: jsonl files of {"conversations"} rows.
        teacher: directory of the model that answers.
        out: jsonl file for the conversations; it must not be there yet.
        batch_size: conversations that are answered at once.
        skip_bad: leave bad rows out instead of stopping at the first.
        opening: options of opening the model.
        sampling: options of drawing tokens.
    """
    if out.exists():
        raise UserError(f"--out {out}: is there already; delete it, or name another")
    if batch_size < 1:
        raise UserError(f"--batch-size {batch_size}: give 1 or more")
    total = sum(1 for path in data for _ in read_lines(whole(path)))
    network, tokenizer = open_model(teacher, opening)
    answers = AnswerFile(
        out,
        {
            "teacher": fingerprint(network.state_dict()),
            "tokenizer": tokenizer.hash,
            "data": sha256_of(*data),
            **asdict(sampling),
        },
    )
    begun = answers.counts["rows"]
    chats = itertools.islice(read_chats(data, skip_bad), begun, None)
    with tqdm(total=total, initial=begun, desc=out.name, unit="chat") as bar:
        while batch := list(itertools.islice(chats, batch_size)):
            drawn = sampling
            if sampling.seed is not None:  # every batch has seeds of its own
                seed = sampling.seed + answers.counts["rows"]
                drawn = replace(sampling, seed=seed)
            good = [chat for chat in batch if chat]
            written = answer_chats(network, tokenizer, good, drawn)
            answers.append(written, bad=len(batch) - len(good))
            bar.update(len(batch))
    answers.finish()
    counts = answers.counts
    print(
        f"{out}: {counts['written']:,} of {counts['rows']:,} conversations; left out: "
        f"{counts['no_end']} with an answer that did not end, {counts['bad']} bad"
    )
    return 0
