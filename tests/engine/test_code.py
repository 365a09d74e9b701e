"""What stands for the code of a process: the files that it loaded, and only those."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import stepwell
from stepwell.engine import code


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two modules and data, which was loaded after they were written."""
    (tmp_path / "inner").mkdir()
    for name, text in [("__init__.py", ""), ("inner/rules.py", "rule = 1\n"), ("inner/table.json", "{}")]:
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(stepwell, "__path__", [str(tmp_path)])
    monkeypatch.setattr(stepwell, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(stepwell, "_LOADED", time.time_ns() + 10**12)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [("inner/rules.py", "rule = 2\n"), ("inner/table.json", "[]"), ("inner/more.py", ""), ("other.txt", "x")],
)
def test_every_file_counts(package: Path, name: str, text: str) -> None:
    before = code.fingerprint()
    (package / name).write_text(text)
    assert before is not None and code.fingerprint() not in (None, before)


def test_names_count(package: Path) -> None:
    before = code.fingerprint()
    (package / "inner/rules.py").rename(package / "inner/other.py")
    assert code.fingerprint() not in (None, before)


def test_what_python_derives_does_not_count(package: Path) -> None:
    before = code.fingerprint()
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "rules.pyc").write_bytes(b"1")
    assert code.fingerprint() == before


def test_the_place_does_not_count(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code.fingerprint()
    elsewhere = package.with_name("elsewhere")
    package.rename(elsewhere)
    monkeypatch.setattr(stepwell, "__path__", [str(elsewhere)])
    monkeypatch.setattr(stepwell, "__file__", str(elsewhere / "__init__.py"))
    assert code.fingerprint() == before


def test_a_file_changed_after_it_may_have_been_loaded_makes_the_code_unknown(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepwell, "_LOADED", time.time_ns() - 10**9)
    assert code.fingerprint() is None


def test_times_cannot_be_set_back(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepwell, "_LOADED", time.time_ns() - 10**9)
    for path in package.rglob("*"):
        os.utime(path, (0, 0))
    assert code.fingerprint() is None


def test_a_package_without_sources_is_unknown(package: Path) -> None:
    for path in package.rglob("*.py"):
        path.unlink()
    assert code.fingerprint() is None


def test_versions_count(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code.fingerprint()
    code._digest.cache_clear()
    monkeypatch.setattr(code, "version", lambda package: "99")
    assert code.fingerprint() != before


def test_this_package_is_known_where_nobody_works_on_it() -> None:
    listing = tuple(code._files())
    names = {os.path.basename(path) for path, _, _ in listing}
    assert {"api.py", "tile.py", "jit.py", "func.py"} <= names  # behind the links as well
    assert code._digest(listing) is not None
