"""The form that every chapter keeps, read from the notebooks' JSON."""

import ast
import re
import statistics
from pathlib import Path

import nbformat
import pytest

from tools.run_chapters import problems

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HEADING = re.compile(r"^(#{1,6})\s+(?:\d+(?:\.\d+)*\.?\s+)?(.+?)\s*#*$", re.M)
SECTIONS = ["Check", "At full size", "What goes wrong", "Exercises", "Summary"]
TOUR = "00_tour"  # takes ten minutes, so it may say less


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def chapter(path):
    return nbformat.read(path, as_version=4)


def headings(cell):
    """(level, title without its number) of each heading of a markdown cell."""
    if cell.cell_type != "markdown":
        return []
    return [(len(m), title) for m, title in HEADING.findall(without_blocks(cell))]


def without_blocks(cell):
    """A markdown cell without what stands in code fences and directives."""
    return re.sub(r"^(```|:::)(.*?)^\1", "", cell.source, flags=re.M | re.S)


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


def test_sections_come_in_order(chapter):
    titles = [title for cell in chapter.cells for _, title in headings(cell)]
    at = [
        next(i for i, title in enumerate(titles) if title.startswith(wanted))
        for wanted in SECTIONS
    ]
    assert at[0] < at[-1] and at[3] < at[4], "Check, then Exercises, then Summary"


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


def test_stored_outputs(path):
    assert problems(path, ROOT) == []


def markdown(notebook):
    cells = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    return "\n\n".join(cells)


def code_cells(cells):
    return [c for c in cells if c.cell_type == "code" and c.source.strip()]


def kinds_of_output(notebook):
    return {
        kind
        for cell in code_cells(notebook.cells)
        for output in cell.outputs
        for kind in output.get("data", {})
    }


def words(text):
    """The words of a text that someone reads: no commands, formulas and fences."""
    text = re.sub(r"^```(?!\{)[^\n]*\n.*?^```", "", text, flags=re.M | re.S)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$", " ", text, flags=re.S)
    text = re.sub(r"^(`{3,}|:{3,}).*$|^:\w+:.*$", "", text, flags=re.M)
    return re.findall(r"[A-Za-z][\w'\u2019-]*", text)


def test_words_count_what_is_read():
    text = "It's two-fold $x = y$.\n```bash\nnot this\n```\n:::{exercise} No\nYes.\n:::"
    assert words(text) == ["It's", "two-fold", "Yes"]


def test_you_will_be_able_to(chapter):
    opening = []
    for cell in chapter.cells:
        if cell.cell_type != "markdown":
            break
        opening.append(cell.source)
    opening = "\n\n".join(opening)
    after = opening.partition("You will be able to")[2]
    items = re.match(r"[^\n]*\n+((?:(?:- | +\S).*\n?)+)", after)
    assert items, "the title is followed by a list: You will be able to"
    assert 3 <= len(re.findall(r"^- ", items[1], re.M)) <= 5


def test_its_place_on_the_map(chapter):
    maps = [c for c in code_cells(chapter.cells) if "system_map(" in c.source]
    assert len(maps) == 1
    assert re.search(r"system_map\(\s*\"", maps[0].source), "its box is lit"
    assert "hide-input" in maps[0].metadata.get("tags", [])
    first = next(
        i for i, c in enumerate(chapter.cells) if headings(c)[-1:] > [(1, "~")]
    )
    assert chapter.cells.index(maps[0]) <= first, "the map stands before the sections"


def test_sections_are_numbered(path, chapter):
    number = int(path.stem[:2])
    prose = [without_blocks(c) for c in chapter.cells if c.cell_type == "markdown"]
    found = re.findall(r"^## (\d+)\.(\d+)\.? ", "\n".join(prose), re.M)
    assert [int(first) for first, _ in found] == [number] * len(found)
    assert [int(n) for _, n in found] == list(range(1, len(found) + 1))
    assert len(found) >= 3


def test_command_at_full_size(chapter):
    text = "\n".join(c.source for c in section(chapter, "At full size"))
    assert re.search(r"torchrun .*-m minimind|!?minimind \w+", text)


def test_what_goes_wrong_is_shown(chapter):
    assert code_cells(section(chapter, "What goes wrong")), "it is only told"


def test_errors_come_where_they_are_shown(chapter):
    """An error that was meant to be seen, and did not come, is a claim refuted."""
    for cell in code_cells(chapter.cells):
        failed = any(output.output_type == "error" for output in cell.outputs)
        expected = "raises-exception" in cell.metadata.get("tags", [])
        assert failed == expected, cell.source


def test_every_picture_of_a_slider_is_another(chapter):
    stored = chapter.metadata.get("widgets", {}).values()
    widgets = [widget for kept in stored for widget in kept["state"].values()]
    pictures = [w["buffers"][0]["data"] for w in widgets if w.get("buffers")]
    assert len(set(pictures)) == len(pictures)


def test_says_what_to_see(chapter):
    assert len(re.findall("What you should see", markdown(chapter))) >= 2


def test_has_a_figure_and_a_widget(chapter):
    kinds = kinds_of_output(chapter)
    assert kinds & {"image/png", "image/svg+xml"}
    assert "application/vnd.jupyter.widget-view+json" in kinds


def exercises(notebook):
    """Each exercise's label, and its parts (kind of cell, text) up to the next one."""
    found = []
    for cell in section(notebook, "Exercises"):
        texts = [cell.source]
        if cell.cell_type == "markdown":
            texts = re.split(
                r"^(?=(?:`{3,}|:{3,})\{exercise\})", cell.source, flags=re.M
            )
        for text in texts:
            if begun := re.match(r"[`:]{3,}\{exercise\}.*\n:label: (\S+)", text):
                found.append((begun[1], []))
            if found:
                found[-1][1].append((cell.cell_type, text))
    return found


def prose_of(exercise):
    return "\n".join(text for kind, text in exercise[1] if kind == "markdown")


def test_exercises_from_a_warm_up_to_a_project(chapter):
    every = exercises(chapter)
    assert len(every) >= 3
    assert re.search("warm-up", prose_of(every[0]), re.I)
    assert re.search("project", prose_of(every[-1]), re.I)


def test_exercises_have_a_check_and_a_solution(chapter):
    for label, parts in exercises(chapter):
        inside, solution, beside = False, [], []
        for kind, text in parts:
            if kind == "code":
                (solution if inside else beside).append(text)
            elif f"{{solution-start}} {label}\n:class: dropdown" in text:
                inside = True
            elif "{solution-end}" in text:
                inside = False
        assert solution, f"{label}: no executed solution in a dropdown"
        assert not inside, f"{label}: the solution does not end"
        check = "\n".join(beside)
        assert re.search(r"\bassert", check), f"{label}: no check beside the solution"


def test_length_of_the_prose(path, chapter):
    least, most = (1200, 2500) if path.stem == TOUR else (1500, 3500)
    assert least <= len(words(markdown(chapter))) <= most


def test_size_of_the_code_cells(chapter):
    """A cell is read at one glance: half of them have four to eight lines."""
    sizes = [
        len([line for line in cell.source.splitlines() if line.strip()])
        for cell in code_cells(chapter.cells)
    ]
    assert 4 <= statistics.median(sizes) <= 8


def test_words_that_belittle(chapter):
    found = re.findall(
        r"\b(simply|obviously|trivially|clearly|easily seen)\b", markdown(chapter), re.I
    )
    assert found == []


def test_references_exist(chapter):
    text = markdown(chapter)
    assert section(chapter, "References")
    cited = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
    keys = {key.strip() for group in cited for key in group.split(",")}
    bibliography = (ROOT / "book" / "references.bib").read_text("utf-8")
    assert keys, "nothing is cited"
    assert keys - set(re.findall(r"^@\w+\{([^,\s]+),", bibliography, re.M)) == set()


def test_measured_claims_are_committed_with_their_script(chapter):
    code = "\n".join(cell.source for cell in code_cells(chapter.cells))
    text = markdown(chapter)
    claims = set(re.findall(r"claims/(\w+)\.(?:json|py)\b", code + text))
    for name in claims:
        for kind in ("py", "json"):
            assert (ROOT / "benchmarks" / "claims" / f"{name}.{kind}").is_file()
        assert f"python benchmarks/claims/{name}.py" in text, "no command"
