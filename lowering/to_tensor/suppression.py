"""Non-maximum suppression: candidates in the order of their scores, then rounds that choose a box per class each.

Only boxes above the score threshold are candidates; their largest number in a row is a size that data decide. A round
takes the first candidate left of each row (a batch entry's class) and drops those that overlap it; it ends when none is
left anywhere, or as many are chosen as may be. The chosen ones, compacted, are the result, in order."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.selection import NonMaxSuppressionOp
from stepwell.dialects.graph.shape import product
from stepwell.dialects.tensor import WhileOp, YieldOp, tensor_type
from stepwell.ir.affine_expr import dim
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim, symbol
from stepwell.ir.types import I1, I8, I64, TensorType, Type
from stepwell.lowering.to_tensor.born import as_size, bear
from stepwell.lowering.to_tensor.compact import BEYOND, first_above, places_of_marks, running_sums, total_of
from stepwell.lowering.to_tensor.control import constant
from stepwell.lowering.to_tensor.places import Places, dims, moved, origin_place, reduced, reshaped, result_type
from stepwell.lowering.to_tensor.rules import lowers
from stepwell.lowering.to_tensor.sort import along_rows, sorted_rows

OUT, LEFT, CHOSEN = range(3)  # what is known of a candidate
ABSENT = -1
SCALAR = TensorType((), I64)


@lowers(NonMaxSuppressionOp)
def non_max_suppression(op: NonMaxSuppressionOp, c: Conversion) -> Value:
    """graph.non_max_suppression  ->  tensor.born; sort; tensor.while { choose, drop }; tensor.born; rows of triples"""
    return Suppression(op, c).lower()


class Suppression:
    """The lowering of one op. Rows are (batch, class), columns candidates in order."""

    def __init__(self, op: NonMaxSuppressionOp, c: Conversion) -> None:
        self.op, self.c = op, c
        self.batches, self.classes, self.boxes = shape_of(op.scores)
        self.rows: Dim = product([self.batches, self.classes])

    def lower(self) -> Value:
        """The triples."""
        op, c = self.op, self.c
        scores = reshaped(c, c.new(op.scores), [self.rows, self.boxes])
        self.width: Dim = self.boxes
        found = None if op.score_threshold is None else self._candidates(scores)
        if found is not None:
            scores = self._scores_of(scores, found)
        scores, self.order = sorted_rows(c, scores, _higher)
        start = self._start(scores)
        if found is not None:
            self.order = along_rows(c, found, self.order)
        self.corners = self._corners()
        state = self._rounds(start)
        total = product([self.rows, self.width])
        flat = reshaped(c, state, [total])
        marks = moved(c, TensorType((total,), I64), lambda p, x: _is(p, x, CHOSEN, I64), inputs=[flat], maps=[dims(1)])
        sums = running_sums(c, marks)
        bear(op, c, {op.new_dims[0]: (total_of(c, sums), product([self.rows, self.boxes]))})
        return self._triples(places_of_marks(c, sums, shape_of(op.result)[0]))

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

    def _scores_of(self, scores: Value, found: Value) -> Value:
        """The candidates' scores; -inf, which is above no threshold, where there is none."""

        def body(p: Places, place: Value, source: Value) -> Value:
            lowest = p.constant(float("-inf"), tensor_type(scores).element)
            return p.read(source, [p.at(0), p.index_of(place, False)], lowest)

        result = tensor_type(scores).with_shape([self.rows, self.width])
        return moved(self.c, result, body, inputs=[found], maps=[dims(2)], sources=[scores])

    def _corners(self) -> Value:
        """corners[r, j] = (low, low, high, high) of candidate j"""
        op, c = self.op, self.c
        boxes = c.new(op.boxes)
        centered = op.boxes_as == "center"

        def body(p: Places, place: Value, source: Value) -> Value:
            batch = p.floordiv(p.at(0), p.maximum(p.size(self.classes), p.whole(1)))
            place = p.index_of(place, False)
            axis, high = p.mod(p.at(2), p.whole(2)), p.compare("ge", p.at(2), p.whole(2))
            first, second = (
                p.widened(p.read(source, [batch, place, p.add(axis, p.whole(part))])) for part in (0, 2)
            )
            if centered:
                half = p.divf(second, p.constant(2.0, second.type))
                made = p.select(high, p.add(first, half), p.sub(first, half))
            else:
                made = p.select(high, p.maximum(first, second), p.minimum(first, second))
            return p.narrowed(made, tensor_type(boxes).element)

        result = tensor_type(boxes).with_shape([self.rows, self.width, 4])
        return moved(c, result, body, inputs=[self.order], maps=[dims(2)], sources=[boxes])

    def _start(self, scores: Value) -> Value:
        """The state before the first round."""
        c, result = self.c, TensorType((self.rows, self.width), I8)
        if self.op.score_threshold is None:
            return moved(c, result, lambda p: p.constant(LEFT, I8))

        def body(p: Places, score: Value) -> Value:
            exists = p.compare("gt", score, p.constant(float("-inf"), score.type))
            return p.select(exists, p.constant(LEFT, I8), p.constant(OUT, I8))

        return moved(c, result, body, inputs=[scores], maps=[dims(2)])

    def _rounds(self, state: Value) -> Value:
        """The state when all is decided."""
        c = self.c
        most = constant(c, np.array(0, np.int64)) if self.op.max_boxes is None else as_size(c, self.op.max_boxes)
        number, pick = constant(c, np.array(0, np.int64)), self._first_left(state)
        starts = [self._goes_on(pick, number, most), number, pick, state]
        block = Block([value.type for value in starts])
        outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
        _, number, pick, state = block.arguments
        following = self._decided(state, pick)
        number = moved(c, SCALAR, lambda p, x: p.add(x, p.constant(1, I64)), inputs=[number], maps=[[]])
        pick = self._first_left(following)
        c.insert(YieldOp([self._goes_on(pick, number, most), number, pick, following]))
        c.builder = outside
        made = c.insert(WhileOp(starts, regions=[Region([block])], result_types=[value.type for value in starts]))
        return made.outputs[3]

    def _first_left(self, state: Value) -> Value:
        """The first candidate left of each row; BEYOND where there is none."""
        return reduced(
            self.c, TensorType((self.rows,), I64), [self.width],
            lambda p, x: p.select(_is(p, x, LEFT), p.integer_of(p.at(1), I64), p.constant(BEYOND, I64)),
            lambda p, a, b: p.minimum(a, b), attribute_of(BEYOND, I64), inputs=[state], maps=[dims(2)],
        )  # fmt: skip

    def _goes_on(self, pick: Value, number: Value, most: Value) -> Value:
        """Whether a row has a candidate left, and more may be chosen."""
        c = self.c
        first = reduced(
            c, SCALAR, [self.rows], lambda p, x: x, lambda p, a, b: p.minimum(a, b), attribute_of(BEYOND, I64),
            inputs=[pick], maps=[dims(1)],
        )  # fmt: skip
        return moved(
            c, TensorType((), I1), lambda p, x, n, limit: p.both(
                p.compare("lt", x, p.constant(BEYOND, I64)), p.compare("lt", n, limit)
            ), inputs=[first, number, most], maps=[[], [], []],
        )  # fmt: skip

    def _decided(self, state: Value, pick: Value) -> Value:
        """The picked candidate of each row is chosen, those left that overlap it are out."""
        threshold = self.op.iou_threshold
        inputs, maps = [state, pick], [dims(2), dims(1)]
        if threshold is not None:
            inputs.append(self.c.new(threshold))
            maps.append(origin_place(inputs[-1]))

        def body(p: Places, known: Value, picked: Value, *rest: Value) -> Value:
            *limit, corners = rest
            place = p.index_of(picked, False)
            mine, other = (
                [p.widened(p.read(corners, [p.at(0), where, p.whole(part)])) for part in range(4)]
                for where in (p.at(1), place)
            )
            bound = p.widened(limit[0]) if limit else p.constant(0.0, mine[0].type)
            overlaps = p.compare("gt", overlap(p, mine, other), bound)
            dropped = p.both(_is(p, known, LEFT), overlaps)
            kept = p.select(dropped, p.constant(OUT, I8), known)
            return p.select(p.compare("eq", p.at(1), place), p.constant(CHOSEN, I8), kept)

        return moved(self.c, tensor_type(state), body, inputs=inputs, maps=maps, sources=[self.corners])

    def _triples(self, places: Value) -> Value:
        """out[i] = (batch, class, box) of the i-th chosen candidate"""

        def body(p: Places, place: Value, order: Value) -> Value:
            width = p.maximum(p.size(self.width), p.whole(1))
            classes = p.maximum(p.size(self.classes), p.whole(1))
            flat = p.index_of(place, False)
            row = p.floordiv(flat, width)
            box = p.read(order, [row, p.mod(flat, width)])
            batch, label = (p.integer_of(x, I64) for x in (p.floordiv(row, classes), p.mod(row, classes)))
            first, second = (p.compare("eq", p.at(1), p.whole(part)) for part in (0, 1))
            return p.select(first, batch, p.select(second, label, box))

        return moved(self.c, result_type(self.op), body, inputs=[places], maps=[[dim(0)]], sources=[self.order])


def _higher(p: Places, a: Value, b: Value) -> Value:
    """Scores fall; NaN comes last."""
    return p.either(p.compare("gt", p.widened(a), p.widened(b)), p.both(p.compare("eq", a, a), p.is_nan(b)))


def _is(p: Places, state: Value, wanted: int, type_: Type | None = None) -> Value:
    found = p.compare("eq", state, p.constant(wanted, I8))
    return found if type_ is None else p.one_or_zero(found, type_)


def overlap(p: Places, a: list[Value], b: list[Value]) -> Value:
    """Intersection over union of two boxes given by sorted corners; 0 where a box is empty."""
    zero = p.constant(0.0, a[0].type)
    height, width = (p.sub(p.minimum(a[k + 2], b[k + 2]), p.maximum(a[k], b[k])) for k in (0, 1))
    shared = p.mul(height, width)
    area_a, area_b = (p.mul(p.sub(box[2], box[0]), p.sub(box[3], box[1])) for box in (a, b))
    whole = p.sub(p.add(area_a, area_b), shared)
    meets = p.all_of([p.compare("gt", x, zero) for x in (height, width, area_a, area_b)])
    return p.select(meets, p.divf(shared, whole), zero)
