"""What a program's launches are, apart from how long they take: nodes, arithmetic, traffic, and where data lies.

Sizes are over the program's symbols; with those of a call, a launch gives the `Work` that a limit is found for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import attrs

from stepwell.dialects import arith, buffer, loop, vector
from stepwell.dialects import math as math_dialect
from stepwell.dialects.func import FuncOp
from stepwell.dialects.kernel import LaunchOp
from stepwell.ir.attributes import ElementsAttr, StringAttr
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim, evaluate, free_symbols, parse_dim
from stepwell.ir.location import FusedLoc, Location
from stepwell.ir.types import FloatType, MemRefType, bit_width, element_of
from stepwell.lowering.to_loop.work import BYTES, FLOPS

from .intervals import Place, Uses
from .limits import Work
from .signature import Port, Signature

_ARITHMETIC = (arith.BinaryOp, math_dialect.UnaryOp, math_dialect.FmaOp, vector.FmaOp)


@attrs.frozen
class Launch:
    """One `kernel.launch` of a program's text.

    `operands` are the types of what it is given, `bits` the size of the widest float that it computes with (None:
    it computes with none). `outside` has the bytes of the constants, the model's inputs and the outputs that are only
    written among the operands, each by a key that is the same in all launches. `round` is the innermost loop around it
    (None: there is none), the same object in all launches of that loop."""

    kernel: str
    nodes: tuple[str, ...]
    operands: tuple[str, ...]
    flops: Dim | None
    bytes: Dim | None
    bits: int | None
    outside: Mapping[object, Dim] = attrs.field(factory=dict, eq=False)
    round: object = attrs.field(default=None, eq=False)

    def streamed(self, symbols: Mapping[str, int]) -> int:
        """The bytes that it reads and writes in a call with these sizes; 0 where data decide."""
        return sized(self.bytes, symbols) or 0

    def weights(self, symbols: Mapping[str, int]) -> int:
        """The bytes of constants among them."""
        constants = [size for key, size in self.outside.items() if isinstance(key, ElementsAttr)]
        return min(sum(sized(size, symbols) or 0 for size in constants), self.streamed(symbols))

    def work(self, symbols: Mapping[str, int], footprint: int) -> Work | None:
        """What it does in a call with these sizes, which touches `footprint` bytes in all; None where data decide."""
        flops, size = sized(self.flops, symbols), sized(self.bytes, symbols)
        if flops is None or size is None:
            return None
        outside = sum(sized(part, symbols) or 0 for part in self.outside.values())
        return Work(flops, self.bits, size, min(size, outside), footprint)


def launches_of(program: FuncOp, kernels: Mapping[str, FuncOp]) -> list[Launch]:
    """The launches of a program at the end of the loop landing, in the order of the text."""
    ports = _Ports.of(program)
    bits = {name: _float_bits(function) for name, function in kernels.items()}
    reads = {name: Uses.of(function).reads for name, function in kernels.items()}
    found = []
    for op in program.walk_of(LaunchOp):
        function = kernels[op.callee]
        types = tuple(str(value.type) for value in op.inputs if isinstance(value.type, MemRefType))
        found.append(Launch(op.callee, tuple(labels(op.loc)), types, _dim(function, FLOPS), _dim(function, BYTES),
                            bits[op.callee], ports.outside(op, reads[op.callee]), _loop_around(op)))  # fmt: skip
    return found


def works_of(
    launches: Sequence[Launch], symbols: Mapping[str, int], arena: int
) -> list[tuple[Work, Work] | None]:
    """What each launch does the first time that it runs in a call, and each further time: in a loop, it last touched
    what it reads one round before, and not one call before. None where data decide."""
    call = footprint(launches, symbols, arena)
    rounds: dict[object, int] = {}
    for launch in launches:
        rounds[launch.round] = rounds.get(launch.round, 0) + (sized(launch.bytes, symbols) or 0)
    found: list[tuple[Work, Work] | None] = []
    for launch in launches:
        first = launch.work(symbols, call)
        again = first and attrs.evolve(first, footprint=min(call, rounds[launch.round]))
        found.append(None if first is None or again is None else (first, again))
    return found


def nodes_of(module: Operation) -> dict[str, tuple[str, ...]]:
    """The ONNX nodes of each kernel, from all its launches."""
    found: dict[str, dict[str, None]] = {}
    for op in module.walk_of(LaunchOp):
        found.setdefault(op.callee, {}).update(dict.fromkeys(labels(op.loc)))
    return {kernel: tuple(nodes) for kernel, nodes in found.items()}


def footprint(launches: Iterable[Launch], symbols: Mapping[str, int], arena: int) -> int:
    """The bytes that a call touches: its arena, and of constants, inputs and outputs what the launches stream."""
    touched: dict[object, int] = {}
    for launch in launches:
        streamed = sized(launch.bytes, symbols)
        for key, dim in launch.outside.items():
            size = sized(dim, symbols) or 0
            touched[key] = max(touched.get(key, 0), size if streamed is None else min(size, streamed))
    return arena + sum(touched.values())


def sized(dim: Dim | None, symbols: Mapping[str, int]) -> int | None:
    """A size in a call, None where the inputs' sizes do not decide it."""
    if dim is None or any(name not in symbols for name in free_symbols(dim)):
        return None
    return evaluate(dim, symbols)


def labels(loc: Location) -> list[str]:
    """The ONNX nodes that a location names."""
    parts = loc.locations if isinstance(loc, FusedLoc) else (loc,)
    return [part.label for part in parts if part.label]


@attrs.frozen
class _Ports:
    """The bytes of a program's arguments that are the model's inputs and outputs."""

    inputs: Mapping[Value, Dim]
    outputs: Mapping[Value, Dim]

    @staticmethod
    def of(program: FuncOp) -> _Ports:
        signature = Signature.of(program)
        count = len(signature.inputs)
        inputs = _sizes(program.arguments[:count], signature.inputs)
        return _Ports(inputs, _sizes(program.arguments[count:], signature.outputs))

    def outside(self, launch: LaunchOp, reads: frozenset[int]) -> dict[object, Dim]:
        """The bytes of constants, inputs, and outputs that are not read: those were written in this call."""
        found: dict[object, Dim] = {}
        for number, value in enumerate(launch.inputs):
            if not isinstance(value.type, MemRefType):
                continue
            root = Place.of(value).root
            constant = root.defining_op
            if isinstance(constant, buffer.ConstantOp) and isinstance(constant.result.type, MemRefType):
                found[constant.value] = _bytes(constant.result.type.shape, constant.result.type)
            elif root in self.inputs:
                found[root] = self.inputs[root]
            elif root in self.outputs and number not in reads:
                found[root] = self.outputs[root]
        return found


def _sizes(arguments: Sequence[Value], ports: Sequence[Port]) -> dict[Value, Dim]:
    return {argument: _bytes(port.dims, argument.type) for argument, port in zip(arguments, ports, strict=False)
            if isinstance(argument.type, MemRefType) and not port.published}  # fmt: skip


def _bytes(dims: Sequence[Dim], type_: MemRefType) -> Dim:
    return math.prod(dims, start=max(1, bit_width(type_) // 8))


def _float_bits(function: FuncOp) -> int | None:
    elements = [element_of(op.results[0].type) for op in function.walk() if isinstance(op, _ARITHMETIC)]
    return max((element.width for element in elements if isinstance(element, FloatType)), default=None)


def _loop_around(op: Operation) -> Operation | None:
    around = op.parent_op
    while around is not None and not isinstance(around, (loop.ForOp, loop.WhileOp)):
        around = around.parent_op
    return around


def _dim(op: Operation, name: str) -> Dim | None:
    attribute = op.attributes.get(name)
    return parse_dim(attribute.value) if isinstance(attribute, StringAttr) else None
