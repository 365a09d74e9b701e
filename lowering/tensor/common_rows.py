"""The rows that a kernel's stages share. Where stages are computed row by row of the root, what passes between them is
one row:

    p[r] = max(x[r, c]); e[r, c] = exp(x[r, c] - p[r]); t[r] = sum(e[r, c]); y[r, c] = e[r, c] / t[r]     rows: r

What is read through windows has rows in common that overlap: neighbouring ones need some of the same places.

    e[h, w] = x[h, w]; y[h, w] = sum(e[2 h + kh, 2 w + kw]), kh < 3     rows: h, of which each has 2 h to 2 h + 2 of e
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs

from stepwell.dialects.tensor import GenericOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import FLOORDIV, MOD, AffineExpr, dim
from stepwell.ir.dims import Dim, is_multiple_of
from stepwell.lowering.tensor.maps import dims_through, window_dims
from stepwell.lowering.tensor.stages import Stage, panel_dims, reduction_dims


@attrs.frozen(eq=False)
class Row:
    """A parallel dim that all stages have in common: the position of each stage's dim, how many of its places make
    one common row, 2 where y[2 t] and y[2 t + 1] are computed from m[t], and its margins.

    n common rows from r on are the places from `units * r + low` to below `units * (r + n) + high`, with the margins
    (low, high): (-1, 1) where y[r] is computed from e[r - 1] to e[r + 1]."""

    dims: Mapping[Stage, int]
    units: Mapping[Stage, int]
    margins: Mapping[Stage, tuple[int, int]]

    def overlap(self, stage: Stage) -> int:
        """How many places of a stage neighbouring rows have in common; below 0 where rows leave places out."""
        low, high = self.margins[stage]
        return high - low

    def places(self, stage: Stage, count: int) -> int:
        """How many places of a stage so many rows have."""
        return self.units[stage] * count + self.overlap(stage)

    @property
    def overlaps(self) -> bool:
        """Whether something would be computed again for neighbouring rows."""
        return any(self.overlap(stage) > 0 for stage in self.dims)


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
        return Rows((stage,), tuple(Row({stage: d}, {stage: 1}, {stage: (0, 0)}) for d in dims))

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
        displacements. The dim along which a contraction's vectors run is none of its rows. Of rows that overlap the
        outermost stay alone, and none within them: so the least is computed again."""
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
                    sizes = reader.root.sizes.dims
                    if any(isinstance(d, str) and sizes[row.dims[reader]] != 1
                           for row, d in zip(rows, found, strict=True)):  # fmt: skip
                        return "rows overlap"
                    lost = [row for row, d in zip(rows, found, strict=True)
                            if d is None and sizes[row.dims[reader]] != 1]  # fmt: skip
                    if lost and not self._may_be_shared(lost, reader, op, stage):
                        return "it is the same for several rows"
                    made = _with_stage(rows, found, reader, stage)
                    if made is None:
                        return "it is read at several rows"
                    rows = made
        all_rows = Rows((*self.stages, stage), tuple(rows))
        outermost = next((row for row in all_rows.in_order() if row.overlaps), None)
        return all_rows if outermost is None else all_rows.down_to(outermost)

    def down_to(self, last: Row) -> Rows:
        """The same stages with the rows down to one of them, as the root's dims follow one another."""
        kept = [row for row in self.rows if row.dims[self.root] <= last.dims[self.root]]
        return Rows(self.stages, tuple(kept))

    @property
    def overlap_somewhere(self) -> bool:
        """Whether neighbouring rows need some of the same places."""
        return any(row.overlaps for row in self.rows)

    def _may_be_shared(self, lost: Sequence[Row], reader: Stage, op: GenericOp, stage: Stage) -> bool:
        """Whether several rows may read one result: where it sums as many elements as rows read it, or a multiple. That
        stays so when dims that follow one another are made one."""
        root = reader.root
        if root.has_reduction and (op is root or reader is self.root):
            along = panel_dims(root)
            if reader is self.root:
                along = set().union(*(expr.dims for map_ in root.output_maps for expr in map_.results[-1:]))
            if {row.dims[reader] for row in lost} <= along | window_dims(root):
                return True
        reduced = reduction_dims(stage.root)
        elements = math.prod(stage.root.sizes.dims[d] for d in reduced)
        wanted = math.prod(reader.root.sizes.dims[row.dims[reader]] for row in lost)
        return bool(reduced) and is_multiple_of(elements, wanted)


@attrs.frozen
class _RowOf:
    """A row r of a reader is the places from `step * r + low` to `step * r + high` of a dim of the producer; `each` of
    the reader's one after the other are the same one."""

    dim: int
    each: int = 1
    step: int = 1
    low: int = 0
    high: int = 0

    def margins(self, of_reader: tuple[int, int]) -> tuple[int, int]:
        """The margins of the producer's dim, from those of the reader's."""
        low, high = of_reader
        return (
            self.step * (low // self.each) + self.low, self.step * ((high - 1) // self.each) + self.high + 1
        )  # fmt: skip


def _in_producer(
    row: int, reader: GenericOp, written: AffineMap, read: AffineMap, producer: GenericOp, windows: set[int]
) -> _RowOf | str | None:
    """The producer's dim that a reader's row is; None where the place read does not depend on the row, or where the row
    is of a window, whose elements are all read anyway."""
    found: _RowOf | None = None
    through = dims_through(written, read)
    places = list(enumerate(through.results)) if through is not None else _places(written, read)
    for d, place in places:
        if row not in place.dims or (len(place.dims) > 1 and place.dims <= windows):
            continue
        here = _row_of(d, row, place, reader) if d is not None and producer.iterators[d] == "parallel" else None
        if here is None or (here.each and found not in (None, here)):
            return "overlap"
        if here.each:
            same = here.step == 1 and here.low == here.high == 0
            if same and (reader.sizes.dims[row] + (here.each - 1)) // here.each != producer.sizes.dims[here.dim]:
                return "overlap"  # groups, whose channels are other ones in each
            found = here
    return found


def _places(written: AffineMap, read: AffineMap) -> list[tuple[int | None, AffineExpr]]:
    """The producer's dims that are written along each axis, with the places where the reader reads them; None for an
    axis that is written otherwise.

    written (n, c floordiv 16, h + 1, c mod 16), read (m, k floordiv 16, 2 * i + j, k mod 16)
    ->  n at m, c at k, h at 2 * i + j - 1, c at k"""
    found: list[tuple[int | None, AffineExpr]] = []
    for made, place in zip(written.results, read.results, strict=True):
        d = (made - made.constant).dim_index
        part, other = ((expr.terms[0][0] if len(expr.terms) == 1 else None) for expr in (made, place))
        if d is not None:
            found.append((d, place - made.constant))
        elif (
            part is not None and other is not None and part.kind == other.kind and part.kind in (FLOORDIV, MOD)
            and part.divisor == other.divisor and made.constant == place.constant == 0
        ):  # fmt: skip
            found.append((part.operand.dim_index, other.operand))
        else:
            found.append((None, place))
    return found


def _row_of(d: int, row: int, place: AffineExpr, reader: GenericOp) -> _RowOf | None:
    """What a row of the reader is to the producer's dim `d` that is read at `place`: one of its rows, or several where
    it is read through a window, or, with `each` 0, a place among those that belong to one row, row mod 2; None where it
    is none of these."""
    if place.dim_index == row:
        return _RowOf(d)
    if place.quotient is not None and place.quotient[0].dim_index == row:
        return _RowOf(d, place.quotient[1])
    if len(place.terms) == 1 and place.dims == {row}:
        atom, _ = place.terms[0]
        if atom.kind == MOD and atom.operand.dim_index == row:
            return _RowOf(d, 0)
    step = place.coefficient(row)
    if not step or step < 0:
        return None
    window = place - dim(row) * step
    sizes = [reader.sizes.dims[other] if reader.iterators[other] != "parallel" else None for other in
             range(len(reader.iterators))]  # fmt: skip
    low, high = window.bounds([(0, size - 1 if isinstance(size, int) and size else None) for size in sizes])
    return None if low is None or high is None else _RowOf(d, 1, step, low, high)


def _with_stage(
    rows: Sequence[Row], found: Sequence[_RowOf | str | None], reader: Stage, stage: Stage
) -> Sequence[Row] | None:
    """Rows with those of a stage more, where a reader's rows are `found` to be its; the units of all are larger
    where they have to be, and the margins as large as any reader needs. None where the stage has other rows already."""
    made = []
    panels = panel_dims(stage.root)
    for row, here in zip(rows, found, strict=True):
        if not isinstance(here, _RowOf):
            continue
        factor = math.lcm(row.units[reader], here.each) // row.units[reader]
        units = {known: unit * factor for known, unit in row.units.items()}
        unit = units[reader] // here.each * here.step
        if row.dims.get(stage, here.dim) != here.dim or units.get(stage, unit) != unit:
            return None
        low, high = here.margins(row.margins[reader])
        other = row.margins.get(stage, (low, high))
        margins = {**row.margins, stage: (min(low, other[0]), max(high, other[1]))}
        if here.dim not in panels:
            made.append(Row({**row.dims, stage: here.dim}, {**units, stage: unit}, margins))
    return made
