"""The inputs and outputs of a program: names, element types, symbolic shapes, and the arrays that fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.func import FuncOp
from stepwell.dialects.host_calls import current
from stepwell.dialects.kept import Kept, kept_by, kept_in
from stepwell.dialects.sequence_types import is_list
from stepwell.errors import InputError, IRError
from stepwell.ir.attributes import ArrayAttr, Attribute, IntegerAttr, StringAttr
from stepwell.ir.core import Operation
from stepwell.ir.dims import Dim, DimExpr, evaluate, free_symbols
from stepwell.ir.parser import Parser
from stepwell.ir.symbol_values import bind_symbols
from stepwell.ir.types import MemRefType, TensorType, Type, numpy_dtype
from stepwell.list_ports import ListPort, accepted_texts, array_of, whole_port

Array = np.ndarray[Any, Any]


@attrs.frozen
class Port:
    """An input or output. `type` has the element type that the caller sees; `storage` is how the program holds it.

    At the loop landing an output that is `published` is known by a descriptor, which the program writes. Of a part of a
    list, `whole` is the list's type. `kept` is set of an input that a state keeps from call to call, and of an output
    that is found in the memory of such an input."""

    name: str
    type: TensorType
    storage: np.dtype[Any]
    published: bool = False
    whole: Type | None = None
    kept: Kept | None = None
    keys: tuple[int | str, ...] | None = None
    """Of an output whose rows callers see as maps: the keys of its columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy (or ml_dtypes) element type."""
        return numpy_dtype(self.type)

    @property
    def shape(self) -> tuple[int | str, ...]:
        """Sizes, symbolic ones as text."""
        return tuple(dim if isinstance(dim, int) else str(dim) for dim in self.type.shape)

    def __str__(self) -> str:
        text = f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"
        return text if self.keys is None else f"{text} as maps from {', '.join(map(repr, self.keys))}"

    def accept(self, value: Any) -> Array:
        """The value as a contiguous array of the storage's element type; without a copy where it is one.

        Raises InputError for another element type."""
        dtype = self.dtype
        if dtype.kind == "O":
            texts = accepted_texts(value, f"input {self.name!r}")
            return texts if self.storage == dtype else current().strings.handles(texts)
        if not isinstance(value, np.ndarray):
            value = array_of(value, dtype, f"input {self.name!r}")
        if value.dtype != dtype and value.dtype.newbyteorder("=") != dtype:
            advice = f"convert it with .astype({dtype.name!r})"
            raise InputError(f"input {self.name!r} has element type {value.dtype}, expected {dtype}: {advice}")
        array = np.require(value, dtype, ["C", "A"])
        return array if self.storage == dtype else array.view(self.storage)

    def restore(self, array: Array) -> Array:
        """What the program gave, in the element type that the caller sees."""
        if array.dtype == self.dtype:
            return array
        return current().strings.texts(array) if self.dtype.kind == "O" else array.view(self.dtype)

    def shown(self, array: Array) -> Any:
        """A result as callers see it: the array, or a map from keys to numbers for each of its rows."""
        return array if self.keys is None else [dict(zip(self.keys, row, strict=True)) for row in array.tolist()]

    def with_room(self, array: Array) -> Array:
        """The array as the first rows of new memory, with room for as many as a state keeps."""
        if self.kept is None or not self.kept.is_placed:
            return array
        shape = list(array.shape)
        shape[self.kept.axis] = max(self.kept.capacity, shape[self.kept.axis])
        rows = np.zeros(shape, array.dtype)[first_rows(self.kept.axis, array.shape[self.kept.axis])]
        rows[...] = array
        return rows


def first_rows(axis: int, count: int) -> tuple[slice, ...]:
    """The index of an array's first rows along an axis."""
    return (slice(None),) * axis + (slice(0, count),)


def main_function(module: Operation) -> FuncOp:
    """The function that runs the model: @main, or the only one that is no kernel. Raises IRError."""
    functions = [f for f in module.walk_of(FuncOp) if f.sym_visibility != "private" and f.body.blocks]
    named = [f for f in functions if f.sym_name == "main"]
    if len(named or functions) != 1:
        raise IRError(f"the module has {len(functions)} public functions and none is @main")
    return (named or functions)[0]


AnyPort = Port | ListPort


def ports_of(function: FuncOp) -> tuple[list[AnyPort], list[AnyPort]]:
    """(inputs, outputs) of a program at any landing, as callers see them: lists as wholes."""
    inputs, outputs = parts_of(function)
    return wholes(inputs), wholes(outputs)


def wholes(ports: Sequence[AnyPort]) -> list[AnyPort]:
    """What callers see of a program's inputs or outputs: of the parts of a list the list."""
    found: list[AnyPort] = []
    rest = list(ports)
    while rest:
        port = rest.pop(0)
        if isinstance(port, Port) and port.whole is not None:
            port = whole_port(port.name, port.whole)
            del rest[: 1 + port.has_flag]
        found.append(port)
    return found


def accepted(ports: Sequence[AnyPort], parts: Sequence[AnyPort], values: Sequence[Any]) -> list[Any]:
    """What a program, which takes `parts`, is given for the values of its ports. Raises InputError."""
    found: list[Any] = []
    rest = list(parts)
    for port, value in zip(ports, values, strict=True):
        part, taken = rest.pop(0), port.accept(value)
        if isinstance(port, ListPort) and isinstance(part, Port):
            first, *more = port.spread(taken)
            found += [part.accept(first), *(rest.pop(0).accept(array) for array in more)]
        else:
            found.append(taken)
    return found


def restored(ports: Sequence[AnyPort], parts: Sequence[Port], arrays: Sequence[Array]) -> list[Any]:
    """What callers see of a program's results, which are those of `parts`."""
    rest = [part.restore(array) for part, array in zip(parts, arrays, strict=True)]
    found: list[Any] = []
    for port in ports:
        count = 2 + port.has_flag if isinstance(port, ListPort) else 1
        found.append(port.assembled(rest[:count]) if isinstance(port, ListPort) else rest[0])
        rest = rest[count:]
    return found


def tensor_ports(ports: Sequence[AnyPort]) -> list[Port]:
    """Those that are no lists."""
    return [port for port in ports if isinstance(port, Port)]


def parts_of(function: FuncOp) -> tuple[list[AnyPort], list[AnyPort]]:
    """(inputs, outputs), what is spread part by part."""
    inputs: list[AnyPort] = []
    outputs: list[AnyPort] = []
    for index, argument in enumerate(function.arguments):
        given = function.argument_attributes(index)
        if "sw.arena" in given or "sw.heap" in given:
            continue
        if "sw.out" in given:
            outputs.append(_port(f"output{len(outputs)}", argument.type, given))
        else:
            port = _port(argument.name or f"input{index}", argument.type, given)
            inputs.append(attrs.evolve(port, kept=kept_in(given, index)) if isinstance(port, Port) else port)
    for index, type_ in enumerate(function.function_type.results):
        outputs.append(_port(f"output{index}", type_, function.result_attributes(index)))
    for kept in sorted(kept_by(function), key=lambda kept: kept.result):
        if kept.is_placed:
            type_, (memory,) = tensor_type_of(kept.type), tensor_ports([inputs[kept.argument]])
            outputs.insert(kept.result, Port(kept.name, type_, memory.storage, kept=kept))
    return inputs, outputs


def tensor_type_of(text: str) -> TensorType:
    """The tensor type that a text names. Raises IRError for another type."""
    type_ = Parser(text, "<type>").type()
    if not isinstance(type_, TensorType):
        raise IRError(f"{text} is no tensor type")
    return type_


def _port(name: str, type_: Type, given: Mapping[str, Attribute]) -> AnyPort:
    label = given.get("onnx.name")
    name = label.value if isinstance(label, StringAttr) else name
    if is_list(type_):
        return ListPort(name, type_)
    held = given.get("sw.tensor")
    published = "sw.descriptor" in given and isinstance(held, StringAttr)
    storage = numpy_dtype(Parser(held.value, "<type>").type() if published else type_)  # type: ignore[union-attr]
    for key in ("sw.graph", "sw.tensor"):
        text = given.get(key)
        if isinstance(text, StringAttr):
            type_ = Parser(text.value, "<type>").type()
            break
    if isinstance(type_, MemRefType):
        type_ = TensorType(tuple(_unnamed(name, axis, size) for axis, size in enumerate(type_.shape)), type_.element)
    if not isinstance(type_, TensorType):
        raise IRError(f"{name} of type {type_} is no tensor")
    whole = given.get("sw.list")
    list_type = Parser(whole.value, "<type>").type() if isinstance(whole, StringAttr) else None
    columns = given.get("sw.keys")
    listed = columns.values if isinstance(columns, ArrayAttr) else ()
    keys = tuple(key.value for key in listed if isinstance(key, (StringAttr, IntegerAttr)))
    return Port(name, type_, storage, published, list_type, keys=keys or None)


def _unnamed(name: str, axis: int, size: int) -> Dim:
    from stepwell.ir.dims import symbol

    return size if size >= 0 else symbol(f"{name}.{axis}")


def symbols_of(ports: Sequence[Port], arrays: Sequence[Array]) -> dict[str, int]:
    """The values of the symbols. Raises InputError for a rank or size that does not fit."""
    names = [f"input {port.name!r}" for port in ports]
    try:
        return bind_symbols([port.type for port in ports], [array.shape for array in arrays], names)
    except IRError as error:
        raise InputError(str(error)) from None


DEFAULT_SIZE = 4  # of a symbolic dim, in inputs that are made up


def sample_inputs(
    ports: Sequence[AnyPort], sizes: Mapping[str, int] | None = None, seed: int = 0, limit: int | None = None
) -> list[Any]:
    """Made-up inputs, the same for the same seed: normally distributed floats, small integers, random bools.

    `sizes` gives symbols their values (default: 4). Raises InputError where they need more than `limit` bytes while
    they are made, and where there is no memory for them."""
    random = np.random.default_rng(seed)
    for port in tensor_ports(ports):
        shape = tuple(_sized(dim, sizes or {}) for dim in port.type.shape)
        if limit is not None and math.prod(shape) * (8 + port.dtype.itemsize) > limit:
            raise InputError(f"input {port.name!r} of shape {list(shape)} does not fit into memory: set smaller sizes")
    try:
        return [port.sample(random, DEFAULT_SIZE) if isinstance(port, ListPort) else _sample(port, sizes or {}, random)
                for port in ports]  # fmt: skip
    except MemoryError as error:
        raise InputError(f"made-up inputs do not fit into memory: {error}") from None


def _sample(port: Port, sizes: Mapping[str, int], random: np.random.Generator) -> Array:
    if port.dtype.kind == "O":
        raise InputError(f"input {port.name!r} holds text: give it with --inputs")
    return random_array([_sized(dim, sizes) for dim in port.type.shape], port.dtype, random)


def random_array(shape: Sequence[int], dtype: np.dtype[Any], random: np.random.Generator) -> Array:
    """Normally distributed floats, small integers, random bools."""
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(np.bool_)
    if dtype.kind in "iu" or "int" in dtype.name:
        return random.integers(0, 2, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


def _sized(dim: Dim, sizes: Mapping[str, int]) -> int:
    if not isinstance(dim, DimExpr):
        return int(dim)
    return evaluate(dim, {name: sizes.get(name, DEFAULT_SIZE) for name in free_symbols(dim)})
