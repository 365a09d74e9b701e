"""How much a kernel does: operations and bytes, as sizes over the program's symbols."""

from __future__ import annotations

from collections.abc import Iterator

from stepwell.dialects import arith, math
from stepwell.dialects.tensor import GenericOp, KernelOp, ReshapeOp, tensor_type
from stepwell.ir.attributes import StringAttr
from stepwell.ir.core import Operation, Value
from stepwell.ir.dim_poly import TooLarge
from stepwell.ir.dims import Dim, dim_min
from stepwell.ir.types import FloatType, IntegerType, bit_width, element_of

FLOPS = "sw.flops"
"""A kernel's attribute: its arithmetic operations, as text over the program's symbols."""
BYTES = "sw.bytes"
"""A kernel's attribute: the bytes that it reads and writes, likewise."""

_COUNTED = (arith.BinaryOp, arith.NegFOp, math.UnaryOp, math.FmaOp)


def note(function: Operation, kernel: KernelOp) -> None:
    """Keep how much a kernel does as attributes of its function; what has too many terms to be said is left out."""
    for name, count in ((FLOPS, flops), (BYTES, bytes_moved)):
        try:
            function.attributes[name] = StringAttr(str(count(kernel)))
        except TooLarge:
            continue


def flops(kernel: KernelOp) -> Dim:
    """Arithmetic of a kernel: points of each op times the operations at a point. A contraction's point is a
    multiplication and an addition; index arithmetic, conversions, comparisons and choices count nothing."""
    total: Dim = 0
    for generic in _generics(kernel):
        total = total + points(generic) * operations_at_point(generic)
    return total


def bytes_moved(kernel: KernelOp) -> Dim:
    """Bytes of a kernel's inputs and results, each counted once; only of the elements that are read or written."""
    total: Dim = 0
    for argument in kernel.body.block.arguments:
        read: Dim = 0
        for generic, times in _readers(argument):
            read = read + points(generic) * times
        total = total + dim_min(elements(argument), read) * element_bytes(argument)
    for result, value in zip(kernel.results, kernel.body.block.terminator.operands, strict=True):
        total = total + dim_min(elements(result), written(value)) * element_bytes(result)
    return total


def written(value: Value) -> Dim:
    """How many elements what makes a tensor, perhaps reshaped, writes: less than all where it has a place in it."""
    while isinstance(value.defining_op, ReshapeOp):
        value = value.defining_op.x
    made = value.defining_op
    if not isinstance(made, GenericOp):
        return elements(value)
    return _product(tuple(n for n, kind in zip(made.sizes.dims, made.iterators, strict=True) if kind == "parallel"))


def points(generic: GenericOp) -> Dim:
    """The size of an op's iteration space."""
    return _product(generic.sizes.dims)


def elements(value: Value) -> Dim:
    """The number of a tensor's elements."""
    return _product(tensor_type(value).shape)


def element_bytes(value: Value) -> int:
    """The bytes that an element takes in memory."""
    return max(1, bit_width(tensor_type(value).element) // 8)


def operations_at_point(generic: GenericOp) -> int:
    """Arithmetic operations of the body and of the reduction's operation."""
    return sum(_weight(op) for op in generic.walk())


def _weight(op: Operation) -> int:
    if not isinstance(op, _COUNTED):
        return 0
    element = element_of(op.results[0].type)
    counts = isinstance(element, FloatType) or (isinstance(element, IntegerType) and element.width > 1)
    return (2 if isinstance(op, math.FmaOp) else 1) if counts else 0


def _generics(kernel: KernelOp) -> Iterator[GenericOp]:
    return (op for op in kernel.body.block if isinstance(op, GenericOp))


def _readers(value: Value) -> Iterator[tuple[GenericOp, int]]:
    """The ops that read a tensor, perhaps reshaped, and how often they do at each point."""
    for user in dict.fromkeys(value.users):
        if isinstance(user, ReshapeOp):
            yield from _readers(user.result)
        elif isinstance(user, GenericOp):
            yield user, sum(operand is value for operand in user.operands)


def _product(dims: tuple[Dim, ...]) -> Dim:
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total
