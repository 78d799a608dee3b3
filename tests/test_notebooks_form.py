"""The form that every chapter keeps, read from the notebooks' JSON."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from tools.run_chapters import problems

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HEADING = re.compile(r"^(#{1,6})\s+(?:\d+(?:\.\d+)*\.?\s+)?(.+?)\s*#*$", re.M)
SECTIONS = ["Check", "What goes wrong", "Exercises"]


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request):
    return nbformat.read(request.param, as_version=4)


def headings(cell):
    """(level, title without its number) of each heading of a markdown cell."""
    if cell.cell_type != "markdown":
        return []
    prose = re.sub(r"^(```|:::)(.*?)^\1", "", cell.source, flags=re.M | re.S)
    return [(len(marks), title) for marks, title in HEADING.findall(prose)]


def section(notebook, title):
    """The cells from the heading that begins with `title` to the next of its level."""
    cells, inside = [], 0
    for cell in notebook.cells:
        levels = [inside]
        for level, text in headings(cell):
            if inside and level <= inside:
                inside = 0
            if re.match(rf"{title}s?\b", text, re.I):
                inside = level
            levels.append(inside)
        if any(levels):
            cells.append(cell)
    return cells


def test_names():
    assert all(re.fullmatch(r"\d\d_[a-z_]+", path.stem) for path in CHAPTERS)


def test_title_with_a_promise(chapter):
    first, *rest = chapter.cells[0].source.strip().splitlines()
    assert re.match(r"# \S", first), "the first cell begins with the chapter's title"
    promise = " ".join(rest).strip()
    assert len(promise.split()) >= 5, "the title is followed by what the chapter gives"


@pytest.mark.parametrize("title", SECTIONS)
def test_sections(chapter, title):
    assert section(chapter, title), f"no section {title!r}"


def test_check_section_asserts(chapter):
    code = "\n".join(
        c.source for c in section(chapter, "Check") if "code" in c.cell_type
    )
    assert re.search(r"\bassert", code), "the Check section only prints"


def test_code_cells_fit_the_page(chapter):
    too_big = []
    for number, cell in enumerate(chapter.cells, start=1):
        lines = cell.source.splitlines() if cell.cell_type == "code" else []
        if len(lines) > 40:
            too_big.append(f"cell {number}: {len(lines)} lines, not 40 at most")
        wide = [line for line in lines if len(line) > 79]
        too_big += [f"cell {number}: over 79 columns: {line}" for line in wide]
    assert too_big == []


def test_later_headings_are_below_the_title(chapter):
    levels = [level for cell in chapter.cells for level, _ in headings(cell)]
    assert levels.count(1) == 1
    jumps = [
        pair for pair in zip(levels, levels[1:], strict=False) if pair[1] > pair[0] + 1
    ]
    assert jumps == [], "a heading level is left out"


def test_exported_names_are_documented(chapter):
    """What a chapter puts into the package and does not hide has a docstring."""
    bare = []
    for cell in chapter.cells:
        if cell.cell_type == "code" and cell.source.startswith("#| export"):
            for node in ast.parse(cell.source).body:
                public = not getattr(node, "name", "_").startswith("_")
                if public and ast.get_docstring(node) is None:
                    bare.append(node.name)
    assert bare == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_stored_outputs(path):
    assert problems(path, ROOT) == []
