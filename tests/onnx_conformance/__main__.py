"""ONNX's whole suite in child processes, with a table per operator.

    python -m tests.onnx_conformance [--mode given|symbolic|constant|misfits] [--only PART] [--details] [--jobs N]
                                     [--emulated]
    python -m tests.onnx_conformance --page        # the first three modes, kept in docs/onnx.json; then docs/onnx.md

The status is 0 exactly if the outcome of every case is the one that expected.py asks for."""

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
from tests.onnx_conformance.cases import CRASH, HANG, OK, OUTCOMES, Outcome, table
from tests.onnx_conformance.expected import surprises
from tests.onnx_conformance.kept import KEPT, keep
from tests.onnx_conformance.page import PAGE, page
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


def show(outcomes: Sequence[Outcome], details: bool) -> None:
    """Print a table of the operators, with details a line for every case that is not OK before it."""
    for made in sorted(outcomes, key=lambda made: (made.kind, made.operator, made.name)) if details else ():
        if made.kind != OK:
            print(f"{made.kind:<9} {made.operator:<24} {made.name}: {made.reason}")
    clean = clean_operators(outcomes)
    print(f"{table(outcomes, OUTCOMES, OK)}\nwithout a flaw ({len(clean)}): {', '.join(clean)}")


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=list(WAYS), default="given")
    parser.add_argument("--only", default="", metavar="PART", help="cases whose names have this part")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--details", action="store_true", help="a line for every case that is not ok")
    parser.add_argument("--emulated", action="store_true", help="as AArch64 code, under qemu")
    parser.add_argument("--page", action="store_true", help="keep what becomes of all cases in three modes, as a page")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(given)
    if args.page and (args.only or args.emulated):
        parser.error("--page is about all cases, on this machine")
    if args.emulated and not args.child and emulation.missing():
        parser.error(f"--emulated: {emulation.missing()}")
    return args


def main(given: Sequence[str] | None = None) -> int:
    """0 where the outcome of every case is as expected."""
    args = arguments(given)
    if args.child:
        run = functools.partial(emulated if args.emulated else outcome, mode=args.mode)
        serve(functools.partial(answer, run=run))
        return 0
    names = [name for name in items() if args.only in name]
    emulating = ["--emulated"] if args.emulated else []
    found = {mode: list(sweep(names, args.jobs, [f"--mode={mode}", *emulating]))
             for mode in (MODES if args.page else [args.mode])}  # fmt: skip
    if args.page:
        keep(found, KEPT)
        PAGE.write_text(page(found))
    else:
        show(found[args.mode], args.details)
    unexpected = [text for mode, outcomes in found.items()
                  for text in surprises(names, outcomes, mode, args.emulated)]  # fmt: skip
    if unexpected:
        print(f"not as expected ({len(unexpected)}):", *unexpected, sep="\n  ")
    return int(bool(unexpected))


if __name__ == "__main__":
    sys.exit(main())
