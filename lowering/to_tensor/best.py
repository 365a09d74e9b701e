"""The best elements of lines, best first, found without sorting the lines.

Of n elements in blocks of b, the best k lie in the k blocks with the best maxima: an element of another block has k
better ones, the maxima of these, where of equal elements the first is the best and blocks are runs. So

    tops[j] = max of keys[b * j ..]                the blocks' maxima
    blocks  = the best k of tops, ascending
    found   = the best k of keys[b * blocks[i] + t]   i < k, t < b

and each of the two shorter lines is treated in the same way, until one is so short that something else is cheaper.
Counting ranks every element against every other one:

    rank[i]  = number of elements that come before element i
    found[r] = the i whose rank is r

A threshold tells the best k apart, and only they are ranked; so are lines of unknown length treated.

There are at least k blocks: where a line has fewer, the others are behind its end, where all keys are the worst. Lines
are axis 1 of [outer, n] or [outer, n, inner]. Elements are compared by integers, their keys, of which larger ones are
better."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import attrs

from stepwell.dialects import arith
from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.shape import product
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import AffineExpr, dim
from stepwell.ir.attributes import Attribute
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, bounds, ceildiv, dim_max, proven_le
from stepwell.ir.types import I32, I64, FloatType, IntegerType, TensorType, Type, bit_width
from stepwell.lowering.to_tensor.places import Places, dims, lowest, moved, reduced, reshaped
from stepwell.lowering.to_tensor.sort import along_rows, place_type, run_length
from stepwell.lowering.to_tensor.threshold import Threshold

TYPICAL_LINES = 8  # stands for a number of lines that only run time tells
MOST_SELECTED = 2048  # of the best of lines of open length that are found without sorting
MOST_OF_A_BLOCK = 64
START = 4000  # comparisons in the time that the kernels of one step take to start
THRESHOLD = 24  # comparisons in the time that finding a threshold and marking what reaches it takes for each element
LEAST_START = 500  # for each of many lines, so that kernels stay few, which have to be compiled
SOUGHT = 25  # comparisons in the time of a step of bisection for one of the best
MERGED = 25  # of one for an element of a run that is merged


@attrs.frozen
class Order:
    """How elements are compared; NaN is larger than every number, and both zeros are equal."""

    largest: bool
    unsigned: bool
    element: Type

    @property
    def key_type(self) -> IntegerType:
        """The type of the keys."""
        wide = bit_width(self.element) > 32
        return I64 if wide else I32

    def key(self, p: Places, x: Value) -> Value:
        """An element's key."""
        made = self._of_float(p, p.widened(x)) if isinstance(x.type, FloatType) else self._of_integer(p, x)
        return made if self.largest else p.emit(arith.XOrIOp(made, p.constant(-1, made.type)))

    def _of_float(self, p: Places, x: Value) -> Value:
        """The bits, those below the sign turned over where it is set."""
        type_, highest = self.key_type, (1 << (self.key_type.width - 1)) - 1
        zero = p.constant(0.0, x.type)
        bits = p.emit(arith.BitcastOp(p.select(p.compare("eq", x, zero), zero, x), result_types=[type_]))
        sign = p.emit(arith.ShRSIOp(bits, p.constant(type_.width - 1, type_)))
        made = p.emit(arith.XOrIOp(bits, p.both(sign, p.constant(highest, type_))))
        return p.select(p.is_nan(x), p.constant(highest, type_), made)

    def _of_integer(self, p: Places, x: Value) -> Value:
        type_ = self.key_type
        if bit_width(x.type) == type_.width and self.unsigned:
            return p.emit(arith.XOrIOp(x, p.constant(-(1 << (type_.width - 1)), type_)))
        return p.resized(x, type_, self.unsigned)


def is_selected(x: TensorType, k: Dim) -> bool:
    """Whether finding the best k of each line of x [outer, n] or [outer, n, inner] takes no longer than sorting."""
    n, most, lines = x.shape[1], bounds(k)[1], number_of_lines(x)
    if most is None or not isinstance(n, int):
        return most is not None and most <= MOST_SELECTED
    run = run_length(n)
    first, last = run.bit_length(), max(n - 1, 0).bit_length()  # of the rounds that merge, in which bisections have
    steps = sum(range(first, last + 1)) + max(last + 1 - first, 0)  # as many steps
    return plan(n, most, lines).cost <= n * (2 * run + MERGED * steps) + start_cost(lines) * (3 + steps)


def number_of_lines(x: TensorType) -> int:
    """How many lines there are, or a number that stands for it."""
    sizes = (x.shape[0], *x.shape[2:])
    return max(math.prod(size if isinstance(size, int) else TYPICAL_LINES for size in sizes), 1)


def start_cost(lines: int) -> int:
    """What starting the kernels of one step costs each of so many lines."""
    return max(START // lines, LEAST_START)


@attrs.frozen
class Plan:
    """How the best k of n are found: `block` is 0 where not by blocks; `cost` in comparisons."""

    cost: int
    block: int = 0
    by_threshold: bool = False


@functools.lru_cache(1 << 14)
def plan(n: int, k: int, lines: int) -> Plan:
    """The cheapest way for one of so many lines."""
    found = [
        Plan(n * (n + k) + 2 * start_cost(lines)),
        Plan(THRESHOLD * n + SOUGHT * k * n.bit_length() + k * k + 15 * start_cost(lines), by_threshold=True),
    ]
    best = min(found, key=lambda one: one.cost)
    size = 2
    while size <= MOST_OF_A_BLOCK and k * size < n:
        least = n + 2 * start_cost(lines) + k * size
        if least < best.cost:
            cost = least + plan(max(-(-n // size), k), k, lines).cost + plan(k * size, k, lines).cost
            best = min(best, Plan(cost, size), key=lambda one: one.cost)
        size *= 2
    return best


def best_places(c: Conversion, x: Value, k: int, order: Order) -> Value:
    """Where the best k of each line of x [outer, n] or [outer, n, inner] are, best first: n becomes k, in i32 where n
    is known to fit. Places behind the first n say nothing."""
    return Lines(c, tensor_type(x)).best(x, order, k)


@attrs.frozen
class Lines:
    """Tensors of lines along axis 1."""

    c: Conversion
    like: TensorType

    def of(self, element: IntegerType, *sizes: Dim) -> TensorType:
        """The type with other sizes in place of axis 1."""
        return TensorType((self.like.shape[0], *sizes, *self.like.shape[2:]), element)

    def place(self, *along: AffineExpr, of: int = 1) -> list[AffineExpr]:
        """(outer, along .., inner), where `of` dims are in place of axis 1."""
        return [dim(0), *along, *dims(self.like.rank - 2, 1 + of)]

    def read(self, p: Places, source: Value, place: Value, of: int = 1) -> Value:
        """The source's element at a place of the same line."""
        return p.read(source, [p.at(0), place, *(p.at(1 + of + axis) for axis in range(self.like.rank - 2))])

    def best(self, x: Value, order: Order | None, k: int, *, ascending: bool = False) -> Value:
        """The places of the best, best first or in ascending order; without an order, x has keys."""
        n = tensor_type(x).shape[1]
        way = plan(n, k, number_of_lines(self.like)) if isinstance(n, int) else Plan(0, by_threshold=True)
        if way.block:
            return self._by_blocks(x, order, k, way.block, ascending)
        keys = self._keys(x, order, k)
        if way.by_threshold:
            return self._by_threshold(keys, k, ascending)
        found = self._counted(keys, k)
        return self._ascending(found, k) if ascending else found

    def _by_blocks(self, x: Value, order: Order | None, k: int, block: int, ascending: bool) -> Value:
        """tops[j] = max of keys[block * j ..]; the best of the candidates in the blocks of the best tops"""
        n, type_ = tensor_type(x).shape[1], _key_type(x, order)
        element, worst = self._element(x, order)

        def in_block(p: Places, source: Value) -> Value:
            return element(p, source, p.add(p.mul(p.at(1), p.whole(block)), p.at(self.like.rank)), 1)

        blocks = self.of(type_, dim_max(ceildiv(n, block), k))
        tops = reduced(self.c, blocks, [block], in_block, lambda p, a, b: p.maximum(a, b), worst, sources=[x])
        numbers = self.best(tops, None, k, ascending=True)

        def in_chosen(p: Places, number: Value, source: Value) -> Value:
            return element(p, source, p.add(p.mul(p.index_of(number, False), p.whole(block)), p.at(2)), 2)

        candidates = moved(
            self.c, self.of(type_, k, block), in_chosen, inputs=[numbers], maps=[self.place(dim(1), of=2)], sources=[x]
        )
        candidates = reshaped(self.c, candidates, self.of(type_, k * block).shape)
        found = self.best(candidates, None, k, ascending=ascending)
        return self._in_line(numbers, found, block, place_type(n))

    def _by_threshold(self, keys: Value, k: int, ascending: bool) -> Value:
        """Lines as rows; only the best are ranked."""
        c, (outer, n, *inner) = self.c, tensor_type(keys).shape
        turned = keys
        if inner:
            lying = tensor_type(keys).with_shape([outer, *inner, n])
            turned = moved(c, lying, inputs=[keys], maps=[[dim(0), dim(2), dim(1)]])
        rows = reshaped(c, turned, [product([outer, *inner]), n])
        found = Threshold(c, rows, k).places()
        if not ascending:
            order = Lines(c, tensor_type(found))._counted(along_rows(c, rows, found), k)
            found = along_rows(c, found, order)
        type_ = place_type(n)
        whole = reshaped(c, found, [outer, *inner, k])
        back = [dim(0), dim(2), dim(1)] if inner else dims(2)
        return moved(c, self.of(type_, k), lambda p, x: p.resized(x, type_, False), inputs=[whole], maps=[back])

    def _element(self, x: Value, order: Order | None) -> tuple[Callable[[Places, Value, Value, int], Value], Attribute]:
        """What reads the key at a place; beyond the line's end, the worst one, which is the second."""
        worst, n = lowest(_key_type(x, order), False), tensor_type(x).shape[1]

        def element(p: Places, source: Value, place: Value, of: int) -> Value:
            found = self.read(p, source, place, of)
            inside = p.compare("lt", place, p.size(n))
            return p.select(inside, found if order is None else order.key(p, found), p.constant_of(worst))

        return element, worst

    def _keys(self, x: Value, order: Order | None, k: int) -> Value:
        """The keys of lines of at least k elements."""
        type_ = tensor_type(x)
        if not proven_le(k, type_.shape[1]):
            element, _ = self._element(x, order)
            wide = self.of(_key_type(x, order), dim_max(type_.shape[1], k))
            return moved(self.c, wide, lambda p, source: element(p, source, p.at(1), 1), sources=[x])
        if order is None:
            return x
        return moved(self.c, type_.with_element(order.key_type), order.key, inputs=[x], maps=[dims(type_.rank)])

    def _in_line(self, numbers: Value, found: Value, block: int, type_: IntegerType) -> Value:
        """Places in the line, of places in the chosen blocks."""

        def original(p: Places, place: Value, source: Value) -> Value:
            at, size = p.index_of(place, False), p.whole(block)
            number = p.index_of(self.read(p, source, p.floordiv(at, size)), False)
            return p.integer_of(p.add(p.mul(number, size), p.mod(at, size)), type_)

        result = tensor_type(found).with_element(type_)
        return moved(self.c, result, original, inputs=[found], maps=[dims(result.rank)], sources=[numbers])

    def _counted(self, keys: Value, k: int) -> Value:
        """rank[i] = number of keys that come before key i; place[r] = sum over i of (rank[i] == r ? i : 0)

        Equal keys are ranked by their places, so that each rank is met once."""
        type_, last = place_type(tensor_type(keys).shape[1]), self.like.rank

        def before(p: Places, mine: Value, other: Value) -> Value:
            """1 where the other key comes before this one."""
            earlier = p.both(p.compare("lt", p.at(last), p.at(1)), p.compare("eq", other, mine))
            return p.one_or_zero(p.either(p.compare("gt", other, mine), earlier), type_)

        return self._inverse(self._counts(keys, type_, before), k, lambda p, i: p.integer_of(i, type_))

    def _counts(self, x: Value, type_: IntegerType, before: Callable[[Places, Value, Value], Value]) -> Value:
        """Of how many elements of its line each element of x is told that they come before."""
        n = tensor_type(x).shape[1]
        return reduced(
            self.c, self.of(type_, n), [n], before, lambda p, a, b: p.add(a, b), attribute_of(0, type_), inputs=[x, x],
            maps=[self.place(dim(1)), self.place(dim(self.like.rank))],
        )  # fmt: skip

    def _inverse(self, ranks: Value, k: int, value: Callable[..., Value], *inputs: Value) -> Value:
        """out[r] = value(i, inputs[i]) of the i whose rank is r, for r < k"""
        type_, last = tensor_type(ranks).element, self.like.rank
        assert isinstance(type_, IntegerType)

        def if_here(p: Places, rank: Value, *given: Value) -> Value:
            here = p.compare("eq", rank, p.integer_of(p.at(1), type_))
            return p.select(here, value(p, p.at(last), *given), p.constant(0, type_))

        return reduced(
            self.c, self.of(type_, k), [tensor_type(ranks).shape[1]], if_here, lambda p, a, b: p.add(a, b),
            attribute_of(0, type_), inputs=[ranks, *inputs], maps=[self.place(dim(last))] * (1 + len(inputs)),
        )  # fmt: skip

    def _ascending(self, numbers: Value, k: int) -> Value:
        """Different numbers of each line in ascending order."""
        type_ = tensor_type(numbers).element
        assert isinstance(type_, IntegerType)
        ranks = self._counts(numbers, type_, lambda p, mine, other: p.one_or_zero(p.compare("lt", other, mine), type_))
        return self._inverse(ranks, k, lambda p, i, number: number, numbers)


def _key_type(x: Value, order: Order | None) -> IntegerType:
    type_ = tensor_type(x).element if order is None else order.key_type
    assert isinstance(type_, IntegerType)
    return type_
