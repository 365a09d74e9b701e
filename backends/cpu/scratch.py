"""How much scratch memory a thread needs for the local buffers of a program's kernels.

The sizes of local buffers are code: this finds what that code computes, as a dim over the symbols of the program's
inputs, or an upper bound of it (a tile of `min(16, n - i)` rows takes 16).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from stepwell.dialects import arith, buffer, heap, kernel, loop
from stepwell.dialects.func import FuncOp
from stepwell.errors import PassError
from stepwell.ir.core import Block, BlockArgument, Operation, OpResult, Value
from stepwell.ir.dim_largest import largest
from stepwell.ir.dims import Dim, bounds, ceildiv, dim_max, dim_min, floordiv, free_symbols, parse_dim
from stepwell.ir.symbols import lookup
from stepwell.ir.types import DYNAMIC, MemRefType, bit_width

from .entry import ALIGNMENT
from .signature import Signature

Range = tuple[Dim | None, Dim | None]
"""Inclusive bounds, None where they are not known."""


def scratch_bytes(program: FuncOp) -> Dim:
    """Bytes for one thread, a multiple of 64: the most that any launch takes, or more. Raises PassError where the size
    of a local buffer follows from no input."""
    signature = Signature.of(program)
    dims = [dim for port in signature.inputs for dim in port.dims]
    sizes = Sizes(symbols=frozenset(name for dim in dims for name in free_symbols(dim)))
    for argument, port in zip(program.arguments, (*signature.inputs, *signature.outputs), strict=False):
        sizes.shapes[argument] = [(dim, dim) for dim in port.dims]
    peaks: list[Dim] = []
    for launch in program.walk_of(kernel.LaunchOp):
        function = lookup(launch, launch.callee)
        assert isinstance(function, FuncOp)
        inner = Sizes()
        for argument, given in zip(function.arguments, launch.inputs, strict=True):
            if isinstance(argument.type, MemRefType):
                inner.shapes[argument] = sizes.shape(given)
            else:
                inner.known[argument] = sizes.range(given)
        peaks.append(_peak(function.body.block, inner))
    return largest(peaks)


def _peak(block: Block, sizes: Sizes) -> Dim:
    """What a block's local buffers take at most at one time; those of an inner region go when it is left."""
    taken: Dim = 0
    peaks: list[Dim] = []
    for op in block:
        if isinstance(op, buffer.LocalOp):
            taken = taken + _padded_bytes(op, sizes)
            peaks.append(taken)
        for region in op.regions:
            peaks.extend(taken + _peak(inner, sizes) for inner in region.blocks)
    return largest(peaks)


def _padded_bytes(op: buffer.LocalOp, sizes: Sizes) -> Dim:
    total: Dim = max(1, bit_width(op.result.type) // 8)
    for _, high in sizes.shape(op.result):
        if high is None:
            raise PassError(f"{op.loc.label or 'a kernel'}: the size of a local buffer follows from no input: {op}")
        total = total * dim_max(high, 0)
    return ceildiv(total, ALIGNMENT) * ALIGNMENT


@attrs.define
class Sizes:
    """Bounds of the index values and shapes of one function, given those of its arguments."""

    known: dict[Value, Range] = attrs.Factory(dict)
    shapes: dict[Value, list[Range]] = attrs.Factory(dict)
    symbols: frozenset[str] = frozenset()  # those of the program's inputs

    def shape(self, memory: Value) -> list[Range]:
        """The bounds of a buffer's sizes."""
        if memory not in self.shapes:
            self.shapes[memory] = self._shape(memory)
        return self.shapes[memory]

    def _shape(self, memory: Value) -> list[Range]:
        type_, op = memory.type, memory.defining_op
        assert isinstance(type_, MemRefType)
        if isinstance(op, buffer.RebaseOp):
            return self.shape(op.memory)
        if isinstance(op, buffer.SliceOp):
            return self.shape(op.memory)[1:]
        if isinstance(op, loop.IfOp) and isinstance(memory, OpResult):
            ends = [side.block.terminator.operands[memory.index] for side in op.regions]
            return [_either(a, b) for a, b in zip(*map(self.shape, ends), strict=True)]
        first = carried_from(memory)
        if first is not None and not may_grow(memory):
            return self.shape(first)
        sizes = getattr(op, "sizes", None)
        if sizes is None:
            return [(dim, dim) if dim != DYNAMIC else (0, None) for dim in type_.shape]
        rest = iter(sizes)
        return [(dim, dim) if dim != DYNAMIC else self.range(next(rest)) for dim in type_.shape]

    def range(self, value: Value) -> Range:
        """The bounds of an index."""
        if value not in self.known:
            constant = arith.constant_int(value)
            self.known[value] = (constant, constant) if constant is not None else self._computed(value)
        return self.known[value]

    def _computed(self, value: Value) -> Range:
        op = value.defining_op
        if op is None:
            return self._loop_variable(value)
        if isinstance(op, buffer.DimOp):
            return self.shape(op.memory)[op.axis]
        if isinstance(op, heap.SizeOp):
            most = parse_dim(op.at_most) if op.at_most is not None else None
            return 0, most if most is not None and free_symbols(most) <= self.symbols else None
        if isinstance(op, arith.SelectOp):
            return _either(self.range(op.true_value), self.range(op.false_value))
        rule = _RULES.get(type(op))
        return (None, None) if rule is None else rule(*(self.range(operand) for operand in op.operands))

    def _loop_variable(self, value: Value) -> Range:
        owner = value.block.parent_op if isinstance(value, BlockArgument) and value.index == 0 else None
        if not isinstance(owner, (loop.ForOp, loop.ParallelOp)):
            return None, None
        low, high = self.range(owner.lower)[0], self.range(owner.upper)[1]
        return low, None if high is None else high - 1


def carried_from(value: Value) -> Value | None:
    """A value that control flow hands on in the place of this one, in the first round of a loop."""
    if isinstance(value, OpResult):
        op, index = value.op, value.index
        if isinstance(op, loop.IfOp):
            return op.then.block.terminator.operands[index]
        return op.inits[index] if isinstance(op, (loop.ForOp, loop.WhileOp)) else None
    assert isinstance(value, BlockArgument)
    owner = value.block.parent_op
    if isinstance(owner, loop.ForOp):
        return owner.inits[value.index - 1] if value.index else None
    return owner.inits[value.index] if isinstance(owner, loop.WhileOp) else None


def may_grow(value: Value) -> bool:
    """Whether the rounds of a loop may give a carried buffer other sizes. They cannot where they hand on what is
    carried itself, or memory from above: its sizes are known before the loop."""
    assert isinstance(value, (OpResult, BlockArgument))
    owner = value.op if isinstance(value, OpResult) else value.block.parent_op
    if not isinstance(owner, loop.WhileOp):
        return False
    memory = owner.body.block.terminator.operands[value.index]
    while isinstance(memory.defining_op, (buffer.ReshapeOp, buffer.ViewOp)):
        memory = memory.defining_op.operands[0]
    made = memory.defining_op
    return made is not None and owner.is_ancestor_of(made)


def _both(compute: Callable[[Any, Any], Dim], a: Dim | None, b: Dim | None) -> Dim | None:
    return None if a is None or b is None else compute(a, b)


def _either(a: Range, b: Range) -> Range:
    return _both(dim_min, a[0], b[0]), _both(dim_max, a[1], b[1])


def _add(a: Range, b: Range) -> Range:
    return _both(lambda x, y: x + y, a[0], b[0]), _both(lambda x, y: x + y, a[1], b[1])


def _subtract(a: Range, b: Range) -> Range:
    return _both(lambda x, y: x - y, a[0], b[1]), _both(lambda x, y: x - y, a[1], b[0])


def _multiply(a: Range, b: Range) -> Range:
    if a[0] is not None and b[0] is not None and a[0] == a[1] and b[0] == b[1]:
        return a[0] * b[0], a[0] * b[0]  # of either sign
    if not _not_negative(a) or not _not_negative(b):
        return None, None
    return _both(lambda x, y: x * y, a[0], b[0]), _both(lambda x, y: x * y, a[1], b[1])


def _divide(round_: Callable[[Any, Any], Dim]) -> Callable[[Range, Range], Range]:
    def divide(a: Range, b: Range) -> Range:
        if b[0] is None or b[0] != b[1] or not _at_least(b[0], 1):
            return None, None
        return _both(round_, a[0], b[0]), _both(round_, a[1], b[0])

    return divide


def _minimum(a: Range, b: Range) -> Range:
    highs = [x for x in (a[1], b[1]) if x is not None]
    return _both(dim_min, a[0], b[0]), dim_min(*highs) if len(highs) == 2 else highs[0] if highs else None


def _maximum(a: Range, b: Range) -> Range:
    lows = [x for x in (a[0], b[0]) if x is not None]
    return dim_max(*lows) if len(lows) == 2 else lows[0] if lows else None, _both(dim_max, a[1], b[1])


def _remainder(a: Range, b: Range) -> Range:
    return 0, None if b[1] is None else b[1] - 1


def _not_negative(range_: Range) -> bool:
    return range_[0] is not None and _at_least(range_[0], 0)


def _at_least(dim: Dim, low: int) -> bool:
    known = bounds(dim)[0]
    return known is not None and known >= low


_RULES: dict[type[Operation], Callable[[Range, Range], Range]] = {
    arith.AddIOp: _add, arith.SubIOp: _subtract, arith.MulIOp: _multiply, arith.DivUIOp: _divide(floordiv),
    arith.DivSIOp: _divide(floordiv), arith.FloorDivSIOp: _divide(floordiv), arith.CeilDivSIOp: _divide(ceildiv),
    arith.MinSIOp: _minimum, arith.MaxSIOp: _maximum, arith.RemUIOp: _remainder,
}  # fmt: skip
