"""The book's frame: contents, front page, map, labels, and nothing from outside."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
import yaml

from minimind.notebook import MAP, add_to, system_map

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = [f"notebooks/{path.stem}" for path in sorted(ROOT.glob("notebooks/*.ipynb"))]
SVG = "{http://www.w3.org/2000/svg}"


def listed():
    """The files of _toc.yml in order."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    entries = [entry for part in contents["parts"] for entry in part["chapters"]]
    return [entry["file"] for entry in entries]


def test_contents_list_every_chapter_in_order():
    assert [name for name in listed() if name.startswith("notebooks/")] == CHAPTERS


def test_readme_links_every_chapter_and_no_other():
    readme = (ROOT / "README.md").read_text("utf-8")
    linked = re.findall(r"\]\((notebooks/\w+)\.ipynb\)", readme)
    assert linked == CHAPTERS


def test_map_lights_what_is_named():
    text = system_map("attention", "Model").data
    figure = ElementTree.fromstring(text.replace("<svg", f'<svg xmlns="{SVG[1:-1]}"'))
    labels = [e for e in figure.iter(f"{SVG}text") if e.text]
    names = [*MAP, *(box for boxes in MAP.values() for box in boxes)]
    assert sorted(e.text for e in labels) == sorted(names)
    bold = {e.text for e in labels if e.get("font-weight") == "700"}
    assert bold == {"attention", "Model"}


def test_map_stays_in_its_frame():
    """No box leaves the figure, and none but a part's frame holds another."""
    figure = ElementTree.fromstring(system_map().data)
    _, _, width, height = map(float, figure.get("viewBox").split())
    keys = ("x", "y", "width", "height")
    boxes = [[float(r.get(k)) for k in keys] for r in figure.iter("rect")]
    assert len(boxes) == len(MAP) + sum(map(len, MAP.values()))
    for x, y, w, h in boxes:
        assert 0 <= x and x + w <= width and 0 <= y and y + h <= height


def test_map_of_an_unknown_box():
    with pytest.raises(
        ValueError, match="'norm'. not on the map; it has .*'attention'"
    ):
        system_map("norm")


def test_add_to():
    class Grown:
        x = 3

    @add_to(Grown)
    def twice(self):
        return 2 * self.x

    @add_to(Grown)
    @property
    def thrice(self):
        return 3 * self.x

    assert (Grown().twice(), Grown().thrice) == (6, 9)
    assert twice is Grown.twice


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a small chapter, built with this book's own settings."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "_config.yml", site)
    shutil.copytree(ROOT / "book", site / "book")
    contents = (
        "format: jb-book\nroot: book/references\nchapters:\n- file: notebooks/01_x"
    )
    (site / "_toc.yml").write_text(contents, encoding="utf-8")
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.language_info = {"name": "python"}
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# A title\n\n$x^2$ {cite}`zhang2019`"),
        nbformat.v4.new_code_cell("#| export model.norm\nEPS = 1e-5"),
        nbformat.v4.new_code_cell("print(EPS)"),
    ]
    (site / "notebooks").mkdir()
    nbformat.write(notebook, site / "notebooks" / "01_x.ipynb")
    command = Path(sys.executable).parent / "jupyter-book"
    flags = ["-W", "-n", "--keep-going", "--quiet"]
    subprocess.run([command, "build", site, *flags], check=True)
    return site / "_build" / "html" / "notebooks" / "01_x.html"


def test_page_labels_an_exported_cell(page):
    text = page.read_text("utf-8")
    assert text.count("minimind/model/norm.py") == 1
    assert text.count('class="export-label"') == 1
    assert "#| export" not in text
    source = page.parents[1] / "_sources" / "notebooks" / "01_x.ipynb"
    assert "#| export model.norm" in source.read_text("utf-8")


def test_page_asks_no_other_server(page):
    text = page.read_text("utf-8")
    loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text)
    assert any("offline/tex-svg.js" in tag for tag in loaded)
    assert [tag for tag in loaded if re.search(r"""["'](https?:)?//""", tag)] == []
    assert "THEBE_JS_URL" not in text
    assert (page.parents[1] / "_static" / "offline" / "embed.js").is_file()
