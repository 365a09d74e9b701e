"""The documentation says what the code does: every page made anew is the page that is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if "<!-- $ " in page.read_text()]


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


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))],
                         ids=lambda page: str(page.relative_to(ROOT)))  # fmt: skip
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose)
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (page.parent / link).exists()] == []
