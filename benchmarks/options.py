"""The command-line options that benchmark commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import materialize
from benchmarks.peers import ENGINES
from benchmarks.worker import Engine, Rules

DEFAULTS = Rules()


def names(text: str) -> list[str]:
    """The words between commas."""
    return [word for word in text.split(",") if word]


def add(parser: argparse.ArgumentParser) -> None:
    """Add the shared options to `parser`."""
    known = f"of {', '.join(ENGINES)}; ratios are to the first (default: stepwell,onnxruntime)"
    parser.add_argument("--engines", type=names, default=["stepwell", "onnxruntime"], metavar="A,B", help=known)
    parser.add_argument("--threads", type=names, default=["1", "2"], metavar="N,M", help="default: 1,2")
    parser.add_argument("--rounds", type=int, default=DEFAULTS.rounds, help="blocks per engine (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=DEFAULTS.seconds, help="of a block (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every block's median to FILE")


def engines(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict[str, Engine]:
    """The engines asked for, in their order; an unknown one ends the command."""
    if unknown := [name for name in args.engines if name not in ENGINES] or not args.engines:
        parser.error(f"no such engine: {unknown}; there are {', '.join(ENGINES)}")
    return {name: ENGINES[name] for name in args.engines}


def models(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[str]:
    """The models asked for, or all of benchmarks/models; an unknown one ends the command."""
    known = sorted(path.stem for path in materialize.MODELS.glob("*.onnx"))
    if unknown := [name for name in args.models if name not in known]:
        parser.error(f"no model named {', '.join(unknown)} in benchmarks/models")
    return args.models or known


def threads(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[int]:
    """The numbers of threads asked for; anything but positive integers ends the command."""
    if not args.threads or not all(text.isdecimal() and int(text) for text in args.threads):
        parser.error("--threads takes positive integers, separated by commas")
    return [int(text) for text in args.threads]


def rules(args: argparse.Namespace) -> Rules:
    """The rules that the options describe."""
    return Rules(rounds=args.rounds, seconds=args.seconds)
