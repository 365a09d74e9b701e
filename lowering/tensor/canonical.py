"""What is equal for kernels that compute the same: a text, a short name, and a key for the time of one process."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

from stepwell.dialects.tensor import ConstantOp, GenericOp, KernelOp
from stepwell.ir.core import Value
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


def structure(op: KernelOp | GenericOp) -> Hashable:
    """Equal for kernels, or generics, of one process for which the cost model counts the same; quicker than the
    text."""
    numbers: dict[Value, int] = {}
    found: list[Hashable] = [isinstance(value.defining_op, ConstantOp) for value in op.operands]
    found.append((tuple(op.properties.items()), tuple(value.type for value in (*op.operands, *op.results))))
    for inner in op.walk():
        if inner is not op:
            operands = tuple(numbers.get(value, -1) for value in inner.operands)
            for result in inner.results:
                numbers[result] = len(numbers)
            types = tuple(result.type for result in inner.results)
            found.append((inner.op_name, operands, tuple(inner.properties.items()), types))
        for argument in (a for region in inner.regions for block in region.blocks for a in block.arguments):
            numbers[argument] = len(numbers)
    return tuple(found)
