"""Chapters and package say the same, and every test is able to fail."""

import ast
from pathlib import Path

from tools import export

TESTS = sorted(Path(__file__).parent.glob("test_*.py"))


def test_package_is_what_the_notebooks_export(capsys):
    status = export.main(["--check"])
    assert (status, *capsys.readouterr()) == (0, "", "")


def asserting_functions(tree):
    """Names of the functions that assert, themselves or through one they call."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    calls, asserting = {}, set()
    for function in functions:
        inside = list(ast.walk(function))
        called = [n.func for n in inside if isinstance(n, ast.Call)]
        names = {getattr(f, "attr", getattr(f, "id", "")) for f in called}
        calls[function.name] = names
        explicit = any("assert" in name for name in names) or "raises" in names
        if explicit or any(isinstance(n, ast.Assert) for n in inside):
            asserting.add(function.name)
    while found := {f for f, names in calls.items() if names & asserting} - asserting:
        asserting |= found
    return asserting


def test_every_test_asserts():
    idle = []
    for path in TESTS:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        tests = {name for name in names if name.startswith("test_")}
        idle += [f"{path.name}: {t}" for t in sorted(tests - asserting_functions(tree))]
    assert idle == []


def test_the_search_for_assertions_can_tell():
    source = """
def helper(): assert 1
def middle(): helper()
def test_direct(): assert 1
def test_through_helper(): middle()
def test_raises():
    with pytest.raises(ValueError): f()
def test_idle(): print(1)
"""
    found = asserting_functions(ast.parse(source))
    expected = {"test_direct", "test_through_helper", "test_raises"}
    assert {name for name in found if name.startswith("test_")} == expected
