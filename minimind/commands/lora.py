"""`minimind train lora` and `minimind lora merge`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import tyro

from minimind.commands.train import Config, open_rows, refuse_same_place, run
from minimind.train.checkpoint import load_model, save_model, trained_length
from minimind.train.config import TrainConfig
from minimind.train.distributed import say
from minimind.train.lora import (
    LoRAConfig,
    add_adapter,
    lora_layers,
    merge_adapter,
    remove_adapters,
    trainable_share,
)
from minimind.train.lora_files import load_adapter, save_adapter
from minimind.train.sft import answer_loss

Shape = Annotated[LoRAConfig, tyro.conf.arg(name="")]
NAME = "adapter"  # in memory; a directory holds one adapter


def lora(
    data: tuple[Path, ...],
    model: Path,
    out: Path,
    seq_len: int = 256,
    weights: tuple[float, ...] | None = None,
    validation: Path | None = None,
    adapter: Shape = LoRAConfig(),
    config: Config = TrainConfig(weight_decay=0.0),
) -> int:
    """Train an adapter on conversations; the model's own weights stay as they are.

    Args:
        data: directories of `minimind data prepare --kind sft`.
        model: directory of the model to start from.
        out: run directory; holds the adapter, its log and the state to go on from.
        seq_len: tokens in a row; no conversation may be longer.
        weights: share of each directory in the rows, where there are several.
        validation: prepared held-out data.
        adapter: shape of the adapter.
        config: options of the training loop.
    """
    base, tokenizer = load_model(model)
    info = {
        "stage": "lora",
        "parent": str(model),
        "settings": asdict(adapter),
    }
    rows = open_rows(data, weights, tokenizer, seq_len, "sft", config)
    torch.manual_seed(config.seed)
    add_adapter(base, NAME, adapter)
    share = trainable_share(base)
    say(f"{len(lora_layers(base))} layers get an adapter; {share:.2%} of all trains")
    return run(
        base,
        tokenizer,
        rows,
        answer_loss,
        out,
        validation,
        config,
        info,
        save=save_adapter,
    )


def merge(model: Path, adapter: Path, out: Path) -> int:
    """Write a model with an adapter in its weights, for programs without adapters.

    Args:
        model: directory of the model that the adapter was trained on.
        adapter: directory of the adapter.
        out: directory to write the merged model to.
    """
    refuse_same_place(out, model, adapter)
    network, tokenizer = load_model(model)
    load_adapter(network, adapter, NAME)
    merge_adapter(network)
    remove_adapters(network)
    info = {"stage": "merge", "parent": str(model), "adapter": str(adapter)}
    info |= {"seq_len": trained_length(adapter), "command": sys.argv}
    save_model(network, tokenizer, out, info)
    print(f"{out}: {model} with {adapter} in its weights")
    return 0
