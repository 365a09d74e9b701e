"""Matrix products -> `tensor.generic` sums of products."""

from __future__ import annotations

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import TensorType
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, reduce_generic, signless


@lowers(MatmulOp)
def matmul(op: MatmulOp, c: Conversion) -> Value:
    """graph.matmul %a, %b  ->  out[batch, m, n] = sum over k of a[batch, m, k] * b[batch, k, n]"""
    lhs, rhs = c.new(op.lhs), c.new(op.rhs)
    result = signless(op.result.type)
    assert isinstance(result, TensorType)
    batch = result.rank - 2
    a, b = tensor_type(lhs).shape, tensor_type(rhs).shape
    space = result.rank + 1
    m, n, k = dim(batch), dim(batch + 1), dim(batch + 2)
    accumulator = accumulator_type(result.element)
    return reduce_generic(
        c, [lhs, rhs], result,
        sizes=[*result.shape, a[-1]],
        iterators=["parallel"] * result.rank + ["reduction"],
        maps=[
            AffineMap(space, 0, [*_batch(a[:-2], result.shape[:batch]), m, k]),
            AffineMap(space, 0, [*_batch(b[:-2], result.shape[:batch]), k, n]),
            AffineMap(space, 0, [dim(d) for d in range(result.rank)]),
        ],
        names=[*(f"b{d}" for d in range(batch)), "m", "n", "k"],
        body=lambda s, x, y: s.mul(x, y),
        combine=lambda s, x, y: s.add(x, y),
        identity=attribute_of(0, accumulator),
        accumulator=accumulator,
    )  # fmt: skip


def _batch(shape: tuple[Dim, ...], space: tuple[Dim, ...]) -> list[AffineExpr]:
    """Where an operand's batch dims are read; those of size 1 at 0."""
    found: list[AffineExpr] = []
    for axis, size in enumerate(shape, start=len(space) - len(shape)):
        if size == space[axis]:
            found.append(dim(axis))
        elif size == 1:
            found.append(const(0))
        else:
            raise NoMatch(f"whether {size} equals {space[axis]} or is 1 is not known at compile time")
    return found
