"""The command line: `minimind COMMAND`, see `minimind --help`.

Each command is one function, its options read from its signature by tyro; this
file finds the function and turns a user's mistake into one line.
"""

import difflib
import importlib
import os
import sys

from minimind import __version__
from minimind.errors import UserError

# Command, the function behind it, and what it does in one line.
COMMANDS = {
    "zero": ("commands.zero:zero", "from nothing to a chat in ten minutes"),
    "tokenizer train": ("commands.data:train", "learn a vocabulary from jsonl files"),
    "data list": ("commands.download:show_list", "the published data sets"),
    "data download": ("commands.download:download", "fetch published data sets"),
    "data clean": ("commands.data:clean", "leave out noise, duplicates, long rows"),
    "data prepare": ("commands.data:prepare", "encode jsonl files into token files"),
    "train pretrain": ("commands.train:pretrain", "train a new model on plain text"),
    "train sft": ("commands.train:sft", "train a model on conversations"),
    "train lora": ("commands.lora:lora", "train an adapter on conversations"),
    "train dpo": ("commands.dpo:dpo", "train on pairs of answers"),
    "train distill": (
        "commands.distill:distill",
        "train on what a larger model thinks",
    ),
    "distill generate": ("commands.distill:generate", "let a model write answers"),
    "train reason": ("commands.reason:reason", "train on replies with thoughts"),
    "train grpo": ("commands.grpo:grpo", "train on own replies, by their reward"),
    "lora merge": ("commands.lora:merge", "put an adapter into a model's weights"),
    "memory": ("commands.memory:memory", "what training a size will hold"),
    "plot": ("commands.plot:plot", "draw the losses of runs over each other"),
    "import": ("commands.exchange:import_model", "take over a model from outside"),
    "chat": ("commands.chat:chat", "talk with a model in the terminal"),
    "generate": ("commands.chat:generate", "continue a text"),
    "evaluate text": ("commands.evaluate:text", "bits per byte on held-out jsonl"),
    "evaluate world": ("commands.evaluate:world", "score the little world's questions"),
}


def usage() -> str:
    """The overview of all commands."""
    lines = [f"minimind {__version__}: build, train and use a small language model", ""]
    lines += [f"  minimind {name:17} {line}" for name, (_, line) in COMMANDS.items()]
    return "\n".join([*lines, "", "`minimind COMMAND --help` explains its options."])


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0: done. 2: a mistake in what was given, told in one line. 130: stopped.
    141: nobody reads what is printed any more.
    """
    try:
        try:
            return run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # as `| head` does it
        # Python flushes once more at its end, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run(argv: list[str]) -> int:
    """As `main`, but for a pipe that breaks."""
    if argv in ([], ["-h"], ["--help"]):
        print(usage())
        return 0
    if argv == ["--version"]:
        print(__version__)
        return 0
    words = next((n for n in (2, 1) if " ".join(argv[:n]) in COMMANDS), None)
    if words is None:
        given = " ".join(argv[:2])
        near = difflib.get_close_matches(given, COMMANDS, n=1, cutoff=0.3)
        hint = f"; did you mean `minimind {near[0]}`?" if near else ""
        print(f"error: no command {given!r}{hint}", file=sys.stderr)
        return 2
    name = " ".join(argv[:words])
    module, function = COMMANDS[name][0].split(":")
    try:
        import tyro

        args = argv[words:]
        if name.startswith("train "):
            from minimind.train.recipes import with_recipe

            args = with_recipe(argv[1], args)
        command = getattr(importlib.import_module(f"minimind.{module}"), function)
        return tyro.cli(command, args=args, prog=f"minimind {name}") or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a place that cannot be read or written
        if error.filename is None:  # something else, such as a broken pipe
            raise
        print(
            f"error: {error.filename}: {error.strerror}; name another place, or "
            "make this one usable",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130
