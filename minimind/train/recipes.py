"""`--recipe NAME`: the options of a published run, in a file of recipes/.

Explained in chapter 14. The values are the defaults of MiniMind's published training
scripts: for pretraining as they stood all through 2025, for SFT as they were at the
release of MiniMind2 (later ones have batches of 16 and rates from 5e-7 to 1e-5). Ours
are the warm-up, where theirs have none, and rows packed full, where theirs are padded.
"""

from pathlib import Path

from minimind.errors import UserError
from minimind.files import read_json

FOLDER = Path(__file__).parent / "recipes"


def load_recipe(name: str) -> dict[str, dict[str, object]]:
    """A recipe by name, or from an own file: {stage: {option: value}}.

    Raises UserError for one that is not there.
    """
    path = Path(name) if name.endswith(".json") else FOLDER / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.json")))
        raise UserError(f"--recipe {name}: no such recipe; there are: {known}")
    return read_json(path)


def with_recipe(stage: str, argv: list[str]) -> list[str]:
    """The command line with the options of its --recipe before its own.

    Of an option given twice the last counts, so what is typed has its way.
    Raises UserError for a recipe that is not there, or not for this stage.
    """
    words = [word for arg in argv for word in arg.split("=", 1)]
    if "--recipe" not in words[:-1]:
        return argv
    name = words[words.index("--recipe") + 1]
    recipe = load_recipe(name)
    if stage not in recipe:
        raise UserError(f"--recipe {name}: has nothing for the stage {stage}")
    options = recipe[stage].items()
    flags = [(f"--{key.replace('_', '-')}", str(value)) for key, value in options]
    return [word for flag in flags for word in flag] + argv
