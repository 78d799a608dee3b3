"""Run the chapters again and store their outputs, the same bytes on every run.

    python tools/run_chapters.py            run all chapters, in reading order
    python tools/run_chapters.py 03 07      run these only
    python tools/run_chapters.py --check    run nothing; say which stored outputs are
                                            missing, failed, or not as a run writes them

A notebook is written only when all of its cells ran. The seconds that are printed
are those of this machine.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import time
from pathlib import Path

import nbformat
import zmq.asyncio
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
CELL_SECONDS = 1200  # the same limit that `make test` gives nbval
# One thread: sums come out in the same order, so the same digits are printed.
KERNEL_ENV = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {
        "name": "python",
        "file_extension": ".py",
        "pygments_lexer": "ipython3",  # the book colours `!command` by it
    },
}
CELL_METADATA = {"tags", "mystnb"}  # what the book reads; all else is an editor's
WIDGETS = "application/vnd.jupyter.widget-state+json"

OVERWRITTEN = re.compile(r"[^\n]*\r(?!\n)")  # a progress bar's earlier states
BAR = re.compile(r"[^\n]*\d+%\|[^\n]*\|[^\n]*\[[^\n\]]*\]\s*\n?")
BAR_TIME = re.compile(r"\s*\[\d+:\d\d(:\d\d)?(<|&lt;)[^\]]*\]")
SPENT = re.compile(r"; [\d.]+ s(?=\s*$)", re.M)  # at the end of a command's result
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,16}")
INSTALLED = re.compile(r"~?/[^\s\"'\x1b]*/(site-packages|lib/python3\.\d+)/")
ABSOLUTE = re.compile(
    r"(?<![\w.:/<])(/(home|root|tmp|Users)/|[A-Z]:\\\\?Users)[^\s\"']*"
)


class ChapterError(Exception):
    """A chapter that cannot be run; the message says which cell and why."""


def chapters(root: Path, numbers: list[str]) -> list[Path]:
    """The notebooks of the named chapters, or all of them, in reading order."""
    paths = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    known = {path.name[:2]: path for path in paths}
    wanted = [number.zfill(2) for number in numbers] or list(known)
    for number in wanted:
        if number not in known:
            raise ChapterError(f"no chapter {number}; there are {', '.join(known)}")
    return [known[number] for number in sorted(set(wanted))]


async def keep_looking(socket: zmq.asyncio.Socket, seconds: float = 1.0) -> None:
    """Look now and then whether a reply has come that the event loop missed.

    An output widget makes nbclient send on the socket on which it waits for a reply.
    ZeroMQ signals what is new only once, and sending may take the signal of a reply
    that has just come, which would then be waited for until the cell's time is up.
    """
    while True:
        await asyncio.sleep(seconds)
        await socket.poll(1)


async def execute_cell(
    client: NotebookClient, cell: NotebookNode, number: int, name: str
) -> None:
    """Run one cell in place. Raises ChapterError where it does not come to its end."""
    try:
        await client.async_execute_cell(cell, number - 1)
    except CellExecutionError as error:
        lines = COLOUR.sub("", error.traceback).rstrip().splitlines()
        reason = "\n".join(f"    {line}" for line in lines[-12:])
        raise ChapterError(f"{name}, cell {number} failed\n{reason}") from None
    except CellTimeoutError:
        reason = f"took more than {CELL_SECONDS} s"
        raise ChapterError(f"{name}, cell {number} {reason}") from None
    except DeadKernelError:
        reason = "ended its Python process (out of memory?)"
        raise ChapterError(f"{name}, cell {number} {reason}") from None


async def execute(notebook: NotebookNode, name: str, folder: Path) -> tuple[float, int]:
    """Run all cells in place; the seconds and the number of the slowest cell."""
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=CELL_SECONDS,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    slowest = (0.0, 0)
    async with client.async_setup_kernel(env=os.environ | KERNEL_ENV):
        looking = asyncio.create_task(keep_looking(client.kc.shell_channel.socket))
        try:
            for number, cell in enumerate(notebook.cells, start=1):
                start = time.perf_counter()
                await execute_cell(client, cell, number, name)
                slowest = max(slowest, (time.perf_counter() - start, number))
        finally:
            looking.cancel()
        client.set_widgets_metadata()
    return slowest


def tidy_text(text: str, root: Path) -> str:
    """Text of an output without what differs between runs and machines."""
    text = ADDRESS.sub("", OVERWRITTEN.sub("", text))
    for place in (str(root), str(root).replace(str(Path.home()), "~", 1)):
        text = text.replace(place + os.sep, "")
    text = INSTALLED.sub(r"\1/", text)
    return SPENT.sub("", BAR_TIME.sub("", text))


def tidy_outputs(outputs: list[NotebookNode], root: Path) -> list[NotebookNode]:
    """Outputs with each run of prints joined, and progress bars left out."""
    joined: list[NotebookNode] = []
    stderr = ""
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            stderr += output.text
            continue
        last = joined[-1] if joined else None
        if output.output_type == "stream" and last and last.output_type == "stream":
            last.text += output.text
        else:
            joined.append(output)
    if stderr := BAR.sub("", OVERWRITTEN.sub("", stderr)).strip("\r\n"):
        joined.append(nbformat.v4.new_output("stream", name="stderr", text=stderr))
    for output in joined:
        if output.output_type == "stream":
            output.text = tidy_text(output.text, root)
        elif output.output_type == "error":
            output.traceback = [tidy_text(line, root) for line in output.traceback]
        else:
            for kind, value in output.data.items():
                if kind.startswith("text/"):
                    output.data[kind] = tidy_text(value, root)
    return joined


def tidy_widgets(notebook: NotebookNode, root: Path) -> NotebookNode:
    """The notebook with its widgets numbered in order of appearance."""
    saved = notebook.metadata.get("widgets", {}).get(WIDGETS)
    if not saved:
        return notebook
    for model in saved.state.values():
        for key, value in model.state.items():
            if key == "outputs":  # what `interact` drew and printed
                outputs = [nbformat.from_dict(output) for output in value]
                model.state[key] = tidy_outputs(outputs, root)
            if isinstance(value, str):
                model.state[key] = BAR_TIME.sub("", value)
    order: list[str] = []

    def visit(text: str) -> None:
        for model in re.findall(r"[0-9a-f]{32}", text):
            if model in saved.state and model not in order:
                order.append(model)
                visit(json.dumps(saved.state[model], sort_keys=True))

    visit(json.dumps(notebook.cells, sort_keys=True))
    visit(" ".join(saved.state))  # links between widgets stand in no cell
    new = {old: f"{number:032x}" for number, old in enumerate(order, start=1)}
    either = re.compile("|".join(new))
    text = either.sub(lambda match: new[match[0]], json.dumps(notebook))
    return nbformat.from_dict(json.loads(text))


def tidy(notebook: NotebookNode, root: Path) -> NotebookNode:
    """The notebook in the one form that is committed."""
    widgets = notebook.metadata.get("widgets")
    notebook.metadata = nbformat.from_dict(METADATA)
    if widgets:
        notebook.metadata.widgets = widgets
    for cell in notebook.cells:
        for key in set(cell.metadata) - CELL_METADATA:
            del cell.metadata[key]
        if cell.cell_type == "code":
            cell.outputs = tidy_outputs(cell.outputs, root)
    return tidy_widgets(notebook, root)


def as_text(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n"


def run(path: Path, root: Path) -> str:
    """Run one chapter and write it; a line that says how long it took."""
    name = path.relative_to(root).as_posix()
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict(METADATA)  # no widgets of an earlier run
    start = time.perf_counter()
    seconds, number = asyncio.run(execute(notebook, name, path.parent))
    total = time.perf_counter() - start
    text = as_text(tidy(notebook, root))
    path.write_text(text, encoding="utf-8", newline="\n")
    return f"{name}: {total:.1f} s, slowest is cell {number} with {seconds:.1f} s"


def problems(path: Path, root: Path) -> list[str]:
    """What keeps a stored notebook from being committed, a line for each."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    found, count = [], 0
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        count += 1
        if cell.execution_count != count:
            found.append(f"cell {number}: not run, or not in order")
        for output in cell.outputs:
            if output.get("name") == "stderr":
                found.append(f"cell {number}: stderr: {output.text.splitlines()[0]}")
            allowed = "raises-exception" in cell.metadata.get("tags", [])
            if output.output_type == "error" and not allowed:
                found.append(f"cell {number}: failed with {output.ename}")
            if match := ABSOLUTE.search(json.dumps(output, ensure_ascii=False)):
                found.append(f"cell {number}: path of one machine: {match[0]}")
    if as_text(tidy(notebook, root)) != text:
        found.append(
            "not as tools/run_chapters.py writes it (time stamps, editor data)"
        )
    name = path.relative_to(root).as_posix()
    return [f"{name}: {problem}" for problem in found]


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    summary, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("chapter", nargs="*", help="two-digit numbers; default: all")
    parser.add_argument("--check", action="store_true", help="look only, run nothing")
    arguments = parser.parse_args(argv)
    try:
        paths = chapters(root, arguments.chapter)
        if arguments.check:
            found = [problem for path in paths for problem in problems(path, root)]
            print("\n".join(found), file=sys.stderr, end="\n" if found else "")
            return int(bool(found))
        for path in paths:
            print(run(path, root), flush=True)
    except ChapterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
