"""Runs an f32 function of one argument on all 2**32 of them, and holds its largest error against the stated bound.

    python -m tests.math.exhaustive                 # all functions, some minutes each
    python -m tests.math.exhaustive erf tanh        # some
    python -m tests.math.exhaustive --means fma exp # as a target computes it that has fused multiply-add, but no tables

The function is a kernel that is compiled for the newest target that has the means, the reference NumPy's in f64. The
exit status says whether all errors are within their bounds."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from stepwell.lowering.loop.math.recipes import FUNCTIONS
from tests.math.kernels import TARGETS, compiled
from tests.math.references import IN_F64, ulp_errors

CHUNK = 1 << 16  # arguments at once: what is computed of them stays in the cache
UNARY = [name for name, function in FUNCTIONS.items() if function.operands == 1]


@attrs.frozen
class Worst:
    """The largest error in ulp, and where it was found; `bits` of the argument."""

    error: float
    bits: int

    def __str__(self) -> str:
        return f"{self.error:.3f} ulp at {np.uint32(self.bits).view(np.float32)!r} (bits {self.bits:#010x})"


def chunks(start: int, stop: int) -> Iterator[np.ndarray[tuple[int], np.dtype[np.uint32]]]:
    """The bit patterns from `start` to `stop`, in order."""
    for low in range(start, stop, CHUNK):
        yield np.arange(low, min(low + CHUNK, stop), dtype=np.uint32)


def worst_of(name: str, means: str, *, start: int = 0, stop: int = 1 << 32) -> Worst:
    """The largest error over the arguments with bit patterns from `start` to `stop`."""
    kernel = compiled(name, "f32", means, threads=1)
    worst = Worst(0.0, start)
    with np.errstate(all="ignore"):
        for bits in chunks(start, stop):
            x = bits.view(np.float32)
            errors = ulp_errors(kernel(x).astype(np.float64), IN_F64[name](x.astype(np.float64)), 23, -126, 127)
            place = int(np.argmax(errors))
            if errors[place] > worst.error:
                worst = Worst(float(errors[place]), int(bits[place]))
    return worst


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("functions", nargs="*", metavar="FUNCTION", help=f"of {', '.join(UNARY)} (default: all)")
    parser.add_argument("--means", choices=list(TARGETS), default="tables",
                        help=f"of {', '.join(f'{target} ({means})' for means, target in TARGETS.items())}")  # fmt: skip
    args = parser.parse_args(argv)
    if unknown := sorted({*args.functions} - {*UNARY}):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(UNARY)}")
    good = True
    for name in args.functions or UNARY:
        began, bound = time.monotonic(), FUNCTIONS[name].bound(32, args.means != "plain")
        worst = worst_of(name, args.means)
        good &= worst.error <= bound
        verdict = "within" if worst.error <= bound else "BEYOND"
        print(f"{name}: {worst}, {verdict} {bound} ({time.monotonic() - began:.0f} s)", flush=True)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
