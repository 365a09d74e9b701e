"""Control flow: If, Loop, Scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from stepwell.dialects.graph.base import ConstantOp, normalize_axis, shape_of, tensor_type
from stepwell.dialects.graph.control import IfOp, LoopOp, ScanOp, YieldOp, same_kind, yielded
from stepwell.dialects.graph.elementwise import AddOp
from stepwell.dialects.graph.logic import CompareOp, WhereOp
from stepwell.dialects.graph.sequence import OptionalOp
from stepwell.dialects.graph.symbols import fresh_name
from stepwell.dialects.sequence_types import OptionalType, joined_type, without_symbols
from stepwell.errors import ModelError, UnknownError
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.ir.attributes import elements
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim, symbol
from stepwell.ir.types import I1, SI64, TensorType, Type, numpy_dtype


class Subgraph(Protocol):
    """A graph attribute, as `Node.subgraph` returns it."""

    input_types: list[Type | None]
    num_outputs: int

    def import_into(self, block: Block, arguments: Sequence[Value]) -> list[Value]:
        """Emit the graph's nodes at the end of a block, its inputs being `arguments`, and return its outputs. Names
        from outer graphs are captured. It may be called again, with another block, when types turn out narrower than
        a loop needs; a block that is given up is emptied by the caller."""

    def import_here(self, arguments: Sequence[Value]) -> list[Value]:
        """Emit the graph's nodes where the node itself stands."""


ROUND, CONDITION = TensorType((), SI64), TensorType((), I1)


def branch(graph: Subgraph) -> Region:
    """The region of a graph without inputs."""
    block = Block()
    block.append(YieldOp(graph.import_into(block, [])))
    return Region([block])


def discard(block: Block) -> None:
    """Empty a block that is given up, so that values from above lose their uses in it."""
    for op in block:
        op.drop_all_references()


def import_body(
    node: Node, initial: Sequence[Type], around: tuple[Sequence[Type], Sequence[Type]], skip: int,
    emit: Callable[[Block], Sequence[Value]], keeps_sizes: bool = False,
) -> Region:  # fmt: skip
    """The region of a body that carries values of `initial` types, between argument types `around`.

    `emit` fills a block and returns what it yields, the carried values from number `skip` on. A carried size that a
    round changes becomes a symbol, and the body is imported anew, until every argument's type holds for all rounds. A
    value that is yielded where an optional one is carried becomes optional. Where tensors keep their sizes by
    definition, the op asks for that."""
    types = [_plain_optional(type_) for type_ in initial]
    born: set[Dim] = set()
    while True:
        block = Block([*around[0], *types, *around[1]])
        ends = list(emit(block))
        carried = ends[skip : skip + len(types)]
        if len(carried) != len(types):
            discard(block)
            raise node.unsupported(f"the body has too few outputs for {len(types)} carried values")
        for index, (type_, value) in enumerate(zip(types, carried, strict=True)):
            if isinstance(type_, OptionalType) and not isinstance(value.type, OptionalType):
                made = Builder.at_end(block).insert(OptionalOp(value, of=without_symbols(value.type)))
                ends[skip + index] = carried[index] = made.result
        wider = [a if keeps_sizes and isinstance(a, TensorType) and same_kind(a, b.type)
                 else _wider(node, a, b.type, born) for a, b in zip(types, carried, strict=True)]  # fmt: skip
        if wider == types:
            block.append(YieldOp(ends))
            return Region([block])
        discard(block)
        types = wider


def _plain_optional(type_: Type) -> Type:
    return without_symbols(type_) if isinstance(type_, OptionalType) else type_


def _wider(node: Node, before: Type, after: Type, born: set[Dim]) -> Type:
    if not same_kind(before, after):
        raise node.unsupported(
            f"a carried value changes from {before} to {after}", "values carried around a loop keep type and rank"
        )
    if not isinstance(before, TensorType) or not isinstance(after, TensorType):
        return joined_type(before, after)
    shape = []
    for x, y in zip(before.shape, after.shape, strict=True):
        if x != y and x not in born:
            x = symbol(fresh_name("carried"))
            born.add(x)
        shape.append(x)
    return before.with_shape(shape)


@rule("If")
def if_(node: Node) -> Sequence[Value]:
    """A constant condition leaves one branch, which takes the node's place: the ranks of the two may differ."""
    names = ["then_branch", "else_branch"]
    known = node.constant_input(0)
    if known is not None and known.size == 1:
        graph: Subgraph = node.subgraph(names[0 if known.reshape(-1)[0] else 1])
        return graph.import_here([])
    then, otherwise = (branch(node.subgraph(name)) for name in names)
    for index, (a, b) in enumerate(zip(*(yielded(r) for r in (then, otherwise)), strict=False)):
        if not same_kind(a.type, b.type):
            for region in (then, otherwise):
                discard(region.block)
            reason = f"output {index} is {a.type} in one branch and {b.type} in the other"
            condition = UnknownError(reason, values=[node.input(0)])
            raise node.unsupported(reason, "give both the same rank", condition)
    return node.insert(IfOp(node.input(0), regions=[then, otherwise])).results


@rule("Loop")
def loop(node: Node) -> Sequence[Value]:
    """Inputs M, cond, carried values; the body yields a condition, carried values and scan outputs."""
    graph: Subgraph = node.subgraph("body")
    initial = [node.input(index) for index in range(2, node.num_inputs)]
    body = import_body(
        node, [value.type for value in initial], ([ROUND, CONDITION], []), 1,
        lambda block: graph.import_into(block, _declared(graph, block.arguments)),
    )  # fmt: skip
    return node.insert(LoopOp(node.optional(0), node.optional(1), initial, regions=[body])).results


def _declared(graph: Subgraph, arguments: Sequence[Value]) -> Sequence[Value]:
    if len(graph.input_types) != len(arguments):
        raise ModelError(f"the body takes {len(graph.input_types)} inputs, the node gives {len(arguments)}")
    return arguments


def slice_type(value: Value, axis: int) -> Type:
    """The type of a tensor's slice along an axis."""
    shape = shape_of(value)
    return tensor_type(value).with_shape((*shape[:axis], *shape[axis + 1 :]))


@rule("Scan", since=9)
def scan(node: Node) -> Sequence[Value]:
    """`num_scan_inputs` inputs at the end are sliced, the others carried; axes may count from the back."""
    graph: Subgraph = node.subgraph("body")
    count = node.int("num_scan_inputs")
    values = node.inputs()
    initial, inputs = values[: len(values) - count], values[len(values) - count :]
    outputs = graph.num_outputs - len(initial)
    axes = node.ints("scan_input_axes", [0] * count)
    axes = [normalize_axis(axis, len(shape_of(value))) for axis, value in zip(axes, inputs, strict=True)]
    slices = [slice_type(value, axis) for value, axis in zip(inputs, axes, strict=True)]
    body = import_body(
        node, [value.type for value in initial], ([], slices), 0,
        lambda block: graph.import_into(block, _declared(graph, block.arguments)), keeps_sizes=True,
    )  # fmt: skip
    collected = body.block.terminator.operands[len(initial) :]
    output_axes = node.ints("scan_output_axes", [0] * outputs)
    output_axes = [normalize_axis(a, len(shape_of(v)) + 1) for a, v in zip(output_axes, collected, strict=True)]
    return node.insert(
        ScanOp(
            initial, inputs, input_axes=axes, input_reversed=node.ints("scan_input_directions", [0] * count),
            output_axes=output_axes, output_reversed=node.ints("scan_output_directions", [0] * outputs), regions=[body],
        )
    ).results  # fmt: skip


@rule("Scan", since=8)
def batched_scan(node: Node) -> Sequence[Value]:
    """Version 8 scans every element of a batch by itself: a scan along the batch (axis 0) whose body is the scan
    proper, so that all its results are collected along the batch. An element may have a length of its own."""
    graph: Subgraph = node.subgraph("body")
    count, directions = node.int("num_scan_inputs"), node.ints("directions", [0] * node.int("num_scan_inputs"))
    first = 0 if node.has_input(0) else 1
    if not first and any(directions):
        raise node.unsupported("sequence_lens of a Scan 8 that runs backwards", "export with opset 9 or later")
    values = [node.input(index) for index in range(first, node.num_inputs)]
    block = Block([slice_type(value, 0) for value in values])
    arguments = block.arguments[1 - first :]
    step = _Step(graph, block, None if first else block.arguments[0], len(arguments) - count)
    initial, inputs = [*step.before, *arguments[: len(arguments) - count]], arguments[len(arguments) - count :]
    body = import_body(
        node, [value.type for value in initial], ([], [slice_type(value, 0) for value in inputs]), 0, step.emit,
        keeps_sizes=True,
    )  # fmt: skip
    outputs = len(body.block.terminator.operands) - len(initial)
    proper = ScanOp(
        initial, inputs, input_axes=[0] * count, input_reversed=directions, output_axes=[0] * outputs,
        output_reversed=[0] * outputs, regions=[body],
    )  # fmt: skip
    block.append(proper)
    block.append(YieldOp(proper.results[len(step.before) :]))
    zeros = [0] * len(values)
    return node.insert(
        ScanOp(
            [], values, input_axes=zeros, input_reversed=zeros, output_axes=[0] * graph.num_outputs,
            output_reversed=[0] * graph.num_outputs, regions=[Region([block])],
        )
    ).results  # fmt: skip


class _Step:
    """The body of a scan of one element of a batch. From its `length` on, carried values stay, and outputs are 0:

    v, y = body(v, x)   ->   v', y' = body(v, x); v = where(n < length, v', v), y = where(n < length, y', 0); n = n + 1
    """

    def __init__(self, graph: Subgraph, block: Block, length: Value | None, carried: int) -> None:
        self.graph, self.length, self.carried = graph, length, carried
        self.before = [] if length is None else [_scalar(Builder.at_end(block), 0, ROUND)]
        """What is carried before the body's own values: the number of the step."""

    def emit(self, block: Block) -> Sequence[Value]:
        """Fill a block; what it yields."""
        if self.length is None:
            return self.graph.import_into(block, _declared(self.graph, block.arguments))
        number, *arguments = block.arguments
        found = self.graph.import_into(block, _declared(self.graph, arguments))
        builder = Builder.at_end(block)
        goes_on = builder.insert(CompareOp(number, self.length, predicate="lt")).result
        others = [*arguments[: self.carried], *(_scalar(builder, 0, x.type) for x in found[self.carried :])]
        kept = [builder.insert(WhereOp(goes_on, x, other)).result for x, other in zip(found, others, strict=True)]
        return [builder.insert(AddOp(number, _scalar(builder, 1, ROUND))).result, *kept]


def _scalar(builder: Builder, number: int, type_: Type) -> Value:
    """A constant of a tensor's element type."""
    array = np.asarray(number).astype(numpy_dtype(type_))
    return builder.insert(ConstantOp(value=elements(array, None, ""))).results[0]
