"""One interpretation of a whole module in NumPy, with what its ops gave, and where two of them differ first."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects import buffer, kernel
from stepwell.dialects.arith import MulFOp
from stepwell.dialects.buffer import memref_type
from stepwell.dialects.descriptors import read_descriptor
from stepwell.dialects.func import FuncOp
from stepwell.dialects.host_calls import HostProgram
from stepwell.dialects.tensor import GenericOp
from stepwell.errors import StepwellError
from stepwell.ir.attributes import StringAttr
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import DimExpr, evaluate, free_symbols, parse_dim
from stepwell.ir.interpreter import Frame, Launcher, run_function
from stepwell.ir.location import FusedLoc, Location
from stepwell.ir.registry import REGISTRY
from stepwell.ir.structure import structure_of
from stepwell.ir.types import MemRefType, TensorType, element_of, is_float, numpy_dtype
from stepwell.lowering.pipeline import landing_of
from stepwell.ports import (
    Array,
    Port,
    accepted,
    first_rows,
    main_function,
    parts_of,
    ports_of,
    restored,
    symbols_of,
    tensor_ports,
)

from .compare import Arithmetic, difference, step_of

BUDGET = 400_000  # operations that the interpreter runs for one check, some seconds


class TooLong(StepwellError):
    """The interpreter has run its budget of operations."""


@attrs.frozen
class Run:
    """One interpretation: results in order, and the values that ops of each location gave."""

    results: list[Array]
    by_location: dict[str, list[tuple[str, Array]]]
    arithmetic: Arithmetic
    landing: str


def interpret(
    module: Operation, inputs: Sequence[Any], budget: int = BUDGET, launcher: Launcher | None = None,
    rounded: Callable[[Any], Any] | None = None,
) -> Run:
    """Run a module at any landing on arrays (as its ports describe them); `launcher` runs its kernels, and `rounded`
    is what becomes of each tensor that an op gives.

    Raises TooLong, and what an op raises."""
    function = main_function(module)
    with HostProgram.of(function).scope():
        return _interpreted(module, function, inputs, budget, launcher, rounded)


def _interpreted(
    module: Operation, function: FuncOp, inputs: Sequence[Any], budget: int, launcher: Launcher | None,
    rounded: Callable[[Any], Any] | None,
) -> Run:
    ports, results_seen = ports_of(function)
    given, made_parts = parts_of(function)
    spread = given != ports or made_parts != results_seen
    outputs = tensor_ports(made_parts)
    arrays = accepted(ports, given, inputs)
    symbols = program_symbols(function, arrays)
    recorder = _Recorder(function, symbols, budget, rounded)
    if function.function_type.results:
        made = run_function(function, arrays, observer=recorder, launcher=launcher)
        results: list[Any] = [x if isinstance(x, list) or x is None else np.asarray(x) for x in made]
    else:
        arrays = [port.with_room(array) for port, array in zip(tensor_ports(given), arrays, strict=True)]
        written = [_written(port, symbols) for port in outputs if port.kept is None]
        memory = [*arrays, *written]
        if any("sw.heap" in function.argument_attributes(n) for n in range(len(function.arguments))):
            memory.append(np.zeros(memref_type(function.arguments[len(memory)]).shape, np.int64))
        arena = function.attributes.get("sw.arena")
        if isinstance(arena, StringAttr):
            memory.append(np.zeros(_size(parse_dim(arena.value), symbols), np.int8))
        recorder.bind(function.arguments, memory)
        frame = Frame()
        frame.state.update(heap={}, published=[])  # what descriptors tell of lives as long as the frame
        run_function(function, memory, frame, observer=recorder, launcher=launcher)
        fresh = iter(written)
        results = [_result(port, arrays, symbols) if port.kept else _told(port, next(fresh)) for port in outputs]
    if spread or len(outputs) == len(results_seen):
        results = restored(results_seen, outputs, results)
    return Run(_plain(results), recorder.found, recorder.arithmetic, landing_of(module))


def program_symbols(function: FuncOp, arrays: Sequence[Any]) -> dict[str, int]:
    """The values of the symbols of a program that is called with these, as `accepted` gives them."""
    pairs = zip(parts_of(function)[0], arrays, strict=True)
    known = [(port, array) for port, array in pairs if isinstance(port, Port)]
    return symbols_of([port for port, _ in known], [array for _, array in known])


def _plain(results: Sequence[Any]) -> list[Array]:
    """Results as arrays: of a list its length, then its arrays; of what is absent, the length -1."""
    found: list[Array] = []
    for result in results:
        if isinstance(result, list):
            found += [np.array(len(result)), *result]
        else:
            found.append(np.array(-1) if result is None else result)
    return found


def _written(port: Port, symbols: Mapping[str, int]) -> Array:
    """Memory for a result, or for its descriptor."""
    if port.published:
        return np.zeros(1 + port.type.rank, np.int64)
    return np.zeros([_size(d, symbols) for d in port.type.shape], port.storage)


def _told(port: Port, array: Array) -> Array:
    """A result, perhaps behind its descriptor."""
    return read_descriptor(array, port.storage) if port.published else array


def _result(port: Port, arrays: Sequence[Array], symbols: Mapping[str, int]) -> Array:
    """A result that lies where an input lies."""
    assert port.kept is not None
    rows, axis = arrays[port.kept.argument], port.kept.axis
    whole = rows if rows.base is None else rows.base
    return np.ascontiguousarray(whole[first_rows(axis, _size(port.type.shape[axis], symbols))])


def _size(dim: Any, symbols: Mapping[str, int]) -> int:
    return evaluate(dim, symbols) if isinstance(dim, DimExpr) else int(dim)


class _Recorder:
    """Observes the program's ops: keeps a copy of what each gives, by location, and counts operations."""

    def __init__(
        self, function: FuncOp, symbols: Mapping[str, int], budget: int, rounded: Callable[[Any], Any] | None
    ) -> None:
        self.block = function.body.block
        self.symbols = symbols
        self.budget = budget
        self.rounded = rounded
        self.arithmetic = Arithmetic()
        self.found: dict[str, list[tuple[str, Array]]] = {}
        self._memory: dict[Value, Any] = {}
        self._count = 0

    def bind(self, values: Sequence[Value], contents: Sequence[Any]) -> None:
        """Note what memrefs stand for."""
        self._memory.update(zip(values, contents, strict=True))

    def __call__(self, op: Operation, results: Sequence[Any]) -> Sequence[Any] | None:
        self._count += 1
        if self._count > self.budget:
            raise TooLong("the interpreter's budget is spent")
        if isinstance(op, GenericOp):
            self.arithmetic |= attrs.evolve(arithmetic_of(op, self.symbols), step=0.0)  # results are nudged alone
        if op.parent is self.block:
            self._note(op, results)
        if self.rounded is None:
            return None
        pairs = zip(op.results, results, strict=True)
        return [self.rounded(content) if isinstance(value.type, TensorType) else content for value, content in pairs]

    def _note(self, op: Operation, results: Sequence[Any]) -> None:
        for value, content in zip(op.results, results, strict=True):
            if isinstance(value.type, MemRefType):
                self._memory[value] = content
            elif isinstance(value.type, TensorType):
                self._keep(op, content)
                self.arithmetic |= Arithmetic(_longest_sum(op))
        if isinstance(op, kernel.LaunchOp):
            for memory in op.operands:
                if isinstance(memory.type, MemRefType) and not isinstance(memory.defining_op, buffer.ConstantOp):
                    self._keep(op, self._memory[memory])

    def _keep(self, op: Operation, content: Any) -> None:
        array = np.array(content)
        if array.dtype.kind != "O":
            self.found.setdefault(last_label(op.loc), []).append((op.op_name, array))


def arithmetic_of(op: GenericOp, symbols: Mapping[str, int]) -> Arithmetic:
    """How many terms each result of a generic adds up, or multiplies, and what it rounds to; sizes that data decide
    count as 1."""
    dims = [dim for dim, kind in zip(op.sizes.dims, op.iterators, strict=True) if kind == "reduction"]
    known = {name: symbols.get(name, 1) for dim in dims for name in free_symbols(dim)}
    multiplies = any(isinstance(inner, MulFOp) for reducer in op.reducers for inner in reducer.block)
    return Arithmetic(math.prod(_size(dim, known) for dim in dims), multiplies, coarsest_step(op))


def coarsest_step(op: Operation) -> float:
    """The distance from 1 to the next float of the coarsest type in which ops compute; 0 where there are no floats."""
    floats = {element_of(value.type) for inner in op.walk() for value in inner.results if is_float(value.type)}
    return max((step_of(numpy_dtype(type_)) for type_ in floats), default=0.0)


def _longest_sum(op: Operation) -> int:
    """An estimate from above of how many terms a graph op adds up: the elements of an operand per row."""
    if REGISTRY.landing(op.dialect) != "graph":
        return 1
    types = [value.type for value in op.operands if isinstance(value.type, TensorType) and value.type.is_static]
    return max((math.prod(type_.static_shape[1:]) for type_ in types), default=1)


def fingerprint(op: Operation) -> Hashable:
    """Equal before and after a pass that changed nothing: what is computed, and what is attached to the ops."""
    return structure_of(op), *(tuple(inner.attributes.items()) for inner in op.walk() if inner.attributes)


def last_label(loc: Location) -> str:
    """The name of the last of the ops that an op does the work of: its result is theirs."""
    return loc.locations[-1].label if isinstance(loc, FusedLoc) else loc.label


def compare_all(
    before: Sequence[Array], after: Sequence[Array], a: Run, b: Run, slack: Sequence[Array | None] = (),
) -> str | None:  # fmt: skip
    """The first difference between results, beyond the `slack` of each where that is given."""
    if len(before) != len(after):
        return f"{len(before)} results became {len(after)}"
    for number, (x, y) in enumerate(zip(before, after, strict=True)):
        found = difference(x, y, a.arithmetic | b.arithmetic, slack[number] if slack else None)
        if found is not None:
            return f"output {number}: {found}"
    return None


def first_difference(a: Run, b: Run) -> str | None:
    """The first location, in the order of the program before the pass, whose value is not computed any more though
    something of its size is; with the ops on both sides."""
    arithmetic = a.arithmetic | b.arithmetic
    for label, values in a.by_location.items():
        now = b.by_location.get(label, [])
        name, value = values[-1]
        same_size = [(other, array.reshape(value.shape)) for other, array in now if array.size == value.size]
        found = [difference(value, array, arithmetic) for _, array in same_size]
        if found and all(item is not None for item in found):
            return f"{label or 'an op without a location'}: {name} became {same_size[-1][0]} ({found[-1]})"
    return None
