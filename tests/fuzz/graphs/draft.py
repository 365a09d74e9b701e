"""A graph while it is drawn: nodes are added one by one and evaluated at once, so that sizes, indices and types fit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.fuzz.graphs.oracle import NodeOracle, Unevaluated, tensors_of
from tests.fuzz.graphs.values import (
    DTYPES,
    ELEMENT_OF,
    MOST,
    NUMBERS,
    Array,
    Shape,
    draw_array,
    draw_element,
    draw_shape,
    integers,
    is_float,
)

OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional
VARIADIC = onnx.defs.OpSchema.FormalParameterOption.Variadic


class Rejected(Exception):
    """A node that the drawn values do not allow."""


@attrs.frozen(eq=False)
class Value:
    """A tensor of the graph; or a sequence of tensors, a list, which its family alone reads."""

    name: str
    array: Any = attrs.field(repr=False)

    @property
    def is_tensor(self) -> bool:
        """Whether it is no sequence."""
        return isinstance(self.array, np.ndarray)

    @property
    def element(self) -> str:
        """Its element type, as ONNX spells it."""
        return ELEMENT_OF[self.array.dtype]

    @property
    def shape(self) -> Shape:
        """Its sizes."""
        return self.array.shape

    @property
    def rank(self) -> int:
        """The number of its dims."""
        return self.array.ndim


class Draft:
    """A graph at an opset. `inputs` and `constants` are its arrays by name. That of a body has the graph around it,
    whose values it may read, a prefix of its own for names, and no inputs but those that its operator gives it."""

    def __init__(self, random: Random, opset: int, outer: Draft | None = None, prefix: str = "") -> None:
        self.random = random
        self.opset = opset
        self.outer = outer
        self.prefix = prefix
        self.opsets = [helper.make_opsetid("", opset)]
        self.nodes: list[Any] = []
        self.values: list[Value] = [] if outer is None else list(outer.values)
        """What nodes may read, the last made at the end."""
        self.made: dict[str, Value] = {}
        """What nodes gave, all of it."""
        self.inputs: dict[str, Array] = {}
        self.constants: dict[str, Array] = {}
        self.ports: dict[str, Any] = {}
        """The declarations of inputs that stand for arrays of several shapes."""

    def undoing(self) -> Callable[[], None]:
        """Takes back what is drawn from now on."""
        fields = ("nodes", "values", "made", "inputs", "constants")
        kept = {field: type(getattr(self, field))(getattr(self, field)) for field in fields}

        def undo() -> None:
            for field, state in kept.items():
                setattr(self, field, state)

        return undo

    def fresh(self, array: Array, constant: bool | None = None, shared: bool = False) -> Value:
        """A new input or constant; with `shared`, other nodes may read it too."""
        if constant is None or self.outer is not None:
            constant = self.random.random() < 0.5 or self.outer is not None
        place, letter = (self.constants, "c") if constant else (self.inputs, "x")
        value = Value(f"{self.prefix}{letter}{len(place)}", array)
        place[value.name] = array
        if shared:
            self.values.append(value)
        return value

    def existing(self, suits: Callable[[Value], bool]) -> Value | None:
        """A value of the graph, mostly the last one that suits."""
        found = [value for value in self.values if suits(value)]
        if not found:
            return None
        return found[-1] if self.random.random() < 0.6 else self.random.choice(found)

    def add(self, op: str, inputs: Sequence[Value | None], attributes: Mapping[str, Any], outputs: int) -> list[Value]:
        """A node and what it gives. Raises Rejected where the reference evaluator does not, or gives much."""
        names = [value.name if value is not None else "" for value in inputs]
        while names and not names[-1]:
            names.pop()
        number = len(self.nodes)
        results = [f"{self.prefix}v{number}{f'_{place}' if place else ''}" for place in range(outputs)]
        node = helper.make_node(op, names, results, name=f"{op}_{number}")
        kinds = onnx.defs.get_schema(op, self.opset).attributes
        node.attribute.extend(helper.make_attribute(name, value, attr_type=int(kinds[name].type.value))
                              for name, value in attributes.items())  # fmt: skip
        try:
            oracle = NodeOracle(node, self.opsets)
            known = self._arrays()
            arrays = oracle.run({name: known[name] for name in oracle.reads})
        except Unevaluated as error:
            raise Rejected(str(error)) from error
        for array in tensors_of(arrays):
            if not isinstance(array, np.ndarray) or array.dtype not in ELEMENT_OF:
                raise Rejected(f"{op} gives {type(array).__name__} {getattr(array, 'dtype', '')}")
            if array.size > MOST:
                raise Rejected(f"{op} gives {array.size} elements")
        given = {name: known[name] for name in oracle.reads}
        if not self._is_valid(node, given, dict(zip(results, arrays, strict=True))):
            raise Rejected(f"{op} {[a.dtype.name for a in tensors_of(given.values())]}: ONNX's checker refuses it")
        self.nodes.append(node)
        made = [Value(name, array) for name, array in zip(results, arrays, strict=True)]
        self.made.update((value.name, value) for value in made)
        self.values += [value for value in made if value.is_tensor and is_tame(value.array)]
        return made

    def _is_valid(self, node: Any, given: Mapping[str, Array], made: Mapping[str, Array]) -> bool:
        if not all(isinstance(array, np.ndarray) for array in (*given.values(), *made.values())):
            return True  # what holds a sequence or an optional is told by the model alone
        ports, results = ([port_of(name, array) for name, array in some.items()] for some in (given, made))
        model = helper.make_model(helper.make_graph([node], "node", ports, results), opset_imports=self.opsets,
                                  ir_version=self._ir_version)  # fmt: skip
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
            return False
        return True

    @property
    def _ir_version(self) -> int:
        return max(8, helper.find_min_ir_version_for(self.opsets, ignore_unknown=True))

    def _arrays(self) -> dict[str, Array]:
        around = {} if self.outer is None else self.outer._arrays()
        own = {name: value.array for name, value in self.made.items()}
        return {**around, **self.inputs, **self.constants, **own}

    def body(self, prefix: str) -> Draft:
        """A draft of a body inside this graph."""
        return Draft(self.random, self.opset, self, f"{self.prefix}{prefix}{len(self.nodes)}_")

    def body_graph(self, results: Sequence[Value]) -> Any:
        """The body as a graph with these results."""
        ports = [self.ports.get(name) or port_of(name, array) for name, array in self.inputs.items()]
        initializers = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        made = [helper.make_tensor_value_info(value.name, NUMBERS[value.element], None) for value in results]
        return helper.make_graph(self.nodes, f"{self.prefix}body", ports, made, initializers)

    def model(self) -> Any:
        """The model, whose outputs are what no node reads, and seldom another value."""
        read = {name for node in self.nodes for name in NodeOracle(node, self.opsets).reads}
        outputs = [value for value in self.made.values()
                   if value.is_tensor and (value.name not in read or self.random.random() < 0.1)]  # fmt: skip
        ports = [port_of(name, array) for name, array in self.inputs.items() if name in read]
        results = [port_of(value.name, value.array) for value in outputs]
        initializers = [numpy_helper.from_array(a, name) for name, a in self.constants.items() if name in read]
        graph = helper.make_graph(self.nodes, "drawn", ports, results, initializers)
        return helper.make_model(graph, opset_imports=self.opsets, ir_version=self._ir_version)

    def feeds(self, model: Any) -> dict[str, Array]:
        """The arrays of a model's inputs."""
        return {port.name: self.inputs[port.name] for port in model.graph.input}


def port_of(name: str, array: Array) -> Any:
    """The declaration of an array."""
    return helper.make_tensor_value_info(name, NUMBERS[ELEMENT_OF[array.dtype]], array.shape)


def port_of_any(name: str, arrays: Sequence[Array]) -> Any:
    """The declaration of arrays of one type: the sizes that all have, no shape where their ranks differ."""
    element = NUMBERS[ELEMENT_OF[arrays[0].dtype]]
    if len({array.ndim for array in arrays}) > 1:
        return helper.make_tensor_value_info(name, element, None)
    sizes = [dims[0] if len({*dims}) == 1 else None for dims in zip(*(array.shape for array in arrays), strict=True)]
    return helper.make_tensor_value_info(name, element, sizes)


def is_tame(array: Array) -> bool:
    """Whether what is computed of an array still tells something: few NaN and infinities, no huge floats."""
    if not is_float(array) or not array.size:
        return True
    wide = array.astype(np.float64)
    finite = np.isfinite(wide)
    return bool(finite.mean() > 0.75 and np.max(np.abs(wide), where=finite, initial=0.0) < 2000)


@functools.cache
def _allowed(op: str, version: int) -> dict[str, tuple[str, ...]]:
    schema = onnx.defs.get_schema(op, version)
    found = {}
    for constraint in schema.type_constraints:
        texts = constraint.allowed_type_strs
        found[constraint.type_param_str] = tuple(name for name in DTYPES if f"tensor({name})" in texts)
    return found


class Site:
    """A node while it is drawn: its schema, the element types bound so far, and its attributes."""

    def __init__(self, draft: Draft, op: str) -> None:
        self.draft, self.op, self.random = draft, op, draft.random
        self.schema = onnx.defs.get_schema(op, draft.opset)
        self.version: int = self.schema.since_version
        self.attributes: dict[str, Any] = {}
        self.bound: dict[str, str] = {}

    # Types

    def parameter(self, place: int | str) -> Any:
        """The declaration of an input, by its place or name; None where this version has none."""
        if isinstance(place, str):
            return next((p for p in self.schema.inputs if p.name == place), None)
        inputs = self.schema.inputs
        if place < len(inputs):
            return inputs[place]
        return inputs[-1] if inputs and inputs[-1].option == VARIADIC else None

    def elements(self, place: int | str) -> tuple[str, ...]:
        """The element types that an input may have."""
        parameter = self.parameter(place)
        if parameter is None:
            raise Rejected(f"{self.op} {self.version} has no input {place}")
        text = parameter.type_str
        if text in self.bound:
            return (self.bound[text],)
        literal = text.removeprefix("tensor(").removesuffix(")")
        return (literal,) if literal in DTYPES else _allowed(self.op, self.version).get(text, ())

    def bind(self, place: int | str, value: Value) -> Value:
        """Note that an input has a value's element type."""
        parameter = self.parameter(place)
        if parameter is not None and value.element not in self.elements(place):
            raise Rejected(f"{self.op}: {value.element} for {parameter.name}")
        if parameter is not None and parameter.is_homogeneous:
            self.bound[parameter.type_str] = value.element
        return value

    def element(self, place: int | str) -> str:
        """An element type for an input."""
        allowed = self.elements(place)
        if not allowed:
            raise Rejected(f"{self.op}: no element type for input {place}")
        return draw_element(self.random, allowed)

    # Inputs

    def value(
        self, place: int | str, ranks: Sequence[int] = range(5), suits: Callable[[Value], bool] | None = None,
        kind: str = "any", shape: Shape | None = None,
    ) -> Value:  # fmt: skip
        """A value of the graph, or a new one of a rank or of the shape (which new ones then have)."""
        allowed = self.elements(place)

        def fits(value: Value) -> bool:
            is_right = value.shape == shape if shape is not None else value.rank in ranks
            return value.element in allowed and is_right and (suits is None or suits(value))

        found = self.draft.existing(fits) if self.random.random() < 0.8 else None
        if found is not None:
            return self.bind(place, found)
        made = self.new(place, ranks, kind, shape)
        if suits is not None and not suits(made):
            raise Rejected(f"{self.op}: a new input does not suit")
        return made

    def new(
        self, place: int | str, ranks: Sequence[int] = range(5), kind: str = "any", shape: Shape | None = None,
        constant: bool | None = None,
    ) -> Value:  # fmt: skip
        """A new input or constant."""
        given = draw_shape(self.random, ranks) if shape is None else shape
        array = draw_array(self.random, self.element(place), given, kind)
        return self.bind(place, self.draft.fresh(array, constant, shared=kind == "any"))

    def like(self, place: int | str, other: Value, shape: Shape, kind: str = "any") -> Value:
        """A value of a shape: one of the graph or a new one."""
        return self.value(place, shape=shape, kind=kind)

    def numbers(self, place: int | str, values: Any, runtime: float = 0.15) -> Value:
        """Integers for an input, mostly as a constant."""
        allowed = self.elements(place)
        element = "int64" if "int64" in allowed else draw_element(self.random, allowed)
        array = integers(values, element)
        return self.bind(place, self.draft.fresh(array, self.random.random() >= runtime))

    # Attributes

    def has(self, name: str) -> bool:
        """Whether this version has the attribute."""
        return name in self.schema.attributes

    def set(self, name: str, *choices: Any, often: float = 0.6) -> Any:
        """One of the values for an attribute, where this version has it: always where it is required, else often."""
        if not self.has(name):
            return None
        if self.schema.attributes[name].required or self.random.random() < often:
            self.attributes[name] = self.random.choice(choices)
        return self.attributes.get(name)

    def setting(self, name: str, values: Any) -> list[Value | None]:
        """Integers as the input of that name, or as the attribute in versions that have one: the inputs."""
        if self.has(name):
            self.attributes[name] = values
            return []
        return [self.numbers(name, values)]

    def chance(self, part: float) -> bool:
        """True that often."""
        return self.random.random() < part

    def axis(self, rank: int, least: int = 0) -> int:
        """An axis, counted from either end; raises Rejected for scalars."""
        if rank <= least:
            raise Rejected(f"{self.op}: no axis in rank {rank}")
        axis = self.random.randrange(least, rank)
        return axis - rank if self.chance(0.4) and self.counts_backwards else axis

    @property
    def counts_backwards(self) -> bool:
        """Whether axes may be negative: since opset 11, for a few operators since later ones."""
        return self.version >= 11

    def give(self, *inputs: Value | None, outputs: int = 1) -> list[Value]:
        """Add the node."""
        return self.draft.add(self.op, inputs, self.attributes, outputs)
