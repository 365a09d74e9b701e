"""Copies scalar bodies into vector code: an op on vectors works lane by lane, what is the same for all lanes stays
scalar until it meets a vector."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects import arith, buffer, math, vector
from stepwell.dialects.arith import constant_int, with_element
from stepwell.dialects.arith_proofs import is_never
from stepwell.dialects.buffer import memref_type
from stepwell.dialects.check import RequireOp
from stepwell.dialects.loop import IndexOp, YieldOp
from stepwell.errors import IRError
from stepwell.ir.core import Operation, Region, Value
from stepwell.ir.types import DYNAMIC, INDEX, VectorType, element_of
from stepwell.lowering.loop.access import neighbours
from stepwell.lowering.loop.gather import Gather, gathers
from stepwell.lowering.loop.index import IndexBuilder, LinearIndex, known_range


class ScalarCode:
    """Emits scalar regions on scalars and vectors of a number of lanes.

    Index arithmetic is kept as linear forms as long as it is linear, so that a read whose place moves with the lanes
    becomes a vector load. `mask` tells the lanes that exist (None: all): the others, which hold anything, neither fail
    a requirement nor divide by what they hold."""

    def __init__(
        self, index: IndexBuilder, lanes: int, indices: Sequence[LinearIndex], mask: Value | None = None
    ) -> None:
        self.mask = mask
        self.index = index
        self.builder = index.builder
        self.lanes = lanes
        self.indices = indices
        self._vectors: dict[Value, Value] = {}
        self._forms: dict[Value, LinearIndex] = {}

    def broadcast(self, value: Value) -> Value:
        """The value in all lanes."""
        if isinstance(value.type, VectorType):
            return value
        if value not in self._vectors:
            type_ = VectorType((self.lanes,), value.type)
            self._vectors[value] = self.builder.insert(vector.BroadcastOp(value, result_types=[type_])).result
        return self._vectors[value]

    def run(self, region: Region, arguments: Sequence[Value]) -> list[Value]:
        """What the region yields."""
        mapping = self._copied(region, arguments, None)
        return [self._operand(value, mapping) for value in region.block.terminator.operands]

    def factors(self, region: Region, arguments: Sequence[Value]) -> list[Value]:
        """The two factors of the product that the region yields."""
        product = region.block.terminator.operands[0].defining_op
        assert isinstance(product, arith.MulFOp)
        mapping = self._copied(region, arguments, product)
        return [self._operand(product.lhs, mapping), self._operand(product.rhs, mapping)]

    def _copied(self, region: Region, arguments: Sequence[Value], skip: Operation | None) -> dict[Value, Value]:
        mapping: dict[Value, Value] = dict(zip(region.block.arguments, arguments, strict=True))
        for op in region.block:
            if op is not skip and not isinstance(op, YieldOp):
                self._copy(op, mapping)
        return mapping

    def _copy(self, op: Operation, mapping: dict[Value, Value]) -> None:
        form = self._form(op, mapping)
        if form is not None:
            self._forms[op.results[0]] = form
            return
        if isinstance(op, IndexOp):
            mapping[op.result] = self._lane_places(op)
            return
        if isinstance(op, buffer.ReadOp):
            mapping[op.result] = self._read(op, mapping)
            return
        values = [self._operand(value, mapping) for value in op.operands]
        if not any(isinstance(value.type, VectorType) for value in values):
            mapping.update(zip(op.operands, values, strict=True))
            self.builder.insert(op.clone(mapping))
            return
        values = self._defused(op, [self.broadcast(value) for value in values])
        shape = VectorType((self.lanes,), element_of(values[0].type))
        types = [with_element(shape, element_of(result.type)) for result in op.results]
        copy = type(op).make(values, types, op.properties, op.attributes, loc=op.loc)
        self.builder.insert(copy)
        mapping.update(zip(op.results, copy.results, strict=True))

    def _defused(self, op: Operation, values: list[Value]) -> list[Value]:
        """The operands of a vector op such that lanes which do not exist do no harm."""
        if self.mask is None:
            return values
        if isinstance(op, RequireOp):
            holds = self.builder.insert(arith.constant(1, self.mask.type)).result
            values[0] = self.builder.insert(arith.SelectOp(self.mask, values[0], holds)).result
        elif isinstance(op, arith.DIVISIONS) and not is_never(op.rhs, 0):
            one = self.builder.insert(arith.constant(1, values[1].type)).result
            values[1] = self.builder.insert(arith.SelectOp(self.mask, values[1], one)).result
        return values

    # Index arithmetic

    def _form(self, op: Operation, mapping: dict[Value, Value]) -> LinearIndex | None:
        """The linear form of an index op's result, where it has one."""
        if isinstance(op, IndexOp):
            return self._place(op, self.indices)
        if not op.results or op.results[0].type is not INDEX:
            return None
        if isinstance(op, arith.ConstantOp):
            return LinearIndex({}, int(op.value.value), self.index)  # type: ignore[attr-defined]
        if isinstance(op, (arith.AddIOp, arith.SubIOp, arith.MulIOp)):
            a, b = self._form_of(op.lhs, mapping), self._form_of(op.rhs, mapping)
            if a is None or b is None:
                return None
            if isinstance(op, arith.MulIOp):
                return a * b.constant if not b.terms else b * a.constant if not a.terms else None
            return a + b if isinstance(op, arith.AddIOp) else a + b * -1
        return None

    def _place(self, op: IndexOp, indices: Sequence[LinearIndex]) -> LinearIndex | None:
        """A place that depends on the dims; None where it does not move evenly along the lanes."""
        try:
            (place,) = op.of.evaluate(indices, ())
        except IRError:
            return None
        return place if isinstance(place, LinearIndex) else LinearIndex({}, int(place), self.index)

    def _lane_places(self, op: IndexOp) -> Value:
        """A place computed for each lane alone."""
        found = []
        for lane in range(self.lanes):
            place = self._place(op, [form.at_lane(lane) for form in self.indices])
            assert place is not None  # one lane's quotient is always an index
            found.append(place.value())
        return self.builder.insert(vector.FromElementsOp(found, result_types=[vector.index_vector(self.lanes)])).result

    def _form_of(self, value: Value, mapping: dict[Value, Value]) -> LinearIndex | None:
        """The linear form of an index: that of index arithmetic, or any index that is the same for all lanes."""
        if value in self._forms:
            return self._forms[value]
        value = mapping.get(value, value)
        return LinearIndex({value: 1}, 0, self.index) if value.type is INDEX else None

    def _operand(self, value: Value, mapping: dict[Value, Value]) -> Value:
        """What stands for a value of the body, a linear form turned into code."""
        if value in mapping:
            return mapping[value]
        return self._materialized(self._forms[value]) if value in self._forms else value

    def _materialized(self, form: LinearIndex) -> Value:
        base = form.value()
        if not form.lane_factor:
            return base
        steps = self.builder.insert(vector.StepOp(result_types=[vector.index_vector(self.lanes)])).result
        if form.lane_factor != 1:
            factor = self.builder.insert(arith.constant(form.lane_factor, steps.type)).result
            steps = self.builder.insert(arith.MulIOp(steps, factor)).result
        return self.builder.insert(arith.AddIOp(self.broadcast(base), steps)).result

    # Reads at computed places

    def _read(self, op: buffer.ReadOp, mapping: dict[Value, Value]) -> Value:
        memory = mapping.get(op.memory, op.memory)
        otherwise = self._operand(op.otherwise, mapping)
        forms = [self._form_of(i, mapping) for i in op.indices]
        if all(form is not None for form in forms):
            known = [form for form in forms if form is not None]
            factors = [form.lane_factor for form in known]
            if not any(factors) and not isinstance(otherwise.type, VectorType):
                return self._scalar_read(memory, [form.value() for form in known], otherwise)
            if any(factors) and neighbours(memory, factors):
                return self._vector_read(memory, known, otherwise)
        indices = [self._operand(i, mapping) for i in op.indices]
        if not any(isinstance(value.type, VectorType) for value in (*indices, otherwise)):
            return self._scalar_read(memory, indices, otherwise)
        if gathers(memory, self.lanes):
            inside = self._lanes_inside(memory, forms, indices)
            return Gather(self.index, self.lanes).read(memory, indices, inside, otherwise)
        found = []
        for lane in range(self.lanes):
            at = [form.at_lane(lane).value() if form is not None else self._lane(value, lane)
                  for form, value in zip(forms, indices, strict=True)]  # fmt: skip
            found.append(self._scalar_read(memory, at, self._lane(otherwise, lane)))
        type_ = VectorType((self.lanes,), memref_type(memory).element)
        return self.builder.insert(vector.FromElementsOp(found, result_types=[type_])).result

    def _lanes_inside(
        self, memory: Value, forms: Sequence[LinearIndex | None], indices: Sequence[Value]
    ) -> Value | None:
        """The lanes whose places are in a buffer; None: all of them for certain."""
        inside: Value | None = None
        for axis, size in enumerate(memref_type(memory).shape):
            form, value = forms[axis], indices[axis]
            if _is_inside(value, size) or (form is not None and size != DYNAMIC and form.is_within(size)):
                continue
            limit = self._size(memory, axis)
            fits = self._fits(value, self.broadcast(limit) if isinstance(value.type, VectorType) else limit)
            inside = fits if inside is None else self._both(*self._alike(inside, fits))
        return inside

    def _alike(self, a: Value, b: Value) -> tuple[Value, Value]:
        """Both in all lanes where one of them is."""
        return (a, b) if a.type is b.type else (self.broadcast(a), self.broadcast(b))

    def _lane(self, value: Value, lane: int) -> Value:
        if not isinstance(value.type, VectorType):
            return value
        return self.builder.insert(vector.ExtractOp(value, static_position=[lane])).result

    def _size(self, memory: Value, axis: int) -> Value:
        size = memref_type(memory).shape[axis]
        if size != DYNAMIC:
            return self.index.constant(size)
        return self.builder.insert(buffer.DimOp(memory, axis=axis)).result

    def _scalar_read(self, memory: Value, indices: Sequence[Value], otherwise: Value) -> Value:
        """select(inside, memory[clamped], otherwise): no branch, and never an access outside. A source that may be
        empty has no place to clamp to: it is read by a masked load of one lane."""
        outside = [n for n, value in enumerate(indices) if not _is_inside(value, memref_type(memory).shape[n])]
        sizes = {axis: self._size(memory, axis) for axis in outside}
        inside: Value | None = None
        for axis, size in sizes.items():
            inside = self._both(inside, self._fits(indices[axis], size))
        if inside is None:
            return self.builder.insert(buffer.LoadOp(memory, indices)).result
        if any(constant_int(size) in (None, 0) for size in sizes.values()):
            return self._masked_read(memory, indices, inside, otherwise)
        places = list(indices)
        for axis, size in sizes.items():
            last = self.index.sub(size, self.index.constant(1))
            places[axis] = self.index.maximum(self.index.minimum(places[axis], last), self.index.constant(0))
        loaded = self.builder.insert(buffer.LoadOp(memory, places)).result
        return self.builder.insert(arith.SelectOp(inside, loaded, otherwise)).result

    def _masked_read(self, memory: Value, indices: Sequence[Value], inside: Value, otherwise: Value) -> Value:
        """One element where `inside` holds; nothing is accessed where it does not."""
        mask, other = (
            self.builder.insert(vector.BroadcastOp(value, result_types=[VectorType((1,), value.type)])).result
            for value in (inside, otherwise)
        )
        loaded = self.builder.insert(vector.MaskedLoadOp(memory, indices, mask, other)).result
        return self.builder.insert(vector.ExtractOp(loaded, static_position=[0])).result

    def _vector_read(self, memory: Value, forms: Sequence[LinearIndex], otherwise: Value) -> Value:
        """A load of the lanes that are inside: masked, where not all of them are for certain."""
        *outer, last = forms
        shape = memref_type(memory).shape
        places = [*(form.value() for form in outer), last.at_lane(0).value()]
        inside: Value | None = None
        for axis, value in enumerate(places[:-1]):
            if not _is_inside(value, shape[axis]):
                inside = self._both(inside, self._fits(value, self._size(memory, axis)))
        if inside is not None:
            inside = self.broadcast(inside)
        if shape[-1] == DYNAMIC or not last.is_within(shape[-1]):
            size = self.broadcast(self._size(memory, len(outer)))
            inside = self._both(inside, self._fits(self._materialized(last), size))
        type_ = VectorType((self.lanes,), memref_type(memory).element)
        if inside is None:
            return self.builder.insert(vector.LoadOp(memory, places, result_types=[type_])).result
        return self.builder.insert(vector.MaskedLoadOp(memory, places, inside, self.broadcast(otherwise))).result

    def _fits(self, value: Value, size: Value) -> Value:
        """0 <= value < size"""
        return self.builder.insert(arith.CmpIOp(value, size, predicate="ult")).result

    def _both(self, a: Value | None, b: Value) -> Value:
        return b if a is None else self.builder.insert(arith.AndIOp(a, b)).result

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c with one rounding."""
        if not isinstance(c.type, VectorType):
            return self.builder.insert(math.FmaOp(a, b, c)).result
        return self.builder.insert(vector.FmaOp(self.broadcast(a), self.broadcast(b), c)).result

    def across_lanes(self, combine: Region, accumulators: Sequence[Value]) -> list[Value]:
        """The lanes of each accumulator merged pairwise: the upper half into the lower, down to one."""
        values = [self.broadcast(value) for value in accumulators]
        width = self.lanes
        while width > 1:
            width //= 2
            order = [(lane + width) % self.lanes for lane in range(self.lanes)]
            upper = [self.builder.insert(vector.ShuffleOp(v, v, mask=order)).result for v in values]
            values = self.run(combine, [*values, *upper])
        return [self.builder.insert(vector.ExtractOp(v, static_position=[0])).result for v in values]


def _is_inside(value: Value, size: int) -> bool:
    """Whether an index is in [0, size) for certain."""
    low, high = known_range(value)
    return low is not None and high is not None and low >= 0 and size != DYNAMIC and high < size
