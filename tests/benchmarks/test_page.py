"""The report: means, where we are behind, and the whole page from the two commands' JSON."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from benchmarks import page, report
from benchmarks.harness import Comparison, Outcome, Spread


def outcome(engine: str, seconds: float, ratio: float | None = None, **other: object) -> Outcome:
    spread = None if ratio is None else Spread(ratio, ratio / 2, ratio * 2)
    return Outcome(engine, 0.5, (seconds,), Spread(seconds, seconds, seconds), spread, **other)  # type: ignore[arg-type]


def case(name: str, threads: int, *ratios: float) -> Comparison:
    peers = [outcome(peer, 0.001 * ratio, ratio) for peer, ratio in zip(("a", "b"), ratios, strict=False)]
    return Comparison(name, threads, (outcome("ours", 0.001), *peers))


COMPARISONS = [
    case("m", 1, 2.0, 0.5), case("n", 1, 8.0, 2.0), case("m", 2, 1.0, 0.9), case("resnet50_int8_qdq", 1, 0.1, 0.1),
]  # fmt: skip


def test_means_leave_out_what_runs_in_integers() -> None:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.means(COMPARISONS).splitlines()]
    assert lines[0] == ["geometric mean (models)", "threads 1", "threads 2"]
    assert lines[2:] == [["a / ours", "4.00 (2)", "1.00 (1)"], ["b / ours", "1.00 (2)", "0.90 (1)"]]


def test_the_worst_comes_first() -> None:
    assert page.behind(COMPARISONS) == [
        "resnet50_int8_qdq, threads 1: a takes 0.10 (0.05-0.20) of our time",
        "resnet50_int8_qdq, threads 1: b takes 0.10 (0.05-0.20) of our time",
        "m, threads 1: b takes 0.50 (0.25-1.00) of our time",
        "m, threads 2: b takes 0.90 (0.45-1.80) of our time",
    ]


def test_scaling_is_by_the_first_engine() -> None:
    made = [case("m", 1, 2.0), case("m", 2, 1.0), case("n", 2, 1.0)]
    halved = attrs.evolve(made[1], outcomes=(outcome("ours", 0.0005), *made[1].outcomes[1:]))
    lines = page.scaling([made[0], halved, made[2]]).splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]] == [["m", "2.00"], ["n", "-"]]


def test_the_page_is_made_of_all_files(tmp_path: Path) -> None:
    environment = {"cpu": "C", "cpus": 2, "system": "S", "python": "3", "versions": {"a": "1.2"}}
    peak = {"gflops": 100.0, "read_gbs": {"L1": 50.0}}
    files = tmp_path / "models.json", tmp_path / "kernels.json", tmp_path / "fixed.json"
    report.write_json(files[0], COMPARISONS, {"environment": environment})
    kernel = attrs.evolve(case("matmul_512", 1, 2.0, 0.5), limit=outcome("limit", 0.0008))
    report.write_json(files[1], [kernel], {"environment": environment, "peak": peak})
    assert report.comparisons(json.loads(files[1].read_text())) == [kernel]
    report.write_json(files[2], [case("n_dyn", 1, 0.97)], {"environment": environment})
    assert report.comparisons(json.loads(files[0].read_text())) == COMPARISONS
    output = tmp_path / "page.md"
    given = [f"--{path.stem}={path}" for path in files]
    assert page.main([*given, f"--output={output}"]) == 0
    text = output.read_text()
    assert "C, 2 CPUs; S; Python 3; a 1.2." in text and "100 GFLOP/s f32" in text
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Speed, beside other engines", "## Models", "## More threads", "## Symbolic sizes", "## Kernels",
        "## Where we are behind",
    ]  # fmt: skip
    assert "268 GFLOP/s (80%)" in text  # 2 * 512^3 in a millisecond
