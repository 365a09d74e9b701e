"""What a graph gives, node by node, by ONNX's reference evaluator; and how far roundings may carry its results.

The tolerance of a result is measured, not chosen: the graph is evaluated again with every operator that rounds given
inputs that are off by a few units in the last place, as many as another order of its sums may make; and once more with
results that are. What the two move, added up, is what the results may differ by: in one run, the next operator's input
could move back what was moved. Integers, flags and shapes that move are decided by a rounding, and say nothing."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tests.fuzz.graphs.known import ONNXRUNTIME, REFERENCE, Use, flaws
from tests.fuzz.graphs.values import Array, is_float

# Operators that give elements of their inputs, or an exact result of each.
EXACT = frozenset((
    "Abs", "And", "ArgMax", "ArgMin", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
    "Cast", "CastLike", "Ceil", "CenterCropPad", "Clip", "Compress", "Concat", "Constant", "ConstantOfShape",
    "DepthToSpace", "Equal", "Expand", "EyeLike", "Flatten", "Floor", "Gather", "GatherElements", "GatherND",
    "GlobalMaxPool", "Greater", "GreaterOrEqual", "Hardmax", "Identity", "IsInf", "IsNaN", "Less", "LessOrEqual", "Max",
    "MaxPool", "MaxRoiPool", "MaxUnpool", "Min", "Neg", "NonMaxSuppression", "NonZero", "Not", "OneHot", "Or", "Pad",
    "ReduceMax", "ReduceMin", "Relu", "Reshape", "ReverseSequence", "Round", "Scatter", "Shape", "Sign", "Size",
    "Slice", "SpaceToDepth", "Split", "Squeeze", "TensorScatter", "Tile", "TopK", "Transpose", "Trilu", "Unique",
    "Unsqueeze", "Where", "Xor", "ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty",
    "SequenceErase", "SequenceInsert", "SequenceLength", "SplitToSequence", "Optional", "OptionalGetElement",
    "OptionalHasElement",
))  # fmt: skip

# Operators whose results are exact where nothing was rounded, which evaluating them in f64 tells.
ARITHMETIC = frozenset((
    "Add", "Sub", "Mul", "Sum", "MatMul", "Gemm", "Conv", "ConvTranspose", "ReduceSum", "ReduceSumSquare", "ReduceL1",
    "CumSum", "Einsum", "PRelu", "LeakyRelu", "Col2Im", "ScatterElements", "ScatterND", "ReduceProd", "CumProd", "Div",
    "RotaryEmbedding",
))  # fmt: skip

# Operators that add a logarithm of about 0, a cosine or an error function to something of about 1: they are off by
# steps of 1.
OFF_BY_STEPS_OF_1 = frozenset((
    "LogSoftmax", "ReduceLogSum", "ReduceLogSumExp", "SoftmaxCrossEntropyLoss", "BlackmanWindow", "HammingWindow",
    "HannWindow", "Gelu",
))  # fmt: skip

SLOW = ("DeformConv", "GridSample")  # evaluated element by element, in milliseconds each
MOST_OF_SLOW = 4000  # elements of their operands

INPUTS, RESULTS = "inputs", "results"  # of operators, that roundings move

UNITS = 4  # in the last place, that one operator may be off by; more for long sums


class Unevaluated(Exception):
    """The reference evaluator refuses a node, or fails at it."""


def captured(graph: Any) -> list[str]:
    """The names that a graph's body, or the bodies inside it, take from outside."""
    known = {"", *(port.name for port in graph.input), *(tensor.name for tensor in graph.initializer)}
    found: dict[str, None] = {}
    for node in graph.node:
        for name in reads(node):
            if name not in known:
                found[name] = None
        known.update(node.output)
    found.update((port.name, None) for port in graph.output if port.name not in known)
    return list(found)


def reads(node: Any) -> list[str]:
    """The names that a node reads, with those that its bodies capture; each once."""
    bodies = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    names = [name for name in node.input if name]
    return list(dict.fromkeys([*names, *(name for body in bodies for name in captured(body))]))


def tensors_of(values: Iterable[Any]) -> list[Array]:
    """The tensors among values, those of sequences one by one."""
    return [array for value in values for array in (value if isinstance(value, list) else [value])]


class NodeOracle:
    """One node, evaluated alone."""

    def __init__(self, node: Any, opsets: Sequence[Any]) -> None:
        self.node = node
        self.reads = reads(node)
        self.writes = [name for name in node.output if name]
        ports = [helper.make_empty_tensor_value_info(name) for name in self.reads]
        results = [helper.make_empty_tensor_value_info(name) for name in self.writes]
        graph = helper.make_graph([node], "node", ports, results)
        self._model = helper.make_model(graph, opset_imports=list(opsets))
        opset = next((entry.version for entry in opsets if entry.domain == node.domain), 0)
        self._version: int = onnx.defs.get_schema(node.op_type, opset, node.domain).since_version
        self._attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        self.flaws: set[str] = set()
        """Why the evaluator is wrong about the node, as it was run."""
        self.peer_flaws: set[str] = set()
        """Why onnxruntime is."""

    def _known(self, given: Mapping[str, Array]) -> list[Array] | None:
        arrays = [given[name] for name in self.node.input if name]
        use = Use(self.node.op_type, self._version, self._attributes, arrays, len(self.writes))
        self.peer_flaws.update(known.reason for known in flaws(use, ONNXRUNTIME))
        for known in flaws(use, REFERENCE):
            if known.instead is not None:
                return known.instead(use)
            self.flaws.add(f"{self.node.op_type} {known.reason}")
        return None

    def _branch(self, given: Mapping[str, Array]) -> list[Array]:
        """The results of the side that an If takes, node by node."""
        from onnx import numpy_helper

        side = self._attributes["then_branch" if given[self.node.input[0]] else "else_branch"]
        found = {**given, **{tensor.name: numpy_helper.to_array(tensor) for tensor in side.initializer}}
        for node in side.node:
            inner = NodeOracle(node, self._model.opset_import)
            found.update(zip(inner.writes, inner.run({name: found[name] for name in inner.reads}), strict=True))
            self.flaws |= inner.flaws
            self.peer_flaws |= inner.peer_flaws
        return [found[port.name] for port in side.output]

    @functools.cached_property
    def _evaluator(self) -> Any:
        return ReferenceEvaluator(self._model)

    def run(self, given: Mapping[str, Array]) -> list[Array]:
        """The results. Raises Unevaluated."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                if self.node.op_type == "If":
                    return self._branch(given)
                if self.node.op_type in SLOW and sum(map(np.size, given.values())) > MOST_OF_SLOW:
                    raise Unevaluated("would take minutes")
                found = self._known(given) or self._evaluator.run(None, dict(given))
            except Exception as error:  # whatever it raises: the node is not evaluated
                raise Unevaluated(f"{self.node.op_type}: {type(error).__name__}: {error}"[:200]) from error
        return [list(map(np.asarray, value)) if isinstance(value, list) else np.asarray(value) for value in found]

    def rounds(self, given: Mapping[str, Array], results: Sequence[Array]) -> bool:
        """Whether roundings have a part in the results."""
        if self.node.op_type in EXACT or not any(isinstance(a, np.ndarray) and is_float(a)
                                                 for a in tensors_of((*given.values(), *results))):  # fmt: skip
            return False
        exact = self._exact(given)
        if exact is None:
            return True
        return not all(np.array_equal(a.astype(b.dtype), b, equal_nan=True)
                       for a, b in zip(results, exact, strict=True))  # fmt: skip

    def _exact(self, given: Mapping[str, Array]) -> list[Array] | None:
        """The results of arithmetic in f64, of f64 in the widest floats that NumPy has."""
        if self.node.op_type not in ARITHMETIC:
            return None
        wide = np.longdouble if any(a.dtype == np.float64 for a in given.values()) else np.float64
        try:
            return self.run({name: a.astype(wide) if is_float(a) else a for name, a in given.items()})
        except Unevaluated:
            return None

    def overflown(self, given: Mapping[str, Array], results: Sequence[Array], others: list[Array]) -> list[Array]:
        """Moved results, with NaN where only the order of a sum or a product says whether it overflows on the way."""
        made = []
        for base, wide, other in zip(results, self._exact(given) or results, others, strict=True):
            if isinstance(base, np.ndarray) and is_float(base):
                differs = np.isfinite(base.astype(np.float64)) != np.isfinite(wide.astype(np.float64))
                nan = np.where(np.isfinite(base.astype(np.float64)), np.nan, 0).astype(base.dtype)
                other = np.where(differs, nan, other) if differs.shape == other.shape else other
            made.append(other)
        return made


def accumulated(given: Mapping[str, Array], results: Sequence[Array]) -> float:
    """How many terms an element of the results may sum, by sizes alone."""
    sizes = [array.size for array in given.values() if isinstance(array, np.ndarray) and array.size]
    made = max([1, *(array.size for array in results if isinstance(array, np.ndarray))])
    one = max(sizes, default=1) / made
    two = max((a * b / made for n, a in enumerate(sizes) for b in sizes[:n]), default=1.0) ** 0.5
    return max(one, two, 1.0)


def moved(array: Any, step: float, numbers: np.random.Generator) -> Any:
    """Every element off by up to a relative step and at least half of it, up or down."""
    if isinstance(array, list):
        return [moved(one, step, numbers) for one in array]
    if not (isinstance(array, np.ndarray) and is_float(array)):
        return array
    signs = numbers.choice((-1.0, 1.0), array.shape) * numbers.uniform(0.5, 1.0, array.shape)
    with np.errstate(all="ignore"):
        return np.asarray(array.astype(np.float64) * (1 + step * signs)).astype(array.dtype)


def epsilon(dtype: np.dtype[Any]) -> float:
    """The distance from 1 to the next number."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).eps)


@attrs.frozen
class Expected:
    """A result: its array, and by how much every element may be off. `undecided` are elements that a rounding decides,
    all of them where it decides the shape."""

    array: Array
    allowed: Array
    undecided: Array

    def of(self, other: Array) -> Expected:
        """The same of another engine's array: exactly that where it has another shape."""
        if other.shape == self.array.shape:
            return attrs.evolve(self, array=other)
        return Expected(other, np.zeros(other.shape), np.zeros(other.shape, bool))


class Oracle:
    """A model, evaluated node by node."""

    RUNS = 3  # with roundings moved, of either kind

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.model = model
        self.nodes = [NodeOracle(node, model.opset_import) for node in model.graph.node]
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.outputs = [port.name for port in model.graph.output]

    def values(self, feeds: Mapping[str, Array], seed: int | None = None, kind: str = INPUTS) -> dict[str, Array]:
        """Every value by name; with a seed, moved by roundings of a kind. Raises Unevaluated."""
        numbers = None if seed is None else np.random.default_rng(seed)
        found = {**self.constants, **feeds}
        for node in self.nodes:
            given = {name: found[name] for name in node.reads}
            results = node.run(given)
            if numbers is not None and node.rounds(given, results):
                results = self._moved(node, given, results, numbers, kind, together=bool(seed))
            found.update(zip(node.writes, results, strict=True))
        return found

    def _moved(
        self, node: NodeOracle, given: Mapping[str, Array], results: Sequence[Array], numbers: np.random.Generator,
        kind: str, *, together: bool,
    ) -> list[Array]:  # fmt: skip
        units = UNITS * accumulated(given, results) ** 0.5
        floats = [array.dtype for array in tensors_of((*given.values(), *results))
                  if isinstance(array, np.ndarray) and is_float(array)]  # fmt: skip
        step = units * max(map(epsilon, floats))
        if kind == INPUTS:
            other = node.run({name: moved(array, step, numbers) for name, array in given.items()})
            return node.overflown(given, results, other)
        if node.node.op_type in OFF_BY_STEPS_OF_1:
            return [_shifted(array, step, numbers, together=together) for array in results]
        return [moved(array, step, numbers) for array in results]

    @property
    def flaws(self) -> list[str]:
        """What is known to be wrong of the evaluator, in what was evaluated."""
        return sorted({flaw for node in self.nodes for flaw in node.flaws})

    @property
    def peer_flaws(self) -> list[str]:
        """What is known to be wrong of onnxruntime."""
        return sorted({flaw for node in self.nodes for flaw in node.peer_flaws})

    def expected(self, feeds: Mapping[str, Array]) -> list[Expected]:
        """The outputs in order. Raises Unevaluated."""
        base = self.values(feeds)
        kinds = [[self._run(feeds, seed, kind) for seed in range(self.RUNS)] for kind in (INPUTS, RESULTS)]
        return [_expected(base[name], [[run.get(name) for run in runs] for runs in kinds]) for name in self.outputs]

    def _run(self, feeds: Mapping[str, Array], seed: int, kind: str) -> dict[str, Array]:
        try:
            return self.values(feeds, seed, kind)
        except Unevaluated:  # a shape that a rounding decides
            return {}


def _shifted(array: Array, step: float, numbers: np.random.Generator, *, together: bool) -> Array:
    """Moved by steps of 1, or of what is larger: `together` all one way, so that 0 and 1e-32 become equal, or each
    for itself, so that equal ones differ."""
    signs = numbers.choice((-1.0, 1.0), () if together else array.shape)
    wide = array.astype(np.float64)
    with np.errstate(all="ignore"):
        other = wide + signs * step * np.maximum(1.0, np.abs(wide))
        return np.where(np.isfinite(wide), other, wide).astype(array.dtype)


def _expected(base: Array, kinds: Sequence[Sequence[Array | None]]) -> Expected:
    """What the runs of several kinds allow: the most that those of a kind move, added up."""
    runs = [run for kind in kinds for run in kind]
    zeros, nothing = np.zeros(base.shape), np.zeros(base.shape, bool)
    if any(run is None or run.shape != base.shape for run in runs):
        return Expected(base, zeros, ~nothing)
    arrays = [run for run in runs if run is not None]
    if not is_float(base):
        return Expected(base, zeros, functools.reduce(np.logical_or, [run != base for run in arrays], nothing))
    wide = base.astype(np.float64)
    finite, eps = np.isfinite(wide), epsilon(base.dtype)
    with np.errstate(all="ignore"):
        others = [run.astype(np.float64) for run in arrays]
        undecided = functools.reduce(
            np.logical_or,
            [(np.isfinite(other) != finite) | (np.isnan(other) != np.isnan(wide)) for other in others], nothing,
        )  # fmt: skip
        moves = [np.abs(np.where(finite, other - wide, 0)) for other in others]
    spread = np.reshape(moves, (len(kinds), len(kinds[0]), *base.shape)).max(1).sum(0)
    largest = float(np.max(np.abs(wide), where=finite, initial=0.0))
    allowed = 4 * spread + UNITS * eps * np.abs(np.where(finite, wide, 0)) * bool(np.any(spread))
    return Expected(base, allowed + (eps * largest if np.any(spread) else 0.0), undecided)


def difference(found: Array, expected: Expected) -> str | None:
    """How an array differs from what is expected; None where it does not."""
    base = expected.array
    if expected.undecided.size and expected.undecided.all():
        return None
    if (found.dtype, found.shape) != (base.dtype, base.shape):
        return f"{found.dtype}{list(found.shape)}, expected {base.dtype}{list(base.shape)}"
    decided = ~expected.undecided
    if not is_float(base):
        wrong = (found != base) & decided
    else:
        a, b = found.astype(np.float64), base.astype(np.float64)
        with np.errstate(all="ignore"):
            pole = np.isinf(a) & (expected.allowed >= np.abs(b)) & (b != 0)  # the quotient of a number that may be 0
            close = (np.abs(a - b) <= expected.allowed) | (a == b) | (np.isnan(a) & np.isnan(b)) | pole
            wrong = ~close & decided
    if not np.any(wrong):
        return None
    at = tuple(int(place[0]) for place in np.nonzero(wrong)) if base.ndim else ()
    allowed = f" (allowed {expected.allowed[at]:.2g})" if is_float(base) else ""
    return f"{int(wrong.sum())} of {base.size} elements differ, at {list(at)} {found[at]} for {base[at]}{allowed}"
