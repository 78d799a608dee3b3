"""tools/export.py on tiny notebooks: what it writes, and what it refuses."""

import ast
import importlib.util

import nbformat
import pytest

from tools.export import main

NORM = '''#| export model.norm
"""Norms, chapter 2."""
import os
import torch
from torch import nn
from minimind.notebook import add_to
'''
CLASS = '''#| export model.norm
# The default eps follows the paper.
class Norm(nn.Module):
    """A norm."""

    def __init__(self, eps=1e-5):
        super().__init__()
        self.eps = eps
'''
METHOD = '''#| export model.norm
# No gradient here.
@add_to(Norm)
@torch.no_grad()
def forward(self, x):
    """Scale x.

    To one.
    """
    self.note = """two
lines"""
    return x / (x.pow(2).mean().sqrt() + self.eps)
'''


@pytest.fixture
def repo(tmp_path):
    """A function that writes a notebook of code cells and returns the root."""
    (tmp_path / "minimind").mkdir()
    (tmp_path / "notebooks").mkdir()

    def write(*cells, name="02_norm"):
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [nbformat.v4.new_markdown_cell("# Title")]
        notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
        return tmp_path

    return write


def refused(root, capsys):
    """The one error line of an export that must fail."""
    assert main([], root) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_written_module(repo):
    root = repo(NORM, "print('not exported')", CLASS, METHOD)
    assert main([], root) == 0
    text = (root / "minimind/model/norm.py").read_text(encoding="utf-8")
    assert (
        text
        == '''"""Norms, chapter 2.

Generated from notebooks/02_norm.ipynb by tools/export.py; edit it there.
"""

import torch
from torch import nn


# The default eps follows the paper.
class Norm(nn.Module):
    """A norm."""

    def __init__(self, eps=1e-5):
        super().__init__()
        self.eps = eps

    # No gradient here.
    @torch.no_grad()
    def forward(self, x):
        """Scale x.

        To one.
        """
        self.note = """two
lines"""
        return x / (x.pow(2).mean().sqrt() + self.eps)
'''
    )


def test_comments_stay_with_their_code(repo):
    limits = "#| export model.norm\n# Above.\nLOW = 1  # beside\n\nHIGH = 2\n# Below.\n"
    root = repo(NORM, limits)
    main([], root)
    text = (root / "minimind/model/norm.py").read_text(encoding="utf-8")
    assert text.endswith("# Above.\nLOW = 1  # beside\n\nHIGH = 2\n# Below.\n")


def test_folding_keeps_the_meaning(repo):
    """The exported class is, statement by statement, the one the notebook builds."""
    root = repo(NORM, CLASS, METHOD)
    main([], root)
    spec = importlib.util.spec_from_file_location("n", root / "minimind/model/norm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x = module.torch.tensor([3.0, 4.0])
    norm = module.Norm(eps=0.0)
    assert norm(x).pow(2).mean() == pytest.approx(1.0)
    assert norm.note == "two\nlines"


def test_check_is_silent_when_equal(repo, capsys):
    root = repo(NORM, CLASS)
    main([], root)
    capsys.readouterr()
    assert main(["--check"], root) == 0
    assert capsys.readouterr() == ("", "")


def test_second_run_writes_nothing(repo, capsys):
    root = repo(NORM, CLASS, METHOD)
    main([], root)
    before = (root / "minimind/model/norm.py").stat().st_mtime_ns
    assert "wrote minimind/model/norm.py" in capsys.readouterr().out
    assert main([], root) == 0
    assert capsys.readouterr().out == ""
    assert (root / "minimind/model/norm.py").stat().st_mtime_ns == before


def test_edited_generated_file(repo, capsys):
    root = repo(NORM, CLASS)
    main([], root)
    path = root / "minimind/model/norm.py"
    good = path.read_text(encoding="utf-8")
    edited = good.replace("1e-5", "1e-6")
    path.write_text(edited, encoding="utf-8")
    assert main(["--check"], root) == 1
    out, err = capsys.readouterr()
    assert "-    def __init__(self, eps=1e-6):" in out
    assert "+    def __init__(self, eps=1e-5):" in out
    assert "1 module differs" in err
    assert path.read_text(encoding="utf-8") == edited
    assert main([], root) == 0
    assert path.read_text(encoding="utf-8") == good


def test_check_writes_nothing(repo, capsys):
    root = repo(NORM, CLASS)
    assert main(["--check"], root) == 1
    assert "+class Norm(nn.Module):" in capsys.readouterr().out
    assert list((root / "minimind").rglob("*.py")) == []


def test_two_chapters_fill_one_module_in_reading_order(repo):
    later = """#| export model.norm
from minimind.model.norm import Norm
import math

LIMIT = math.pi
"""
    repo(later, METHOD, name="06_model")
    root = repo(NORM, CLASS)
    assert main([], root) == 0
    text = (root / "minimind/model/norm.py").read_text(encoding="utf-8")
    header = ast.get_docstring(ast.parse(text))
    assert "notebooks/02_norm.ipynb, notebooks/06_model.ipynb" in header
    assert "from minimind.model.norm" not in text
    assert text.index("import math") < text.index("class Norm")
    assert text.index("def forward") < text.index("LIMIT = math.pi")


def test_annotation_with_a_class_defined_below(repo, capsys):
    """Inside the class body a later class of the module does not exist yet."""
    later = "#| export model.norm\nclass Cache:\n    pass\n"
    method = METHOD.replace("self, x", "self, x: Cache | None")
    line = refused(repo(NORM, CLASS, later, method), capsys)
    assert "cell 5: Norm.forward is annotated with Cache" in line
    future = NORM + "from __future__ import annotations\n"
    assert main([], repo(future, CLASS, later, method)) == 0


def test_orphan_module(repo, capsys):
    root = repo(NORM, CLASS)
    main([], root)
    repo("print()")
    for arguments in ([], ["--check"]):
        capsys.readouterr()
        assert main(arguments, root) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: minimind/model/norm.py: no notebook exports it")


def test_hand_written_module_is_kept(repo, capsys):
    root = repo(NORM, CLASS)
    path = root / "minimind/model/norm.py"
    path.parent.mkdir()
    path.write_text('"""By hand."""\n', encoding="utf-8")
    line = refused(root, capsys)
    assert "notebooks/02_norm.ipynb: minimind/model/norm.py is written by hand" in line
    assert path.read_text(encoding="utf-8") == '"""By hand."""\n'


def test_an_error_leaves_other_modules_alone(repo, capsys):
    root = repo(NORM, CLASS, '#| export model.rope\n"""Rope."""\nprint()\n')
    assert "cell 4" in refused(root, capsys)
    assert (root / "minimind/model/norm.py").exists()
    assert not (root / "minimind/model/rope.py").exists()


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([NORM, CLASS, CLASS], "cell 4: Norm is already exported by"),
        ([NORM, CLASS, METHOD, METHOD], "cell 5: Norm.forward is already exported by"),
        (
            [NORM, CLASS, METHOD.replace("def forward", "def __init__")],
            "cell 4: Norm.__init__ is already exported by",
        ),
        ([NORM, METHOD, CLASS], "cell 3: @add_to(Norm): no earlier cell exports class"),
        ([NORM, METHOD], "cell 3: @add_to(Norm): no earlier cell exports class Norm"),
        (
            [NORM, CLASS, METHOD.replace("return", "super().forward(x)\n    return")],
            "cell 4: super() in Norm.forward, an added method: "
            "move it into the cell of class Norm",
        ),
        ([NORM, CLASS + "\nNorm()\n"], "cell 3: line 10: an exported cell holds only"),
        ([NORM, "#| export model.norm\nx = (1\n"], "cell 3: line 2: syntax error"),
        ([NORM, "#| export model.norm\na = 1; b = 2\n"], "cell 3: line 2: put one"),
        ([NORM, "x = 1\n#| export model.norm\ny = 1"], "cell 3: `#| export` belongs"),
        ([NORM, "#| export\nx = 1\n"], "cell 3: `#| export` takes one module"),
        ([NORM, "#| export model/norm\nx = 1\n"], "cell 3: `#| export` takes one mod"),
        ([NORM, NORM], "cell 3: minimind.model.norm already has a docstring"),
        ([CLASS], "minimind.model.norm has no cell that starts with its docstring"),
        (
            [NORM, CLASS, "#| export model.norm\n@torch.no_grad()\n@add_to(Norm)\n"
             "def forward(self, x):\n    return x\n"],
            "@add_to(Class) must be a method's first decorator",
        ),
    ],
)  # fmt: skip
def test_refusals(repo, capsys, cells, message):
    root = repo(*cells)
    line = refused(root, capsys)
    assert line.startswith("error: notebooks/02_norm.ipynb")
    assert message in line
    assert list((root / "minimind").rglob("*.py")) == []


def test_damaged_notebook(repo, capsys):
    root = repo(NORM, CLASS)
    (root / "notebooks" / "03_x.ipynb").write_text("{", encoding="utf-8")
    assert "notebooks/03_x.ipynb: not a notebook" in refused(root, capsys)
