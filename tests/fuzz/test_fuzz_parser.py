"""A short, seeded run of the parser's fuzzer; longer ones by its command."""

from __future__ import annotations

import pathlib

import pytest

from tests.fuzz.fuzz_parser import CORPUS, check, corpus, main, run

FILES = sorted(CORPUS.glob("*.mlir"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_the_corpus_survives(path: pathlib.Path) -> None:
    assert check(path.read_text()) == "survived"


@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_mutants_are_refused_or_survive(first: int) -> None:
    counts = run(range(first, first + 500), corpus())
    assert min(counts.values()) > 0, counts


def test_the_command_reports(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "0.2", "--crashes", str(tmp_path / "crashes")]) == 0
    assert "0 kinds of crashes" in capsys.readouterr().out
    assert not (tmp_path / "crashes").exists()


def test_a_crash_names_its_seed_and_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.fuzz_parser.check", lambda text: [][0])
    with pytest.raises(IndexError) as raised:
        run(range(7, 8), ['"op"() : () -> ()'])
    assert raised.value.__notes__[0].startswith("seed 7:\n")
