"""Copies scalar bodies into vector code: an op on vectors works lane by lane, what is the same for all lanes stays
scalar until it meets a vector."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects import arith, math, tensor, vector
from stepwell.dialects.arith import with_element
from stepwell.dialects.generic_meaning import single_op
from stepwell.dialects.loop import YieldOp
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Region, Value
from stepwell.ir.types import VectorType, element_of
from stepwell.lowering.loop.index import LinearIndex


def is_sum_of_products(body: Region, combine: Region) -> bool:
    """Whether a reduction adds up products of floats, so that each step is one fused multiply-add."""
    total = single_op(combine)
    yielded = body.block.terminator.operands
    return (
        isinstance(total, arith.AddFOp)
        and len(yielded) == 1
        and isinstance(yielded[0].defining_op, arith.MulFOp)
        and yielded[0].has_one_use
    )


class ScalarCode:
    """Emits scalar regions on scalars and vectors of a number of lanes."""

    def __init__(self, builder: Builder, lanes: int, indices: Sequence[LinearIndex]) -> None:
        self.builder = builder
        self.lanes = lanes
        self.indices = indices
        self._vectors: dict[Value, Value] = {}

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
        return [mapping[value] for value in region.block.terminator.operands]

    def factors(self, region: Region, arguments: Sequence[Value]) -> list[Value]:
        """The two factors of the product that the region yields."""
        product = region.block.terminator.operands[0].defining_op
        assert isinstance(product, arith.MulFOp)
        mapping = self._copied(region, arguments, product)
        return [mapping[product.lhs], mapping[product.rhs]]

    def _copied(self, region: Region, arguments: Sequence[Value], skip: Operation | None) -> dict[Value, Value]:
        mapping: dict[Value, Value] = dict(zip(region.block.arguments, arguments, strict=True))
        for op in region.block:
            if op is not skip and not isinstance(op, YieldOp):
                self._copy(op, mapping)
        return mapping

    def _copy(self, op: Operation, mapping: dict[Value, Value]) -> None:
        if isinstance(op, tensor.IndexOp):
            mapping[op.result] = self._index(op.dim)
            return
        values = [mapping.get(value, value) for value in op.operands]
        if not any(isinstance(value.type, VectorType) for value in values):
            self.builder.insert(op.clone(mapping))
            return
        values = [self.broadcast(value) for value in values]
        shape = VectorType((self.lanes,), element_of(values[0].type))
        types = [with_element(shape, element_of(result.type)) for result in op.results]
        copy = type(op).make(values, types, op.properties, op.attributes, loc=op.loc)
        self.builder.insert(copy)
        mapping.update(zip(op.results, copy.results, strict=True))

    def _index(self, position: int) -> Value:
        form = self.indices[position]
        base = form.value()
        if not form.lane_factor:
            return base
        steps = self.builder.insert(vector.StepOp(result_types=[vector.index_vector(self.lanes)])).result
        if form.lane_factor != 1:
            factor = self.builder.insert(arith.constant(form.lane_factor, steps.type)).result
            steps = self.builder.insert(arith.MulIOp(steps, factor)).result
        return self.builder.insert(arith.AddIOp(self.broadcast(base), steps)).result

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
