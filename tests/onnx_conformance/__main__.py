"""ONNX's whole suite in child processes, with a table per operator.

    python -m tests.onnx_conformance [--mode given|symbolic|constant|misfits] [--only PART] [--details] [--jobs N]
                                     [--emulated]
    python -m tests.onnx_conformance --page docs/onnx.md        # the first three modes, as a page
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from tests import emulation
from tests.children import Died, answers, serve
from tests.onnx_conformance.cases import CRASH, HANG, OK, OUTCOMES, REFUSED, RIGHT, Outcome, table
from tests.onnx_conformance.page import page
from tests.onnx_conformance.suite import MODES, WAYS, items, outcome

SECONDS = 120.0  # for one case, compiled and run, two at a time


def emulated(name: str, mode: str) -> Outcome:
    """The outcome on AArch64, under qemu."""
    with tempfile.TemporaryDirectory() as folder, emulation.of(Path(folder)):
        return outcome(name, mode, target="aarch64")


def sweep(names: Sequence[str], jobs: int, options: Sequence[str] = ()) -> Iterator[Outcome]:
    """The outcomes of the cases, in the order in which they are ready."""
    for name, made in answers(__spec__.name, names, jobs, options, SECONDS):
        if isinstance(made, Died):
            yield Outcome(name, "(died)", HANG if made.hangs else CRASH, f"exit status {made.status}")
        else:
            yield Outcome(**json.loads(made))


def answer(name: str, run: Callable[[str], Outcome]) -> str:
    """The child's answer to a name."""
    return json.dumps(attrs.asdict(run(name)))


def clean_operators(outcomes: Sequence[Outcome]) -> list[str]:
    """The operators whose cases are all OK."""
    return sorted({made.operator for made in outcomes} - {made.operator for made in outcomes if made.kind != OK})


def main() -> int:
    """0 where no case crashed, hung, met an internal error or gave a wrong result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=list(WAYS), default="given")
    parser.add_argument("--only", default="", metavar="PART", help="cases whose names have this part")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--details", action="store_true", help="a line for every case that is not ok")
    parser.add_argument("--emulated", action="store_true", help="as AArch64 code, under qemu")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write what becomes of the cases in three modes")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        run = functools.partial(emulated if args.emulated else outcome, mode=args.mode)
        serve(functools.partial(answer, run=run))
        return 0
    if args.emulated and emulation.missing():
        parser.error(f"--emulated: {emulation.missing()}")
    names = [name for name in items() if args.only in name]
    emulating = ["--emulated"] if args.emulated else []
    if args.page:
        found = {mode: list(sweep(names, args.jobs, [f"--mode={mode}", *emulating])) for mode in MODES}
        args.page.write_text(page(found))
        return 0
    outcomes = list(sweep(names, args.jobs, [f"--mode={args.mode}", *emulating]))
    if args.details:
        for made in sorted(outcomes, key=lambda made: (made.kind, made.operator, made.name)):
            if made.kind != OK:
                print(f"{made.kind:<9} {made.operator:<24} {made.name}: {made.reason}")
    clean = clean_operators(outcomes)
    print(f"{table(outcomes, OUTCOMES, OK)}\nwithout a flaw ({len(clean)}): {', '.join(clean)}")
    return int(any(made.kind not in (*RIGHT, REFUSED) for made in outcomes))


if __name__ == "__main__":
    sys.exit(main())
