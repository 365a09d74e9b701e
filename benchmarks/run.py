"""Time Stepwell and its peers on whole models, side by side in one run, and compare what they compute.

    python -m benchmarks.run                                   # all models, one and two threads
    python -m benchmarks.run resnet50 bert_base --threads 2    # some
    python -m benchmarks.run --update README.md                # put the table where README.md marks its place

Exits with 1 when an engine failed or differs from the first one.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import materialize, options, report
from benchmarks.harness import Comparison, measure
from benchmarks.worker import Case, Feeds


def _build(path: Path) -> tuple[Any, Feeds]:
    model = materialize.load(path)
    return model, materialize.inputs(model)


def cases(names: Sequence[str]) -> list[Case]:
    """The models in benchmarks/models/ by `names`, or all of them.

    Raises KeyError for a name that is not there.
    """
    known = {path.stem: path for path in sorted(materialize.MODELS.glob("*.onnx"))}
    return [Case(name, functools.partial(_build, known[name])) for name in names or known]


def document(comparisons: Sequence[Comparison], environment: dict[str, Any]) -> str:
    """The table with the machine it was measured on above and what went wrong below."""
    lines = [report.machine(environment), "", report.models_table(comparisons)]
    if remarks := report.remarks(comparisons):
        lines += ["", *(f"- {remark}" for remark in remarks)]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in benchmarks/models/ (default: all)")
    parser.add_argument("--update", type=Path, metavar="DOCUMENT", help="replace the table in DOCUMENT")
    options.add(parser)
    args = parser.parse_args(argv)
    engines, rules = options.engines(parser, args), options.rules(args)
    threads = options.threads(parser, args)
    try:
        chosen = cases(args.models)
    except KeyError as error:
        parser.error(f"no model named {error} in {materialize.MODELS}")

    comparisons = []
    for case in chosen:
        for count in threads:
            comparisons.append(measure(engines, case, count, rules))
            print(report.models_table(comparisons[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    environment = report.environment(engines)
    text = document(comparisons, environment)
    print(text)
    if args.json:
        report.write_json(args.json, comparisons, {"environment": environment})
    if args.update:
        report.update_document(args.update, text)
    return 1 if report.faults(comparisons) else 0


if __name__ == "__main__":
    sys.exit(main())
