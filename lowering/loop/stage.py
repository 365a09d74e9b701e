"""A `loop.stage` taken apart, changed and put together again; shared by the passes that transform stages."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from stepwell.dialects import func
from stepwell.dialects.loop import IndexOp, StageOp, YieldOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.attributes import ArrayAttr, Attribute, StringAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.location import Location


@attrs.define(eq=False)
class StageParts:
    """Everything a stage consists of."""

    offsets: list[Value]
    sizes: list[Value]
    inputs: list[Value]
    sources: list[Value]
    outputs: list[Value]
    iterators: list[str]
    input_maps: list[AffineMap]
    output_maps: list[AffineMap]
    names: list[str]
    identities: list[Attribute]
    epilogue_inputs: int
    body: Region
    combine: Region | None
    finalize: Region | None
    first: Value | None
    last: Value | None
    label: str | None
    stage: str | None
    border: Attribute | None
    loc: Location
    scale: tuple[Value, AffineMap] | None = None  # what a sum is multiplied by between its parts, and where

    @staticmethod
    def of(stage: StageOp) -> StageParts:
        """The parts of a stage, its regions copied."""
        regions = [region.clone({}) for region in stage.regions]
        count = len(stage.inputs) - stage.scaled
        return StageParts(
            list(stage.offsets), list(stage.sizes), list(stage.inputs[:count]), list(stage.sources),
            list(stage.outputs), list(stage.iterators), list(stage.input_maps[:count]), list(stage.output_maps),
            dim_names(stage),
            list(stage.identities), stage.epilogue_inputs, regions[0], regions[1] if len(regions) > 1 else None,
            regions[2] if len(regions) > 2 else None, stage.first, stage.last, stage.label,
            stage_name(stage), stage.border, stage.loc,
            (stage.inputs[-1], stage.input_maps[-1]) if stage.scaled else None,
        )  # fmt: skip

    @property
    def body_inputs(self) -> list[Value]:
        """The inputs that the body reads."""
        return self.inputs[: len(self.inputs) - self.epilogue_inputs]

    def build(self, builder: Builder) -> StageOp:
        """Insert the stage. The regions are used up."""
        regions = [self.body]
        if self.combine is not None:
            regions.append(self.combine)
            if self.finalize is not None:
                regions.append(self.finalize)
        scale, scale_map = ([self.scale[0]], [self.scale[1]]) if self.scale is not None else ([], [])
        stage = StageOp(
            self.offsets, self.sizes, [*self.inputs, *scale], self.sources, self.outputs, self.first, self.last,
            iterators=self.iterators, maps=[*self.input_maps, *scale_map, *self.output_maps],
            identities=self.identities, epilogue_inputs=self.epilogue_inputs or None, label=self.label,
            scaled=bool(scale) or None, border=self.border, regions=regions, result_types=(), loc=self.loc,
        )  # fmt: skip
        stage.attributes["names"] = ArrayAttr(tuple(map(StringAttr, self.names)))
        if self.stage is not None:
            stage.attributes["stage"] = StringAttr(self.stage)
        return builder.insert(stage)

    def copy(self) -> StageParts:
        """A copy with regions of its own, for a second `build`."""
        return attrs.evolve(
            self, offsets=list(self.offsets), sizes=list(self.sizes), body=self.body.clone({}),
            combine=self.combine.clone({}) if self.combine else None,
            finalize=self.finalize.clone({}) if self.finalize else None,
        )  # fmt: skip


def stage_name(stage: StageOp) -> str | None:
    """The name by which the kernel's schedule knows a stage; None where there is but one."""
    name = stage.attributes.get("stage")
    return name.value if isinstance(name, StringAttr) else None


def dim_names(stage: StageOp) -> list[str]:
    """The names of a stage's dims."""
    names = stage.attributes.get("names")
    if isinstance(names, ArrayAttr):
        return [name.value for name in names.values if isinstance(name, StringAttr)]
    return [f"d{index}" for index in range(len(stage.iterators))]


def kernel_functions(module: Operation) -> list[func.FuncOp]:
    """The functions that are kernels."""
    return [f for f in module.walk_of(func.FuncOp) if "kernel" in f.attributes]


def clone_body(
    region: Region, arguments: Sequence[Value], builder: Builder, dims: AffineMap | None = None
) -> list[Value]:
    """Copy a one-block region's ops to the builder with its arguments replaced; returns what it yields.

    `dims` gives the dims of the space that the region comes from, as expressions of those where it goes."""
    mapping: dict[Value, Value] = dict(zip(region.block.arguments, arguments, strict=True))
    for op in region.block:
        if isinstance(op, YieldOp):
            return [mapping.get(value, value) for value in op.operands]
        copy = builder.insert(op.clone(mapping))
        if dims is not None and isinstance(copy, IndexOp):
            copy.of = copy.of.compose(dims)
    return []


def joined_region(types: Sequence[object], build: object) -> Region:
    """A region of one block built by `build(builder, *arguments) -> yielded values`."""
    block = Block(types)  # type: ignore[arg-type]
    builder = Builder.at_end(block)
    values = build(builder, *block.arguments)  # type: ignore[operator]
    builder.insert(YieldOp(values))
    return Region([block])
