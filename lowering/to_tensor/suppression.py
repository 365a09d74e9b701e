"""Non-maximum suppression: rounds that choose a box per class each.

Only boxes above the score threshold are candidates; their largest number in a row is a size that data decide. A round
takes the best candidate left of each row (a batch entry's class), of equal ones the first, and drops those that overlap
it; it ends when none is left anywhere, or as many are chosen as may be. The chosen ones, by row and round, are the
result.

A candidate left has a key, which is larger for a higher score; of the others it is GONE."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.selection import NonMaxSuppressionOp
from stepwell.dialects.graph.shape import product
from stepwell.dialects.tensor import ScatterOp, WhileOp, YieldOp, tensor_type
from stepwell.ir.affine_expr import dim
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim, symbol
from stepwell.ir.types import I1, I32, I64, TensorType
from stepwell.lowering.to_tensor.best import Order
from stepwell.lowering.to_tensor.born import as_size, bear
from stepwell.lowering.to_tensor.compact import first_above, places_of_marks, running_sums, total_of
from stepwell.lowering.to_tensor.control import constant
from stepwell.lowering.to_tensor.places import (
    Places,
    dims,
    lowest,
    moved,
    origin_place,
    places_region,
    reduced,
    reshaped,
    result_type,
)
from stepwell.lowering.to_tensor.rules import lowers

ABSENT = -1
NONE = (1 << 31) - 1
SCALAR = TensorType((), I64)


@lowers(NonMaxSuppressionOp)
def non_max_suppression(op: NonMaxSuppressionOp, c: Conversion) -> Value:
    """graph.non_max_suppression  ->  tensor.born; tensor.while { choose, drop }; tensor.born; rows of triples"""
    return Suppression(op, c).lower()


class Suppression:
    """The lowering of one op. Rows are (batch, class), columns candidates."""

    def __init__(self, op: NonMaxSuppressionOp, c: Conversion) -> None:
        self.op, self.c = op, c
        self.batches, self.classes, self.boxes = shape_of(op.scores)
        self.rows: Dim = product([self.batches, self.classes])

    def lower(self) -> Value:
        """The triples."""
        op, c = self.op, self.c
        scores = reshaped(c, c.new(op.scores), [self.rows, self.boxes])
        self.width: Dim = self.boxes
        self.found = None if op.score_threshold is None else self._candidates(scores)
        keys = self._keys(scores)
        self.corners = self._corners()
        self.turns = self._rounds(keys)
        total = product([self.rows, self.width])
        flat = reshaped(c, self.turns, [total])
        marks = moved(
            c, TensorType((total,), I64), lambda p, turn: p.one_or_zero(p.compare("gt", turn, p.constant(0, I32)), I64),
            inputs=[flat], maps=[dims(1)],
        )  # fmt: skip
        sums = running_sums(c, marks)
        bear(op, c, {op.new_dims[0]: (total_of(c, sums), product([self.rows, self.boxes]))})
        return self._triples(self._by_turn(places_of_marks(c, sums, shape_of(op.result)[0]), sums))

    def _candidates(self, scores: Value) -> Value:
        """found[r, j] = the j-th box of a row that is above the score threshold, ABSENT where there are fewer; as many
        columns as the row that has most of them."""
        op, c = self.op, self.c
        assert op.score_threshold is not None
        lowest, total = c.new(op.score_threshold), product([self.rows, self.boxes])
        above = moved(
            c, TensorType((self.rows, self.boxes), I64),
            lambda p, x, low: p.one_or_zero(p.compare("gt", p.widened(x), p.widened(low)), I64),
            inputs=[scores, lowest], maps=[dims(2), origin_place(lowest)],
        )  # fmt: skip
        sums = running_sums(c, reshaped(c, above, [total]))

        def before_row(p: Places, row: Value, source: Value) -> Value:
            first = p.mul(row, p.size(self.boxes))
            return p.read(source, [p.sub(first, p.whole(1))])

        def count(p: Places, source: Value) -> Value:
            return p.sub(before_row(p, p.add(p.at(0), p.whole(1)), source), before_row(p, p.at(0), source))

        most = reduced(
            c, SCALAR, [self.rows], count, lambda p, a, b: p.maximum(a, b), attribute_of(0, I64), sources=[sums]
        )
        name = f"{op.new_dims[0]}.candidates"
        bear(op, c, {name: (most, self.boxes)})
        self.width = symbol(name)

        def number(p: Places, source: Value) -> Value:
            return p.add(before_row(p, p.at(0), source), p.integer_of(p.at(1), I64))

        def column(p: Places, flat: Value) -> Value:
            made = p.sub(p.index_of(flat, False), p.mul(p.at(0), p.size(self.boxes)))
            inside = p.compare("lt", made, p.size(self.boxes))
            return p.select(inside, p.integer_of(made, I64), p.constant(ABSENT, I64))

        found = TensorType((self.rows, self.width), I64)
        flat = first_above(c, sums, moved(c, found, number, sources=[sums]))
        return moved(c, found, column, inputs=[flat], maps=[dims(2)])

    def _keys(self, scores: Value) -> Value:
        """The candidates' keys before the first round; scores that are NaN come last."""
        order = Order(largest=True, unsigned=False, element=tensor_type(scores).element)
        type_ = order.key_type
        gone = -(1 << (type_.width - 1))

        def key(p: Places, score: Value) -> Value:
            return p.select(p.is_nan(score), p.constant(gone + 1, type_), order.key(p, score))

        def of_candidate(p: Places, place: Value, source: Value) -> Value:
            exists = p.compare("ne", place, p.constant(ABSENT, I64))
            made = key(p, p.read(source, [p.at(0), p.index_of(place, False)]))
            return p.select(exists, made, p.constant(gone, type_))

        result = TensorType((self.rows, self.width), type_)
        if self.found is None:
            return moved(self.c, result, key, inputs=[scores], maps=[dims(2)])
        return moved(self.c, result, of_candidate, inputs=[self.found], maps=[dims(2)], sources=[scores])

    def _box(self, p: Places, row: Value, candidate: Value, *found: Value) -> Value:
        """The number of a candidate's box, as an index."""
        return p.index_of(p.read(found[0], [row, candidate]), False) if found else candidate

    def _corners(self) -> Value:
        """corners[r, .., j] = (low, low, high, high) of candidate j"""
        op, c = self.op, self.c
        boxes = c.new(op.boxes)
        centered = op.boxes_as == "center"

        def body(p: Places, source: Value, *found: Value) -> Value:
            batch = p.floordiv(p.at(0), p.maximum(p.size(self.classes), p.whole(1)))
            place = self._box(p, p.at(0), p.at(2), *found)
            axis, high = p.mod(p.at(1), p.whole(2)), p.compare("ge", p.at(1), p.whole(2))
            first, second = (
                p.widened(p.read(source, [batch, place, p.add(axis, p.whole(part))])) for part in (0, 2)
            )
            if centered:
                half = p.divf(second, p.constant(2.0, second.type))
                made = p.select(high, p.add(first, half), p.sub(first, half))
            else:
                made = p.select(high, p.maximum(first, second), p.minimum(first, second))
            return p.narrowed(made, tensor_type(boxes).element)

        result = tensor_type(boxes).with_shape([self.rows, 4, self.width])
        return moved(c, result, body, sources=[boxes, *self._sources])

    @property
    def _sources(self) -> list[Value]:
        return [] if self.found is None else [self.found]

    def _rounds(self, keys: Value) -> Value:
        """turns[r, j] = the round in which a candidate was chosen, from 1; 0 where it was not."""
        c = self.c
        most = constant(c, np.array(0, np.int64)) if self.op.max_boxes is None else as_size(c, self.op.max_boxes)
        number, pick = constant(c, np.array(0, np.int64)), self._best(keys)
        turns = moved(c, TensorType((self.rows, self.width), I32), lambda p: p.constant(0, I32))
        starts = [self._goes_on(pick, number, most), number, pick, keys, turns]
        block = Block([value.type for value in starts])
        outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
        _, number, pick, keys, turns = block.arguments
        number = moved(c, SCALAR, lambda p, x: p.add(x, p.constant(1, I64)), inputs=[number], maps=[[]])
        turn = moved(c, TensorType((), I32), lambda p, x: p.resized(x, I32, False), inputs=[number], maps=[[]])
        left = self._left(keys, pick)
        turns = moved(
            c, tensor_type(turns), lambda p, turn, picked, now: p.select(
                p.compare("eq", p.integer_of(p.at(1), I32), picked), now, turn
            ), inputs=[turns, pick, turn], maps=[dims(2), dims(1), []],
        )  # fmt: skip
        pick = self._best(left)
        c.insert(YieldOp([self._goes_on(pick, number, most), number, pick, left, turns]))
        c.builder = outside
        made = c.insert(WhileOp(starts, regions=[Region([block])], result_types=[value.type for value in starts]))
        return made.outputs[4]

    def _best(self, keys: Value) -> Value:
        """The best candidate left of each row; NONE where there is none."""
        type_ = tensor_type(keys).element
        gone = lowest(type_, False)
        best = reduced(
            self.c, TensorType((self.rows,), type_), [self.width], lambda p, x: x, lambda p, a, b: p.maximum(a, b),
            gone, inputs=[keys], maps=[dims(2)],
        )  # fmt: skip

        def place(p: Places, key: Value, largest: Value) -> Value:
            is_best = p.both(p.compare("eq", key, largest), p.compare("ne", key, p.constant_of(gone)))
            return p.select(is_best, p.integer_of(p.at(1), I32), p.constant(NONE, I32))

        return reduced(
            self.c, TensorType((self.rows,), I32), [self.width], place, lambda p, a, b: p.minimum(a, b),
            attribute_of(NONE, I32), inputs=[keys, best], maps=[dims(2), dims(1)],
        )  # fmt: skip

    def _goes_on(self, pick: Value, number: Value, most: Value) -> Value:
        """Whether a row has a candidate left, and more may be chosen."""
        c = self.c
        first = reduced(
            c, TensorType((), I32), [self.rows], lambda p, x: x, lambda p, a, b: p.minimum(a, b),
            attribute_of(NONE, I32), inputs=[pick], maps=[dims(1)],
        )  # fmt: skip
        return moved(
            c, TensorType((), I1), lambda p, x, n, limit: p.both(
                p.compare("lt", x, p.constant(NONE, I32)), p.compare("lt", n, limit)
            ), inputs=[first, number, most], maps=[[], [], []],
        )  # fmt: skip

    def _left(self, keys: Value, pick: Value) -> Value:
        """The picked candidate of each row is gone, and those that overlap it are."""
        threshold = self.op.iou_threshold
        inputs, maps = [keys, pick], [dims(2), dims(1)]
        if threshold is not None:
            inputs.append(self.c.new(threshold))
            maps.append(origin_place(inputs[-1]))
        gone = lowest(tensor_type(keys).element, False)

        def body(p: Places, key: Value, picked: Value, *rest: Value) -> Value:
            *limit, corners = rest
            place = p.index_of(picked, False)
            mine, other = (
                [p.widened(p.read(corners, [p.at(0), p.whole(part), where])) for part in range(4)]
                for where in (p.at(1), place)
            )
            bound = p.widened(limit[0]) if limit else p.constant(0.0, mine[0].type)
            is_picked = p.compare("eq", p.integer_of(p.at(1), I32), picked)
            dropped = p.either(p.compare("gt", overlap(p, mine, other), bound), is_picked)
            return p.select(dropped, p.constant_of(gone), key)

        return moved(self.c, tensor_type(keys), body, inputs=inputs, maps=maps, sources=[self.corners])

    def _triples(self, places: Value) -> Value:
        """out[i] = (batch, class, box) of the i-th chosen candidate"""

        def body(p: Places, place: Value, *found: Value) -> Value:
            row = self._row(p, place)
            candidate = p.sub(p.index_of(place, False), p.mul(row, p.size(self.width)))
            classes = p.maximum(p.size(self.classes), p.whole(1))
            box = p.integer_of(self._box(p, row, candidate, *found), I64)
            batch, label = (p.integer_of(x, I64) for x in (p.floordiv(row, classes), p.mod(row, classes)))
            first, second = (p.compare("eq", p.at(1), p.whole(part)) for part in (0, 1))
            return p.select(first, batch, p.select(second, label, box))

        return moved(self.c, result_type(self.op), body, inputs=[places], maps=[[dim(0)]], sources=self._sources)

    def _row(self, p: Places, place: Value) -> Value:
        return p.floordiv(p.index_of(place, False), p.maximum(p.size(self.width), p.whole(1)))

    def _by_turn(self, places: Value, sums: Value) -> Value:
        """The places of the chosen candidates, those of a row in the order of their turns.

        out[(chosen in rows before) + turn - 1] = place"""
        c, type_ = self.c, tensor_type(places)

        def target(p: Places, place: Value, turns: Value, sums: Value) -> Value:
            row, flat = self._row(p, place), p.index_of(place, False)
            first = p.mul(row, p.size(self.width))
            turn = p.resized(p.read(turns, [row, p.sub(flat, first)]), I64, False)
            before = p.read(sums, [p.sub(first, p.whole(1))])
            return p.sub(p.add(before, turn), p.constant(1, I64))

        targets = moved(c, type_, target, inputs=[places], maps=[dims(1)], sources=[self.turns, sums])
        zeros = moved(c, type_, lambda p: p.constant(0, I64))
        line = [1, type_.shape[0], 1]
        region = places_region([I64, I64], lambda p, old, new: new)
        made = c.insert(ScatterOp(*(reshaped(c, x, line) for x in (zeros, targets, places)), regions=[region]))
        return reshaped(c, made.result, type_.shape)


def overlap(p: Places, a: list[Value], b: list[Value]) -> Value:
    """Intersection over union of two boxes given by sorted corners; 0 where a box is empty."""
    zero = p.constant(0.0, a[0].type)
    height, width = (p.sub(p.minimum(a[k + 2], b[k + 2]), p.maximum(a[k], b[k])) for k in (0, 1))
    shared = p.mul(height, width)
    area_a, area_b = (p.mul(p.sub(box[2], box[0]), p.sub(box[3], box[1])) for box in (a, b))
    whole = p.sub(p.add(area_a, area_b), shared)
    meets = p.all_of([p.compare("gt", x, zero) for x in (height, width, area_a, area_b)])
    return p.select(meets, p.divf(shared, whole), zero)
