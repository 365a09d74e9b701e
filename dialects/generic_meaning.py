"""The NumPy meaning of `tensor.generic`: whole arrays through the scalar body, sums of products through einsum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepwell.dialects import arith
from stepwell.dialects.arith import typed_constant
from stepwell.errors import IRError
from stepwell.ir.attributes import FloatAttr, IntegerAttr
from stepwell.ir.core import Operation, Region
from stepwell.ir.types import numpy_dtype

if TYPE_CHECKING:
    from stepwell.dialects.tensor import GenericOp

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# The NumPy reductions of combine regions that are one op on one accumulator.
UFUNCS: dict[Any, np.ufunc] = {
    arith.AddFOp: np.add, arith.AddIOp: np.add, arith.MulFOp: np.multiply, arith.MulIOp: np.multiply,
    arith.MaximumFOp: np.maximum, arith.MaxNumFOp: np.fmax,
    arith.MinimumFOp: np.minimum, arith.MaxSIOp: np.maximum, arith.MinSIOp: np.minimum,
    arith.AndIOp: np.bitwise_and, arith.OrIOp: np.bitwise_or, arith.XOrIOp: np.bitwise_xor,
}  # fmt: skip


def single_op(region: Region) -> Operation | None:
    """The op of a region that yields the result of one op on its arguments in order."""
    ops = list(region.block)
    if len(ops) != 2 or list(ops[1].operands) != list(ops[0].results):
        return None
    return ops[0] if list(ops[0].operands) == list(region.block.arguments) else None


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


def run_generic(op: GenericOp, frame: Any, arrays: Sequence[Any]) -> Any:
    """The results of a generic."""
    from stepwell.dialects.tensor import concrete_shape

    sizes = concrete_shape(op.sizes.dims, frame)
    grids = np.meshgrid(*(np.arange(n) for n in sizes), indexing="ij", sparse=True)
    count = len(op.inputs)
    inputs = [_gathered(a, m, grids) for a, m in zip(arrays[:count], op.input_maps, strict=True)]
    inputs.extend(arrays[count:])
    with np.errstate(all="ignore"):
        if op.combine is None:
            made = _run_body(op, frame, inputs, grids)
            made = tuple(np.broadcast_to(m, sizes) for m in made)
        else:
            contracted = _contraction(op, inputs, sizes)
            if contracted is not None:
                made = contracted
            else:
                made = _reduction(op, frame, _run_body(op, frame, inputs, grids), sizes)
    return tuple(_placed(op, index, value, sizes, frame) for index, value in enumerate(made))


def _gathered(array: Any, map_: Any, grids: Sequence[Any]) -> Any:
    """The array read at the map's place for each point; dims that the map does not use have size 1.

    Where there are no points, nothing is read, whatever the place would be."""
    if not all(grid.size for grid in grids):
        return np.empty([grid.size for grid in grids], np.asarray(array).dtype)
    if not map_.results:
        return np.asarray(array).reshape((1,) * len(grids))
    index = [np.asarray(part) for part in map_.evaluate(grids, ())]
    for part, size in zip(index, array.shape, strict=True):
        if part.min() < 0 or part.max() >= size:
            raise IRError(f"a generic reads {int(part.min())}..{int(part.max())} of a dim of size {size}")
    index = [part.reshape((1,) * (len(grids) - part.ndim) + part.shape) for part in index]
    return array[tuple(index)]


def _run_body(op: GenericOp, frame: Any, inputs: Sequence[Any], grids: Sequence[Any]) -> tuple[Any, ...]:
    """What the body yields at each point; where there are no points, it is not run."""
    shape = [grid.size for grid in grids]
    if 0 in shape:
        return tuple(np.empty(shape, numpy_dtype(value.type)) for value in op.body.block.terminator.operands)
    frame.state["index grids"] = grids
    return frame.run_region(op.body, inputs)  # type: ignore[no-any-return]


def _contraction(op: GenericOp, inputs: Sequence[Any], sizes: Sequence[int]) -> tuple[Any, ...] | None:
    """A sum of products of floats through einsum."""
    product, total = single_op(op.body), single_op(op.combine) if op.combine else None
    if not isinstance(product, arith.MulFOp) or not isinstance(total, arith.AddFOp) or len(inputs) != 2:
        return None
    if len(sizes) > len(LETTERS):
        return None
    terms, arrays = [], []
    for array in inputs:
        kept = [d for d in range(len(sizes)) if array.shape[d] == sizes[d] and (sizes[d] != 1)]
        terms.append("".join(LETTERS[d] for d in kept))
        arrays.append(array.reshape([array.shape[d] for d in kept]))
    parallel = [d for d, kind in enumerate(op.iterators) if kind == "parallel"]
    out = "".join(LETTERS[d] for d in parallel if any(LETTERS[d] in term for term in terms))
    made = np.einsum(f"{terms[0]},{terms[1]}->{out}", *arrays, optimize=True)
    missing = 1.0
    for d, kind in enumerate(op.iterators):  # a reduced dim that no operand has repeats the sum
        if kind != "parallel" and sizes[d] != 1 and not any(LETTERS[d] in term for term in terms):
            missing *= sizes[d]
    shape = [sizes[d] if LETTERS[d] in out or (kind == "parallel" and sizes[d] == 1) else 1
             for d, kind in enumerate(op.iterators)]  # fmt: skip
    made = made.reshape(shape) * made.dtype.type(missing)
    full = [sizes[d] if kind == "parallel" else 1 for d, kind in enumerate(op.iterators)]
    return (np.broadcast_to(made, full),)


def _reduction(op: GenericOp, frame: Any, values: Sequence[Any], sizes: Sequence[int]) -> tuple[Any, ...]:
    axes = tuple(d for d, kind in enumerate(op.iterators) if kind != "parallel")
    values = [np.broadcast_to(v, sizes) for v in values]
    assert op.combine is not None
    identities = [typed_constant(a) for a in op.identities if isinstance(a, (IntegerAttr, FloatAttr))]
    ufunc = UFUNCS.get(type(single_op(op.combine)))
    if ufunc is not None and len(values) == 1:
        dtype = values[0].dtype
        if dtype.kind in "fiub":
            return (ufunc.reduce(values[0], axis=axes, keepdims=True, initial=identities[0], dtype=dtype),)
    kept = tuple(1 if d in axes else n for d, n in enumerate(sizes))
    accumulators: tuple[Any, ...] = tuple(np.full(kept, i) for i in identities)
    for place in np.ndindex(*(sizes[d] for d in axes)):
        index: list[Any] = [slice(None)] * len(sizes)
        for d, i in zip(axes, place, strict=True):
            index[d] = slice(i, i + 1)
        accumulators = frame.run_region(op.combine, [*accumulators, *(v[tuple(index)] for v in values)])
    return accumulators


def _placed(op: GenericOp, index: int, value: Any, sizes: Sequence[int], frame: Any) -> Any:
    """The elements of a result laid out as its map says."""
    from stepwell.dialects.tensor import tensor_type, unwritten, zeros

    made = unwritten(zeros(tensor_type(op.results[index]), frame))  # a map may leave the ends of blocks out
    if op.border is not None:
        made[...] = typed_constant(op.border)  # type: ignore[arg-type]
    parallel = [n if kind == "parallel" else 1 for n, kind in zip(sizes, op.iterators, strict=True)]
    grids = np.meshgrid(*(np.arange(n) for n in parallel), indexing="ij", sparse=True)
    place = op.output_maps[index].evaluate(grids, ())
    if not place:
        return np.asarray(value, made.dtype).reshape(())
    first = np.broadcast_to(place[0], parallel)  # a map of constants alone has a place, not places
    made[(first, *place[1:])] = np.broadcast_to(value, parallel)
    return made
