"""`minimind import`: a model from outside as a model directory."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from minimind.export.load import load_from_outside
from minimind.train.checkpoint import save_model


def import_model(
    source: Annotated[Path, tyro.conf.Positional],
    out: Path,
    tokenizer: Path | None = None,
) -> None:
    """Make a model directory, which all other commands take, of another's model.

    Takes the GGUF file of a Llama, a directory in the layout of transformers, and
    a published MiniMind2 .pth.

    Args:
        source: the file or directory to read.
        out: the model directory to write.
        tokenizer: directory of the tokenizer, where source is a .pth without one.
    """
    model, vocabulary = load_from_outside(source, tokenizer)
    info = {"stage": "import", "parent": str(source), "command": sys.argv}
    save_model(model, vocabulary, out, info)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{out}: {count:,} parameters, {vocabulary.vocab_size:,} ids")
