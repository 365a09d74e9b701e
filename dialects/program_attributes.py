"""Attributes by which one landing tells those below something of a program: of the function, or of its arguments."""

from __future__ import annotations

DEMANDS = "sw.demands"
"""The function's: a size that must be 0, then what is wrong where it is not, then the next size."""

DESCRIPTOR = "sw.descriptor"
"""An output's: the argument is a descriptor of the result, which the program finds memory for."""

SCRATCH = "sw.scratch"
"""The function's: how many bytes of scratch memory each thread needs, over the inputs' symbols."""
