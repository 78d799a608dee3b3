"""`minimind train reason`."""

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from minimind.commands.train import Config, open_rows, refuse_unheeded, run
from minimind.evaluate.reason import (
    prompts_of,
    score_reasoning,
    well_formed_rate,
)
from minimind.model.sampling import Sampling
from minimind.text import tokens
from minimind.text.tokens import TokenFile
from minimind.text.world.reasoning import reason_exam, reason_rows
from minimind.text.world.write import TUNING
from minimind.train.checkpoint import load_model, save_model
from minimind.train.config import TrainConfig
from minimind.train.distributed import is_main, say
from minimind.train.precision import pick_device
from minimind.train.reason import (
    ReasonConfig,
    count_weights,
    reason_loss,
    tag_ids,
    with_thinking,
)
from minimind.train.run import Run

Options = Annotated[ReasonConfig, tyro.conf.arg(name="")]
TRIED = 64  # prompts whose replies are looked at in the end
# The run of the chapters: on top of the chat model of `minimind zero`.
NANO = TrainConfig(steps=450, batch_size=8, learning_rate=3e-3, warmup=20)
LOOK_EVERY = 10  # steps of `begin`
DRAWN = Sampling(temperature=1.0, top_p=1.0, seed=0, max_new_tokens=96)


def reason(
    data: tuple[Path, ...],
    model: Path,
    out: Path,
    seq_len: int = 256,
    weights: tuple[float, ...] | None = None,
    validation: Path | None = None,
    options: Options = ReasonConfig(),
    config: Config = TrainConfig(),
) -> int:
    """Train a model on replies with thoughts: it learns to work an answer out first.

    In the end it replies to some prompts, and the share of well-formed replies is
    printed. The chat template saved with the model knows `enable_thinking`.

    Args:
        data: directories of `minimind data prepare --kind sft`, of rows with tags.
        model: directory of the model to start from, best a chat model.
        out: run directory; holds the model, its log and the state to go on from.
        seq_len: tokens in a row; no conversation may be longer.
        weights: share of each directory in the rows, where there are several.
        validation: prepared held-out data.
        options: what the loss is made of.
        config: options of the training loop.
    """
    refuse_unheeded(config, loss_chunk="whose loss weighs the logits one by one")
    network, tokenizer = load_model(model)
    stage = {"tags": tag_ids(tokenizer), "tag_weight": options.tag_weight}
    tokenizer = with_thinking(tokenizer)
    rows = open_rows(data, weights, tokenizer, seq_len, "sft", config)
    info = {"stage": "reason", "parent": str(model), "settings": asdict(options)}
    loss_fn = partial(reason_loss, **stage)
    count = partial(count_weights, **stage)
    status = run(
        network,
        tokenizer,
        rows,
        loss_fn,
        out,
        validation,
        config,
        info,
        count=count,
    )
    if status == 0 and not config.dry_run and is_main():
        source = TokenFile(validation or data[0], tokenizer)
        prompts = prompts_of(source, TRIED)
        # As it was saved: DeepSpeed may have divided the one in memory.
        network = load_model(out)[0].to(pick_device(config.device))
        share = well_formed_rate(network, tokenizer, prompts, seq_len)
        held_out = "held-out" if validation else "training"
        say(f"{out}: {share:.1%} well formed on {len(prompts)} {held_out} prompts")
    return status


def sums_of_the_world(base: Path, out: Path, seed: int) -> Path:
    """Token files in `out` of the little world's rows with thoughts, made if need be.

    base: directory of the model whose tokenizer they are for.
    """
    source, prepared = out / "reason.jsonl", out / "tokens"
    if not prepared.is_dir():
        out.mkdir(parents=True, exist_ok=True)
        with source.open("w", encoding="utf-8", newline="\n") as file:
            for row in reason_rows(seed, TUNING["reason.jsonl"]):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        _, tokenizer = load_model(base)
        tokens.prepare([source], prepared, tokenizer, "sft", 256)
    return prepared


def build(base: Path, out: Path, seed: int = 0) -> int:
    """The nano model that reasons, made on top of a chat model; the exit status.

    base: directory of the chat model. out gets the rows, their token files and the
    run; what is there already is not made again.
    """
    prepared = sums_of_the_world(base, out, seed)
    return reason((prepared,), base, out, config=replace(NANO, seed=seed))


def begin(base: Path, out: Path, seed: int = 0) -> None:
    """A nano model that has begun to reason, and is right about half of the time.

    Trained as by `build`, but at one rate, with all tokens weighing the same, until
    half of its draws for held-out sums are right: what chapter 18 starts from.

    base: directory of the chat model. out gets the rows, their token files and the
    model.
    """
    prepared = sums_of_the_world(base, out, seed)
    model, tokenizer = load_model(base)
    stage = {"tags": tag_ids(tokenizer), "tag_weight": 1.0}
    tokenizer = with_thinking(tokenizer)
    config = replace(NANO, steps=1000, schedule="constant", seed=seed)
    rows = open_rows((prepared,), None, tokenizer, 256, "sft", config)
    loss_fn, count = partial(reason_loss, **stage), partial(count_weights, **stage)
    course = Run(model, tokenizer, rows, loss_fn, config, out, count=count)
    exam, right = list(reason_exam(seed + 1, 64)), 0.0
    with tqdm(total=config.steps, desc=out.name, unit="step") as bar:
        while right < 0.5 and course.step < config.steps:
            for _ in range(LOOK_EVERY):
                course.take_step()
            right = score_reasoning(model.eval(), tokenizer, exam, DRAWN)["right"]
            model.train()
            bar.set_postfix_str(f"right {right:.2f}", refresh=False)
            bar.update(LOOK_EVERY)
    save_model(model, tokenizer, out, {"stage": "reason", "step": course.step})
