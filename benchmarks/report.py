"""Comparisons as a Markdown table (which reads well in a terminal too) and as JSON; numbers put into a document."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from benchmarks.harness import Comparison, Outcome, Spread

BEGIN = "<!-- benchmark: begin"
END = "<!-- benchmark: end -->"
IN_INTEGERS = ("resnet50_int8_qdq",)  # models beside those that compute in f32


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns padded to one width; every column but the first is right-aligned."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        return f"| {' | '.join(aligned)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(lines[0]), line(rule), *map(line, lines[1:])])


def milliseconds(outcome: Outcome) -> str:
    """The outcome's latency in ms with three significant digits, or that there is none."""
    if outcome.latency is None:
        return "failed" if outcome.error is not None else "-"
    return f"{np.format_float_positional(outcome.latency.median * 1e3, precision=3, fractional=False, trim='-')} ms"


def ratio(outcome: Outcome) -> str:
    """How many times the first engine's time this one takes, and from where to where it went over the rounds."""
    spread = outcome.ratio
    return f"{spread.median:.2f} ({spread.low:.2f}-{spread.high:.2f})" if spread else "-"


def _fault(outcome: Outcome) -> str | None:
    if outcome.error is not None:
        return f"{outcome.engine}: {outcome.error.splitlines()[0]}"
    return f"{outcome.engine} differs: {outcome.differs}" if outcome.differs else None


def _disturbance(outcome: Outcome) -> str | None:
    if not outcome.disturbed:
        return None
    return f"{outcome.engine}: other processes were busy during {outcome.disturbed} of {len(outcome.blocks)} blocks"


def _each(comparisons: Iterable[Comparison], remark: Callable[[Outcome], str | None]) -> list[str]:
    return [
        f"{comparison.case}, threads {comparison.threads}: {text}"
        for comparison in comparisons
        for text in map(remark, filter(None, (*comparison.outcomes, comparison.limit)))
        if text
    ]


def faults(comparisons: Iterable[Comparison]) -> list[str]:
    """A line for each engine that failed on a case or computed something else than the first engine."""
    return _each(comparisons, _fault)


def remarks(comparisons: Sequence[Comparison]) -> list[str]:
    """The faults, then a line for each timing that other processes disturbed."""
    return [*faults(comparisons), *_each(comparisons, _disturbance)]


def models_table(comparisons: Sequence[Comparison]) -> str:
    """One line per model and number of threads; a peer's ratio above 1 means that the first engine is faster."""
    engines = [outcome.engine for outcome in comparisons[0].outcomes]
    header = ["model", "threads", *engines, *(f"{peer} / {engines[0]}" for peer in engines[1:])]
    return table(
        header,
        ([c.case, str(c.threads), *map(milliseconds, c.outcomes), *map(ratio, c.outcomes[1:])] for c in comparisons),
    )


def mean(comparisons: Sequence[Comparison], peer: str, threads: int) -> tuple[float, int] | None:
    """The geometric mean of a peer's times by ours over all f32 models, and how many there are."""
    found = [o.ratio.median for c in comparisons if c.threads == threads and c.case not in IN_INTEGERS
             for o in c.outcomes if o.engine == peer and o.ratio]  # fmt: skip
    return (statistics.geometric_mean(found), len(found)) if found else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def commit(folder: Path = Path(__file__).parent) -> str:
    """The commit of the checkout that a folder is in, with `-dirty` where its files differ; `unknown` without one."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return made.stdout.strip()


def environment(engines: Iterable[str]) -> dict[str, Any]:
    """What a reader needs to judge the numbers: date, commit, processor, number of CPUs, system, versions of the
    engines."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "cpu": _cpu_name(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in engines if (version := _version(name))},
    }


def machine(environment: Mapping[str, Any]) -> str:
    """The environment in words."""
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    date, commit = environment.get("date", "unknown"), environment.get("commit", "unknown")
    return (f"Measured on {date}, commit {commit}: {environment['cpu']}, {environment['cpus']} CPUs; "
            f"{environment['system']}; Python {environment['python']}; {versions}.")  # fmt: skip


def write(path: Path, data: Mapping[str, Any], engines: Iterable[str] = ("stepwell", "onnxruntime")) -> None:
    """What was measured to `path`, with the environment beside it."""
    path.write_text(json.dumps({"environment": environment(engines), **data}, indent=1) + "\n")


def write_json(path: Path, comparisons: Sequence[Comparison], context: dict[str, Any]) -> None:
    """Every block of every comparison, with `context` beside them, to `path`."""
    write(path, {**context, "comparisons": [attrs.asdict(comparison) for comparison in comparisons]})


def comparisons(data: Mapping[str, Any]) -> list[Comparison]:
    """The comparisons that `write_json` wrote."""

    def spread(found: dict[str, float] | None) -> Spread | None:
        return Spread(**found) if found else None

    def outcome(o: dict[str, Any]) -> Outcome:
        changed = {"blocks": tuple(o["blocks"]), "latency": spread(o["latency"]), "ratio": spread(o["ratio"])}
        return Outcome(**{**o, **changed})

    return [
        Comparison(c["case"], c["threads"], tuple(map(outcome, c["outcomes"])), c["limit"] and outcome(c["limit"]))
        for c in data["comparisons"]
    ]


def update_document(path: Path, text: str) -> None:
    """Replace what stands between the benchmark's two markers in the document at `path` by `text`.

    Raises ValueError when the document lacks the markers.
    """
    document = path.read_text()
    before, begin, rest = document.partition(BEGIN)
    marker, newline, body = rest.partition("\n")
    _, end, after = body.partition(END)
    if not (begin and newline and end):
        raise ValueError(f"{path} has no '{BEGIN} ...' line followed by a '{END}' line")
    path.write_text(f"{before}{begin}{marker}\n{text}\n{end}{after}")
