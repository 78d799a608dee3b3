"""Replies that a model draws itself, as training rows.

Explained in chapter 18. Rows of the other stages are read from a file; these
are written while training, by the model that is trained.

Generated from notebooks/18_grpo.ipynb by tools/export.py; edit it there.
"""

import copy
import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from minimind.errors import UserError
from minimind.files import write_atomically
from minimind.model.generate import Completion, generate
from minimind.model.sampling import Sampling
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.chat import IGNORE
from minimind.text.jsonl import Row, check_conversation, read_jsonl
from minimind.text.thinking import encode_prompt, read_reply, write_reply
from minimind.text.tokenizer import EOS_ID, PAD_ID, Tokenizer
from minimind.train.checkpoint import saved_states
from minimind.train.config import TrainConfig
from minimind.train.distributed import world_size
from minimind.train.grpo import GRPOConfig, group_advantages, reply_logps
from minimind.train.objective import Batch
from minimind.train.precision import pick_dtype


def verify(answer: str, reply: str) -> dict[str, float]:
    """The reward: 1 for a well-formed reply with the right answer, or 0.

    Beside it `right`, which is the same, and `well_formed`, to be logged.
    """
    parts = read_reply(reply)
    right = float(parts is not None and parts.content == answer)
    well_formed = float(parts is not None)
    return {"reward": right, "right": right, "well_formed": well_formed}


def check_task(row: Row) -> str | None:
    """What is wrong with a chat whose last reply holds the answer."""
    if wrong := check_conversation(row):
        return wrong
    last = row["conversations"][-1]
    if last["role"] == "assistant" and read_reply(last["content"]):
        return None
    return f"the last reply is not {write_reply('...', '...')!r}"


Task = tuple[list[int], str]  # ids of a prompt, and the right answer


def read_tasks(path: Path, tokenizer: Tokenizer) -> list[Task]:
    """The questions of a jsonl file of chats, each with its answer.

    Raises UserError for a bad row, and for a file without any.
    """
    tasks = []
    for row in read_jsonl(path, check_task):
        *messages, last = row["conversations"]
        prompt = encode_prompt(tokenizer, messages)
        tasks.append((prompt, read_reply(last["content"]).content))
    if not tasks:
        raise UserError(f"{path}: holds no question")
    return tasks


def lay_out_replies(
    prompts: Sequence[list[int]], replies: Sequence[Completion]
) -> dict[str, Tensor]:
    """Prompts with their replies as ids and labels, both (B, T).

    Padded on the right. The end token of a reply belongs to it; a reply that
    was cut off has none.
    """
    ends = [[EOS_ID] * (reply.finish_reason == "stop") for reply in replies]
    learned = [reply.ids + end for reply, end in zip(replies, ends)]
    longest = max(len(p) + len(r) for p, r in zip(prompts, learned))
    ids = torch.full((len(prompts), longest), PAD_ID)
    labels = torch.full_like(ids, IGNORE)
    for row, (prompt, reply) in enumerate(zip(prompts, learned)):
        end = len(prompt) + len(reply)
        ids[row, :end] = torch.tensor(prompt + reply)
        labels[row, len(prompt) : end] = torch.tensor(reply)
    return {"input_ids": ids, "labels": labels}


# From a right answer and a reply: its "reward", and more numbers to log.
Reward = Callable[[str, str], dict[str, float]]


class SampledRows:
    """Endless training rows of T tokens: replies that the policy draws itself.

    Row n stands for one reply; G rows in a row answer the same question. They
    are drawn when a step first asks for them, by the policy as it is then,
    with random numbers that depend on the seed and n alone. The other steps
    on the same replies find them in memory, or in `directory`/samples. The
    policy as it is given here is the reference. Raises UserError for a batch
    that would cut a group, or too many new tokens for the model.
    """

    read_ahead = False  # a row does not exist before the step it is for

    def __init__(
        self,
        policy: MiniMindForCausalLM,
        tokenizer: Tokenizer,
        tasks: Sequence[Task],
        reward: Reward,
        options: GRPOConfig,
        config: TrainConfig,
        directory: Path,
    ) -> None:
        self.policy, self.tokenizer, self.tasks = policy, tokenizer, tasks
        self.reference = copy.deepcopy(policy).requires_grad_(False).eval()
        self.reward, self.options, self.config = reward, options, config
        self.directory = directory / "samples"
        longest = max(len(prompt) for prompt, _ in tasks)
        self.row_length = longest + options.max_new_tokens
        self.fingerprint = hashlib.sha256(repr(tasks).encode()).hexdigest()
        self.drawn: dict[str, dict[str, np.ndarray]] = {}  # by file name
        self.check()

    def check(self) -> None:
        """Raise UserError for settings that do not go together."""
        size, group = self.config.batch_size, self.options.group_size
        if size % group:
            raise UserError(
                f"--batch-size {size}: give a multiple of --group-size {group}, "
                "so that a batch holds whole groups"
            )
        limit = self.policy.config.max_position_embeddings
        if self.row_length > limit:
            raise UserError(
                f"the longest prompt and --max-new-tokens come to "
                f"{self.row_length} tokens, but the model's limit is {limit}"
            )

    def __len__(self) -> int:
        """Rows in one epoch, in which every question comes once."""
        return len(self.tasks) * self.options.group_size * self.options.updates

    def task(self, n: int) -> Task:
        """The question of group n; every epoch has another order."""
        epoch, place = divmod(n, len(self.tasks))
        shuffle = np.random.default_rng((self.config.seed, epoch))
        return self.tasks[shuffle.permutation(len(self.tasks))[place]]

    @torch.no_grad()
    def logps(self, model: nn.Module, batch: Batch) -> Tensor:
        """Log-probabilities of a batch of replies, (B, T), at their tokens."""
        device = self.policy.lm_head.weight.device
        dtype = pick_dtype(device, self.config.dtype)
        batch = {key: value.to(device) for key, value in batch.items()}
        mixed = dtype != torch.float32
        with torch.autocast(device.type, dtype, enabled=mixed):
            found, _ = reply_logps(model, batch)
        asked = batch["labels"] != IGNORE
        return torch.zeros(asked.shape, device=device).masked_scatter(asked, found)

    def draw(self, first: int) -> dict[str, np.ndarray]:
        """A batch of replies, numbers `first` and on, judged and compared."""
        size, options = self.options.group_size, self.options
        numbers = range(first, first + self.config.batch_size)
        tasks = [self.task(n // size) for n in numbers]
        prompts = [prompt for prompt, _ in tasks]
        sampling = Sampling(
            temperature=1.0,
            top_p=1.0,
            max_new_tokens=options.max_new_tokens,
            # Of a larger number the generator takes the last 32 bits.
            seed=1_000_003 * self.config.seed + first,
        )
        replies = generate(self.policy, self.tokenizer, prompts, sampling)
        batch = lay_out_replies(prompts, replies)
        batch["old"] = self.logps(self.policy, batch)
        batch["reference"] = self.logps(self.reference, batch)
        found = [self.reward(a, reply.text) for (_, a), reply in zip(tasks, replies)]
        for key in found[0]:
            batch[key] = torch.tensor([numbers[key] for numbers in found])
        batch["reply_tokens"] = (batch["labels"] != IGNORE).sum(-1)
        groups = batch["reward"].unflatten(0, (-1, size))
        batch["advantages"] = group_advantages(groups).flatten()
        return {key: value.cpu().numpy() for key, value in batch.items()}

    def keep(self, name: str) -> None:
        """Write replies down, and forget those that no saved state asks for."""
        buffer = io.BytesIO()
        np.savez(buffer, **self.drawn[name])
        write_atomically(self.directory / name, buffer.getvalue())
        states = saved_states(self.directory.parent)
        oldest = min((int(path.stem[5:]) for path in states), default=0)
        _, turn = name.split("-")
        for path in self.directory.glob(f"*-{turn}"):
            if int(path.name.split("-")[0]) < oldest // self.options.updates:
                path.unlink()

    def find(self, name: str) -> dict[str, np.ndarray]:
        """Replies that were drawn before the run was stopped."""
        path = self.directory / name
        if not path.is_file():
            raise UserError(
                f"{path}: missing, so this run cannot go on between two steps "
                "on the same replies; choose another --out"
            )
        with np.load(path) as kept:
            return dict(kept)

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        """Row n of the endless sequence."""
        size, updates = self.config.batch_size, self.options.updates
        per_step = size * self.config.accumulation * world_size()
        step, place = divmod(n, per_step)
        part, update = divmod(step, updates)
        turn, row = divmod(place, size)
        name = f"{part:07d}-{turn}.npz"
        if name not in self.drawn:
            others = self.drawn.items()
            now = name.split("-")[0]
            self.drawn = {k: v for k, v in others if k.startswith(now)}
            if update:
                self.drawn[name] = self.find(name)
            else:
                self.drawn[name] = self.draw(part * per_step + turn * size)
                if updates > 1:
                    self.keep(name)
        return {key: values[row] for key, values in self.drawn[name].items()}
