"""Finds the pass, then the op or kernel, that changed a result (`--check-each`).

Down to the end of the tensor landing the whole module is interpreted in NumPy before and after every pass. Below it the
check goes kernel by kernel (`kernels`): each distinct one is run by plain scalar code at its real sizes, and
interpreted at sizes shrunk to about one tile (`shrink`). The program around the kernels is run with scalar kernels
whenever a pass has changed it (`launches`), so that a wrong place in the arena is found at the launch that meets it.
"""

from __future__ import annotations

from .compare import ResultChanged, difference, tolerance
from .instrument import CheckEach, Outcome
from .interpret import BUDGET, Run, TooLong, interpret

__all__ = [
    "BUDGET",
    "CheckEach",
    "Outcome",
    "ResultChanged",
    "Run",
    "TooLong",
    "difference",
    "interpret",
    "tolerance",
]
