"""The rows that a kernel's stages share. Where stages are computed row by row of the root, what passes between them is
one row:

    p[r] = max(x[r, c]); e[r, c] = exp(x[r, c] - p[r]); t[r] = sum(e[r, c]); y[r, c] = e[r, c] / t[r]     rows: r
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import attrs

from stepwell.dialects.tensor import GenericOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import MOD, AffineExpr
from stepwell.ir.dims import Dim
from stepwell.lowering.tensor.maps import dims_through, window_dims
from stepwell.lowering.tensor.stages import Stage, panel_dims, reduction_dims


@attrs.frozen(eq=False)
class Row:
    """A parallel dim that all stages have in common: the position of each stage's dim, and how many of its places make
    one common row, 2 where y[2 t] and y[2 t + 1] are computed from m[t]."""

    dims: Mapping[Stage, int]
    units: Mapping[Stage, int]


@attrs.frozen(eq=False)
class Rows:
    """Stages, the root first, with the rows that they have in common."""

    stages: tuple[Stage, ...]
    rows: tuple[Row, ...]

    @staticmethod
    def of_root(stage: Stage) -> Rows:
        """One stage alone: all of its parallel dims but those of windows, whose rows would overlap."""
        windows = window_dims(stage.root)
        kinds = enumerate(stage.root.iterators)
        dims = [d for d, kind in kinds if kind == "parallel" and d not in windows]
        return Rows((stage,), tuple(Row({stage: d}, {stage: 1}) for d in dims))

    @staticmethod
    def of(stages: Sequence[Stage]) -> Rows | None:
        """The rows of a kernel's stages; None where one of them is not computed row by row."""
        rows = Rows.of_root(stages[-1])
        pending = list(stages[:-1])
        while pending:
            # A stage joins once its readers have lost the rows that it does not have, in whatever order that is.
            for stage in reversed(pending):
                joined = rows.joined(stage) if rows.reads_all(stage, pending) else "its readers come first"
                if isinstance(joined, Rows):
                    rows = joined
                    pending.remove(stage)
                    break
            else:
                return None
        return rows

    def reads_all(self, stage: Stage, others: Sequence[Stage]) -> bool:
        """Whether no other stage than these reads a stage's result."""
        (result,) = stage.results
        inside = {op for other in others if other is not stage for op in other.ops} - {op for s in self.stages
                                                                                       for op in s.ops}  # fmt: skip
        return not any(user in inside for user in result.users)

    @property
    def root(self) -> Stage:
        """The stage whose loops run over the rows."""
        return self.stages[0]

    def sizes(self) -> list[Dim]:
        """How many common rows there are along each dim."""
        root, sizes = self.root, self.root.root.sizes.dims
        return [(sizes[row.dims[root]] + (row.units[root] - 1)) // row.units[root] for row in self.rows]

    def in_order(self) -> list[Row]:
        """The rows as the root's dims follow one another, the outermost first."""
        return sorted(self.rows, key=lambda row: row.dims[self.root])

    def inner(self, stage: Stage) -> list[int]:
        """The dims of a stage that run within a row."""
        taken = {row.dims[stage] for row in self.rows}
        return [d for d in range(len(stage.root.iterators)) if d not in taken]

    def joined(self, stage: Stage) -> Rows | str:
        """These rows with a stage more, whose result only these stages read; a reason where it has other rows.

        Rows are lost where the stage does not have them: its result is then kept for all of them, which is right for
        what it has reduced, and for the operand that a contraction reads again for every output of a row, or at many
        displacements. The dim along which a contraction's vectors run is none of its rows."""
        (result,) = stage.results
        to_root = stage.in_root_dims()
        last = stage.ops[-1]
        if last not in to_root:
            return "its maps do not follow one another element by element"
        written = last.output_maps[0].compose(to_root[last])
        rows: Sequence[Row] = self.rows
        for reader in self.stages:
            readers_dims = reader.in_root_dims()
            for op in reader.ops:
                for value, map_ in zip(op.inputs, op.input_maps, strict=True):
                    if value is not result:
                        continue
                    if op not in readers_dims:
                        return "it is read in another order"
                    read = map_.compose(readers_dims[op])
                    windows = window_dims(op) if op is reader.root else set()
                    found = [
                        _in_producer(row.dims[reader], reader.root, written, read, stage.root, windows) for row in rows
                    ]
                    if any(isinstance(d, str) for d in found):
                        return "rows overlap"
                    sizes = reader.root.sizes.dims
                    lost = [row for row, d in zip(rows, found, strict=True)
                            if d is None and sizes[row.dims[reader]] != 1]  # fmt: skip
                    if lost and not self._may_be_shared(lost, reader, op, stage):
                        return "it is the same for several rows"
                    made = _with_stage(rows, found, reader, stage)
                    if made is None:
                        return "it is read at several rows"
                    rows = made
        return Rows((*self.stages, stage), tuple(rows))

    def _may_be_shared(self, lost: Sequence[Row], reader: Stage, op: GenericOp, stage: Stage) -> bool:
        """Whether several rows may read one result."""
        if op is reader.root and op.has_reduction:
            along = panel_dims(op)
            if reader is self.root:
                along = set().union(*(expr.dims for map_ in op.output_maps for expr in map_.results[-1:]))
            if {row.dims[reader] for row in lost} <= along | window_dims(op):
                return True
        reduced = Counter(str(stage.root.sizes.dims[d]) for d in reduction_dims(stage.root))
        wanted = Counter(str(reader.root.sizes.dims[row.dims[reader]]) for row in lost)
        return wanted <= reduced


@attrs.frozen
class _RowOf:
    """A row of a reader is one of a dim of the producer, `each` of the reader's one after the other the same one."""

    dim: int
    each: int = 1


def _in_producer(
    row: int, reader: GenericOp, written: AffineMap, read: AffineMap, producer: GenericOp, windows: set[int]
) -> _RowOf | str | None:
    """The producer's dim that a reader's row is; None where the place read does not depend on the row, or where the row
    is of a window, whose elements are all read anyway."""
    found: _RowOf | None = None
    through = dims_through(written, read)
    places: list[tuple[int | None, AffineExpr]] = (
        list(enumerate(through.results)) if through is not None else
        [(made.dim_index, place) for made, place in zip(written.results, read.results, strict=True)]
    )  # fmt: skip
    for d, place in places:
        if row not in place.dims or (len(place.dims) > 1 and place.dims <= windows):
            continue
        here = _row_of(d, row, place) if d is not None and producer.iterators[d] == "parallel" else None
        if here is None or (here.each and found is not None):
            return "overlap"
        if here.each:
            if (reader.sizes.dims[row] + (here.each - 1)) // here.each != producer.sizes.dims[here.dim]:
                return "overlap"  # groups, whose channels are other ones in each
            found = here
    return found


def _row_of(d: int, row: int, place: AffineExpr) -> _RowOf | None:
    """What a row of the reader is to the producer's dim `d` that is read at `place`: one of its rows, or, with `each`
    0, a place among those that belong to one row, row mod 2; None where it is neither."""
    if place.dim_index == row:
        return _RowOf(d)
    if place.quotient is not None and place.quotient[0].dim_index == row:
        return _RowOf(d, place.quotient[1])
    if len(place.terms) == 1 and place.dims == {row}:
        atom, _ = place.terms[0]
        if atom.kind == MOD and atom.operand.dim_index == row:
            return _RowOf(d, 0)
    return None


def _with_stage(
    rows: Sequence[Row], found: Sequence[_RowOf | str | None], reader: Stage, stage: Stage
) -> Sequence[Row] | None:
    """Rows with those of a stage more, where a reader's rows are `found` to be its; the units of all are larger
    where they have to be. None where the stage has other rows already."""
    made = []
    panels = panel_dims(stage.root)
    for row, here in zip(rows, found, strict=True):
        if not isinstance(here, _RowOf):
            continue
        factor = math.lcm(row.units[reader], here.each) // row.units[reader]
        units = {known: unit * factor for known, unit in row.units.items()}
        unit = units[reader] // here.each
        if row.dims.get(stage, here.dim) != here.dim or units.get(stage, unit) != unit:
            return None
        if here.dim not in panels:
            made.append(Row({**row.dims, stage: here.dim}, {**units, stage: unit}))
    return made
