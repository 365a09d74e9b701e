"""A kernel's stages. A stage is a reduction with the maps behind it, or a chain of maps: what becomes one
`loop.stage`. The last stage is the root, whose loops the kernel has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs

from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.core import Value
from stepwell.ir.types import element_of
from stepwell.lowering.tensor.maps import dims_through

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

    @property
    def holds_partial_sums(self) -> bool:
        """Whether what the stage of a reduction gives, the maps behind it included, has the accumulators' types: a loop
        over parts of the reduction keeps its sums there."""
        kept = [getattr(identity, "type", None) for identity in self.root.identities]
        return [element_of(result.type) for result in self.results] == kept

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


def holds_partial_sums(op: GenericOp) -> bool:
    """Whether the stage of a reduction that stands in a kernel `holds_partial_sums`."""
    kernel = op.parent_op
    stage = next((s for s in stages_of(kernel) if s.root is op), None) if isinstance(kernel, KernelOp) else None
    return stage is not None and stage.holds_partial_sums


def _inlined_into(op: GenericOp) -> Iterator[GenericOp]:
    """The ops whose elements are computed where this one reads them, in order."""
    for value in op.inputs:
        producer = value.defining_op
        if isinstance(producer, GenericOp) and producer.stage == INLINE:
            yield from _inlined_into(producer)
            yield producer


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


def shares_loads(stage: Stage, row: int) -> bool:
    """Whether neighbouring rows read the same elements of an operand."""
    return any(row not in map_.used_dims() for map_ in stage.root.input_maps)
