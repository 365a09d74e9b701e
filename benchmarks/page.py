"""Write benchmarks/README.md: models and kernels beside other engines, with means, spreads, and where we are behind.

    python -m benchmarks.page                                            # measure everything: an hour
    python -m benchmarks.page --models models.json --kernels kernels.json --fixed fixed.json   # from what --json wrote

A model that runs in integers is timed with the others and is no part of the means."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import materialize, report
from benchmarks.harness import Comparison
from benchmarks.kernels import kernels_table

PAGE = Path(__file__).parent / "README.md"
ENGINES = "stepwell,onnxruntime,openvino"
IN_INTEGERS = ("resnet50_int8_qdq",)
SYMBOLIC = "*_dyn.onnx"  # models with symbolic sizes

INTRODUCTION = """\
# Speed, beside other engines

Written by `python -m benchmarks.page`, which takes about an hour on a machine that does nothing else. Every engine runs
in a process of its own with the same number of threads, and stands still while another one is timed; blocks of calls
take turns. Times are medians over the blocks, ratios are taken round by round, with the smallest and the largest in
brackets; above 1 Stepwell is faster. All engines compute in f32 (OpenVINO is told to), and their outputs are compared
in the run that is timed.
"""


def measured(path: Path, module: str, engines: str = ENGINES, names: Sequence[str] = ()) -> Path:
    """Run a benchmark command that writes its JSON to `path`. Raises CalledProcessError where it wrote none."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *names, "--engines", engines, "--json", str(path)]
    status = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    if not path.exists():
        raise subprocess.CalledProcessError(status, command)
    return path


def means(comparisons: Sequence[Comparison]) -> str:
    """A table of geometric means of the ratios to each peer, by number of threads."""
    first, *peers = (outcome.engine for outcome in comparisons[0].outcomes)
    counts = sorted({c.threads for c in comparisons})
    rows = []
    for peer in peers:
        cells = [f"{peer} / {first}"]
        for count in counts:
            found = [o.ratio.median for c in comparisons if c.threads == count and c.case not in IN_INTEGERS
                     for o in c.outcomes if o.engine == peer and o.ratio]  # fmt: skip
            cells.append(f"{statistics.geometric_mean(found):.2f} ({len(found)})" if found else "-")
        rows.append(cells)
    return report.table(["geometric mean (models)", *(f"threads {count}" for count in counts)], rows)


def scaling(comparisons: Sequence[Comparison]) -> str:
    """A table of the first engine's time on one thread by that on more, for each model."""
    times = {(c.case, c.threads): c.outcomes[0].latency for c in comparisons}
    counts = sorted({threads for _, threads in times if threads > 1})
    rows = []
    for name in dict.fromkeys(c.case for c in comparisons):
        one, more = times.get((name, 1)), [times.get((name, count)) for count in counts]
        rows.append([name, *(f"{one.median / many.median:.2f}" if one and many else "-" for many in more)])
    return report.table(["model", *(f"threads {count}" for count in counts)], rows)


def behind(comparisons: Sequence[Comparison]) -> list[str]:
    """A line for each case in which a peer takes less time, the worst first."""
    found = [
        (o.ratio.median, f"{c.case}, threads {c.threads}: {o.engine} takes {report.ratio(o)} of our time")
        for c in comparisons
        for o in c.outcomes
        if o.ratio and o.ratio.median < 1
    ]
    return [line for _, line in sorted(found)]


def page(models: dict[str, Any], kernels: dict[str, Any], fixed: dict[str, Any]) -> str:
    """The document, from the contents of the three JSON files."""
    of_models, of_kernels, of_fixed = map(report.comparisons, (models, kernels, fixed))
    environment, peak = models["environment"], kernels["peak"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    reads = ", ".join(f"{level} {rate:.0f}" for level, rate in peak["read_gbs"].items())
    parts = [
        INTRODUCTION,
        f"{environment['cpu']}, {environment['cpus']} CPUs; {environment['system']}; Python {environment['python']}; "
        f"{versions}.\n\nOne core: {peak['gflops']:.0f} GFLOP/s f32 by multiply-adds; reads in GB/s: {reads}.\n",
        f"## Models\n\n{means(of_models)}\n\n{report.models_table(of_models)}\n",
        f"## More threads\n\nThe time of one thread by that of more.\n\n{scaling(of_models)}\n",
        f"## Symbolic sizes\n\nThe same model compiled for any size, and for the one size that it is timed at.\n\n"
        f"{report.models_table(of_fixed)}\n",
        f"## Kernels\n\nPer cent are of a loop that took turns with the engines and did as many multiply-adds in "
        f"registers, as many as one of the threads has; only fewer multiply-adds get beyond (Winograd). GB/s count "
        f"what must be read and written at least, of an LSTM the recurrent weights in each step: its loop reads them "
        f"as often.\n\n"
        f"{kernels_table(of_kernels)}\n",
    ]
    for title, lines in (
        ("Where we are behind", [*behind(of_models), *behind(of_kernels)]),
        ("Remarks", [line for found in (of_models, of_fixed, of_kernels) for line in report.remarks(found)]),
    ):
        if lines:
            parts.append("\n".join([f"## {title}\n", *(f"- {line}" for line in lines), ""]))
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, command in (("models", "run"), ("kernels", "kernels"), ("fixed", "run ... stepwell,stepwell_static")):
        parser.add_argument(f"--{option}", type=Path, metavar="FILE", help=f"what `benchmarks.{command} --json` wrote")
    parser.add_argument("--output", type=Path, default=PAGE, metavar="FILE", help="default: benchmarks/README.md")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder)
        symbolic = [path.stem for path in sorted(materialize.MODELS.glob(SYMBOLIC))]
        files = (
            args.models or measured(new / "models.json", "run"),
            args.kernels or measured(new / "kernels.json", "kernels"),
            args.fixed or measured(new / "fixed.json", "run", "stepwell,stepwell_static", symbolic),
        )
        models, kernels, fixed = (json.loads(path.read_text()) for path in files)
    args.output.write_text(page(models, kernels, fixed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
