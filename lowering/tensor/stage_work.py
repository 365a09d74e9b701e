"""What one stage of a kernel does at a point of its iteration space, as the cost model counts it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from stepwell.dialects import math as math_dialect
from stepwell.dialects.generic_meaning import is_sum_of_products
from stepwell.dialects.tensor import GenericOp, KernelOp, ReadOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.core import Operation, Value
from stepwell.ir.types import bit_width, element_of
from stepwell.lowering.tensor.sizes import size_of
from stepwell.lowering.tensor.space import Space, is_constant, moves_in_strides, without_unit_ends
from stepwell.lowering.tensor.stages import Stage, stages_of

# Vector instructions that stand for an op which is none of its own; the rest of `math` are polynomials.
INSTRUCTIONS: Mapping[str, float] = {
    "arith.divf": 8, "math.sqrt": 10, "math.rsqrt": 18, "math.exp": 16, "math.exp2": 14, "math.log": 20,
    "math.tanh": 24, "math.erf": 30, "math.powf": 180,
    "math.sin": 150, "math.cos": 150, "math.tan": 180, "math.absf": 1, "math.fma": 1, "math.floor": 1, "math.ceil": 1,
    "math.trunc": 1, "math.roundeven": 1, "math.copysign": 2, "math.absi": 1,
    "arith.divsi": 40, "arith.divui": 40, "arith.remsi": 40, "arith.remui": 40, "arith.floordivsi": 40,
    "arith.constant": 0, "arith.index_cast": 0,
}  # fmt: skip
POLYNOMIAL = 24


@attrs.frozen(eq=False)
class Access:
    """Where a stage reads or writes a tensor: the map from the dims of its root, the tensor's sizes, the bytes of an
    element. A constant will be laid out as it is read; what is `local` is made by another stage of the kernel; `others`
    are the maps by which the same tensor is read besides."""

    map: AffineMap
    shape: Sequence[int]
    item: int
    is_constant: bool = False
    is_local: bool = False
    others: Sequence[AffineMap] = ()
    used: frozenset[int] = attrs.field(init=False)
    _factors: Sequence[Mapping[int, int] | None] = attrs.field(init=False)

    @used.default
    def _used(self) -> frozenset[int]:
        return frozenset().union(*(map_.used_dims() for map_ in self.maps))

    @_factors.default
    def _linear(self) -> Sequence[Mapping[int, int] | None]:
        forms = [place.linear_form() for place in self.map.results]
        return [None if form is None else form[0] for form in forms]

    @staticmethod
    def of(value: Value, map_: AffineMap, is_local: bool = False) -> Access:
        """How a map reaches a tensor."""
        map_ = without_unit_ends(map_, value)
        shape = [size_of(n) for n in tensor_type(value).shape][: len(map_.results)]
        return Access(map_, shape, max(1, bit_width(tensor_type(value).element) // 8), is_constant(value), is_local)

    @property
    def maps(self) -> Sequence[AffineMap]:
        """All places that it reaches."""
        return (self.map, *self.others)

    def is_contiguous(self, d: int) -> bool:
        """Whether neighbours along a dim that it moves along are neighbours in memory, or will be."""
        return d in self.used and (self.is_constant or not any(moves_in_strides(map_, d) for map_ in self.maps))

    def is_linear(self, d: int) -> bool:
        """Whether steps along a dim lead equally far in memory, all of them."""
        return all(place.linear_form() is not None for map_ in self.maps for place in map_.results if d in place.dims)

    def step_bytes(self, d: int) -> int:
        """How far a step along a dim leads in memory, at most."""
        stride, far = self.item, 0
        for factors, axis in zip(reversed(self._factors), reversed(self.shape), strict=True):
            far = max(far, stride * abs((factors or {}).get(d, 0)))
            stride *= axis
        return far

    def box(self, sizes: Sequence[int]) -> list[int]:
        """How many indices of each axis are reached from so many points along each dim, at most."""
        if self.others:
            return self._box_around(sizes)
        found = []
        for place, factors, axis in zip(self.map.results, self._factors, self.shape, strict=True):
            if factors is None:
                low, high = place.bounds([(0, size - 1) for size in sizes])
                reach = axis if low is None or high is None else high - low + 1
            else:
                reach = 1 + sum(abs(factor) * (sizes[d] - 1) for d, factor in factors.items())
                reach = min(reach, math.prod(sizes[d] for d in factors))
            found.append(min(axis, reach))
        return found

    def _box_around(self, sizes: Sequence[int]) -> list[int]:
        """The box that holds what all maps reach."""
        ranges = [(0, size - 1) for size in sizes]
        found = []
        for axis, *places in zip(self.shape, *(map_.results for map_ in self.maps), strict=True):
            lows, highs = zip(*(place.bounds(ranges) for place in places), strict=True)
            known = None not in lows and None not in highs
            found.append(min(axis, max(highs) - min(lows) + 1) if known else axis)
        return found


@attrs.frozen(eq=False)
class StageWork:
    """A stage's accesses and arithmetic: `reads` and `operations` in each step of its reduction, those that come `late`
    once for each result. Operations are vector instructions; `sums` are kept for each result. `gathers` are reads at
    computed places; the `scalars` compute these, for each lane by itself."""

    space: Space
    reads: Sequence[Access]
    late_reads: Sequence[Access]
    writes: Sequence[Access]
    operations: float
    late_operations: float
    gathers: int
    scalars: int
    sums: int
    known: dict[object, Any] = attrs.Factory(dict)  # what register tiles cost, whatever the parallel sizes

    @staticmethod
    def of_stage(stage: Stage, stages: Sequence[Stage] = ()) -> StageWork:
        """Of one stage among all those of its kernel."""
        root, dims = stage.root, stage.in_root_dims()
        local = {result for other in stages if other is not stage for result in other.results}
        members = list(stage.ops)
        late = set(members[members.index(root) + 1 :]) if root.has_reduction else set()
        reads: dict[tuple[Value, bool], Access] = {}
        for op in members:
            if op not in dims:
                continue
            for value, map_ in zip(op.inputs, op.input_maps, strict=True):
                if value.defining_op not in members:
                    access = Access.of(value, map_.compose(dims[op]), value in local)
                    key = (value, op in late)
                    reads[key] = also_at(reads[key], access.map) if key in reads else access
        last = members[-1]
        written = [m.compose(dims[last]) if last in dims else m for m in last.output_maps]
        writes = [Access.of(v, m, bool(local) and stage is not stages[-1])
                  for v, m in zip(last.results, written, strict=True)]  # fmt: skip
        early = [op for op in members if op not in late]
        early_reads = [access for (_, is_late), access in reads.items() if not is_late]
        late_reads = [access for (_, is_late), access in reads.items() if is_late]
        return StageWork(
            Space.of(root), early_reads, late_reads, writes, sum(map(_instructions, early)),
            sum(map(_instructions, late)), sum(isinstance(inner, ReadOp) for op in early for inner in op.walk()),
            sum(map(_scalars, early)), max(1, len(root.identities)),
        )  # fmt: skip

    @staticmethod
    def of_op(op: GenericOp) -> StageWork:
        """Of the stage whose root is this op."""
        kernel = op.parent_op
        stages = stages_of(kernel) if isinstance(kernel, KernelOp) else []
        return next((StageWork.of_stage(s, stages) for s in stages if s.root is op), None) or StageWork.of_stage(
            Stage([op])
        )

    def at(self, sizes: Sequence[int]) -> StageWork:
        """The same work in a space of other sizes."""
        same = all(sizes[d] == self.space.sizes[d] for d in self.space.reduction)
        known = self.known if same else {}
        return attrs.evolve(self, space=attrs.evolve(self.space, sizes=sizes), known=known)

    @functools.cached_property
    def late(self) -> StageWork:
        """What comes behind the sums."""
        return attrs.evolve(self, reads=self.late_reads, operations=self.late_operations, gathers=0)

    def width(self, lanes: int, vector_bytes: int) -> int:
        """Registers that a vector of so many of the widest elements takes."""
        item = max((access.item for access in (*self.reads, *self.writes)), default=4)
        return max(1, -(-lanes * item // vector_bytes))


def also_at(access: Access, map_: AffineMap) -> Access:
    """An access that reaches the same tensor by one more map."""
    known = map_ in access.maps
    return access if known else attrs.evolve(access, others=(*access.others, map_))


def _instructions(op: GenericOp) -> float:
    """Vector instructions of a body and of the reduction's operation at one point; a sum of products is one."""
    total = sum(_weight(inner) for region in op.regions for inner in region.block)
    return total - (op.combine is not None and is_sum_of_products(op.body, op.combine))


def _scalars(op: GenericOp) -> int:
    """Operations on places, of a body that reads there."""
    inner = list(op.walk())
    return sum(_is_index(other) for other in inner) if any(isinstance(other, ReadOp) for other in inner) else 0


def _weight(op: Operation) -> float:
    if _is_index(op):
        return 0
    if op.op_name in INSTRUCTIONS:
        return INSTRUCTIONS[op.op_name]
    if op.op_name == "arith.select" and _is_of_places(op.operands[0]):
        return -1 if all(value.has_one_use and value.defining_op is not None for value in op.operands[1:]) else 0
    if op.dialect == math_dialect.DIALECT.name:
        return POLYNOMIAL
    return 1 if op.dialect == "arith" else 0


def _is_index(op: Operation) -> bool:
    return any(str(element_of(value.type)) == "index" for value in (*op.results, *op.operands))


def _is_of_places(condition: Value) -> bool:
    """Whether a condition is one of places: what it chooses is known where the code of a tile is made, and only that is
    computed."""
    made = condition.defining_op
    return made is not None and made.op_name == "arith.cmpi" and _is_index(made)
