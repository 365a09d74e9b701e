"""How the index maps of a buffer's writer and reader fit together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stepwell.dialects.tensor import GenericOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.dims import Dim

Sizes = Sequence[Dim | None]
FAR = 1 << 10  # a multiple of the numbers of lanes
MOST_VECTORS = 8  # that are loaded for one whose lanes lie apart


def dims_through(
    written: AffineMap, read: AffineMap, sizes: Sizes = (), read_sizes: Sizes = ()
) -> AffineMap | None:
    """The writer's dims as expressions of the reader's, where the reader reads each element of a buffer at one point of
    the writer: what makes `written` of them equal `read`. Writer dims that do not reach the buffer are at 0. None where
    the maps do not match, place by place. `sizes` are those of the writer's and of the reader's dims, as far as known.

    written (m, k) -> (m), read (i) -> (i): (i) -> (i, 0)
    written (a, b) -> (16 * a + b), read (c, d) -> (16 * c + d): (c, d) -> (c, d), where b and d have the same size
    written (n, c) -> (n, c floordiv 16, c mod 16), read (a, b) -> (a, b floordiv 16, b mod 16): (a, b) -> (a, b)
    the same written, read (a, g, b) -> (a, (34 * g + b) floordiv 16, (34 * g + b) mod 16): (a, g, b) -> (a, 34 * g + b)
    the same written, read (a, g, b) -> (a, 8 * g + b floordiv 16, b mod 16): (a, g, b) -> (a, 128 * g + b)
    written (m) -> (m, 0), read (i, j) -> (i, j): (i, j) -> (i), where j has the size 1
    """
    made = _dims_through(written, read, sizes, read_sizes)
    if made is None and (1 in sizes or 1 in read_sizes):
        made = _dims_through(_without_units(written, sizes), _without_units(read, read_sizes), sizes, read_sizes)
    return made


def _dims_through(written: AffineMap, read: AffineMap, sizes: Sizes, read_sizes: Sizes) -> AffineMap | None:
    found: list[AffineExpr | None] = [None] * written.num_dims
    for place, other in zip(written.results, read.results, strict=True):
        if place.dim_index is not None:
            found[place.dim_index] = other
    for place, other in zip(written.results, read.results, strict=True):
        dims, others = sorted(place.dims), sorted(other.dims)
        for d, same in _matching_terms(place, other, sizes, read_sizes):
            found[d] = found[d] or dim(same)
        if place.dim_index is not None or len(dims) != 1 or found[dims[0]] is not None:
            continue
        divided, other_divided = place.quotient, other.quotient
        whole: AffineExpr | None = None
        if divided is not None and divided[0] == dim(dims[0]):
            whole = other_divided[0] if other_divided is not None else _dividend(written, read, *divided, other)
        if whole is not None or len(others) == 1:
            found[dims[0]] = whole or dim(others[0])
    exprs = [expr if expr is not None else const(0) for expr in found]
    made = AffineMap(read.num_dims, 0, exprs)
    return made if written.compose(made) == read else None


def _dividend(
    written: AffineMap, read: AffineMap, x: AffineExpr, divisor: int, quotient: AffineExpr
) -> AffineExpr | None:
    """What the reader has for x, where one place has x floordiv n, of which the reader has the `quotient`, and another
    one x mod n: n * quotient + remainder."""
    for place, other in zip(written.results, read.results, strict=True):
        if place.remainder == (x, divisor) and other.remainder is not None and other.remainder[1] == divisor:
            part = other.remainder[0]
            return part + (quotient - part // divisor) * divisor
    return None


def _without_units(map_: AffineMap, sizes: Sizes) -> AffineMap:
    """The map where dims of size 1 are 0, their only place."""
    if 1 not in sizes:
        return map_
    dims = [const(0) if size == 1 else dim(index) for index, size in enumerate(sizes)]
    return map_.replace_dims(dims, map_.num_dims)


def _matching_terms(
    place: AffineExpr, other: AffineExpr, sizes: Sizes, read_sizes: Sizes
) -> Iterator[tuple[int, int]]:
    """The dims of two sums that are the same but for the dims' names: equal factors, and equal known sizes, without
    which one sum could reach an element in a way that the other cannot."""
    form, read = place.linear_form(), other.linear_form()
    if form is None or read is None or len(form[0]) < 2 or not sizes or not read_sizes:
        return
    factors = {factor: d for d, factor in read[0].items()}
    pairs = [(d, factors[factor]) for d, factor in form[0].items() if factor in factors]
    if len(pairs) == len(form[0]) == len(read[0]) == len(factors) == len(set(form[0].values())) and all(
        sizes[d] is not None and sizes[d] == read_sizes[e] for d, e in pairs
    ):
        yield from pairs


def turns(op: GenericOp, index: int, producer: GenericOp) -> bool:
    """Whether neighbours in a map's result are none in its input `index`: a transposition."""
    through = dims_through(op.input_maps[index], producer.output_maps[0])
    if through is None or len(op.results) != 1:
        return False
    made, written = ([place for place in places if place.dims] for places in (
        producer.output_maps[0].results, op.output_maps[0].compose(through).results))  # fmt: skip
    return bool(made and written) and not made[-1].dims & written[-1].dims


def window_dims(op: GenericOp) -> set[int]:
    """The parallel dims along whose sum a reduction reads an operand's last axis: (n, h, k, w - d) -> {w, d}.

    Each element is read at many places of the result, and neighbouring ones read neighbours."""
    found: set[int] = set()
    for map_ in op.input_maps if op.has_reduction else ():
        form = map_.results[-1].linear_form() if map_.results else None
        if form is not None and len(form[0]) > 1 and all(op.iterators[d] == "parallel" for d in form[0]):
            found |= form[0].keys()
    return found


def most_vectors(lanes: int) -> int:
    """How many vectors are loaded for one whose lanes lie apart; beyond, loading each lane alone takes no longer."""
    return min(MOST_VECTORS, max(1, lanes // 2))


def stride_of_lanes(map_: AffineMap, d: int) -> int | None:
    """How far neighbours along a dim lie apart on a tensor's last axis, rounded up, at least 1; None where they do not
    lie along it alone.

    (i, j) -> (i, 2 * j): 2 along j; (i) -> (9 - i): 1; (i) -> (i floordiv 2): 1; (i, j) -> (j, i): None along j"""
    if not map_.results or any(d in place.dims for place in map_.results[:-1]) or d not in map_.results[-1].dims:
        return None
    last = map_.results[-1]
    if last.remainder is not None:
        return None
    first, far = (last.evaluate([at if other == d else 0 for other in range(map_.num_dims)], ()) for at in (0, FAR))
    return max(1, -(-abs(int(far) - int(first)) // FAR))
