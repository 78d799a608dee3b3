"""`minimind evaluate world` and `minimind evaluate text`."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from minimind.evaluate.world import score_world, table
from minimind.files import write_json
from minimind.text import tokens
from minimind.text.jsonl import Row, read_jsonl
from minimind.text.packing import PackedRows
from minimind.train.checkpoint import load_model
from minimind.train.loop import check_row_length
from minimind.train.precision import pick_device
from minimind.train.validate import validate

Model = Annotated[Path, tyro.conf.Positional]


def needs(*fields: str) -> Callable[[Row], str | None]:
    """A check that a jsonl row has these fields."""

    def check(row: Row) -> str | None:
        missing = [field for field in fields if field not in row]
        return f"the field {missing[0]!r} is missing" if missing else None

    return check


def world(
    model: Model,
    data: Path,
    json_out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Score a chat model on the little world's held-out questions and stories.

    Args:
        model: directory of the model.
        data: directory of `python -m minimind.text.world`.
        json_out: write the scores here, every wrong reply included.
        seed: of the sampled stories.
        device: auto, cuda, mps or cpu.
    """
    network, tokenizer = load_model(model)
    network.to(pick_device(device))
    questions = list(
        read_jsonl(data / "questions.jsonl", needs("question", "answer", "lang"))
    )
    prompts = list(read_jsonl(data / "story_prompts.jsonl", needs("prompt", "lang")))
    total = len(questions) + 2 * len(prompts)
    with tqdm(total=total, desc="evaluating", unit="reply") as bar:
        scores = score_world(network, tokenizer, questions, prompts, seed, bar.update)
    print(table(scores))
    if json_out is not None:
        write_json(json_out, {"model": str(model), "seed": seed, **scores})


def text(
    model: Model,
    data: tuple[Path, ...],
    seq_len: int = 256,
    device: str = "auto",
) -> None:
    """Bits per byte of a model on plain text that it was not trained on.

    Args:
        model: directory of the model.
        data: jsonl files with {"text"} rows.
        seq_len: longest context, in tokens.
        device: auto, cuda, mps or cpu.
    """
    network, tokenizer = load_model(model)
    network.to(pick_device(device))
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "text"
        tokens.prepare(data, directory, tokenizer)
        rows = PackedRows(tokens.TokenFile(directory, tokenizer), seq_len)
        check_row_length(network, rows)
        numbers = validate(network, tokenizer, rows)
        del rows  # close the memory maps before the folder goes
    print(
        f"loss {numbers['validation_loss']:.3f} nats a token, "
        f"{numbers['bits_per_byte']:.3f} bits per byte"
    )
