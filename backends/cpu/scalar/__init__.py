"""A second, plain way from the loop landing to machine code, against which passes and the real emitter are checked.

It is slow and simple on purpose: values that a loop carries live in memory, every access is checked against the sizes
of its buffer, what is hard on vectors is done lane by lane, and it reads kernels of every stage of the loop landing,
from whole `loop.stage` ops to vectors. It shares nothing with the real emitter but the spelling of LLVM's types.
"""

from __future__ import annotations

from .kernel import NoScalarForm, ScalarKernel, compile_kernels

__all__ = ["NoScalarForm", "ScalarKernel", "compile_kernels"]
