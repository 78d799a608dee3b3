"""`minimind train lora` and `minimind lora merge`."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import tyro

from minimind.commands.train import Config, check_rows, report
from minimind.errors import UserError
from minimind.text.packing import PackedRows
from minimind.text.tokens import TokenFile
from minimind.train.checkpoint import load_model, save_model
from minimind.train.config import TrainConfig
from minimind.train.distributed import say
from minimind.train.loop import train
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
