"""`minimind train grpo`."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from minimind.commands.train import Config, refuse_unheeded, run
from minimind.train.checkpoint import load_model
from minimind.train.config import TrainConfig
from minimind.train.distributed import say
from minimind.train.grpo import GRPOConfig, policy_loss
from minimind.train.precision import pick_device
from minimind.train.replies import SampledRows, read_tasks, verify

Options = Annotated[GRPOConfig, tyro.conf.arg(name="")]


def grpo(
    data: Path,
    model: Path,
    out: Path,
    options: Options = GRPOConfig(),
    config: Config = TrainConfig(batch_size=64, weight_decay=0.0),
) -> int:
    """Train on replies that the model draws itself, by how right they are.

    A reply earns 1 if it is well formed (thoughts, then an answer, each in its block)
    and its answer is that of the data, to the letter, and 0 otherwise. The model as
    it is now is the reference. A row of the options below is one reply. Without
    --learning-rate it is 1e-4 at 128 channels and falls with the width.

    Args:
        data: jsonl file of {"conversations": [...]}; the answer is read from the
            block of the last reply.
        model: directory of the model to start from; it should reason already.
        out: run directory; holds the model, its log and the state to go on from.
        options: how replies are drawn and what the loss is made of.
        config: options of the training loop.
    """
    drawing = "whose steps draw replies from the whole model, token by token"
    scoring = "whose loss is made of the logits of whole replies"
    refuse_unheeded(config, compile=drawing, deepspeed=drawing, loss_chunk=scoring)
    policy, tokenizer = load_model(model)
    tasks = read_tasks(data, tokenizer)
    say(f"{len(tasks)} questions, {options.group_size} replies to each")
    rate = config.learning_rate or 1e-4 * 128 / policy.config.hidden_size
    config = replace(config, learning_rate=rate)
    policy.to(pick_device(config.device))
    rows = SampledRows(policy, tokenizer, tasks, verify, options, config, out)
    info = {
        "stage": "grpo",
        "parent": str(model),
        "settings": asdict(options) | {"batch_size": config.batch_size},
    }
    loss_fn = partial(policy_loss, options=options)
    return run(policy, tokenizer, rows, loss_fn, out, None, config, info)
