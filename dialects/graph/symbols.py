"""Symbols that are born at run time, and the values that dims have while IR is interpreted.

An op whose result sizes depend on its operands' data gives each such dim a fresh symbol. The op keeps the names in its
`new_dims` attribute, so that inferring its types again gives the same symbols, and binds them when interpreted."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

import numpy as np

from stepwell.dialects.graph.base import Array, GraphOp
from stepwell.errors import IRError
from stepwell.ir.attributes import ArrayAttr, StringAttr
from stepwell.ir.attrkinds import STRING, list_of
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim, evaluate, free_symbols, solve_for, substitute, symbol
from stepwell.ir.opdef import attr
from stepwell.ir.types import TensorType, Type

_COUNTER: ContextVar[Iterator[int]] = ContextVar("fresh_dims", default=itertools.count())  # noqa: B039


@contextmanager
def fresh_dim_scope() -> Iterator[None]:
    """Number fresh symbols from 0 inside: importing a model twice then gives the same names."""
    token = _COUNTER.set(itertools.count())
    try:
        yield
    finally:
        _COUNTER.reset(token)


@contextmanager
def fresh_names_after(names: Collection[str]) -> Iterator[None]:
    """Number fresh symbols so that none is among these names: those of a module that gets more."""
    ends = [int(end) for name in names if (end := name.rpartition("_")[2]).isdecimal()]
    token = _COUNTER.set(itertools.count(max(ends, default=-1) + 1))
    try:
        yield
    finally:
        _COUNTER.reset(token)


def fresh_name(hint: str) -> str:
    """A symbol's name that nothing else in the scope has."""
    return f"{hint}_{next(_COUNTER.get())}"


def fresh_dim(op: Operation, hint: str, index: int = 0) -> Dim:
    """The symbol number `index` that is born at `op`: the one it keeps in `new_dims`, else a new one called after
    `hint`. Symbols of an op are asked for in ascending order."""
    kept = op.properties.get("new_dims")
    names = tuple(kept.values) if isinstance(kept, ArrayAttr) else ()
    if index >= len(names):
        names = (*names, StringAttr(fresh_name(hint)))
        op.properties["new_dims"] = ArrayAttr(names)
    name = names[index]
    assert isinstance(name, StringAttr)
    return symbol(name.value)


class DataDependentOp(GraphOp):
    """An op that may bring new symbols. Subclasses give the meaning in `compute`; symbols are bound around it.

    A size that its type knows is not computed: `result_shape` gives it."""

    decided_by: ClassVar[tuple[str, ...]] = ()
    """The operands, by name, whose contents are all that the new sizes hang on; all operands where none is named."""

    new_dims: tuple[str, ...] = attr(list_of(STRING), default=())

    def is_named(self) -> bool:
        """Whether the types of ops behind it, or in their regions, have a symbol of this one."""
        names = set(self.new_dims)
        if not names or self.parent is None:
            return False
        behind = itertools.dropwhile(lambda op: op is not self, self.parent)
        next(behind)
        types = (result.type for op in behind for inner in op.walk() for result in inner.results)
        return any(names & free_symbols(dim) for type_ in types if isinstance(type_, TensorType) for dim in type_.shape)

    @property
    def deciders(self) -> Sequence[Value]:
        """The operands whose contents decide the new sizes."""
        if not self.decided_by:
            return self.operands
        return [value for name in self.decided_by if isinstance(value := getattr(self, name), Value)]

    def compute(self, frame: Any, *args: Any) -> Any:
        """The meaning on NumPy arrays."""
        raise NotImplementedError

    def interpret(self, frame: Any, *args: Any) -> Any:
        made = self.compute(frame, *args)
        if frame is not None and self.new_dims:
            arrays = made if isinstance(made, tuple) else (made,)
            for result, array in zip(self.results, arrays, strict=True):
                if isinstance(result.type, TensorType):
                    bind_dims(frame, self.new_dims, result.type, array)
        return made


def _bound(frame: Any) -> dict[str, int]:
    bound: dict[str, int] = frame.state.setdefault("dims", {})
    return bound


def bind_dims(frame: Any, names: Sequence[str], type_: Type, array: Any) -> None:
    """Record the run-time values of those of `names` that are dims of `type_`, read off the array of that type."""
    assert isinstance(type_, TensorType)
    for dim, size in zip(type_.shape, np.shape(array), strict=True):
        for name in free_symbols(dim) & set(names):
            value = solve_for(dim, name, int(size))
            if isinstance(value, int):
                _bound(frame)[name] = value


def run_time_shape(op: Operation, frame: Any, args: Sequence[Any], type_: Type) -> tuple[int, ...]:
    """The sizes that a type's dims have in this activation: from the operands' arrays, from symbols bound by ops that
    ran before, or from the arguments of the enclosing blocks. Raises IRError for a symbol that none of them holds."""
    assert isinstance(type_, TensorType)
    if type_.is_static:
        return type_.static_shape
    missing = frozenset().union(*(free_symbols(dim) for dim in type_.shape))
    values: dict[str, int] = {}
    for operand, array in zip(op.operands, args, strict=True):
        _solve(operand, array, values)
    if frame is not None and not missing <= values.keys():
        values.update(_bound(frame))
        for value, array in _block_arguments(op, frame) if not missing <= values.keys() else ():
            _solve(value, array, values)
    return tuple(evaluate(dim, values) for dim in type_.shape)


def _block_arguments(op: Operation, frame: Any) -> Iterator[tuple[Value, Array]]:
    node: Operation | None = op
    while node is not None:
        for argument in node.parent.arguments if node.parent is not None else ():
            try:
                yield argument, frame.get(argument)
            except IRError:
                return
        node = node.parent_op


def _solve(value: Value, array: Any, values: dict[str, int]) -> None:
    """Add the symbols that one tensor's sizes tell: those that stand in a dim with no other unknown."""
    if not isinstance(value.type, TensorType) or np.ndim(array) != value.type.rank:
        return
    for dim, size in zip(value.type.shape, np.shape(array), strict=True):
        unknown = free_symbols(dim) - values.keys()
        if len(unknown) == 1:
            (name,) = unknown
            found = solve_for(substitute(dim, _as_dims(values)), name, int(size))
            if isinstance(found, int):
                values[name] = found


def _as_dims(values: Mapping[str, int]) -> dict[str, Dim]:
    return dict(values)


class ShapedByTypeOp(DataDependentOp):
    """An op whose result type says the result's shape; where that was not known, an integer tensor operand does."""

    def known_types(self) -> Sequence[Type]:
        """The types that the results have. Raises NotImplementedError while the op is being built."""
        if not self.results:
            raise NotImplementedError
        return [result.type for result in self.results]
