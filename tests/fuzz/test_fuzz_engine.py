"""A short, seeded run of the engine loader's fuzzer; longer ones by its command."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from stepwell.engine import code
from stepwell.ir import origins
from tests.fuzz.fuzz_engine import CHANGES, Engine, Entry, main, resealed, run


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(tmp_path_factory.mktemp("engine"))


def test_the_engine_itself_runs(engine: Engine) -> None:
    assert engine.check(engine.data) == "ran"
    assert resealed(engine.data) == engine.data


@pytest.mark.parametrize("first", range(0, 600, 200))
def test_mutants_are_refused_or_right(first: int, engine: Engine) -> None:
    counts = run(range(first, first + 200), engine)
    assert counts["refused"] > 100 and counts["loaded"] > 0, counts


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_change_is_found(change: object, engine: Engine) -> None:
    """Without a new checksum, nothing but the bytes between sections may differ."""
    for seed in range(20):
        data = bytearray(engine.data)
        change(data, Random(seed))  # type: ignore[operator]
        assert engine.check(bytes(data)) in (("ran",) if bytes(data) == engine.data else ("refused", "ran"))


def test_damaged_entries_of_the_cache_never_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWELL_CACHE", "off")  # so that it is set back
    monkeypatch.setattr(origins, "_others", set())
    monkeypatch.setattr(code, "fingerprint", lambda: "this code")
    entry = Entry(tmp_path)
    assert entry.check(entry.data) == "ran"
    counts = run(range(40), entry)
    assert counts["refused"] > 20 and counts.keys() <= {"refused", "ran"}, counts


def test_the_command_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "0.2", "--findings", str(tmp_path / "findings")]) == 0
    assert "; 0 findings" in capsys.readouterr().out
    assert not (tmp_path / "findings").exists()


def test_a_wrong_result_names_its_seed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "mutant", lambda _: engine.data)
    monkeypatch.setattr(engine, "expected", engine.expected + 1)
    with pytest.raises(AssertionError) as raised:
        run([7], engine)
    assert raised.value.__notes__ == ["seed 7"]
