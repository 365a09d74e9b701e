"""The documentation says what the code does: every page made anew is the page that is there."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if "<!-- $ " in page.read_text()]


every_page = pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)  # fmt: skip


def check(*pages: str) -> tuple[int, str]:
    """(exit status, what it prints) of `docs/build.py --check`; a process of its own, as plug-ins stay loaded."""
    command = [sys.executable, str(ROOT / "docs" / "build.py"), "--check", *pages]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_commands_print(page: Path) -> None:
    status, said = check(str(page))
    assert status == 0, said


def test_reference_pages() -> None:
    status, said = check("--reference")
    assert status == 0, said


def test_a_stale_page_is_found(tmp_path: Path) -> None:
    page = tmp_path / "adding-an-op.md"
    page.write_text((ROOT / "docs" / page.name).read_text().replace("%waved = waves.snake", "%waved = waves.snack"))
    status, said = check(str(page))
    assert status == 1 and "-    %waved = waves.snack" in said and "+    %waved = waves.snake" in said


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose)
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (page.parent / link).exists()] == []


@functools.cache
def options_of(program: str) -> frozenset[str]:
    """The long options of `lower`, of a module of this project, or of a file, as its source declares them; where it
    calls `options.add`, those of `benchmarks.options` too."""
    path = ROOT / ("stepwell/cli.py" if program == "lower" else program)
    if path.suffix != ".py":
        path = ROOT / program.replace(".", "/")
        path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    source = path.read_text()
    found = set(options_of("benchmarks.options")) if "options.add(" in source else set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            names = {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
            found |= {name for name in names if name.startswith("--")}
            if any("BooleanOptionalAction" in ast.dump(keyword) for keyword in node.keywords):
                found |= {f"--no-{name[2:]}" for name in names}
    return frozenset(found)


def unknown_options(text: str) -> list[str]:
    """Options in a text that none of the programs has that are named beside them, in the same paragraph or row of a
    table; where none is named they are `lower`'s."""
    found = []
    for part in re.split(r"\n\s*\n|\n(?=\|)", text):
        programs = re.findall(r"python (?:-m )?((?:tests|benchmarks|docs|examples)[./][\w./]+\w)", part)
        if not programs or re.search(r"\blower\b", part):
            programs.append("lower")
        known = frozenset[str]().union(*map(options_of, programs))
        options = re.findall(r"(?<![\w-])(?<!gdb )--[a-z][a-z-]*", part)
        found += [option for option in options if option not in known]
    return found


@every_page
def test_options_exist(page: Path) -> None:
    assert unknown_options(page.read_text()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`lower --run --no-cache` or `--bench`", []),
        ("`lower --runs`, `--bench`", ["--runs"]),
        ("| `--to` |\n| `python -m tests.math.exhaustive` | `--unfused` |", ["--unfused"]),
        ("| `python -m tests.math.exhaustive` | `--means` |\n| `--means` |", ["--means"]),
        ("python docs/build.py --check --reference --run", ["--run"]),
        ("gdb --args python model.py", []),
    ],
)
def test_options_that_do_not_exist_are_found(text: str, expected: list[str]) -> None:
    assert unknown_options(text) == expected


def test_programs_that_do_not_exist_are_found() -> None:
    with pytest.raises(FileNotFoundError):
        unknown_options("`python -m tests.math.nothing`")
