"""Kernels at sizes shrunk to about one register tile, so that the interpreter can run them after every pass.

memref<1x56x56x64xf32> ...  loop.stage [56, 56, 64, 64]   ->   memref<1x3x15x33xf32> ...  loop.stage [3, 15, 33, 3]

Dims of stages and axes of buffers that must agree form classes: an axis indexed by a dim alone has that dim's size. A
class shrinks as a whole. Axes that are indexed by sums follow from the dims, where only inputs have them; what else is
indexed by sums, read at computed places or reshaped keeps its size. The shrunk kernels stand in a module of their own,
through which every later pass is sent as well."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects import arith, buffer, func
from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp
from stepwell.dialects.loop import StageOp
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.errors import StepwellError
from stepwell.ir.affine import AffineExpr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.interpreter import run_function
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import MemRefType, numpy_dtype
from stepwell.lowering.loop.stage import dim_names, kernel_functions

from .compare import Arithmetic, ResultChanged
from .interpret import coarsest_step, fingerprint
from .launches import Launch, copied, really_changed
from .sizes import sample

MOST_POINTS = 2000  # of all iteration spaces of one shrunk kernel together
REDUCED = 3  # terms left of a sum

Node = tuple[Any, int]  # (stage, dim) or (buffer, axis)


class ShrunkKernels:
    """The shrunk kernels of a module, and what they compute."""

    def __init__(self, context: PassContext) -> None:
        self.context = context
        self.module = ModuleOp(regions=[Region([Block()])])
        self.count = 0  # kernels that were interpreted at the last check
        self._kept: dict[str, Launch] = {}
        self._seen: dict[str, Hashable] = {}

    def add(self, module: Operation) -> None:
        """Take shrunk copies of a module's kernels as they are before the first pass of the loop landing."""
        random = np.random.default_rng(0)
        for function in kernel_functions(module):
            for number, shrunk in enumerate(shrunk_kernels(function)):
                shrunk.sym_name = f"{function.sym_name}.{number}"
                shrunk.properties.pop("sym_visibility", None)  # nobody calls it, and it stays
                inputs = tuple(sample(numpy_dtype(a.type), a.type.shape, random) for a in shrunk.arguments)  # type: ignore[attr-defined]
                try:
                    results = _interpreted(shrunk, inputs)
                except StepwellError:
                    continue  # made-up contents do not suit it
                rounds = Arithmetic(MOST_POINTS, step=coarsest_step(shrunk))
                self._kept[shrunk.sym_name] = Launch(shrunk.sym_name, "", inputs, results, (), rounds)
                self._seen[shrunk.sym_name] = fingerprint(shrunk)
                self.module.block.append(shrunk)
        self.count = len(self._kept)

    def check(self, pass_: Pass) -> None:
        """Send the kernels through a pass and interpret those that it changed. Raises ResultChanged."""
        self.count = 0
        if not self._kept:
            return
        pass_.run(self.module, PassContext(self.context.target, self.context.options))
        for function in kernel_functions(self.module):
            name, now = function.sym_name, fingerprint(function)
            if now == self._seen[name]:
                continue
            self._seen[name] = now
            self.count += 1
            kept = self._kept[name]
            try:
                after = _interpreted(function, kept.before)
            except StepwellError as error:
                raise ResultChanged(f"{_described(function)}: {error}") from error
            found = really_changed(kept, after, range(len(after)), functools.partial(_run, function))
            if found is not None:
                raise ResultChanged(f"{_described(function)}: {found}")
            self._kept[name] = attrs.evolve(kept, after=after)


def _described(function: FuncOp) -> str:
    types = ", ".join(str(argument.type) for argument in function.arguments)
    whole = function.sym_name.rpartition(".")[0]
    return f"@{whole} (of {function.loc.label or 'unknown'}) shrunk to ({types})"


def _run(function: FuncOp, arguments: Sequence[Any]) -> None:
    run_function(function, arguments)


def _interpreted(function: FuncOp, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    arguments = copied(inputs)
    _run(function, arguments)
    return arguments


def shrunk_kernels(function: FuncOp) -> Iterator[FuncOp]:
    """Copies of a kernel of whole stages with smaller sizes: just past one register tile, and just short of it.

    None where a size cannot shrink as far as the interpreter asks for."""
    seen: set[tuple[int, ...]] = set()
    for past in (1, -1):
        copy = function.clone()
        assert isinstance(copy, FuncOp)
        shape = _Classes(copy)
        if not shape.is_known:
            return
        sizes = shape.chosen(past)
        if sizes is None or tuple(sizes.values()) in seen:
            continue
        seen.add(tuple(sizes.values()))
        if shape.apply(sizes):
            yield copy


@attrs.define(eq=False)
class _Class:
    """Dims and axes that have one size."""

    size: int
    members: list[Node]
    is_fixed: bool = False


class _Classes:
    """The classes of one kernel, with static sizes and stages only; `is_known` is False for any other."""

    def __init__(self, function: FuncOp) -> None:
        self.function = function
        self.stages = [op for op in function.body.block if isinstance(op, StageOp)]
        self.schedule = function.attributes.get("schedule")
        self.of: dict[Node, _Class] = {}
        self.sums: dict[Node, list[tuple[StageOp, AffineExpr]]] = {}
        self.is_known = self._is_plain() and bool(self.stages)
        if self.is_known:
            self._collect()

    def _is_plain(self) -> bool:
        plain = (StageOp, buffer.LocalOp, arith.ConstantOp, func.ReturnOp)
        if not all(isinstance(op, plain) for op in self.function.body.block):
            return False
        memory = [v.type for v in self._memory()]
        if not all(isinstance(type_, MemRefType) and type_.is_static and type_.layout is None for type_ in memory):
            return False
        bounds = [v for stage in self.stages for v in (*stage.offsets, *stage.sizes)]
        return all(arith.constant_int(bound) is not None for bound in bounds)

    def _memory(self) -> list[Value]:
        return [*self.function.arguments, *(op.result for op in self.function.walk_of(buffer.LocalOp))]

    def _collect(self) -> None:
        for memory in self._memory():
            for axis, size in enumerate(buffer.memref_type(memory).shape):
                self.of[memory, axis] = _Class(size, [(memory, axis)])
        for stage in self.stages:
            for dim, extent in enumerate(stage.sizes):
                self.of[stage, dim] = _Class(arith.constant_int(extent) or 0, [(stage, dim)])
        for stage in self.stages:
            for memory, map_ in zip((*stage.inputs, *stage.outputs), stage.maps, strict=True):
                for axis, expr in enumerate(map_.results):
                    self._access(stage, (memory, axis), expr)
            for source in stage.sources:
                for axis in range(buffer.memref_type(source).rank):
                    self.of[source, axis].is_fixed = True
        written = {value for stage in self.stages for value in stage.outputs}
        for (memory, axis), uses in self.sums.items():
            alone = len(self.of[memory, axis].members) == 1 and memory not in written
            if alone and memory in self.function.arguments:
                continue
            self.of[memory, axis].is_fixed = True
            for stage, expr in uses:
                for dim in expr.dims:
                    self.of[stage, dim].is_fixed = True

    def _access(self, stage: StageOp, node: Node, expr: AffineExpr) -> None:
        if expr.dim_index is not None:
            self._join(self.of[node], self.of[stage, expr.dim_index])
        else:
            self.sums.setdefault(node, []).append((stage, expr))

    def _join(self, a: _Class, b: _Class) -> None:
        if a is b:
            return
        a.is_fixed = a.is_fixed or b.is_fixed or a.size != b.size
        for node in b.members:
            self.of[node] = a
        a.members += b.members

    def chosen(self, past: int) -> dict[_Class, int] | None:
        """A size for every class: one register tile `past` 1 or -1, halved until few enough points are left."""
        classes = list(dict.fromkeys(self.of.values()))
        sizes = {found: found.size if found.is_fixed else self._target(found, past) for found in classes}
        if all(sizes[found] == found.size for found in classes) and past < 0:
            return None
        while self._points(sizes) > MOST_POINTS:
            iterated = {self.of[stage, dim] for stage in self.stages for dim in range(len(stage.iterators))}
            larger = [c for c in classes if not c.is_fixed and sizes[c] > 2 and c in iterated]
            if not larger:
                return None
            widest = max(larger, key=lambda c: sizes[c])
            sizes[widest] = sizes[widest] // 2 + (1 if sizes[widest] > 4 else 0)
        return sizes

    def _target(self, found: _Class, past: int) -> int:
        tile, reduced = 1, True
        for owner, number in found.members:
            if isinstance(owner, StageOp):
                reduced = reduced and number in owner.reduction_dims
                if isinstance(self.schedule, ScheduleAttr):
                    tile = max(tile, self.schedule.register_size(dim_names(owner)[number]))
        return max(1, min(found.size, REDUCED if reduced else tile + past))

    def _points(self, sizes: Mapping[_Class, int]) -> int:
        boxes = ([sizes[self.of[stage, dim]] for dim in range(len(stage.iterators))] for stage in self.stages)
        return sum(map(math.prod, boxes))

    def apply(self, sizes: Mapping[_Class, int]) -> bool:
        """Give the function these sizes; False where a sum of indices does not fit any more."""
        for memory in self._memory():
            type_ = buffer.memref_type(memory)
            shape = []
            for axis in range(type_.rank):
                size = self._summed((memory, axis), sizes) if (memory, axis) in self.sums else None
                size = sizes[self.of[memory, axis]] if size is None or self.of[memory, axis].is_fixed else size
                if size < 1:
                    return False
                shape.append(size)
            memory.type = MemRefType(tuple(shape), type_.element)
        for stage in self.stages:
            builder = Builder.before(stage)
            for dim in range(len(stage.iterators)):
                extent = builder.insert(arith.index_constant(sizes[self.of[stage, dim]])).result
                stage.set_operand(len(stage.iterators) + dim, extent)
        self.function.update_type()
        return True

    def _summed(self, node: Node, sizes: Mapping[_Class, int]) -> int:
        """As far as any stage indexes an axis."""
        most = 0
        for stage, expr in self.sums[node]:
            ranges = [(0, sizes[self.of[stage, dim]] - 1) for dim in range(len(stage.iterators))]
            low, high = expr.bounds(ranges, ())
            if low is None or high is None or low < 0:
                return 0
            most = max(most, high + 1)
        return most
