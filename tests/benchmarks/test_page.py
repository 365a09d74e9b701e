"""The report: means, where we are behind, and the whole page from the commands' JSON."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest

from benchmarks import page, report, sections
from benchmarks.decode import Step
from benchmarks.memory import Peaks
from benchmarks.programs import Arena, Program
from tests.benchmarks.made_up import case, outcome

COMPARISONS = [
    case("m", 1, 2.0, 0.5), case("n", 1, 8.0, 2.0), case("m", 2, 1.0, 0.9), case("resnet50_int8_qdq", 1, 0.1, 0.1),
]  # fmt: skip


def test_means_leave_out_what_runs_in_integers() -> None:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in sections.means(COMPARISONS).splitlines()]
    assert lines[0] == ["geometric mean (models)", "threads 1", "threads 2"]
    assert lines[2:] == [["a / ours", "4.00 (2)", "1.00 (1)"], ["b / ours", "1.00 (2)", "0.90 (1)"]]


def test_the_worst_comes_first() -> None:
    assert sections.behind(COMPARISONS) == [
        "resnet50_int8_qdq, threads 1: a takes 0.10 (0.05-0.20) of our time",
        "resnet50_int8_qdq, threads 1: b takes 0.10 (0.05-0.20) of our time",
        "m, threads 1: b takes 0.50 (0.25-1.00) of our time",
        "m, threads 2: b takes 0.90 (0.45-1.80) of our time",
    ]


def test_scaling_is_by_the_first_engine() -> None:
    made = [case("m", 1, 2.0), case("m", 2, 1.0), case("n", 2, 1.0)]
    halved = attrs.evolve(made[1], outcomes=(outcome("ours", 0.0005), *made[1].outcomes[1:]))
    lines = sections.scaling([made[0], halved, made[2]]).splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]] == [["m", "2.00"], ["n", "-"]]


ENVIRONMENT = {"date": "2026-01-02", "commit": "abc", "cpu": "C", "cpus": 2, "system": "S", "python": "3",
               "versions": {"a": "1.2"}}  # fmt: skip
PEAK = {"gflops": 100.0, "read_gbs": {"L1": 50.0}, "caches": {"L1": 32768}}
PROGRAM = Program("m", 2, 3, 8, 4, True, 0.9, 2e-4, (Arena("typical", 3 << 20, 2 << 20, 3 << 20),))
CONTENTS: dict[str, dict[str, Any]] = {
    "decode": {"steps": [attrs.asdict(Step("m", 1, False, 1000, 700, ((1e-3, 8e-4),), disturbed=1))]},
    "loading": {"models": {"m": {
        "cold": {"seconds": 9.0, "kernels": 7, "foreign": 0.0}, "warm": {"seconds": 0.5, "foreign": 0.4},
        "engine": {"seconds": 0.04, "again": 0.01, "call": 0.1, "foreign": 0.0},
    }}},
    "memory": {"peaks": [attrs.asdict(Peaks("m", *(size << 20 for size in (100, 150, 350, 200, 250))))]},
    "programs": {"programs": [attrs.asdict(PROGRAM)]},
}  # fmt: skip
TITLES = [
    "Goals", "Models", "More threads", "Symbolic sizes", "Kernels", "Steps of decoders", "Getting ready", "Memory",
    "Programs", "Where we are behind", "Remarks",
]  # fmt: skip


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with all parts."""
    context = {"environment": ENVIRONMENT}
    kernels = [attrs.evolve(case("matmul_512", 1, 2.0, 0.5), limit=outcome("limit", 0.0008)),
               case("softmax_1536x128", 1, 2.0, 2.0, limit=0.5)]  # fmt: skip
    report.write_json(tmp_path / "models.json", COMPARISONS, context)
    report.write_json(tmp_path / "kernels.json", kernels, {**context, "peak": PEAK})
    report.write_json(tmp_path / "fixed.json", [case("n_dyn", 1, 0.97)], context)
    for name, content in CONTENTS.items():
        report.write(tmp_path / f"{name}.json", {**context, **content})
    return tmp_path


def written(parts: Path, *options: str) -> str:
    output = parts / "page.md"
    assert page.main([f"--parts={parts}", f"--output={output}", *options]) == 0
    return output.read_text()


def titles(text: str) -> list[str]:
    return [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]


def test_the_page_is_made_of_all_parts(parts: Path) -> None:
    text = written(parts)
    assert "Measured on 2026-01-02, commit abc: C, 2 CPUs; S; Python 3; a 1.2.\n" in text
    assert "100 GFLOP/s f32 by multiply-adds; reads in GB/s: L1 50; caches: L1 32 KiB." in text
    assert titles(text) == TITLES
    assert "268 GFLOP/s (80%)" in text  # 2 * 512^3 in a millisecond
    assert "1.6 GB/s (50%)" in text and "(softmax_1536x128 1536 KiB)" in text
    assert "| m     |       1 | arrays |   1.000 |" in text
    assert "without weights takes: 150 MiB" in text
    assert "| m     |       2 |       3 |       8+ |       4+ |        90% |    0.20 | 3.00 1.50 (1.00) |" in text
    assert "- m, threads 1, arrays: other processes were busy during 1 of 1 rounds" in text
    assert "- m, warm: other processes took 0.4 CPUs" in text
    assert "Left out" not in text


def test_parts_that_are_skipped_are_named(parts: Path) -> None:
    (parts / "decode.json").unlink()
    text = written(parts, "--skip=decode,memory,kernels")
    assert "\nLeft out: kernels, decode, memory.\n" in text
    assert titles(text) == [title for title in TITLES if title not in ("Kernels", "Steps of decoders", "Memory")]
    assert "| left out: decode | not measured |" in text
    assert titles(written(parts, "--skip=models,fixed,kernels,decode,memory,loading")) == ["Goals", "Programs"]


def test_parts_from_several_days_say_so(parts: Path) -> None:
    report.write(parts / "other.json", {"environment": {**ENVIRONMENT, "commit": "def"}, **CONTENTS["memory"]})
    text = written(parts, f"--memory={parts / 'other.json'}")
    assert "\nmodels, kernels, fixed, decode, loading, programs: Measured on 2026-01-02, commit abc: " in text
    assert "\nmemory: Measured on 2026-01-02, commit def: " in text


def test_what_is_not_there_is_measured_and_kept(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = (parts / "memory.json").read_text()
    (parts / "memory.json").unlink()
    commands = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command[2:])
        Path(command[-1]).write_text(made)
        return subprocess.CompletedProcess(command, 1)  # a command that found a fault

    monkeypatch.setattr(page.subprocess, "run", run)
    monkeypatch.setattr(report, "environment", lambda engines: ENVIRONMENT)
    written(parts)
    assert commands == [["benchmarks.memory", "--json", str(parts / "memory.json")]]
    written(parts)
    assert len(commands) == 1


def test_a_command_that_writes_nothing_ends_the_page(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (parts / "memory.json").unlink()
    monkeypatch.setattr(page.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 2))
    with pytest.raises(subprocess.CalledProcessError, match=r"benchmarks\.memory"):
        written(parts)


@pytest.mark.parametrize(
    ("option", "words"),
    [("--skip=decode,nothing", "no such part: nothing"), (f"--skip={','.join(page.commands())}", "nothing is left")],
)
def test_what_cannot_be_skipped(option: str, words: str, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        page.main([f"--parts={parts}", f"--output={parts / 'page.md'}", option])
    assert words in capsys.readouterr().err
    assert not (parts / "page.md").exists()
