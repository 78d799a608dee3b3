"""`minimind chat` and `minimind generate`: a model in the terminal."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import Annotated, Literal

import tyro

from minimind.errors import UserError
from minimind.model.context import extend_context
from minimind.model.generate import stream
from minimind.model.sampling import CHAT, GREEDY, Sampling
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.chat import Message
from minimind.text.thinking import NO_THOUGHTS, Parts, encode_prompt, stream_parts
from minimind.text.tokenizer import BOS_ID, Tokenizer
from minimind.train.checkpoint import load_model, trained_length
from minimind.train.precision import pick_device

SamplingOptions = Annotated[Sampling, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class Opening:
    """How to open a model: where it computes, and how far it reads."""

    device: str = "auto"  # auto, cuda, mps or cpu
    # How to read on past the trained length (chapter 02).
    rope_scaling: Literal["none", "linear", "ntk", "yarn"] = "none"
    rope_factor: float = 4.0  # how many times the trained length, with rope_scaling
    # In tokens; if not given, what the model's minimind.json says, else its limit.
    trained_length: int | None = None


OpeningOptions = Annotated[Opening, tyro.conf.arg(name="")]


def pour(pieces: Iterable[str]) -> str:
    """Print a text while it is written; returns the whole of it."""
    text = ""
    for piece in pieces:
        print(piece, end="", flush=True)
        text += piece
    print(flush=True)
    return text


def set_apart(pieces: Iterable[Parts]) -> Iterator[str]:
    """A reply to be printed: lines of thought begin with a bar, the answer not."""
    thinks = answers = False  # has it begun to?
    for thoughts, content in pieces:
        if thoughts:
            yield ("" if thinks else "| ") + thoughts.replace("\n", "\n| ")
            thinks = True
        if content:
            yield ("\n" if thinks and not answers else "") + content
            answers = True


def typed_lines() -> Iterator[str]:
    """What the user types, line by line, until Ctrl-D; a pipe is read too."""
    interactive = sys.stdin.isatty()
    while True:
        try:
            line = input("> " if interactive else "").strip()
        except EOFError:
            if interactive:
                print()
            return
        if line:
            if not interactive:
                print(f"> {line}")
            yield line


def converse(
    network: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    questions: Iterable[str],
    sampling: Sampling,
    system: str | None = None,
    history: int = 4,
    enable_thinking: bool = True,
) -> None:
    """Answer questions as they come, each with the exchanges before it in mind.

    history: the most earlier exchanges shown; fewer where they would take more
    than half of the model's limit. enable_thinking: as in `encode_prompt`.
    """
    start: list[Message] = [{"role": "system", "content": system}] if system else []
    past: list[Message] = []
    for question in questions:
        past = past[-2 * history :] if history else []
        while True:
            messages = [*start, *past, {"role": "user", "content": question}]
            prompt = encode_prompt(tokenizer, messages, enable_thinking)
            if not past or 2 * len(prompt) <= network.config.max_position_embeddings:
                break
            past = past[2:]
        try:
            written, shown = tee(stream(network, tokenizer, prompt, sampling))
            pour(set_apart(stream_parts(shown)))
        except UserError as error:  # too long a question: say so, and go on
            print(f"error: {error}", file=sys.stderr)
            continue
        # With its tags, as all turns of a training row have them.
        answer = (NO_THOUGHTS if not enable_thinking else "") + "".join(written)
        past = [*messages[len(start) :], {"role": "assistant", "content": answer}]


def ask(model: Path, questions: Iterable[str]) -> None:
    """Print a model's greedy answer to each question, asked by itself."""
    network, tokenizer = load_model(model)
    for question in questions:
        print(f"> {question}")
        converse(network, tokenizer, [question], GREEDY)


def open_model(
    directory: Path, opening: Opening
) -> tuple[MiniMindForCausalLM, Tokenizer]:
    """Load a model to a device, and stretch its context if that is asked."""
    network, tokenizer = load_model(directory)
    if opening.rope_scaling != "none":
        length = opening.trained_length
        if length is None:
            length = trained_length(directory)
        extend_context(network, opening.rope_scaling, opening.rope_factor, length)
    return network.to(pick_device(opening.device)), tokenizer


def chat(
    model: Annotated[Path, tyro.conf.Positional] = Path("out/zero/sft"),
    system: str | None = None,
    history: int = 4,
    greedy: bool = False,
    enable_thinking: bool = True,
    opening: OpeningOptions = Opening(),
    sampling: SamplingOptions = CHAT,
) -> None:
    """Talk with a model; Ctrl-D ends the chat.

    Args:
        model: directory of the model.
        system: a system message in place of the usual one.
        history: how many earlier exchanges the model is shown.
        greedy: always the likeliest token, so the same answer every time.
        enable_thinking: whether a model that reasons may; otherwise it answers at once.
        opening: options of opening the model.
        sampling: options of drawing tokens.
    """
    network, tokenizer = open_model(model, opening)
    if greedy:
        sampling = replace(sampling, temperature=0.0)
    if sys.stdin.isatty():
        print("Ask in English or Chinese. Ctrl-D ends the chat.")
    converse(
        network, tokenizer, typed_lines(), sampling, system, history, enable_thinking
    )


def generate(
    model: Annotated[Path, tyro.conf.Positional],
    prompt: str,
    greedy: bool = False,
    opening: OpeningOptions = Opening(),
    sampling: SamplingOptions = CHAT,
) -> None:
    """Continue a plain text, as a pretrained model does.

    Args:
        model: directory of the model.
        prompt: how the text begins.
        greedy: always the likeliest token, so the same text every time.
        opening: options of opening the model.
        sampling: options of drawing tokens.
    """
    network, tokenizer = open_model(model, opening)
    if greedy:
        sampling = replace(sampling, temperature=0.0)
    print(prompt, end="", flush=True)
    pour(stream(network, tokenizer, [BOS_ID, *tokenizer.encode(prompt)], sampling))
