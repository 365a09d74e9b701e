"""Files of tuned schedules: there and back, and everything that a file may be instead."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from stepwell.backends.cpu.target import named
from stepwell.dialects.schedule import LoopSpec, ScheduleAttr, StageSpec
from stepwell.errors import TuningError
from stepwell.tune.files import FORMAT, Entry, TuneFile, target_key, target_text

V3, V4 = named("x86-64-v3"), named("x86-64-v4")
INNER = ScheduleAttr((), (("c", 64),), "c", 16)
SCHEDULE = ScheduleAttr(
    (LoopSpec("m0", "m", 24, True), LoopSpec("k0", "k", 512)), (("m", 8), ("n", 48)), "n", 16, 2,
    (StageSpec("s0", "m0", INNER),), 256,
)  # fmt: skip


def entry(kernel: str = "k" * 32, target: Any = V4, **parts: Any) -> Entry:
    given: dict[str, Any] = {
        "kernel": kernel, "target": target_key(target), "label": "conv", "schedule": SCHEDULE, "seconds": 1e-4,
        "usual": INNER, "usual_seconds": 1.5e-4, "cycles": 4e5, "tried": 12, "threads": 2, "finished": True,
        "machine": "some CPU", "version": "0.1.0",
    }  # fmt: skip
    return Entry(**{**given, **parts})


def written(path: Path, *entries: tuple[Entry, Any]) -> dict[str, Any]:
    """What a file with these entries says."""
    file = TuneFile(path)
    for each, target in entries:
        file.add(each, target)
    file.write()
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    content = written(path, (entry(), V4), (entry(target=V3, finished=False), V3))
    assert content["format"] == FORMAT
    assert content["targets"] == {target_key(V4): target_text(V4), target_key(V3): target_text(V3)}
    assert content["entries"][0]["schedule"] == str(SCHEDULE)
    read = TuneFile.read(path)
    assert read.entries == {("k" * 32, target_key(V4)): entry(), ("k" * 32, target_key(V3)): entry(
        target=V3, finished=False)}  # fmt: skip
    assert os.listdir(tmp_path) == ["tuned.json"]


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t"
    written(path, (entry("old"), V4))
    one, two = TuneFile.read(path), TuneFile.read(path)
    one.add(entry("one", tried=1), V4)
    one.write()
    two.add(entry("two"), V4)
    two.add(entry("other", V3), V3)
    two.write()
    read = TuneFile.read(path)
    assert sorted(kernel for kernel, _ in read.entries) == ["old", "one", "other", "two"]
    assert read.targets.keys() == {target_key(V4), target_key(V3)}
    assert two.entries == read.entries


@pytest.mark.parametrize(
    ("there", "mine", "kept"),
    [((True, 1), (True, 2), 2), ((False, 1), (True, 2), 2), ((False, 1), (False, 2), 2), ((True, 1), (False, 2), 1)],
)
def test_of_one_kernel_the_finished_search_counts_then_the_last(
    tmp_path: Path, there: tuple[bool, int], mine: tuple[bool, int], kept: int
) -> None:
    for finished, tried in (there, mine):
        written(tmp_path / "t", (entry(finished=finished, tried=tried), V4))
    assert [each.tried for each in TuneFile.read(tmp_path / "t").entries.values()] == [kept]


def test_what_was_only_read_gives_way_to_what_others_found(tmp_path: Path) -> None:
    written(tmp_path / "t", (entry("a", tried=1), V4))
    reader = TuneFile.read(tmp_path / "t")
    written(tmp_path / "t", (entry("a", tried=2, finished=False), V4))
    written(tmp_path / "t", (entry("a", tried=3), V4))
    reader.add(entry("b"), V4)
    reader.write()
    assert {kernel: each.tried for (kernel, _), each in TuneFile.read(tmp_path / "t").entries.items()} == {
        "a": 3, "b": 12,
    }  # fmt: skip


def test_many_writers_at_once(tmp_path: Path) -> None:
    def add(number: int) -> None:
        for part in range(4):
            written(tmp_path / "t", (entry(f"{number}.{part}"), V4))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(TuneFile.read(tmp_path / "t").entries) == 32


def test_a_file_that_was_damaged_meanwhile_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("{}")
    with pytest.raises(TuningError, match="no file of tuned schedules"):
        written(tmp_path / "t", (entry(), V4))
    assert (tmp_path / "t").read_text() == "{}"


def test_schedules_are_those_of_the_target(tmp_path: Path) -> None:
    written(tmp_path / "t", (entry("a"), V4), (entry("b", V3), V3), (entry("c", V3), V3))
    found = TuneFile.read(tmp_path / "t").schedules(V4)
    assert (dict(found.schedules), found.foreign) == ({"a": SCHEDULE}, 2)


def test_the_caches_belong_to_the_target() -> None:
    assert target_key(V3) != target_key(V4)
    assert "L2 1024K" in target_text(V4) and "+avx512f" in target_text(V4)


def test_a_missing_file_is_empty_where_one_is_made(tmp_path: Path) -> None:
    assert TuneFile.read(tmp_path / "new", must_exist=False).entries == {}
    with pytest.raises(TuningError, match="cannot be read: No such file"):
        TuneFile.read(tmp_path / "new")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no JSON"),
        ("\x00\x01", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no file of tuned schedules: make one with lower --tune"),
        ('{"format": "x"}', "is no file of tuned schedules"),
        ('{"format": "stepwell tuned schedules", "version": 2}', "has version 2; this Stepwell reads version 1"),
        ('{"format": "stepwell tuned schedules", "version": 1}', "lacks its 'targets' or its 'entries'"),
        ('{"format": "stepwell tuned schedules", "version": 1, "targets": {"a": 1}, "entries": []}', "target a"),
        ('{"format": "stepwell tuned schedules", "version": 1, "targets": {}, "entries": [3]}', "entry 0 is no object"),
    ],
)
def test_what_is_no_file_of_schedules(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "t"
    path.write_text(content)
    with pytest.raises(TuningError, match=message):
        TuneFile.read(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kernel", None, "entry 0: 'kernel' is no text"),
        ("label", "x" * 30_000, "'label' is no text of up to"),
        ("seconds", -1, "'seconds' is -1, no number of at least 0"),
        ("seconds", "soon", "no number"),
        ("seconds", float("nan"), "no number"),
        ("cycles", float("inf"), "no number"),
        ("tried", 1.5, "'tried' is 1.5, no count"),
        ("tried", True, "no count"),
        ("finished", 1, "neither true nor false"),
        ("schedule", 7, "'schedule' is no text"),
        ("schedule", "", "'schedule' does not parse"),
        ("schedule", "#tensor.schedule<loops = [", "'schedule' does not parse"),
        ("schedule", "#tensor.schedule<loops = [m0: m by 0], vector = m by 4>", "at least one element, not 0"),
        ("schedule", "#tensor.schedule<loops = [m0: m by -8], vector = m by 4>", "at least one element, not -8"),
        ("schedule", "#tensor.schedule<loops = [], speed = 11>", "a schedule has no 'speed'"),
        ("schedule", f"{INNER} {INNER}", "does not parse"),
        ("schedule", "dense<1.0> : tensor<4xf32>", "is no #tensor.schedule"),
        ("schedule", "#tensor.schedule" + "<loops = [], stages = {s: at k " * 500, "has schedules in schedules"),
        ("usual", '"text"', "is no #tensor.schedule"),
    ],
)
def test_damaged_entries(tmp_path: Path, field: str, value: Any, message: str) -> None:
    path = tmp_path / "t"
    content = written(path, (entry(), V4))
    content["entries"][0][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(TuningError, match=message):
        TuneFile.read(path)


@pytest.mark.parametrize("field", ["kernel", "schedule", "finished", "seconds"])
def test_missing_fields(tmp_path: Path, field: str) -> None:
    path = tmp_path / "t"
    content = written(path, (entry(), V4))
    del content["entries"][0][field]
    path.write_text(json.dumps(content))
    with pytest.raises(TuningError, match=f"entry 0 has no '{field}'"):
        TuneFile.read(path)


def test_a_failing_write_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t"
    before = written(path, (entry(), V4))

    def fail(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(TuningError, match="t cannot be written: No space left on device; make room"):
        written(path, (entry("other"), V4))
    assert json.loads(path.read_text()) == before
    assert os.listdir(tmp_path) == ["t"]
