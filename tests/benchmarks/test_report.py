"""Tables, remarks and the marked place in a document."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.harness import Comparison, Outcome, Spread

FAST = Outcome("ours", 0.5, (0.001, 0.003), Spread(0.002, 0.001, 0.003))
SLOW = Outcome("peer", 0.1, (0.002, 0.006), Spread(0.004, 0.002, 0.006), ratio=Spread(2.0, 1.5, 2.5))
WRONG = Outcome("peer", 0.1, (0.1,), Spread(0.1, 0.1, 0.1), Spread(1, 1, 1), disturbed=1, differs="output 0: all")
FAILED = Outcome("peer", error="ValueError: no\nmore text")


def test_a_table_is_padded_and_right_aligned_after_its_first_column() -> None:
    assert report.table(["a", "bbb"], [["cccc", "d"]]) == "| a    | bbb |\n| ---- | --: |\n| cccc |   d |"


def test_models_table() -> None:
    lines = report.models_table([Comparison("m", 2, (FAST, SLOW)), Comparison("n", 1, (FAST, FAILED))]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["model", "threads", "ours", "peer", "peer / ours"]
    assert cells[2:] == [["m", "2", "2 ms", "4 ms", "2.00 (1.50-2.50)"], ["n", "1", "2 ms", "failed", "-"]]


def test_faults_are_failures_and_differences_and_remarks_add_disturbances() -> None:
    comparisons = [Comparison("m", 1, (FAST, WRONG)), Comparison("n", 2, (FAST, FAILED))]
    faults = ["m, threads 1: peer differs: output 0: all", "n, threads 2: peer: ValueError: no"]
    assert report.faults(comparisons) == faults
    disturbance = "m, threads 1: peer: other processes were busy during 1 of 1 blocks"
    assert report.remarks(comparisons) == [*faults, disturbance]


def git(folder: Path, *command: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *command], cwd=folder, check=True, capture_output=True)


def test_the_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert report.commit(tmp_path) == "unknown"
    git(tmp_path, "init")
    assert report.commit(tmp_path) == "unknown"
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "one")
    found = report.commit(tmp_path)
    assert len(found) == 12 and int(found, 16)
    (tmp_path / "file").write_text("b")
    assert report.commit(tmp_path) == f"{found}-dirty"
    monkeypatch.setenv("PATH", "")
    assert report.commit(tmp_path) == "unknown"


def test_a_machine_in_words() -> None:
    environment = {"cpu": "C", "cpus": 2, "system": "S", "python": "3", "versions": {"a": "1.2", "b": "3"}}
    assert report.machine({**environment, "date": "2026-01-02", "commit": "abc"}) == (
        "Measured on 2026-01-02, commit abc: C, 2 CPUs; S; Python 3; a 1.2, b 3."
    )
    assert report.machine(environment).startswith("Measured on unknown, commit unknown: ")
    assert {"date", "commit"} <= report.environment([]).keys()


def test_json_holds_every_block(tmp_path: Path) -> None:
    report.write_json(tmp_path / "out.json", [Comparison("m", 1, (FAST, FAILED))], {"environment": {"cpus": 2}})
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["environment"] == {"cpus": 2}
    assert data["comparisons"][0]["outcomes"][0]["blocks"] == [0.001, 0.003]
    assert data["comparisons"][0]["outcomes"][1]["error"].startswith("ValueError")


def test_a_document_changes_between_the_markers_only(tmp_path: Path) -> None:
    path = tmp_path / "doc.md"
    path.write_text(f"before\n{report.BEGIN} (how) -->\nold\n{report.END}\nafter\n")
    report.update_document(path, "new\nlines")
    assert path.read_text() == f"before\n{report.BEGIN} (how) -->\nnew\nlines\n{report.END}\nafter\n"


@pytest.mark.parametrize("text", ["", "no markers", report.BEGIN, f"{report.END}\n{report.BEGIN} -->\n"])
def test_a_document_without_its_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "doc.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="has no"):
        report.update_document(path, "new")
    assert path.read_text() == text
