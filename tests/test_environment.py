"""pyproject.toml, constraints.txt and environment.yml agree with each other."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
tomllib = pytest.importorskip("tomllib", reason="part of Python since 3.11")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
RANGES = [
    Requirement(line)
    for lines in [PROJECT["dependencies"], *EXTRAS.values()]
    for line in lines
    if not line.startswith(PROJECT["name"])
]
PINS = {
    canonicalize_name(pin.name): pin
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
    for pin in [Requirement(line)]
}


MARK = "# Not installed by `make test`"


def pinned(pin):
    (clause,) = pin.specifier
    assert clause.operator == "=="
    return Version(clause.version)


@pytest.mark.parametrize("wanted", RANGES, ids=str)
def test_every_dependency_is_pinned_within_its_range(wanted):
    pin = PINS[canonicalize_name(wanted.name)]
    assert wanted.specifier.contains(pinned(pin))


@pytest.mark.parametrize("name", PINS)
def test_these_tests_run_with_the_pinned_version(name):
    pin = PINS[name]
    try:
        installed = Version(version(name))
    except PackageNotFoundError:
        pytest.skip("an extra that is not installed")
    if pin.marker is not None and not pin.marker.evaluate():
        pytest.skip(f"pinned only where {pin.marker}")
    assert installed.public == str(pinned(pin))


def names(lines):
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_what_make_test_does_not_install_stands_apart():
    """Of such a version `make test` says nothing."""
    installed = names([*PROJECT["dependencies"], *EXTRAS["book"], *EXTRAS["test"]])
    parts = (ROOT / "constraints.txt").read_text("utf-8").partition(MARK)
    above, below = (names(re.findall(r"^\w.*", part, re.M)) for part in parts[::2])
    assert installed <= above
    assert {canonicalize_name(r.name) for r in RANGES} - installed <= below


# What the package uses without asking whether PyTorch has it, and since when it does.
SINCE = {"torch.compiler.set_stance": "2.6", "including_emulation": "2.5"}


@pytest.mark.parametrize("used", SINCE)
def test_the_lowest_pytorch_has_what_is_used(used):
    sources = (ROOT / "minimind").rglob("*.py")
    assert any(used in path.read_text("utf-8") for path in sources)
    (torch,) = (r for r in RANGES if r.name == "torch")
    (lowest,) = (Version(c.version) for c in torch.specifier if c.operator == ">=")
    assert lowest >= Version(SINCE[used])


def test_extras_have_upper_bounds():
    open_ended = [str(r) for r in RANGES if "<" not in str(r.specifier)]
    assert open_ended == []


def test_conda_environment():
    text = (ROOT / "environment.yml").read_text("utf-8")
    environment = yaml.safe_load(text)
    assert set(environment) == {"name", "channels", "dependencies"}
    *conda, last = environment["dependencies"]
    assert conda[-1] == "pip"  # conda wants pip named before its section
    (python,) = (line.partition("=")[2] for line in conda[:-1])
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    constraints, package = last["pip"]
    assert (ROOT / constraints.removeprefix("-c ")).is_file()
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", package)[1].split(",")
    assert set(extras) <= set(EXTRAS)
