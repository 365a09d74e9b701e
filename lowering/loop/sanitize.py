"""Bounds checks for every access to memory, so that wrong IR ends in an error and not in a crash.

%x = buffer.load %m[%i]    ->  %in = cmpi ult %i, size of %m; check.require %in, %i
                               %x = loop.if %in { buffer.load %m[%i] } else { 0 }
%v = vector.load %m[%i]    ->  %in = cmpi ult (%i + lane), size of %m; check.require %in, ...
                               %v = vector.maskedload %m[%i], %in, 0

Buffers made of other memory are checked where they are made: views against the arena's size, rows against the number
of rows, reshapes against the number of elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import attrs

from stepwell.dialects import arith, buffer, vector
from stepwell.dialects.buffer import memref_type
from stepwell.dialects.check import RequireOp
from stepwell.dialects.func import FuncOp
from stepwell.dialects.kernel import LaunchOp
from stepwell.dialects.loop import IfOp, yield_values
from stepwell.errors import PassError
from stepwell.ir.attr_parser import AttributeParser
from stepwell.ir.attributes import StringAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import parse_dim
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import DYNAMIC, I1, Type, VectorType, numpy_dtype
from stepwell.lowering.loop.index import IndexBuilder
from stepwell.lowering.to_loop.outline import measured_symbols


@attrs.frozen
class Sanitize(Pass):
    """Check the bounds of every load, store and view; for modules at the end of the loop landing.

    Raises PassError where a launch does not fit the kernel."""

    name: ClassVar[str] = "sanitize"

    def run(self, module: Operation, context: PassContext) -> None:
        functions = {function.sym_name: function for function in module.walk_of(FuncOp)}
        for launch in module.walk_of(LaunchOp):
            if launch.callee in functions:
                check_arguments(launch, functions[launch.callee])
        for function in functions.values():
            _Checks(function).write()


def check_arguments(op: LaunchOp, function: FuncOp) -> None:
    """Raise PassError where a launch gives a kernel other types than it takes."""
    given, taken = [value.type for value in op.inputs], [argument.type for argument in function.arguments]
    if given != taken:
        shown = [f"({', '.join(map(str, types))})" for types in (given, taken)]
        raise PassError(f"{op.loc.label or 'the program'} launches @{op.callee} with {shown[0]}; it takes {shown[1]}")


class _Checks:
    """The checks of one function. `sound` tells, of a buffer made of another, whether its memory is all there."""

    def __init__(self, function: FuncOp) -> None:
        self.function = function
        self.sound: dict[Value, Value] = {}
        self.bases: dict[Value, list[Value]] = {}

    def write(self) -> None:
        """Check every op that touches memory."""
        for op in list(self.function.walk()):
            if op is self.function:
                continue
            self.index = IndexBuilder(Builder.before(op))
            if isinstance(op, (buffer.LoadOp, buffer.StoreOp)):
                self._element(op)
            elif isinstance(op, (vector.LoadOp, vector.MaskedLoadOp, vector.StoreOp, vector.MaskedStoreOp)):
                self._lanes(op)
            elif isinstance(op, vector.GatherOp):
                self._gather(op)
            elif isinstance(op, (buffer.ViewOp, buffer.ReshapeOp, buffer.SliceOp, buffer.PartOp, buffer.RebaseOp)):
                self._derived(op)

    # Accesses

    def _element(self, op: buffer.LoadOp | buffer.StoreOp) -> None:
        """Run the access where its index is inside; else a load gives 0."""
        inside = self._whole(op, op.memory, op.indices, [*range(len(op.indices))])
        if inside is None:
            return
        types = [result.type for result in op.results]
        choice = self._insert(IfOp.build(inside, types))
        assert isinstance(choice, IfOp)
        then = Builder.at_end(choice.then.block, op.loc)
        access = then.insert(op.clone({}))
        yield_values(then, list(access.results))
        if types:
            other = Builder.at_end(choice.otherwise.block, op.loc)
            yield_values(other, [other.insert(arith.constant(0, types[0])).result])
        else:
            choice.otherwise.remove(choice.otherwise.block)
        op.replace_with(list(choice.results))

    def _lanes(self, op: vector.LoadOp | vector.StoreOp | vector.MaskedLoadOp | vector.MaskedStoreOp) -> None:
        """Access the lanes that are inside."""
        moved = op.value if isinstance(op, (vector.StoreOp, vector.MaskedStoreOp)) else op.results[0]
        type_ = vector.vector_type(moved)
        lanes = self._value(vector.StepOp(result_types=[vector.index_vector(type_.shape[0])]))
        given = op.mask if isinstance(op, (vector.MaskedLoadOp, vector.MaskedStoreOp)) else None
        mask = self._inside(op, op.base, op.indices, lanes, given)
        if isinstance(op, vector.MaskedLoadOp):
            self._replace(op, vector.MaskedLoadOp(op.base, op.indices, mask, op.pass_thru))
        elif isinstance(op, vector.LoadOp):
            zero = self._value(arith.constant(0, type_))
            self._replace(op, vector.MaskedLoadOp(op.base, op.indices, mask, zero))
        else:
            self._replace(op, vector.MaskedStoreOp(op.base, op.indices, mask, moved))

    def _gather(self, op: vector.GatherOp) -> None:
        lanes = op.index_vec
        wide = vector.index_vector(vector.vector_type(lanes).shape[0])
        if lanes.type is not wide:
            lanes = self._value(arith.IndexCastOp(lanes, result_types=[wide]))
        mask = self._inside(op, op.base, op.offsets, lanes, op.mask)
        self._replace(op, vector.GatherOp(op.base, op.offsets, op.index_vec, mask, op.pass_thru))

    def _inside(
        self, op: Operation, memory: Value, indices: Sequence[Value], lanes: Value, mask: Value | None
    ) -> Value:
        """The lanes of the mask (None: all) that are inside, lane n at the last index + lanes[n]; the others must be
        none."""
        axis = len(indices) - 1
        outer = self._conditions(memory, indices[:-1])
        last = self._value(arith.AddIOp(self._spread(self._based(memory, axis, indices[axis]), lanes.type), lanes))
        inside = self._value(arith.CmpIOp(last, self._spread(self._size(memory, axis), lanes.type), predicate="ult"))
        for condition in outer:
            inside = self._value(arith.AndIOp(inside, self._spread(condition, inside.type)))
        required, kept = inside, inside
        if mask is not None:
            every = self._value(arith.constant(1, mask.type))
            required = self._value(arith.SelectOp(mask, inside, every))
            kept = self._value(arith.AndIOp(mask, inside))
        self._require(op, required, last, f"lanes outside {memory.type}")
        return kept

    def _whole(self, op: Operation, memory: Value, indices: Sequence[Value], axes: Sequence[int]) -> Value | None:
        """Whether an element is inside, which it must be; None where there is nothing to ask."""
        conditions = self._conditions(memory, indices)
        for axis, condition in zip(axes, conditions, strict=False):
            self._require(op, condition, indices[axis], f"index out of range for axis {axis} of {memory.type}")
        return self._all(conditions)

    def _conditions(self, memory: Value, indices: Sequence[Value]) -> list[Value]:
        """Whether each index is inside; then, where that is a question, whether the memory is there."""
        found = [
            self._value(arith.CmpIOp(self._based(memory, axis, i), self._size(memory, axis), predicate="ult"))
            for axis, i in enumerate(indices)
        ]
        return [*found, self.sound[memory]] if memory in self.sound else found

    def _based(self, memory: Value, axis: int, index: Value) -> Value:
        return self.index.sub(index, self.bases[memory][axis]) if memory in self.bases else index

    # Buffers made of other memory

    def _derived(self, op: Operation) -> None:
        """Require that the memory of a new buffer is there. Accesses ask again, since the run goes on for a while."""
        source, made = op.operands[0], op.results[0]
        self.index = IndexBuilder(Builder.after(op))
        conditions = [self.sound[source]] if source in self.sound else []
        if isinstance(op, buffer.RebaseOp):
            outer = self.bases.get(source)
            self.bases[made] = [self.index.add(b, outer[n]) if outer else b for n, b in enumerate(op.base)]
        elif isinstance(op, buffer.SliceOp):
            conditions.append(self._below(op, op.place, self._size(source, 0), "row out of range of"))
        elif isinstance(op, buffer.ViewOp):
            conditions += self._view(op)
        elif isinstance(op, buffer.PartOp):
            end = self.index.constant(op.offset + math.prod(memref_type(made).shape))
            conditions.append(self._below(op, end, self._count(source), "more elements than", or_equal=True))
        elif isinstance(op, buffer.ReshapeOp):
            conditions += [self._not_negative(op, size) for size in op.sizes]
            conditions.append(self._below(op, self._count(made), self._count(source), "more elements than",
                                          or_equal=True))  # fmt: skip
        sound = self._all(conditions)
        if sound is not None:
            self.sound[made] = sound

    def _view(self, op: buffer.ViewOp) -> list[Value]:
        conditions = [self._not_negative(op, value) for value in (op.offset, *op.sizes)]
        item = numpy_dtype(memref_type(op.result).element).itemsize
        end = self.index.add(op.offset, self.index.mul(self._count(op.result), self.index.constant(item)))
        return [*conditions, self._below(op, end, self._arena_bytes(op), "bytes beyond the end of", or_equal=True)]

    def _arena_bytes(self, op: buffer.ViewOp) -> Value:
        """The size of what a view is taken of: the arena's, over the symbols of the inputs, or the buffer's own."""
        size = self.function.attributes.get("sw.arena")
        if op.arena is not self.function.arguments[-1] or not isinstance(size, StringAttr):
            return self._count(op.arena)
        types: list[Type] = []
        for position in range(len(self.function.arguments)):
            text = self.function.argument_attributes(position).get("sw.tensor")
            is_input = "sw.out" not in self.function.argument_attributes(position)
            known = isinstance(text, StringAttr) and is_input
            types.append(AttributeParser(text.value, "argument", None).type() if known else I1)  # type: ignore[union-attr]
        symbols = measured_symbols(self.function, types, self.index.builder)
        return self.index.dim(parse_dim(size.value), symbols)

    def _not_negative(self, op: Operation, size: Value) -> Value:
        condition = self._value(arith.CmpIOp(size, self.index.constant(0), predicate="sge"))
        self._require(op, condition, size, "negative size")
        return condition

    def _below(self, op: Operation, value: Value, limit: Value, what: str, *, or_equal: bool = False) -> Value:
        condition = self._value(arith.CmpIOp(value, limit, predicate="ule" if or_equal else "ult"))
        self._require(op, condition, value, f"{what} {op.operands[0].type}")
        return condition

    # Pieces

    def _count(self, memory: Value) -> Value:
        """The number of elements of a buffer."""
        total = self.index.constant(1)
        for axis in range(memref_type(memory).rank):
            total = self.index.mul(total, self._size(memory, axis))
        return total

    def _size(self, memory: Value, axis: int) -> Value:
        size = memref_type(memory).shape[axis]
        if size != DYNAMIC:
            return self.index.constant(size)
        return self._value(buffer.DimOp(memory, axis=axis))

    def _spread(self, value: Value, like: Type) -> Value:
        assert isinstance(like, VectorType)
        return self._value(vector.BroadcastOp(value, result_types=[VectorType(like.shape, value.type)]))

    def _all(self, conditions: Sequence[Value]) -> Value | None:
        total: Value | None = None
        for condition in conditions:
            total = condition if total is None else self._value(arith.AndIOp(total, condition))
        return total

    def _require(self, op: Operation, condition: Value, value: Value, what: str) -> None:
        self._insert(RequireOp(condition, value, message=f"{op.op_name}: {what}", loc=op.loc))

    def _replace(self, op: Operation, new: Operation) -> None:
        op.replace_with(list(self._insert(new).results))

    def _insert(self, op: Operation) -> Operation:
        return self.index.builder.insert(op)

    def _value(self, op: Operation) -> Value:
        return self._insert(op).results[0]
