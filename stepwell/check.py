"""Finds the pass, then the op, that changed a result: the module is interpreted in NumPy before and after every pass.

Below the tensor landing the interpreter goes element by element, so that it gives up after a number of operations; the
report says which passes were checked and which were not. Results are compared with a tolerance from their element type
and the longest accumulation; integers, bools and the places of NaN and infinities must agree exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects import buffer, kernel
from stepwell.dialects.func import FuncOp
from stepwell.dialects.heap import read_descriptor
from stepwell.dialects.tensor import GenericOp
from stepwell.errors import PassError, StepwellError
from stepwell.ir.attributes import StringAttr
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import DimExpr, evaluate, free_symbols, parse_dim
from stepwell.ir.instruments import Quiet
from stepwell.ir.interpreter import Frame, run_function
from stepwell.ir.location import FusedLoc, Location
from stepwell.ir.passes import Pass
from stepwell.ir.registry import REGISTRY
from stepwell.ir.types import MemRefType, TensorType
from stepwell.lowering.pipeline import landing_of
from stepwell.ports import Array, Port, main_function, ports_of, symbols_of

BUDGET = 400_000  # operations that the interpreter runs for one check, some seconds


class TooLong(StepwellError):
    """The interpreter has run its budget of operations."""


class ResultChanged(PassError):
    """A pass changed what the program computes."""


@attrs.frozen
class Outcome:
    """What one pass's check found: `checked` names the landing at which both sides were interpreted."""

    pass_name: str
    checked: str = ""
    skipped: str = ""

    def __str__(self) -> str:
        return f"{self.pass_name}: " + (f"checked ({self.checked})" if self.checked else f"skipped: {self.skipped}")


@attrs.frozen
class Run:
    """One interpretation: results in order, and the values that ops of each location gave."""

    results: list[Array]
    by_location: dict[str, list[tuple[str, Array]]]
    accumulation: int
    landing: str


class CheckEach(Quiet):
    """Interprets the module around every pass on the same inputs. Raises ResultChanged after a pass that changed a
    result; `report()` lists what was checked."""

    def __init__(self, inputs: Sequence[Any], budget: int = BUDGET) -> None:
        self.inputs = list(inputs)
        self.budget = budget
        self.outcomes: list[Outcome] = []
        self.failure: str | None = None
        self._reference: Run | None = None
        self._why_not = ""

    def before(self, pass_: Pass, module: Operation) -> None:
        if self._reference is None and not self._why_not:
            self._reference = self._interpreted(module)

    def after(self, pass_: Pass, module: Operation) -> None:
        if self._reference is None:
            self.outcomes.append(Outcome(str(pass_), skipped=self._why_not))
            return
        reason = self._why_not
        run = self._interpreted(module)
        if run is None:
            self.outcomes.append(Outcome(str(pass_), skipped=self._why_not))
            self._why_not = reason
            return
        difference = compare_all(self._reference.results, run.results, self._reference, run)
        if difference is not None:
            culprit = first_difference(self._reference, run)
            self.failure = f"the pass {pass_} changed a result: {difference}"
            self.failure += f"\n  first at {culprit}" if culprit else ""
            raise ResultChanged(self.failure)
        self.outcomes.append(Outcome(str(pass_), checked=f"{self._reference.landing} -> {run.landing}"))
        self._reference = run

    def _interpreted(self, module: Operation) -> Run | None:
        try:
            return interpret(module, self.inputs, self.budget)
        except TooLong:
            self._why_not = f"the program takes more than {self.budget} interpreted operations"
        except NotImplementedError as error:
            self._why_not = str(error)
        return None

    def report(self) -> str:
        """Which passes were checked, and the failure if there is one."""
        lines = [str(outcome) for outcome in self.outcomes]
        return "\n".join([*lines, self.failure or "no pass changed a result"]) + "\n"


def interpret(module: Operation, inputs: Sequence[Any], budget: int = BUDGET) -> Run:
    """Run a module at any landing on arrays (as its ports describe them). Raises TooLong, and what an op raises."""
    function = main_function(module)
    ports, outputs = ports_of(function)
    arrays = [port.accept(value) for port, value in zip(ports, inputs, strict=True)]
    symbols = symbols_of(ports, arrays)
    recorder = _Recorder(function, symbols, budget)
    if function.function_type.results:
        results = [np.asarray(r) for r in run_function(function, arrays, observer=recorder)]
    else:
        made = [_written(port, symbols) for port in outputs]
        memory = [*arrays, *made]
        heap = function.arguments[len(memory)].type if len(function.arguments) > len(memory) + 1 else None
        if isinstance(heap, MemRefType):
            memory.append(np.zeros(heap.shape, np.int64))
        arena = function.attributes.get("sw.arena")
        if isinstance(arena, StringAttr):
            memory.append(np.zeros(_size(parse_dim(arena.value), symbols), np.int8))
        recorder.bind(function.arguments, memory)
        frame = Frame(observer=recorder)  # it keeps the heap until the results are read
        run_function(function, memory, frame)
        pairs = zip(made, outputs, strict=True)
        results = [read_descriptor(array, port.storage) if port.published else array for array, port in pairs]
    results = [port.restore(array) for port, array in zip(outputs, results, strict=True)]
    return Run(results, recorder.found, recorder.accumulation, landing_of(module))


def _written(port: Port, symbols: dict[str, int]) -> Array:
    """Memory for a result, or for its descriptor."""
    if port.published:
        return np.zeros(1 + port.type.rank, np.int64)
    return np.zeros([_size(d, symbols) for d in port.type.shape], port.storage)


def _size(dim: Any, symbols: dict[str, int]) -> int:
    return evaluate(dim, symbols) if isinstance(dim, DimExpr) else int(dim)


def _known_size(dim: Any, symbols: dict[str, int]) -> int:
    """A size, 1 where data decide it."""
    return _size(dim, {name: symbols.get(name, 1) for name in free_symbols(dim)})


class _Recorder:
    """Observes the program's ops: keeps a copy of what each gives, by location, and counts operations."""

    def __init__(self, function: FuncOp, symbols: dict[str, int], budget: int) -> None:
        self.block = function.body.block
        self.symbols = symbols
        self.budget = budget
        self.accumulation = 1
        self.found: dict[str, list[tuple[str, Array]]] = {}
        self._memory: dict[Value, Any] = {}
        self._count = 0

    def bind(self, values: Sequence[Value], contents: Sequence[Any]) -> None:
        """Note what memrefs stand for."""
        self._memory.update(zip(values, contents, strict=True))

    def __call__(self, op: Operation, results: Sequence[Any]) -> None:
        self._count += 1
        if self._count > self.budget:
            raise TooLong("the interpreter's budget is spent")
        if isinstance(op, GenericOp):
            pairs = zip(op.sizes.dims, op.iterators, strict=True)
            length = math.prod(_known_size(dim, self.symbols) for dim, kind in pairs if kind == "reduction")
            self.accumulation = max(self.accumulation, length)
        if op.parent is not self.block:
            return
        for value, content in zip(op.results, results, strict=True):
            if isinstance(value.type, MemRefType):
                self._memory[value] = content
            elif isinstance(value.type, TensorType):
                self._keep(op, content)
                self.accumulation = max(self.accumulation, _longest_sum(op))
        if isinstance(op, kernel.LaunchOp):
            for memory in op.operands:
                if isinstance(memory.type, MemRefType) and not isinstance(memory.defining_op, buffer.ConstantOp):
                    self._keep(op, self._memory[memory])

    def _keep(self, op: Operation, content: Any) -> None:
        array = np.array(content)
        if array.dtype.kind != "O":
            self.found.setdefault(last_label(op.loc), []).append((op.op_name, array))


def _longest_sum(op: Operation) -> int:
    """An estimate from above of how many terms a graph op adds up: the elements of an operand per row."""
    if REGISTRY.landing(op.dialect) != "graph":
        return 1
    types = [value.type for value in op.operands if isinstance(value.type, TensorType) and value.type.is_static]
    return max((math.prod(type_.static_shape[1:]) for type_ in types), default=1)


def last_label(loc: Location) -> str:
    """The name of the last of the ops that an op does the work of: its result is theirs."""
    return loc.locations[-1].label if isinstance(loc, FusedLoc) else loc.label


# Comparison


def tolerance(dtype: np.dtype[Any], accumulation: int) -> float:
    """The relative error allowed, of the largest value; 0 for what must be exact.

    Sums of n terms in another order differ by about sqrt(n) roundings; the factor leaves room for a chain of ops."""
    if dtype.kind not in "fcV":
        return 0.0
    try:
        step = float(np.finfo(dtype).eps)
    except ValueError:
        import ml_dtypes

        step = float(ml_dtypes.finfo(dtype).eps)
    return 32 * step * (1 + math.sqrt(accumulation))


def difference(a: Array, b: Array, accumulation: int) -> str | None:
    """How two arrays differ beyond the tolerance; None where they agree."""
    if a.shape != b.shape or numpy_kind(a) != numpy_kind(b):
        return f"{a.dtype}{list(a.shape)} became {b.dtype}{list(b.shape)}"
    allowed = tolerance(a.dtype, accumulation)
    if allowed == 0:
        wrong = np.asarray(a != b.view(a.dtype))
        return f"{int(wrong.sum())} of {a.size} elements differ" if wrong.any() else None
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    x, y = a.astype(wide), b.astype(wide)
    finite = np.isfinite(x)
    if not np.array_equal(np.isnan(x), np.isnan(y)) or not np.array_equal(x[np.isinf(x)], y[np.isinf(x)]):
        return "NaN or infinities are at other places"
    if not np.array_equal(finite, np.isfinite(y)) or not finite.any():
        return None if np.array_equal(finite, np.isfinite(y)) else "NaN or infinities are at other places"
    error = float(np.max(np.abs(x[finite] - y[finite])))
    limit = allowed * max(float(np.max(np.abs(x[finite]))), float(np.finfo(np.float32).tiny))
    return f"largest error {error:.3g}, allowed are {limit:.3g}" if error > limit else None


def numpy_kind(array: Array) -> tuple[str, int]:
    """What must agree of element types: signs are lost on the way down, sizes are not."""
    return ("i" if array.dtype.kind in "iu" else array.dtype.kind, array.dtype.itemsize)


def compare_all(before: Sequence[Array], after: Sequence[Array], a: Run, b: Run) -> str | None:
    """The first difference between results."""
    if len(before) != len(after):
        return f"{len(before)} results became {len(after)}"
    for number, (x, y) in enumerate(zip(before, after, strict=True)):
        found = difference(x, y, max(a.accumulation, b.accumulation))
        if found is not None:
            return f"output {number}: {found}"
    return None


def first_difference(a: Run, b: Run) -> str | None:
    """The first location, in the order of the program before the pass, whose value is not computed any more though
    something of its size is; with the ops on both sides."""
    accumulation = max(a.accumulation, b.accumulation)
    for label, values in a.by_location.items():
        now = b.by_location.get(label, [])
        name, value = values[-1]
        same_size = [(other, array.reshape(value.shape)) for other, array in now if array.size == value.size]
        found = [difference(value, array, accumulation) for _, array in same_size]
        if found and all(item is not None for item in found):
            return f"{label or 'an op without a location'}: {name} became {same_size[-1][0]} ({found[-1]})"
    return None


