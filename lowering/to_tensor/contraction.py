"""Matrix products -> `tensor.generic` sums of products."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.contraction import EinsumOp, MatmulIntegerOp, MatmulOp, split_equation, zero_shape
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import I32, TensorType, Type, is_unsigned
from stepwell.lowering.to_tensor.operands import is_aligned
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, map_generic, reduce_generic, signless
from stepwell.lowering.to_tensor.scalars import Scalars


@lowers(MatmulOp)
def matmul(op: MatmulOp, c: Conversion) -> Value:
    """graph.matmul %a, %b  ->  out[batch, m, n] = sum over k of a[batch, m, k] * b[batch, k, n]"""
    lhs, rhs = c.new(op.lhs), c.new(op.rhs)
    result = signless(op.result.type)
    assert isinstance(result, TensorType)
    batch = result.rank - 2
    lhs, rhs = (stretched(c, x, [*result.shape[:batch], *tensor_type(x).shape[-2:]]) for x in (lhs, rhs))
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
        if size != 1 and not is_aligned(size, space[axis]):
            raise NoMatch(f"whether {size} equals {space[axis]} or is 1 is not known at compile time")
        found.append(const(0) if size == 1 and space[axis] != 1 else dim(axis))
    return found


def stretched(c: Conversion, x: Value, shape: Sequence[Dim]) -> Value:
    """%x : [b, ..] where only run time tells whether b is 1 or n  ->  out[i, ..] = x[i * (b == 1 ? 0 : 1), ..] over n

    A contraction reads its operands at affine places; a size that may be 1 is stretched by a copy before it."""
    type_ = tensor_type(x)
    target = list(shape[len(shape) - type_.rank :])
    known = [size == 1 or is_aligned(size, wanted) for size, wanted in zip(type_.shape, target, strict=True)]
    if all(known):
        return x
    target = [size if aligned else wanted for size, aligned, wanted in zip(type_.shape, known, target, strict=True)]
    return map_generic(c, [x], type_.with_shape(target), lambda s, v: v, widen=False)


@lowers(MatmulIntegerOp)
def matmul_integer(op: MatmulIntegerOp, c: Conversion) -> Value:
    """graph.matmul_integer %a, %b, %za, %zb  ->  sum over k of (a - za) * (b - zb), in i32"""
    result = signless(op.result.type)
    assert isinstance(result, TensorType)
    batch, space = result.rank - 2, result.rank + 1
    m, n, k = dim(batch), dim(batch + 1), dim(batch + 2)
    inputs, maps = [], []
    for value, places in ((op.lhs, [m, k]), (op.rhs, [k, n])):
        shape = tensor_type(value).shape
        inputs.append(stretched(c, c.new(value), [*result.shape[:batch], *shape[-2:]]))
        maps.append(AffineMap(space, 0, [*_batch(tensor_type(inputs[-1]).shape[:-2], result.shape[:batch]), *places]))
    for zero, along, row in ((op.lhs_zero, m, True), (op.rhs_zero, n, False)):
        if zero is not None:
            inputs.append(stretched(c, c.new(zero), zero_shape(result.shape, len(tensor_type(zero).shape), row=row)))
            shape = tensor_type(inputs[-1]).shape
            maps.append(AffineMap(space, 0, _zero_places(shape, result.shape[:batch], along, row)))
    signs = [tensor_type(value).element for value in (op.lhs, op.rhs)]

    def body(s: Scalars, a: Value, b: Value, *zeros: Value) -> Value:
        rest = iter(zeros)
        x = less_zero(s, a, next(rest) if op.lhs_zero is not None else None, signs[0])
        y = less_zero(s, b, next(rest) if op.rhs_zero is not None else None, signs[1])
        return s.mul(x, y)

    return reduce_generic(
        c, inputs, result,
        sizes=[*result.shape, tensor_type(op.lhs).shape[-1]],
        iterators=["parallel"] * result.rank + ["reduction"],
        maps=[*maps, AffineMap(space, 0, [dim(d) for d in range(result.rank)])],
        names=[*(f"b{d}" for d in range(batch)), "m", "n", "k"],
        body=body, combine=lambda s, x, y: s.add(x, y), identity=attribute_of(0, I32), accumulator=I32,
    )  # fmt: skip


def _zero_places(shape: tuple[Dim, ...], batch: tuple[Dim, ...], along: AffineExpr, row: bool) -> list[AffineExpr]:
    """Where a zero point is read: [m] or [.., m, 1] of rows, [n] or [.., 1, n] of columns, one number at 0."""
    if len(shape) < 2:
        return [const(0) if size == 1 else along for size in shape]
    last = [along if size != 1 else const(0) for size in shape[-2:]]
    return [*_batch(shape[:-2], batch), *([last[0], const(0)] if row else [const(0), last[1]])]


def less_zero(s: Scalars, x: Value, zero: Value | None, source: Type) -> Value:
    """An integer of graph type `source` less its zero point, in i32."""
    wide = s.resized(x, I32, is_unsigned(source))
    return wide if zero is None else s.sub(wide, s.resized(zero, I32, is_unsigned(source)))


@lowers(EinsumOp)
def einsum(op: EinsumOp, c: Conversion) -> Value:
    """graph.einsum %a, %b {equation = "ik,kj->ij"}  ->  out[i, j] = sum over k of a[i, k] * b[k, j]"""
    terms, right = split_equation(op.equation)
    if len(set(right)) < len(right):
        raise NoMatch(f"{op.equation!r} repeats a label of the result")
    result = signless(op.result.type)
    assert isinstance(result, TensorType)
    inputs = [c.new(value) for value in op.inputs]
    sizes: dict[str, Dim] = {**dict.fromkeys(right, 1), **op.label_sizes()}
    inputs = [stretched(c, x, [sizes[label] for label in term]) for term, x in zip(terms, inputs, strict=True)]
    places = {label: dim(position) for position, label in enumerate(sizes)}
    maps = []
    for term, value in zip(terms, inputs, strict=True):
        found = []
        for label, size in zip(term, tensor_type(value).shape, strict=True):
            found.append(const(0) if size == 1 and sizes[label] != 1 else places[label])
        maps.append(AffineMap(len(sizes), 0, found))

    def product(s: Scalars, *factors: Value) -> Value:
        made = factors[0]
        for factor in factors[1:]:
            made = s.mul(made, factor)
        return made

    if len(sizes) == len(right):
        return map_generic(c, inputs, result, product, maps=maps)
    accumulator = accumulator_type(result.element)
    return reduce_generic(
        c, inputs, result, sizes=list(sizes.values()),
        iterators=["parallel"] * len(right) + ["reduction"] * (len(sizes) - len(right)),
        maps=[*maps, AffineMap(len(sizes), 0, [dim(d) for d in range(len(right))])],
        names=list(sizes), body=product, combine=lambda s, x, y: s.add(x, y),
        identity=attribute_of(0, accumulator), accumulator=accumulator,
    )  # fmt: skip
