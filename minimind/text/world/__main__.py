"""`python -m minimind.text.world`: write the little world as jsonl files."""

import argparse
import sys

from minimind.errors import UserError
from minimind.text.world import write_world
from minimind.text.world.tuning_tables import NAME


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, write the files, print a line for each."""
    parser = argparse.ArgumentParser(
        prog="python -m minimind.text.world",
        description="Write the little world, a seeded corpus in English and Chinese "
        "whose every statement can be checked, as MiniMind-format jsonl: "
        "pretrain.jsonl, sft.jsonl, lora_identity.jsonl, lora_medical.jsonl, "
        "dpo.jsonl, reason.jsonl, what is held out from each of them, and a data "
        "card.",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write to; made if needed"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="another seed, another corpus; the same seed, the same bytes (default 0)",
    )
    parser.add_argument(
        "--size",
        type=int,
        default=60000,
        metavar="N",
        help="pretraining rows; SFT gets half as many (default 60000)",
    )
    parser.add_argument(
        "--name",
        default=NAME,
        metavar="NAME",
        help=f"what the model is to call itself in the identity set (default {NAME})",
    )
    options = parser.parse_args(arguments)
    try:
        report = write_world(options.out, options.seed, options.size, options.name)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, figures in report.items():
        print(f"{name:28} {figures['rows']:>7,} rows {figures['bytes']:>11,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
