"""Write the package's taught modules from the chapters' notebooks.

A code cell whose first line is `#| export text.tokenizer` belongs to
minimind/text/tokenizer.py. Cells are joined in reading order, imports move to the
top, functions under `@add_to(Class)` move into their class, and ruff tidies the rest.

    python tools/export.py            write the modules that changed
    python tools/export.py --check    print what would change as a diff, and exit 1
"""

import argparse
import ast
import difflib
import inspect
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
MARKER = re.compile(r"#\|\s*export\b[ \t]*(.*)")
MODULE = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)*")
GENERATED = re.compile(r"Generated\s+from\s+notebooks/.*\s+tools/export\.py", re.S)
RUFF = ["--isolated", "--target-version=py310", "--line-length=88", "-"]
RUFF_FIX = ["check", "--select=I,F401", "--fix-only", "--quiet"]
FIRST_PARTY = ["--config", 'lint.isort.known-first-party=["minimind"]']
FUTURE = "from __future__ import annotations"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)


class ExportError(Exception):
    """A notebook that cannot be exported; the message is one line."""


@dataclass
class Cell:
    """One exported cell: where it stands, and its source below the marker."""

    notebook: str
    number: int  # counted from 1 over all cells of the notebook
    source: str

    def error(self, message: str) -> ExportError:
        return ExportError(f"{self.notebook}, cell {self.number}: {message}")


@dataclass
class Module:
    """The parts of one module, filled cell by cell."""

    name: str
    docstring: str | None = None
    imports: list[str] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    block_of: dict[str, int] = field(default_factory=dict)  # name -> index into blocks
    defined: dict[str, Cell] = field(default_factory=dict)  # methods as Class.method
    notebooks: list[str] = field(default_factory=list)

    def add(self, cell: Cell) -> None:
        """Sort the statements of one cell into the module."""
        if cell.notebook not in self.notebooks:
            self.notebooks.append(cell.notebook)
        try:
            statements = ast.parse(cell.source).body
        except SyntaxError as error:
            line = (error.lineno or 1) + 1  # the marker is line 1 of the cell
            raise cell.error(f"line {line}: syntax error: {error.msg}") from None
        lines, end = cell.source.split("\n"), 0
        self.blocks.append("")  # a blank line between cells
        for node in statements:
            decorators = getattr(node, "decorator_list", [])
            start = min([node.lineno, *(d.lineno for d in decorators)]) - 1
            if start < end:
                raise cell.error(f"line {end + 1}: put one statement on a line")
            # A statement owns the comments above it, the last one those below too.
            above = lines[end:start]
            end = len(lines) if node is statements[-1] else node.end_lineno
            code = "\n".join(above + lines[start:end])
            if node is statements[0] and is_docstring(node):
                if self.docstring is not None:
                    raise cell.error(f"minimind.{self.name} already has a docstring")
                self.docstring = inspect.cleandoc(node.value.value)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                # A later chapter may import what an earlier one put in this module.
                if getattr(node, "module", None) != f"minimind.{self.name}":
                    self.imports.append(code.strip())
            elif (owner := added_to(node)) is not None:
                method = above + lines[decorators[0].end_lineno : end]
                self.add_method(owner, node, "\n".join(method), cell)
            elif isinstance(node, DEFINITIONS + ASSIGNMENTS):
                self.define(names_of(node), cell)
                self.block_of |= dict.fromkeys(names_of(node), len(self.blocks))
                self.blocks.append(code)
            else:
                raise cell.error(
                    f"line {start + 2}: an exported cell holds only imports, "
                    "definitions and constants; put the rest into a cell of its own"
                )

    def add_method(self, owner: str, node: ast.stmt, code: str, cell: Cell) -> None:
        if owner not in self.block_of:
            place = f"no earlier cell exports class {owner} to minimind.{self.name}"
            raise cell.error(f"@add_to({owner}): {place}")
        if any(ast.unparse(n) == "super()" for n in ast.walk(node)):
            hint = f"move it into the cell of class {owner}"
            raise cell.error(f"super() in {owner}.{node.name}, an added method: {hint}")
        for name in sorted(names_in_signature(node)):
            late = self.block_of.get(name, -1) > self.block_of[owner]
            if late and FUTURE not in self.imports:
                hint = f'which the module defines below {owner}: add "{FUTURE}"'
                raise cell.error(
                    f"{owner}.{node.name} is annotated with {name}, {hint}"
                )
        self.define([f"{owner}.{node.name}"], cell)
        self.blocks[self.block_of[owner]] += "\n\n" + indent(code)

    def define(self, names: list[str], cell: Cell) -> None:
        for name in names:
            if name in self.defined:
                first = self.defined[name]
                where = f"{first.notebook}, cell {first.number}"
                raise cell.error(f"{name} is already exported by {where}")
            self.defined[name] = cell

    def render(self) -> str:
        """The text of the module; ExportError when something is missing."""
        where = f"{self.notebooks[0]}: minimind.{self.name}"
        if self.docstring is None:
            raise ExportError(f"{where} has no cell that starts with its docstring")
        origin = f"Generated from {', '.join(self.notebooks)} by tools/export.py; "
        origin = textwrap.fill(origin + "edit it there.", 88)
        quotes = 'r"""' if "\\" in self.docstring else '"""'
        head = f'{quotes}{self.docstring}\n\n{origin}\n"""\n'
        text = "\n".join([head, *self.imports, *self.blocks])
        text = ruff(*RUFF_FIX, *FIRST_PARTY, text=text)
        if "minimind.notebook" in text:
            hint = "@add_to(Class) must be a method's first decorator"
            raise ExportError(f"{where} uses minimind.notebook; {hint}")
        return ruff("format", text=text)


def ruff(*command: str, text: str) -> str:
    run = [sys.executable, "-m", "ruff", *command, *RUFF]
    return subprocess.check_output(run, input=text, encoding="utf-8")


def is_docstring(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(ast.Constant(str())):
            return True
    return False


def added_to(node: ast.stmt) -> str | None:
    """The class in a function's first decorator `@add_to(Class)`, or None."""
    match getattr(node, "decorator_list", []):
        case [ast.Call(ast.Name("add_to"), [ast.Name(owner)]), *_]:
            return owner
    return None


def names_of(node: ast.stmt) -> list[str]:
    """The names that a definition or an assignment binds, methods as Class.method."""
    if isinstance(node, DEFINITIONS):
        body = node.body if isinstance(node, ast.ClassDef) else []
        methods = {f"{node.name}.{n.name}" for n in body if isinstance(n, DEFINITIONS)}
        return [node.name, *methods]
    if isinstance(node, ast.AugAssign):  # changes a name bound before
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    parts = [part for target in targets for part in ast.walk(target)]
    stored = (p for p in parts if isinstance(p, ast.Name))
    return [p.id for p in stored if isinstance(p.ctx, ast.Store)]


def names_in_signature(node: ast.FunctionDef) -> set[str]:
    """The names that Python looks up where the function is defined, not called."""
    parts = [*node.decorator_list, node.args, node.returns or ast.Pass()]
    names = [n for part in parts for n in ast.walk(part)]
    return {n.id for n in names if isinstance(n, ast.Name)}


def indent(code: str) -> str:
    """Indent a function for its class, but not the inside of its string values."""
    (function,) = ast.parse(code).body
    first = function.body[0]
    docstring = first.value if is_docstring(first) else None
    inside: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Constant | ast.JoinedStr) and node is not docstring:
            inside.update(range(node.lineno + 1, node.end_lineno + 1))
    lines = enumerate(code.split("\n"), start=1)
    return "\n".join(x if n in inside or not x else "    " + x for n, x in lines)


def exported_cells(path: Path, name: str) -> list[tuple[str, Cell]]:
    """The (module, cell) pairs of one notebook, in order."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except ValueError as error:
        reason = str(error).partition("\n")[0][:80]
        raise ExportError(f"{name}: not a notebook ({reason})") from None
    found = []
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code" or "export" not in cell.source:
            continue
        first, _, source = cell.source.partition("\n")
        here = Cell(name, number, source)
        if any(MARKER.match(line) for line in source.split("\n")):
            raise here.error(
                "`#| export` belongs in a cell's first line, and only once"
            )
        marker = MARKER.match(first)
        if marker and not MODULE.fullmatch(marker[1].strip()):
            raise here.error("`#| export` takes one module, such as text.tokenizer")
        if marker:
            found.append((marker[1].strip(), here))
    return found


def is_generated(path: Path) -> bool:
    try:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    except SyntaxError:
        return False
    last_paragraph = (docstring or "").split("\n\n")[-1]
    return GENERATED.match(last_paragraph) is not None


def build(root: Path) -> tuple[dict[Path, str], list[str]]:
    """The text of every generated module by path, and errors of one line each."""
    modules: dict[str, Module] = {}
    errors: list[str] = []
    failed: set[str] = set()
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        for name, cell in exported_cells(notebook, f"notebooks/{notebook.name}"):
            module = modules.setdefault(name, Module(name))
            try:
                if name not in failed:
                    module.add(cell)
            except ExportError as error:
                errors.append(str(error))
                failed.add(name)
    texts: dict[Path, str | None] = {}  # None: a module with an error
    for name, module in modules.items():
        path = root.joinpath("minimind", *name.split(".")).with_suffix(".py")
        texts[path] = None
        try:
            if path.exists() and not is_generated(path):
                first = module.notebooks[0]
                remedy = "is written by hand; delete it to have it exported"
                raise ExportError(f"{first}: {path.relative_to(root)} {remedy}")
            if name not in failed:
                texts[path] = module.render()
        except ExportError as error:
            errors.append(str(error))
    for path in sorted((root / "minimind").rglob("*.py")):
        if path not in texts and is_generated(path):
            remedy = "no notebook exports it any more; delete it"
            errors.append(f"{path.relative_to(root)}: {remedy}")
    return {path: text for path, text in texts.items() if text}, errors


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    help_check = "write nothing; print a diff of what differs and exit 1"
    parser.add_argument("--check", action="store_true", help=help_check)
    check = parser.parse_args(argv).check
    try:
        texts, errors = build(root)
    except ExportError as error:
        texts, errors = {}, [str(error)]
    changed = 0
    for path, text in texts.items():
        name = path.relative_to(root).as_posix()
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old == text:
            continue
        changed += 1
        if check:
            pair = old.splitlines(keepends=True), text.splitlines(keepends=True)
            sys.stdout.writelines(difflib.unified_diff(*pair, name, f"{name} (export)"))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"wrote {name}")
    for message in errors:
        print(f"error: {message}", file=sys.stderr)
    if check and changed:
        differ = "1 module differs" if changed == 1 else f"{changed} modules differ"
        print(f"error: {differ} from the notebooks", file=sys.stderr)
    return int(bool(errors) or (check and changed > 0))


if __name__ == "__main__":
    sys.exit(main())
