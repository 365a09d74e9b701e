"""What holds for the project as a whole: which way imports point, links, packages, sizes of files, a fast import."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ("dialects", "lowering", "backends")
FOLDERS = ("stepwell", *LINKED, "tests", "benchmarks", "examples")

# Who must not import whom, and the modules that are excepted: a target's description.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "stepwell.ir": ("stepwell.dialects", "stepwell.lowering", "stepwell.backends", "stepwell.frontends"),
    "stepwell.dialects": ("stepwell.lowering", "stepwell.backends", "stepwell.frontends", "stepwell.cli"),
    "stepwell.lowering": ("stepwell.backends", "stepwell.cli"),
    "stepwell.backends": ("stepwell.cli",),
}
TARGET_DESCRIPTIONS = ("stepwell.backends.base", "stepwell.backends.cpu.target", "stepwell.backends.gpu.target")


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def python_files(folder: Path) -> Iterator[Path]:
    """The Python files under `folder`, not those behind its symbolic links."""
    for path, _, names in os.walk(folder, followlinks=False):
        yield from (Path(path) / name for name in sorted(names) if name.endswith(".py"))


def module_name(path: Path) -> str:
    """`dialects/func.py` -> `stepwell.dialects.func`; packages without their `__init__`."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    name = parts if parts[0] not in LINKED else ["stepwell", *parts]
    return ".".join(name[:-1] if name[-1] == "__init__" else name)


def imports(source: str, package: str) -> Iterator[str]:
    """The dotted names that `source`, a module of `package`, imports anywhere, relative ones made absolute.

    `from a import b` gives `a.b`: `b` may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def upward(importer: str, source: str, *, is_package: bool = False) -> list[str]:
    """The imports of a module named `importer` with text `source` that point up."""
    package = importer if is_package else importer.rpartition(".")[0]
    forbidden = next((names for layer, names in FORBIDDEN.items() if within(importer, (layer,))), ())
    allowed = TARGET_DESCRIPTIONS if within(importer, ("stepwell.lowering",)) else ()
    return [name for name in imports(source, package) if within(name, forbidden) and not within(name, allowed)]


@pytest.mark.parametrize(
    ("importer", "source", "expected"),
    [
        ("stepwell.dialects.func", "import stepwell.ir.core\nfrom stepwell.errors import IRError", []),
        ("stepwell.dialects.func", "import stepwell.lowering.graph", ["stepwell.lowering.graph"]),
        ("stepwell.dialects.func", "from stepwell import lowering", ["stepwell.lowering"]),
        ("stepwell.dialects.func", "from ..lowering import pipeline", ["stepwell.lowering.pipeline"]),
        ("stepwell.dialects.func", "def f():\n    from stepwell.backends import cpu", ["stepwell.backends.cpu"]),
        ("stepwell.dialects.func", "from stepwell.lowering_notes import x", []),
        ("stepwell.lowering.loop.tile", "from stepwell.backends.cpu.target import CpuTarget", []),
        ("stepwell.lowering.loop.tile", "from stepwell.backends.base import Target", []),
        ("stepwell.lowering.loop.tile", "from stepwell.backends.cpu import jit", ["stepwell.backends.cpu.jit"]),
        ("stepwell.ir.core", "from stepwell.dialects.func import FuncOp", ["stepwell.dialects.func.FuncOp"]),
        ("stepwell.ir.core", "from .types import Type", []),
        ("stepwell.cli", "from stepwell.backends.cpu import jit", []),
    ],
)
def test_upward_imports_are_found(importer: str, source: str, expected: list[str]) -> None:
    assert upward(importer, source) == expected


@pytest.mark.parametrize("folder", ["stepwell", *LINKED])
def test_imports_point_down(folder: str) -> None:
    found = {}
    for path in python_files(ROOT / folder):
        if names := upward(module_name(path), path.read_text(), is_package=path.name == "__init__.py"):
            found[str(path.relative_to(ROOT))] = names
    assert not found


@pytest.mark.parametrize("name", LINKED)
def test_links_lead_to_the_folders_at_the_root(name: str) -> None:
    link = ROOT / "stepwell" / name
    assert link.is_symlink(), f"{link} is no symbolic link: check the repository out with core.symlinks=true"
    assert link.readlink() == Path("..", name)
    assert link.resolve() == ROOT / name


@pytest.mark.parametrize("name", LINKED)
def test_linked_packages_refuse_another_name(name: str) -> None:
    process = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True)
    assert f"ImportError: import this package as stepwell.{name}, not as {name}" in process.stderr


@pytest.mark.parametrize("folder", ["stepwell", *LINKED])
def test_every_folder_of_modules_is_a_package(folder: str) -> None:
    folders = {path.parent for path in python_files(ROOT / folder)}
    assert [str(path.relative_to(ROOT)) for path in folders if not (path / "__init__.py").exists()] == []


def test_tests_hold_no_packages() -> None:
    assert [str(path) for path in python_files(ROOT / "tests") if path.name == "__init__.py"] == []


def test_files_are_readable_in_one_sitting() -> None:
    files = [path for folder in FOLDERS for path in python_files(ROOT / folder)]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > 800} == {}


def test_importing_stepwell_is_light() -> None:
    code = "import stepwell, sys; print(*sorted({'onnx', 'llvmlite', 'google.protobuf'} & sys.modules.keys()))"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == ""


EXTRA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["test"]


@pytest.mark.parametrize("requirement", EXTRA)
def test_what_the_tests_need_is_installed(requirement: str) -> None:
    """In CI (see .ci/run) it has to be: whatever needs it would be skipped otherwise."""
    name = re.split(r"[<>=!~\[ ]", requirement)[0]
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        missing = f"{name} is not installed, and what needs it is skipped: pip install 'stepwell[test]'"
        (pytest.fail if os.environ.get("STEPWELL_CI") else pytest.skip)(missing)


def test_ci_says_that_it_is_ci() -> None:
    assert "STEPWELL_CI=1 bash" in (ROOT / ".ci" / "run").read_text()


def test_the_readme_has_one_test_command_for_ci_to_run() -> None:
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if "pytest -n auto" in line]
    assert len(lines) == 1
    assert "pip install" in lines[0]
