"""A kernel as text that is equal for kernels that compute the same."""

from __future__ import annotations

import hashlib

from stepwell.dialects.tensor import ConstantOp, KernelOp
from stepwell.ir.printer import Printer, PrintOptions


def canonical_text(kernel: KernelOp) -> str:
    """The body in the generic form, without names of values, locations and the schedule."""
    copy = kernel.clone()
    for inner in copy.walk():
        for value in (*inner.results, *(a for r in inner.regions for b in r.blocks for a in b.arguments)):
            value.name = None
    printer = Printer(PrintOptions(generic=True))
    printer.region(copy, copy.regions[0])
    text = printer.text()
    copy.drop_all_references()
    return text


def kernel_key(kernel: KernelOp) -> str:
    """A short name of a kernel before it has a schedule: a hash of its text and of which inputs are constants."""
    constants = [n for n, value in enumerate(kernel.inputs) if isinstance(value.defining_op, ConstantOp)]
    return hashlib.sha256(f"{canonical_text(kernel)}\n{constants}".encode()).hexdigest()[:32]
