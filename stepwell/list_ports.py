"""Inputs and outputs that are sequences or optional values: lists of arrays and None, in the program tensors; and
inputs that are maps: dictionaries.

The parts are those of `spread-sequences`: all elements in one list, and a row for each tensor: its rank, its
sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.host_strings import as_texts
from stepwell.dialects.sequence_types import EVERY_SIZE, RANKS, MapType, OptionalType, SequenceType, list_element
from stepwell.errors import InputError, IRError
from stepwell.ir.types import TensorType, Type, numpy_dtype

Array = np.ndarray[Any, Any]


@attrs.frozen
class ListPort:
    """An input or output that is a list of arrays, or may be None."""

    name: str
    type: Type

    @property
    def may_be_absent(self) -> bool:
        """Whether None is a value of it."""
        return isinstance(self.type, OptionalType)

    @property
    def sequence(self) -> SequenceType | None:
        """The type of the list; None where an optional tensor is meant."""
        of = self.type.of if isinstance(self.type, OptionalType) else self.type
        return of if isinstance(of, SequenceType) else None

    @property
    def has_flag(self) -> bool:
        """Whether the first part says that the value is there."""
        return self.may_be_absent and self.sequence is not None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type of the arrays."""
        return numpy_dtype(list_element(self.type))

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """What the shapes of the arrays share; -1 where they may differ, None where the rank is not known."""
        of = self.sequence or (self.type.of if isinstance(self.type, OptionalType) else self.type)
        if isinstance(of, TensorType):
            return tuple(dim if isinstance(dim, int) else EVERY_SIZE for dim in of.shape)
        assert isinstance(of, SequenceType)
        return of.sizes

    @property
    def shape(self) -> tuple[int | str, ...]:
        """No list has one."""
        return ()

    @property
    def kept(self) -> None:
        """No state keeps a list."""
        return None

    def __str__(self) -> str:
        shown = "..." if self.sizes is None else ", ".join("?" if size < 0 else str(size) for size in self.sizes)
        text = f"{self.dtype}[{shown}]"
        text = f"list of {text}" if self.sequence is not None else text
        return f"{self.name}: {text}{' or None' if self.may_be_absent else ''}"

    def accept(self, value: Any) -> Any:
        """The value with arrays of the element type. Raises InputError where it is no list, or an array does not
        fit."""
        if value is None and self.may_be_absent:
            return None
        if self.sequence is None:
            return self._array(value, "")
        if not isinstance(value, (list, tuple)):
            wanted = "a list of arrays" + (" or None" if self.may_be_absent else "")
            raise InputError(f"input {self.name!r} is {wanted}, not {type(value).__name__}")
        return [self._array(item, f"[{number}]") for number, item in enumerate(value)]

    def _array(self, value: Any, place: str) -> Array:
        where, dtype = f"input {self.name!r}{place}", self.dtype
        if dtype.kind == "O":
            value = accepted_texts(value, where)
        if not isinstance(value, np.ndarray):
            value = array_of(value, dtype, where)
        if value.dtype.newbyteorder("=") != dtype:
            advice = f"convert it with .astype({dtype.name!r})"
            raise InputError(f"{where} has element type {value.dtype}, expected {dtype}: {advice}")
        sizes = self.sizes
        if value.ndim > RANKS:
            raise InputError(f"{where} has {value.ndim} dims; an array in a list has {RANKS} at most")
        fits = sizes is None or (len(sizes) == value.ndim and all(a in (-1, b) for a, b in zip(sizes, value.shape)))  # noqa: B905
        if not fits:
            raise InputError(f"{where} has shape {list(value.shape)}, and that of every array is {list(sizes or ())}"
                             " (-1: any size)")  # fmt: skip
        return np.require(value, dtype, ["C", "A"])

    def spread(self, value: Any) -> list[Array]:
        """The parts of an accepted value."""
        arrays = [] if value is None else [value] if self.sequence is None else list(value)
        data = np.concatenate([array.reshape(-1) for array in arrays]) if arrays else np.empty(0, self.dtype)
        rows = np.ones((len(arrays), 1 + RANKS), np.int64)
        for row, array in zip(rows, arrays, strict=True):
            row[: 1 + array.ndim] = array.ndim, *array.shape
        flag = [np.array(value is not None)] if self.has_flag else []
        return [*flag, data, rows]

    def assembled(self, parts: Sequence[Array]) -> Any:
        """The value from its parts. Raises IRError where they do not belong together."""
        data, rows = parts[-2:]
        arrays: list[Array] = []
        place = 0
        for rank, *sizes in rows.tolist():
            if not 0 <= rank <= RANKS:
                raise IRError(f"output {self.name!r}: an array of {rank} dims")
            shape = sizes[:rank]
            end = place + int(np.prod(shape, dtype=np.int64))
            arrays.append(data[place:end].reshape(shape))
            place = end
        if self.sequence is None:
            return arrays[0] if arrays else None
        return None if self.has_flag and not parts[0] else arrays

    def sample(self, random: np.random.Generator, size: int) -> Any:
        """A made-up value: two arrays, or one; sizes that are not known are `size`."""
        from stepwell.ports import random_array

        shape = [size if dim < 0 else dim for dim in self.sizes or (EVERY_SIZE,)]
        arrays = [random_array(shape, self.dtype, random) for _ in range(2 if self.sequence is not None else 1)]
        return arrays if self.sequence is not None else arrays[0]


@attrs.frozen
class MapPort(ListPort):
    """An input that is a dictionary, in the program its keys in ascending order and their values."""

    @property
    def map(self) -> MapType:
        """Its type."""
        assert isinstance(self.type, MapType)
        return self.type

    @property
    def sequence(self) -> None:
        """It is none."""
        return None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type of the values."""
        return numpy_dtype(self.map.value)

    def __str__(self) -> str:
        return f"{self.name}: {numpy_dtype(self.map.key)} -> {self.dtype}"

    def accept(self, value: Any) -> dict[Any, Any]:
        """The dictionary. Raises InputError for anything else."""
        if not isinstance(value, Mapping):
            raise InputError(f"input {self.name!r} is a dictionary, not {type(value).__name__}")
        return dict(value)

    def spread(self, value: Any) -> list[Array]:
        """The keys in ascending order, and their values. Raises InputError for one of another type."""
        kind = str if numpy_dtype(self.map.key).kind == "O" else (int, np.integer)
        for key in value:
            if not isinstance(key, kind) or isinstance(key, bool):
                raise InputError(f"input {self.name!r}: {key!r} is no key of type {numpy_dtype(self.map.key)}")
        keys = sorted(value)
        return [self._list(keys, self.map.key), self._list([value[key] for key in keys], self.map.value)]

    def _list(self, items: list[Any], type_: Type) -> Array:
        dtype = numpy_dtype(type_)
        if dtype.kind == "O":
            return accepted_texts(np.array(items, object), f"input {self.name!r}")
        try:
            return np.array(items, dtype).reshape(len(items))
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"input {self.name!r} cannot be made a map to {dtype}: {error}") from None

    def sample(self, random: np.random.Generator, size: int) -> Any:
        """There is none: keys mean something."""
        raise InputError(f"input {self.name!r} is a dictionary, which cannot be made up: call the model from Python")


def whole_port(name: str, type_: Type) -> ListPort:
    """What callers see of parts that belong together."""
    return MapPort(name, type_) if isinstance(type_, MapType) else ListPort(name, type_)


def array_of(value: Any, dtype: np.dtype[Any], where: str) -> Array:
    """What is given in place of an array as one. Raises InputError, also for None, which NumPy takes for NaN."""
    try:
        if value is None:
            raise TypeError("it is None")
        return np.asarray(value, dtype)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} cannot be made an array of {dtype}: {error}") from None


def accepted_texts(value: Any, where: str) -> Array:
    """What is given for strings as an array of `str`. Raises InputError."""
    try:
        return as_texts(value, where)
    except IRError as error:
        raise InputError(str(error)) from None


def as_arrays(name: str, value: Any) -> dict[str, Array]:
    """An input or output as named arrays, as a file holds them: the arrays of list `x` are `x.0`, `x.1`, .., and a list
    of maps is the matrix of their values."""
    if value is None:
        return {}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {name: np.array([list(row.values()) for row in value])}
    return {f"{name}.{n}": x for n, x in enumerate(value)} if isinstance(value, list) else {name: value}


def from_arrays(port: ListPort, found: dict[str, Array]) -> Any:
    """A list or an optional value from named arrays; where there is none, it is empty, or absent."""
    if port.sequence is None:
        return found.get(port.name)
    arrays: list[Array] = []
    while (name := f"{port.name}.{len(arrays)}") in found:
        arrays.append(found[name])
    return arrays or (None if port.may_be_absent else [])
