"""The state that a softmax keeps while its row is computed part by part: the largest element so far, sums relative to
it, and the factor that brings them from the old to the new one.

loop.for k0 { stage scores; stage peak; stage powers; stage total; stage root }
->  %p, %t, %q, %f = buffer.local
    loop.for k0 { scores; q = p; peak into p; f = powers(q, p); powers; total in parts, scaled by f; root alike }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from stepwell.dialects.arith import index_constant
from stepwell.dialects.loop import StageOp
from stepwell.dialects.schedule import PEAK, POWER, TOTAL, ScheduleAttr, StageSpec
from stepwell.errors import PassError
from stepwell.ir.affine import AffineMap
from stepwell.ir.builder import Builder
from stepwell.ir.core import Value
from stepwell.ir.types import element_of
from stepwell.lowering.loop.attach import Extent, Part, local_memory
from stepwell.lowering.loop.stage import StageParts, dim_names, joined_region
from stepwell.lowering.tensor.maps import dims_through


@attrs.frozen(eq=False)
class Attached:
    """A stage that is computed in a loop of the root, as its spec says."""

    stage: StageOp
    spec: StageSpec

    @property
    def along(self) -> int:
        """The dim of which the loop has come to a part."""
        return dim_names(self.stage).index(self.spec.along)


@attrs.frozen(eq=False)
class RunningState:
    """The stages with a role in one loop, and their memory outside of it."""

    peak: Attached
    power: Attached
    old: Value
    factor: Value

    @staticmethod
    def begin(
        attached: Sequence[Attached], parts: Mapping[StageOp, Part], memory: dict[Value, Value], builder: Builder
    ) -> RunningState:
        """Make room for what is kept from part to part. Raises PassError for roles that do not fit together."""
        by_role = {role: [each for each in attached if each.spec.role == role] for role in (PEAK, POWER, TOTAL)}
        if len(by_role[PEAK]) != 1 or len(by_role[POWER]) != 1:
            raise PassError(f"a loop over parts of {attached[0].spec.along!r} needs one peak and one power")
        for each in (*by_role[PEAK], *by_role[TOTAL]):
            memory.update(local_memory(each.stage, parts[each.stage], builder))
        (peak,), (power,) = by_role[PEAK], by_role[POWER]
        kept = [local_memory(peak.stage, parts[peak.stage], builder)[peak.stage.outputs[0]] for _ in range(2)]
        state = RunningState(peak, power, *kept)
        if sorted(state._place(value) for value in power.stage.inputs) != [0, 1]:
            raise PassError(f"stage {power.spec.name}: a power is a map of an element and of the peak alone")
        return state

    def _place(self, value: Value) -> int:
        return int(value is self.peak.stage.outputs[0])

    @property
    def peak_map(self) -> AffineMap:
        """Where the powers read the peak."""
        stage = self.power.stage
        return stage.input_maps[list(stage.inputs).index(self.peak.stage.outputs[0])]

    def kept_peak(self, now: Value) -> StageOp:
        """q = p"""
        parts = StageParts.of(self.power.stage)
        parts.inputs, parts.input_maps = [now], [self.peak_map]
        parts.body = joined_region([element_of(now.type)], lambda builder, x: [x])
        return self._of_rows(parts, self.old)

    def new_factor(self, now: Value) -> StageOp:
        """f = powers(q, p)"""
        parts = StageParts.of(self.power.stage)
        parts.inputs = [now if self._place(value) else self.old for value in parts.inputs]
        parts.input_maps = [self.peak_map] * 2
        return self._of_rows(parts, self.factor)

    def _of_rows(self, parts: StageParts, output: Value) -> StageOp:
        parts.outputs, parts.output_maps = [output], [self.peak_map]
        return parts.build(Builder.before(self.power.stage))

    def row_extents(self, box: Sequence[Extent], builder: Builder) -> list[Extent]:
        """The box of the powers with one element of each row."""
        zero, one = (builder.insert(index_constant(n)).result for n in (0, 1))
        found = list(box)
        found[self.power.along] = Extent(zero, one, 1, 0, 1)
        return found

    def row_schedule(self, lanes: int) -> ScheduleAttr:
        """Vectors of neighbouring rows."""
        place = self.peak_map.results[-1].dim_index if self.peak_map.results else None
        if place is None or lanes == 1:
            return ScheduleAttr((), (), "none", 1)
        name = dim_names(self.power.stage)[place]
        return ScheduleAttr((), ((name, lanes),), name, lanes)

    def scale(self, reader: StageOp) -> tuple[Value, AffineMap]:
        """The factor, and where a stage that reads the powers finds its own. Raises PassError for other stages."""
        powers = self.power.stage.outputs[0]
        for value, read in zip(reader.inputs, reader.input_maps, strict=True):
            if value is powers:
                to_power = dims_through(self.power.stage.output_maps[0], read)
                if to_power is not None:
                    return self.factor, self.peak_map.compose(to_power)
        raise PassError(f"stage {reader.label or reader}: what is summed in parts is no power")
