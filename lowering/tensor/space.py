"""A tileable op's iteration space as the cost model sees it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from stepwell.dialects.tensor import ConstantOp, GenericOp, KernelOp, ReshapeOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import dim
from stepwell.ir.core import BlockArgument, Value
from stepwell.ir.types import bit_width
from stepwell.lowering.precision import is_strict
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.maps import dims_through
from stepwell.lowering.tensor.sizes import size_of

LEAST_BLOCK = 4  # elements: one vector of the narrowest registers


@attrs.frozen(eq=False)
class Space:
    """A generic's iteration space as the cost model sees it."""

    op: GenericOp
    names: Sequence[str]
    sizes: Sequence[int]
    parallel: Sequence[int]
    reduction: Sequence[int]

    @staticmethod
    def of(op: GenericOp) -> Space:
        """Symbolic sizes count as TYPICAL."""
        kinds = list(enumerate(op.iterators))
        return Space(
            op, op.names, [size_of(d) for d in op.sizes.dims],
            [d for d, kind in kinds if kind == "parallel"], [d for d, kind in kinds if kind != "parallel"],
        )  # fmt: skip

    def vector_dim(self, lanes: int) -> int | None:
        """The dim whose neighbours fill a vector: a parallel dim along which all results are contiguous, or a reduction
        dim of at least two vectors along which an input is. The one along which fewest inputs are read in strides wins,
        and among equals a parallel one, which needs no sum across lanes. Strict sums are never made across lanes."""
        found = [d for d in self.parallel if self.sizes[d] > 1 and all(runs_along(m, d) for m in self.output_maps())]
        for d in reversed(self.reduction) if not is_strict(self.op) else ():
            ending = any(m.results[-1:] == (dim(d),) for m in self.input_maps())
            if (self.sizes[d] >= 2 * lanes and self.has_neighbours(d)) or (ending and not found):
                found.append(d)
        return min(found, key=self.strided_inputs, default=None)

    def has_neighbours(self, d: int) -> bool:
        """Whether some input is contiguous along a dim."""
        return any(d in m.used_dims() and not moves_in_strides(m, d) for m in self.input_maps())

    def strided_inputs(self, d: int) -> int:
        """How many inputs one step along a dim leads to anything but the next element; constants are not counted, since
        they can be laid out as they are read."""
        return sum(
            moves_in_strides(map_, d)
            for value, map_ in zip(self.op.inputs, self.input_maps(), strict=True)
            if not is_constant(value)
        )

    def input_maps(self) -> list[AffineMap]:
        """The maps of the inputs, up to the last axes that have neighbours."""
        return list(map(without_unit_ends, self.op.input_maps, self.op.inputs))

    def output_maps(self) -> list[AffineMap]:
        """The maps of the results, up to the last axes that have neighbours."""
        return list(map(without_unit_ends, self.op.output_maps, self.op.results))

    def row_dim(self, vector: int) -> int | None:
        """The parallel dim whose rows share the vectors loaded along `vector`: the largest that those inputs lack."""
        shared: set[int] = set(self.parallel) - {vector}
        for map_ in self.op.input_maps:
            if vector in map_.used_dims() and len(self.op.inputs) > 1:
                shared -= map_.used_dims()
        candidates = shared or set(self.parallel) - {vector}
        return max(candidates, key=lambda d: (self.sizes[d] > 1, d), default=None)

    def turned_dim(self, vector: int, lanes: int) -> int | None:
        """The dim along which an input is contiguous that moves in strides along the vectors: a square tile over both
        is turned in registers."""
        for map_ in reads_of(self.op):
            if moves_in_strides(map_, vector):
                for d in self.parallel:
                    if d != vector and runs_along(map_, d) and 2 * min(self.sizes[d], self.sizes[vector]) >= lanes:
                        return d
        return None


def reads_of(op: GenericOp) -> list[AffineMap]:
    """Where a stage reads its inputs, as maps of its root's dims: through the maps before the root, as far as they are
    computed point by point."""
    found: list[AffineMap] = []
    for value, map_ in zip(op.inputs, op.input_maps, strict=True):
        made = value.defining_op
        dims = dims_through(made.output_maps[0], map_) if isinstance(made, GenericOp) else None
        if isinstance(made, GenericOp) and dims is not None and not made.has_reduction:
            found.extend(inner.compose(dims) for inner in reads_of(made))
        else:
            found.append(map_)
    return found


def without_unit_ends(map_: AffineMap, value: Value) -> AffineMap:
    """(i, j, k) -> (i, j) for a tensor of shape [4, 8, 1]: its second axis is the one with neighbours in memory.

    A tensor with symbolic sizes keeps its map: masks of unknown size need the last axis."""
    shape = list(tensor_type(value).shape)
    if not tensor_type(value).is_static:
        return map_
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return AffineMap(map_.num_dims, map_.num_symbols, map_.results[: len(shape)])


def runs_along(map_: AffineMap, d: int) -> bool:
    """Whether neighbours along a dim are neighbours in memory: its last index is `d`, perhaps shifted, or `d mod block`
    for blocks of whole vectors."""
    if not map_.results:
        return False
    last = map_.results[-1]
    if (last - last.constant) == dim(d):
        return True
    block = last.terms[0][0].divisor if len(last.terms) == 1 else 0
    return block > 0 and block % LEAST_BLOCK == 0 and last == dim(d) % block


def moves_in_strides(map_: AffineMap, d: int) -> bool:
    """Whether neighbours along a dim that reaches a tensor are neither one element nor neighbours there."""
    if d not in map_.used_dims() or runs_along(map_, d):
        return False
    return map_.results[-1].coefficient(d) != 1 or any(d in place.dims for place in map_.results[:-1])


def is_constant(value: Value) -> bool:
    """Whether a kernel's inside stands for a constant of the model, perhaps reshaped."""
    while isinstance(value.defining_op, ReshapeOp):
        value = value.defining_op.x
    if isinstance(value, BlockArgument) and isinstance(value.block.parent_op, KernelOp):
        value = value.block.parent_op.inputs[value.index]
    return isinstance(value.defining_op, ConstantOp)


def lanes_of(op: GenericOp, machine: Machine, extent: int) -> int:
    """Lanes of a vector: as many of the widest element as fill a register, no more than the extent needs."""
    bits = max(bit_width(value.type) for value in (*op.inputs, *op.results))
    lanes = machine.vector_bytes * 8 // max(32, bits)
    while lanes > 1 and lanes // 2 >= extent:
        lanes //= 2
    return lanes
