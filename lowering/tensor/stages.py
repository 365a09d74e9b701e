"""A kernel's stages, and the rows that they share.

A stage is a reduction with the maps behind it, or a chain of maps: what becomes one `loop.stage`. The last stage is the
root, whose loops the kernel has. Where the others are computed row by row of it, what passes between them is one row:

    p[r] = max(x[r, c]); e[r, c] = exp(x[r, c] - p[r]); t[r] = sum(e[r, c]); y[r, c] = e[r, c] / t[r]     rows: r
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import attrs

from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import FLOORDIV, MOD, AffineExpr
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.lowering.tensor.maps import dims_through, window_dims

INLINE = "inline"


@attrs.frozen(eq=False)
class Stage:
    """Ops that become one `loop.stage`, in order."""

    ops: Sequence[GenericOp]
    name: str = ""

    @property
    def root(self) -> GenericOp:
        """The op whose iteration space the stage has: its reduction, or its last map."""
        return next((op for op in self.ops if op.has_reduction), self.ops[-1])

    @property
    def results(self) -> Sequence[Value]:
        """What leaves the stage."""
        return self.ops[-1].results

    def in_root_dims(self) -> dict[GenericOp, AffineMap]:
        """The dims of each op as expressions of the root's."""
        root = self.root
        found = {root: AffineMap.identity(len(root.iterators))}
        for op in self.ops[list(self.ops).index(root) + 1 :]:  # maps behind the reduction
            for value, read in zip(op.inputs, op.input_maps, strict=True):
                producer = value.defining_op
                if isinstance(producer, GenericOp) and producer in found and op not in found:
                    dims = dims_through(read, producer.output_maps[0], op.sizes.dims, producer.sizes.dims)
                    if dims is not None:
                        found[op] = dims.compose(found[producer])
        for op in reversed(self.ops):  # maps computed where they are read
            for reader in found.copy():
                for value, read in zip(reader.inputs, reader.input_maps, strict=True):
                    if value.defining_op is op and op not in found:
                        dims = dims_through(op.output_maps[0], read, op.sizes.dims, reader.sizes.dims)
                        if dims is not None:
                            found[op] = dims.compose(found[reader])
        return found


def stages_of(kernel: KernelOp) -> list[Stage]:
    """The stages of a kernel, the root last."""
    return stages_among(op for op in kernel.body.block if isinstance(op, GenericOp))


def stages_among(ops: Iterable[GenericOp]) -> list[Stage]:
    """Ops grouped by the stage that they name, in the order of the last op of each; what is computed inline belongs to
    every stage that reads it."""
    members: dict[str, dict[GenericOp, None]] = {}
    for op in ops:
        if op.stage != INLINE:
            name = op.stage or ""
            members[name] = {**members.pop(name, {}), **dict.fromkeys(_inlined_into(op)), op: None}
    return [Stage(list(found), name) for name, found in members.items()]


def _inlined_into(op: GenericOp) -> Iterator[GenericOp]:
    """The ops whose elements are computed where this one reads them, in order."""
    for value in op.inputs:
        producer = value.defining_op
        if isinstance(producer, GenericOp) and producer.stage == INLINE:
            yield from _inlined_into(producer)
            yield producer


@attrs.frozen(eq=False)
class Rows:
    """The parallel dims that all stages have in common: for each, the dim of every stage's root.

    A stage may have several rows where another has one, y[2 t] and y[2 t + 1] from m[t]: `units` says how many of each
    stage's make one common row."""

    stages: tuple[Stage, ...]
    dims: tuple[dict[Stage, int], ...]
    units: tuple[dict[Stage, int], ...]

    @staticmethod
    def of_root(stage: Stage) -> Rows:
        """One stage alone: all of its parallel dims but those of windows, whose rows would overlap."""
        windows = window_dims(stage.root)
        kinds = enumerate(stage.root.iterators)
        dims = tuple({stage: d} for d, kind in kinds if kind == "parallel" and d not in windows)
        return Rows((stage,), dims, ({stage: 1},) * len(dims))

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
        pairs = zip(self.dims, self.units, strict=True)
        return [
            (self.root.root.sizes.dims[row[self.root]] + (unit[self.root] - 1)) // unit[self.root]
            for row, unit in pairs
        ]

    def inner(self, stage: Stage) -> list[int]:
        """The dims of a stage that run within a row."""
        taken = {row[stage] for row in self.dims}
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
        rows = list(zip(self.dims, self.units, strict=True))
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
                        _in_producer(dims[reader], reader.root, written, read, stage.root, windows) for dims, _ in rows
                    ]
                    if any(isinstance(d, str) for d in found):
                        return "rows overlap"
                    sizes = reader.root.sizes.dims
                    lost = [dims for (dims, _), d in zip(rows, found, strict=True)
                            if d is None and sizes[dims[reader]] != 1]  # fmt: skip
                    if lost and not self._may_be_shared(lost, reader, op, stage):
                        return "it is the same for several rows"
                    made = _with_stage(rows, found, reader, stage)
                    if made is None:
                        return "it is read at several rows"
                    rows = made
        return Rows((*self.stages, stage), tuple(d for d, _ in rows), tuple(u for _, u in rows))

    def _may_be_shared(self, lost: list[dict[Stage, int]], reader: Stage, op: GenericOp, stage: Stage) -> bool:
        """Whether several rows may read one result."""
        if op is reader.root and op.has_reduction:
            along = panel_dims(op)
            if reader is self.root:
                along = set().union(*(expr.dims for map_ in op.output_maps for expr in map_.results[-1:]))
            if {row[reader] for row in lost} <= along | window_dims(op):
                return True
        reduced = Counter(str(stage.root.sizes.dims[d]) for d in reduction_dims(stage.root))
        wanted = Counter(str(reader.root.sizes.dims[row[reader]]) for row in lost)
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
    if len(place.terms) == 1 and place.dims == {row}:
        atom, factor = place.terms[0]
        if atom.kind == FLOORDIV and atom.operand.dim_index == row and factor == 1 and not place.constant:
            return _RowOf(d, atom.divisor)
        if atom.kind == MOD and atom.operand.dim_index == row:
            return _RowOf(d, 0)
    return None


def _with_stage(
    rows: Sequence[tuple[dict[Stage, int], dict[Stage, int]]], found: Sequence[_RowOf | str | None], reader: Stage,
    stage: Stage,
) -> list[tuple[dict[Stage, int], dict[Stage, int]]] | None:  # fmt: skip
    """Rows and units with those of a stage more, where a reader's rows are `found` to be its; the units of all are
    larger where they have to be. None where the stage has other rows already."""
    made = []
    panels = panel_dims(stage.root)
    for (dims, units), row in zip(rows, found, strict=True):
        if not isinstance(row, _RowOf):
            continue
        factor = math.lcm(units[reader], row.each) // units[reader]
        units = {known: unit * factor for known, unit in units.items()}
        unit = units[reader] // row.each
        if dims.get(stage, row.dim) != row.dim or units.get(stage, unit) != unit:
            return None
        if row.dim not in panels:
            made.append(({**dims, stage: row.dim}, {**units, stage: unit}))
    return made


def panel_dims(op: GenericOp) -> set[int]:
    """The dims along which a contraction's result is contiguous and one operand is the same: vectors run along them,
    and share the elements of that operand."""
    if not op.has_reduction:
        return set()
    along = {d for map_ in op.output_maps if map_.results for d in map_.results[-1].dims}
    return {d for d in along if any(d not in map_.used_dims() for map_ in op.input_maps)}


def reduction_dims(op: GenericOp) -> list[int]:
    """Positions of the dims that are reduced."""
    return [d for d, kind in enumerate(op.iterators) if kind != "parallel"]
