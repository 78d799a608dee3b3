"""`minimind data list` and `minimind data download`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from minimind.errors import UserError
from minimind.text import download as downloading
from minimind.text.published import MIXES, PLACES, SETS, address

Names = tyro.conf.Positional[
    Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")]
]


def download(
    names: Names,
    out: Path = Path("data"),
    source: Literal["any", "hub", "modelscope"] = "any",
    from_url: str | None = None,
    sha256: str | None = None,
) -> None:
    """Fetch published MiniMind sets; `minimind data list` shows them.

    Broken off and run again, it goes on. A file whose sha256 is not the known one is
    refused; where none is known, the one that came is recorded beside the file, and
    holds from then on.

    Args:
        names: sets, such as pretrain_hq.
        out: directory for NAME.jsonl.
        source: where from; any tries the hub first.
        from_url: a mirror: the address of a folder with NAME.jsonl in it.
        sha256: what the file must be, in place of the known one; for one name only.
    """
    if not names:
        raise UserError("name one or more sets; `minimind data list` shows them")
    for name in names:
        if name not in SETS:
            raise UserError(f"{name}: no published set; there are {', '.join(SETS)}")
    if sha256 is not None and len(names) > 1:
        raise UserError("--sha256: is for one file; download the names one by one")
    for name in names:
        places = list(PLACES) if source == "any" else [source]
        urls = [address(name, place) for place in places]
        if from_url is not None:
            urls = [f"{from_url.rstrip('/')}/{name}.jsonl"]
        path = out / f"{name}.jsonl"
        with tqdm(desc=name, unit="B", unit_scale=True) as bar:

            def show(done: int, total: int | None, bar: tqdm = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            expected = sha256 or SETS[name].sha256
            found = downloading.download(urls, path, expected, show)
        known = "as known" if expected else f"recorded in {name}.jsonl.sha256"
        print(f"{path}: {path.stat().st_size:,} bytes, sha256 {found} ({known})")


def show_list() -> None:
    """List the published MiniMind sets, and which of them to take together."""
    print(f"{'name':16} {'size':>8}  {'rows are':12} sha256  for")
    for name, about in SETS.items():
        known = "known" if about.sha256 else "-"
        print(f"{name:16} {about.size:>8}  {about.kind:12} {known:7} {about.what}")
    print()
    for mix, names in MIXES.items():
        print(f"{mix + ':':30} minimind data download {' '.join(names)}")
