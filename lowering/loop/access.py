"""Loads and stores at linear indices: a vector where the lanes are neighbours, a scalar where they agree, shuffled
vectors where they are near each other, else lane by lane. Loads of one place are made once per `Memory`."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects import arith, buffer, vector
from stepwell.dialects.buffer import memref_type
from stepwell.dialects.kernel import CONSTANTS
from stepwell.dialects.loop import IfOp, yield_values
from stepwell.errors import IRError
from stepwell.ir.affine import AffineMap
from stepwell.ir.attributes import DenseArrayAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import BlockArgument, Value
from stepwell.ir.types import VectorType
from stepwell.lowering.loop.index import IndexBuilder, LinearIndex
from stepwell.lowering.loop.near_lanes import Window

Mask = Value | int | None


class Memory:
    """Memory access at one insertion point. Nothing may be stored between two loads that are to be shared."""

    def __init__(self, index: IndexBuilder, lanes: int) -> None:
        self.index = index
        self.builder = index.builder
        self.lanes = lanes
        self._loaded: dict[object, Value] = {}
        self._masks: dict[object, Value] = {}

    def load(self, memory: Value, map_: AffineMap, indices: Sequence[LinearIndex], mask: Mask) -> Value:
        """The element that each lane reads; a scalar where all read the same one."""
        try:
            places = self.places(map_, indices)
        except IRError:
            return self._lane_by_lane(memory, map_, indices, mask)
        key = (memory, tuple(place.key for place in places), mask)
        if key not in self._loaded:
            self._loaded[key] = self._load(memory, map_, indices, places, mask)
        return self._loaded[key]

    def places(self, map_: AffineMap, indices: Sequence[LinearIndex]) -> list[LinearIndex]:
        """The index along each axis of a buffer that a map reaches. Raises IRError as quotients do."""
        index = self.index
        made = map_.evaluate(indices, ())
        return [part if isinstance(part, LinearIndex) else LinearIndex({}, int(part), index) for part in made]

    def _load(
        self, memory: Value, map_: AffineMap, indices: Sequence[LinearIndex], places: list[LinearIndex], mask: Mask
    ) -> Value:
        factors = [place.lane_factor for place in places]
        if not any(factors):
            return self._element(memory, places)
        if not neighbours(memory, factors):
            return self._lane_by_lane(memory, map_, indices, mask)
        if mask is None or self._is_whole(memory, places[-1]):
            return self._vector(memory, places, None)
        return self._vector(memory, places, self.mask(mask))

    def _element(self, memory: Value, places: Sequence[LinearIndex]) -> Value:
        return self.builder.insert(buffer.LoadOp(memory, [place.value() for place in places])).result

    def _vector(self, memory: Value, places: Sequence[LinearIndex], mask: Value | None) -> Value:
        type_ = VectorType((self.lanes,), memref_type(memory).element)
        index = [place.value() for place in places]
        if mask is None:
            return self.builder.insert(vector.LoadOp(memory, index, result_types=[type_])).result
        nothing = self.builder.insert(arith.constant(0, type_)).result
        return self.builder.insert(vector.MaskedLoadOp(memory, index, mask, nothing)).result

    def _is_whole(self, memory: Value, last: LinearIndex) -> bool:
        """Whether all lanes of a vector exist in memory, and in all of them something that was computed before: in the
        panels of a packed constant, whose ends are zeros. What becomes of lanes that do not count is not stored."""
        width = memref_type(memory).shape[-1]
        return isinstance(width, int) and width % self.lanes == 0 and last.starts_at(self.lanes) and is_constant(memory)

    def _lane_by_lane(self, memory: Value, map_: AffineMap, indices: Sequence[LinearIndex], mask: Mask) -> Value:
        """Lanes without an element repeat the last one that exists."""
        exists = mask - 1 if isinstance(mask, int) else self.lanes - 1
        window = Window.of(memory, [self.places(map_, [form.at_lane(min(lane, exists)) for form in indices])
                                    for lane in range(self.lanes)])  # fmt: skip
        if window is not None:
            return self._shuffled(window, mask if isinstance(mask, Value) else None)
        at = [[_at_lane(self.index, form, lane, mask) for form in indices] for lane in range(self.lanes)]
        lanes = [self.places(map_, forms) for forms in at]
        found = [self._element(memory, places) for places in lanes]
        type_ = VectorType((self.lanes,), memref_type(memory).element)
        return self.builder.insert(vector.FromElementsOp(found, result_types=[type_])).result

    def _shuffled(self, window: Window, count: Value | None) -> Value:
        """The lanes out of the vectors of a window, which other windows may share; only the first `count` lanes
        exist."""
        if window.size == 1:
            return self.in_lanes(self._element(window.memory, window.at(0)))
        parts = window.parts(whole=count is not None)
        vectors = [self._part(window, start, count) for start in parts]
        made = vectors[0]
        for other, order in zip(vectors[1:] or vectors, window.orders(parts), strict=True):
            made = self.builder.insert(vector.ShuffleOp(made, other, mask=order)).result
        return made

    def _part(self, window: Window, start: int, count: Value | None) -> Value:
        """One vector of a window. No element is loaded that may lie outside of the memory."""
        mask: Value | None = None
        if count is not None:
            mask = self._mask_of(window.readers(start), count)
        elif window.size < self.lanes and not window.holds(self.lanes):
            mask = self.mask(window.size)
        places = window.at(start)
        key = (window.memory, tuple(place.key for place in places), mask)
        if key not in self._loaded:
            self._loaded[key] = self._vector(window.memory, places, mask)
        return self._loaded[key]

    def _mask_of(self, readers: Sequence[int], count: Value) -> Value:
        """The mask of the elements that lanes read, of which so many exist; `readers` are the first that read each."""
        key = (tuple(readers), count)
        if key not in self._masks:
            type_ = vector.index_vector(self.lanes)
            lanes = self.builder.insert(arith.lanes_constant(readers, type_)).result
            counts = self.builder.insert(vector.BroadcastOp(count, result_types=[type_])).result
            self._masks[key] = self.builder.insert(arith.CmpIOp(lanes, counts, predicate="slt")).result
        return self._masks[key]

    def mask(self, count: Value | int) -> Value:
        """The mask of the leading `count` lanes."""
        if count not in self._masks:
            value = self.index.constant(count) if isinstance(count, int) else count
            made = vector.CreateMaskOp(value, result_types=[vector.mask_type(self.lanes)])
            self._masks[count] = self.builder.insert(made).result
        return self._masks[count]

    def store(self, value: Value, memory: Value, map_: AffineMap, indices: Sequence[LinearIndex], mask: Mask) -> None:
        """Write a value at the place of each lane; a scalar where all lanes are one place."""
        try:
            places = self.places(map_, indices)
        except IRError:
            self._store_lane_by_lane(self.in_lanes(value), memory, map_, indices, mask)
            return
        factors = [place.lane_factor for place in places]
        if not any(factors):
            if isinstance(value.type, VectorType):
                value = self.builder.insert(vector.ExtractOp(value, static_position=[0])).result
            self.builder.insert(buffer.StoreOp(value, memory, [place.value() for place in places]))
            return
        value = self.in_lanes(value)
        if not neighbours(memory, factors):
            self._store_lane_by_lane(value, memory, map_, indices, mask)
            return
        index = [place.value() for place in places]
        if mask is None:
            self.builder.insert(vector.StoreOp(value, memory, index))
        else:
            self.builder.insert(vector.MaskedStoreOp(memory, index, self.mask(mask), value))

    def _store_lane_by_lane(
        self, value: Value, memory: Value, map_: AffineMap, indices: Sequence[LinearIndex], mask: Mask
    ) -> None:
        """Lanes without an element write nothing: behind a number of lanes known at run time, each asks whether it is
        one of them."""
        last = mask if isinstance(mask, int) else self.lanes
        for lane in range(last):
            element = self.builder.insert(vector.ExtractOp(value, static_position=[lane])).result
            places = [place.value() for place in self.places(map_, [form.at_lane(lane) for form in indices])]
            write = buffer.StoreOp(element, memory, places)
            if isinstance(mask, Value):
                exists = arith.CmpIOp(self.index.constant(lane), mask, predicate="slt")
                choice = self.builder.insert(IfOp.build(self.builder.insert(exists).result))
                choice.otherwise.remove(choice.otherwise.block)
                inside = Builder.at_end(choice.then.block, self.builder.loc)
                inside.insert(write)
                yield_values(inside)
            else:
                self.builder.insert(write)

    def in_lanes(self, value: Value) -> Value:
        """A value as a vector."""
        if isinstance(value.type, VectorType):
            return value
        type_ = VectorType((self.lanes,), value.type)
        return self.builder.insert(vector.BroadcastOp(value, result_types=[type_])).result


def is_constant(memory: Value) -> bool:
    """Whether a buffer is an argument of a kernel that is given a constant."""
    function = memory.block.parent_op if isinstance(memory, BlockArgument) else None
    numbers = function.attributes.get(CONSTANTS) if function is not None else None
    return isinstance(numbers, DenseArrayAttr) and isinstance(memory, BlockArgument) and memory.index in numbers.values


def neighbours(memory: Value, factors: Sequence[int]) -> bool:
    """Whether the lanes are consecutive elements of a buffer's last dim."""
    type_ = memref_type(memory)
    return type_.layout is None and not any(factors[:-1]) and factors[-1] == 1


def _at_lane(index: IndexBuilder, form: LinearIndex, lane: int, mask: Mask) -> LinearIndex:
    if not form.lane_factor or mask is None:
        return form.at_lane(lane)
    if isinstance(mask, int):
        return form.at_lane(min(lane, mask - 1))
    last = index.sub(mask, index.constant(1))
    clamped = index.minimum(index.constant(lane), last)
    return form.at_lane(0) + LinearIndex({clamped: form.lane_factor}, 0, index)
