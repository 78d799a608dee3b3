"""Load a model from outside, strictly: a directory, a `.pth` or a GGUF file.

Explained in chapter 06.
"""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from minimind.errors import UserError
from minimind.export.gguf_file import read_gguf
from minimind.model.config import ModelConfig
from minimind.model.transformer import MiniMindForCausalLM
from minimind.model.weights import load_weights, nearest_preset, read_weights
from minimind.text.tokenizer import Tokenizer
from minimind.train.checkpoint import check_vocabulary, load_model


def load_from_outside(
    source: Path, tokenizer: Path | None = None, say: Callable[[str], None] = print
) -> tuple[MiniMindForCausalLM, Tokenizer]:
    """A model and its tokenizer, in evaluation mode and fp32.

    source: a directory in the layout of `transformers`, the GGUF file of a
    Llama, or a published MiniMind2 `.pth`; tokenizer: the directory of one, for
    the latter only, which has none. What is taken from a preset is told by
    `say`. Raises UserError for weights that are not exactly the model's.
    """
    complete = source.is_dir() or source.suffix == ".gguf"
    if complete and tokenizer is not None:
        raise UserError(f"{source} brings its tokenizer; leave --tokenizer out")
    if source.is_dir():
        return load_model(source)
    if not source.is_file():
        raise UserError(f"{source}: no such file or directory")
    if complete:
        config, weights, vocabulary = read_gguf(source)
    elif tokenizer is None:
        raise UserError(
            f"{source} has no tokenizer in it; name the directory of the one it "
            "was trained with as --tokenizer"
        )
    else:
        vocabulary, weights = Tokenizer.load(tokenizer), read_weights(source)
        config = preset_config(weights, source, say)
    check_vocabulary(vocabulary, config, source)
    model = MiniMindForCausalLM(config)
    load_weights(model, weights, str(source))
    return model.eval(), vocabulary


def preset_config(
    weights: dict[str, Tensor], path: Path, say: Callable[[str], None]
) -> ModelConfig:
    """The config of the preset whose weights have these names and shapes.

    A state dict tells all widths, but not how many heads share them, nor the
    base of the rotation. Raises UserError where no preset fits.
    """
    name, config, found = nearest_preset(weights)
    if found:
        raise UserError(
            f"{path}: the weights of no preset; those of {name} come closest, but "
            f"{len(found)} differ: {'; '.join(found[:3])}"
        )
    say(f"{path}: the shapes of {name}; heads and rope_theta are taken from there")
    return config
