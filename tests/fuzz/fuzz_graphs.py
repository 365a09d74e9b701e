"""Draws graphs of ONNX's operators and compares what they give with the reference evaluator and onnxruntime.

python -m tests.fuzz.fuzz_graphs --seconds 600 [--seed 1] [--jobs 1] [--check-each 0.25] [--only OP,OP]
                                 [--findings FOLDER]
python -m tests.fuzz.fuzz_graphs --case 17 [--check-each 1]     # one seed, its graph and what becomes of it

A seed is one case (`tests.fuzz.graphs.cases`), run in several ways (`tests.fuzz.graphs.check`) in a child process, so
that a crash or a hang is a result. What goes wrong is shrunk, and written to the folder as SEED.onnx and SEED.txt.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import attrs

from tests.children import Died, answers, serve
from tests.fuzz.graphs.cases import Case, draw
from tests.fuzz.graphs.check import DISPUTED, INVALID, Finding, examine
from tests.fuzz.graphs.reduction import reduced, text_of
from tests.onnx_conformance.cases import CRASH, HANG, INTERNAL, REFUSED

SECONDS = 180.0  # for a case, with its reduction
REDUCTION = 45.0


@attrs.frozen
class Report:
    """What became of a seed; `operators` are those of the reduced case, `text` is the reduced case."""

    seed: int
    kind: str
    way: str
    reason: str
    operators: tuple[str, ...]
    text: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether it is a bug."""
        return self.kind in (CRASH, HANG) or Finding(self.kind).is_bad

    @property
    def likeness(self) -> str:
        """What findings of one cause have in common, mostly."""
        words = self.reason.partition(":")[0] if self.kind == INTERNAL else ""
        return f"{self.kind} in {self.way}: {' '.join(self.operators)} {words}".strip()


def shrunk(case: Case, finding: Finding, check_each: float) -> Case:
    """The least case with the same kind of finding in the same way."""
    how = 1.0 if finding.way == "check each" else 0.0

    def fails(smaller: Case) -> bool:
        found = examine(smaller, how)
        same = (found.kind, found.way.partition(",")[0]) == (finding.kind, finding.way.partition(",")[0])
        return same and (found.kind != "internal" or found.reason[:30] == finding.reason[:30])

    return reduced(case, fails, REDUCTION)


def report_of(seed: int, check_each: float, only: Collection[str], folder: Path) -> Report:
    """Draw, run, and shrink what goes wrong; the least case is written to the folder."""
    case = draw(seed, only=only)
    finding = examine(case, check_each)
    if not finding.is_bad:
        return Report(seed, finding.kind, finding.way, finding.reason, tuple(case.operators))
    least = shrunk(case, finding, check_each)
    again = examine(least, 1.0 if finding.way == "check each" else 0.0)
    finding = again if again.is_bad else finding
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{seed}.onnx").write_bytes(least.model.SerializeToString())
    text = f"seed {seed}: {finding.kind} in {finding.way}: {finding.reason}\n\n{text_of(least)}"
    (folder / f"{seed}.txt").write_text(text)
    return Report(seed, finding.kind, finding.way, finding.reason, tuple(least.operators), text)


def seeds(first: int, end: float) -> Iterator[str]:
    """Seeds one after another, until a moment."""
    for seed in itertools.count(first):
        if time.monotonic() >= end:
            return
        yield str(seed)


def run(options: Any) -> list[Report]:
    """The reports of the seeds that a time allows, each printed when it says something."""
    given = [f"--check-each={options.check_each}", f"--findings={options.findings}", f"--only={options.only}"]
    reports = []
    for seed, made in answers(
        "tests.fuzz.fuzz_graphs", seeds(options.seed, time.monotonic() + options.seconds), options.jobs, given, SECONDS
    ):
        report = died(int(seed), made, options) if isinstance(made, Died) else Report(**json.loads(made))
        reports.append(report)
        if report.is_bad or report.kind == DISPUTED:
            print(f"seed {seed}: {report.likeness}: {report.reason[:300]}", flush=True)
    return reports


def died(seed: int, how: Died, options: Any) -> Report:
    """The report of a case that ended its process."""
    operators = draw(seed, only=_only(options.only)).operators
    return Report(seed, HANG if how.hangs else CRASH, "", f"exit status {how.status}", tuple(operators))


def summary(reports: list[Report]) -> str:
    """How many ended how, why models were refused, and the kinds of findings."""
    kinds = Counter(report.kind for report in reports)
    refused = Counter(report.reason for report in reports if report.kind == REFUSED)
    found = Counter(report.likeness for report in reports if report.is_bad)
    nodes = sum(len(report.operators) for report in reports)
    lines = [f"{len(reports)} cases of {nodes} nodes: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())]
    lines += [f"  refused {n}: {reason}" for reason, n in refused.most_common()]
    lines += [f"  {INVALID}: {report.reason}" for report in reports if report.kind == INVALID]
    lines += [f"  found {n}: {likeness}" for likeness, n in found.most_common()]
    return "\n".join([*lines, f"{sum(found.values())} findings of {len(found)} kinds"])


def show(options: Any) -> int:
    """One case: its graph, what becomes of it."""
    case = draw(options.case, only=_only(options.only))
    print(text_of(case))
    finding = examine(case, options.check_each)
    print(f"{finding.kind} in {finding.way}: {finding.reason}")
    return int(finding.is_bad)


def _only(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit status is the number of findings, at most 100."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--check-each", type=float, default=0.25, help="how often every stage is interpreted")
    parser.add_argument("--only", default="", help="operators to draw, between commas")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--case", type=int, help="show one seed")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    if options.child:
        serve(lambda line: json.dumps(attrs.asdict(report_of(
            int(line), options.check_each, _only(options.only), options.findings))))  # fmt: skip
        return 0
    if options.case is not None:
        return show(options)
    reports = run(options)
    print(summary(reports))
    return min(sum(report.is_bad for report in reports), 100)


if __name__ == "__main__":
    sys.exit(main())
