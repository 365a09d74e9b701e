"""The `lower` command: walk a model down the landings and look at what is there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stepwell import __version__
from stepwell.errors import StepwellError

DESCRIPTION = "Lower an ONNX model, or IR at any landing, and show, run, time or check what comes out."
INTERRUPTED = 130  # the exit status of shells for a command that Ctrl-C ended
TO_IR, TO_CODE = ("graph", "tensor", "loop"), ("llvm", "asm", "obj", "so", "engine", "onnx")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; answers the exit status: 0, 1 where the work failed, 2 for a wrong command line,
    130 where it was interrupted."""
    parser = make_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    if args.source is None and args.source_ir is None and not (args.host or args.passes):
        parser.print_usage(sys.stderr)
        sys.stderr.write("lower: error: no model given\n")
        return 2
    from stepwell import commands

    try:
        return commands.execute(args)
    except StepwellError as error:
        _report(error)
    except BrokenPipeError:
        return 1
    except OSError as error:
        sys.stderr.write(f"lower: {error.strerror}: {error.filename}\n" if error.filename else f"lower: {error}\n")
    except MemoryError as error:
        sys.stderr.write(f"lower: out of memory: {error}\n")
    except KeyboardInterrupt:
        sys.stderr.write("lower: interrupted\n")
        return INTERRUPTED
    return 1


def _report(error: StepwellError) -> None:
    sys.stderr.write(f"lower: {error}\n")
    for note in getattr(error, "__notes__", ()):
        sys.stderr.write(f"note: {note}\n")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser("lower", description=DESCRIPTION, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", nargs="?", metavar="MODEL", help="an .onnx model, or an .mlir file at any landing")
    parser.add_argument("--version", action="version", version=f"stepwell {__version__}")
    _add_way(parser.add_argument_group("the way down"))
    _add_looking(parser.add_argument_group("looking at the IR (to stderr)"))
    _add_actions(parser.add_argument_group("instead of printing the result, or after -o wrote it"))
    return parser


def _output(text: str) -> Path | None:
    return None if text == "-" else Path(text)


def _add_way(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--to", choices=TO_IR + TO_CODE,
                       help="where to stop (default: llvm); so: a shared library and its C header;\n"
                            "engine: a compiled model for stepwell.load;\n"
                            "onnx: the optimised graph as a model")  # fmt: skip
    group.add_argument("-o", "--output", type=_output, metavar="OUT",
                       help="write the result there (-: to stdout); IR gets its constants into\n"
                            "OUT.weights.bin")  # fmt: skip
    group.add_argument("--from-ir", dest="source_ir", metavar="FILE", help="the same as MODEL, for IR under any name")
    group.add_argument("--target", default="cpu", help="cpu (this machine), x86-64-v4, x86-64-v3, x86-64, aarch64")
    group.add_argument("--precision", default="f32",
                       help="f32, or strict: sums in order, no fused multiply-adds (default: f32)")  # fmt: skip
    group.add_argument("--threads", type=int, metavar="N", help="threads of the team (default: the usable cores)")
    group.add_argument("--sanitize", action=argparse.BooleanOptionalAction, default=None,
                       help="check bounds of memory accesses (default: with --from-ir ... --run)")  # fmt: skip
    group.add_argument("--no-host", action="store_true",
                       help="refuse models that call Python, for strings or images")  # fmt: skip
    group.add_argument("--cache", action=argparse.BooleanOptionalAction, default=True,
                       help="take kernels that were compiled before from disk (default: yes)")  # fmt: skip
    group.add_argument("--tuned", "--tune-file", dest="tuned", type=Path, metavar="FILE",
                       help="schedules that were found by measuring; with --tune, where they go")  # fmt: skip
    group.add_argument("--shapes", action="append", default=[], metavar="NAME=N|LEAST,USUAL,MOST",
                       help="fix a symbolic size, or say what is usual (guides schedules only)")  # fmt: skip
    group.add_argument("--state", action="append", default=[], metavar="IN=OUT",
                       help="keep an input from call to call: the output becomes the input of the next")  # fmt: skip
    group.add_argument("--capacity", action="append", default=[], metavar="NAME=ROWS",
                       help="up to how many rows kept inputs grow in place, by the name of the size")  # fmt: skip
    group.add_argument("--pipeline", metavar="TEXT", help="run these passes: 'graph(canonicalize,cse),to-tensor'")
    group.add_argument("--passes", action="store_true", help="list the phases and passes")
    group.add_argument("--load", action="append", default=[], type=Path, metavar="FILE",
                       help="load a Python file with dialects, import rules, lowering rules or passes")  # fmt: skip


def _add_looking(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--print-after-all", action="store_true", help="the IR after every pass")
    group.add_argument("--print-after", action="append", default=[], metavar="PASS", help="the IR after a pass")
    group.add_argument("--print-before", action="append", default=[], metavar="PASS", help="the IR before a pass")
    group.add_argument("--print-changed", action="store_true", help="what each pass changed, as a diff")
    group.add_argument("--generic", action="store_true", help="print MLIR's generic form")
    group.add_argument("--locations", action="store_true", help="print where each operation came from")
    group.add_argument("--dump-dir", type=Path, metavar="DIR", help="write the IR after every pass, re-loadable")
    group.add_argument("--timing", action="store_true", help="how long each pass took")
    group.add_argument("--remarks", action="store_true", help="what the compiler decided, and why")
    group.add_argument("--verify-each", action="store_true", help="verify the IR after every pass")
    group.add_argument("--crash-reproducer", type=Path, metavar="DIR", help="keep what a failing pass was given")


def _add_actions(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--run", action="store_true", help="run the model and show its outputs")
    group.add_argument("--inputs", type=Path, metavar="NPZ", help="arrays by input name (default: made-up ones)")
    group.add_argument("--outputs", type=Path, metavar="NPZ", help="with --run: write the outputs there")
    group.add_argument("--seed", type=int, default=0, help="of made-up inputs (default: 0)")
    group.add_argument("--bench", action="store_true", help="time calls: median and spread; then as --profile")
    group.add_argument("--profile", action="store_true",
                       help="the time of every kernel, largest first, what limits it, and how near it is to that")
    group.add_argument("--html", type=Path, metavar="FILE",
                       help="--profile as a page with a roofline plot; the page needs no other file")
    group.add_argument("--trace", type=Path, metavar="FILE",
                       help="with --profile: what each thread did in one call, for Perfetto and chrome://tracing")
    group.add_argument("--tune", nargs="?", type=float, const=60.0, metavar="SECONDS",
                       help="search faster schedules, so long with loading and lowering (default: 60), the\n"
                            "largest kernels first; goes on where the file of --tune-file ends")  # fmt: skip
    group.add_argument("--check-each", action="store_true", help="find the pass that changed a result")
    group.add_argument("--report", action="store_true", help="kernels, memory, statistics, time")
    group.add_argument("--probe", action="append", default=[], metavar="NAME",
                       help="run, and show the values of an ONNX name")  # fmt: skip
    group.add_argument("--host", action="store_true", help="show what was detected of this machine")


if __name__ == "__main__":
    sys.exit(main())
