"""What of a model's inputs decides a type that is not known when the model is imported.

    x[n, c], shape[k]:  Reshape(x, shape)  ->  Needs(sizes={"k"}, values={})      the rank is the length of the list"""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs

from stepwell.dialects.func import FuncOp
from stepwell.dialects.graph.base import CONTENT_LIMIT, content, is_content_type
from stepwell.dialects.graph.control import IfOp, RegionOp
from stepwell.dialects.graph.shape import ShapeOp
from stepwell.dialects.graph.symbols import DataDependentOp
from stepwell.dialects.sequence_types import SequenceType
from stepwell.errors import UnknownError
from stepwell.frontends.onnx.names import name_of
from stepwell.ir.attributes import ArrayAttr, StringAttr
from stepwell.ir.core import BlockArgument, Operation, UnregisteredOp, Value
from stepwell.ir.dims import Dim, free_symbols
from stepwell.ir.types import TensorType


@attrs.frozen
class Needs:
    """Symbols of the inputs' sizes, names of inputs whose contents, and of those whose ranks, that must be known."""

    sizes: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()
    ranks: frozenset[str] = frozenset()

    def __or__(self, other: Needs) -> Needs:
        return Needs(self.sizes | other.sizes, self.values | other.values, self.ranks | other.ranks)

    def __le__(self, other: Needs) -> bool:
        return self.sizes <= other.sizes and self.values <= other.values and self.ranks <= other.ranks

    def __str__(self) -> str:
        ranks = [f"the rank of {name!r}" for name in sorted(self.ranks)]
        sizes = [f"the size {name}" for name in sorted(self.sizes)]
        return " and ".join([*ranks, *sizes, *(f"the contents of {name!r}" for name in sorted(self.values))])


def needs_of(error: UnknownError, function: FuncOp) -> Needs | None:
    """What has to be known of the inputs of a function that is being made, so that an error does not arise. None where
    it takes the contents of more than a list, or is not told by the inputs."""
    try:
        return _Search(function).run(error)
    except _Untold:
        return None


class _Untold(Exception):
    """The inputs do not tell."""


class _Search:
    def __init__(self, function: FuncOp) -> None:
        self.function = function
        types = [argument.type for argument in function.entry.arguments]
        self.told = {name for t in types if isinstance(t, TensorType) for dim in t.shape for name in free_symbols(dim)}
        self.sizes: set[str] = set()
        self.values: set[str] = set()
        self.ranks: set[str] = set()
        self.seen: set[Value | str] = set()

    def run(self, error: UnknownError) -> Needs:
        for dim in error.sizes:
            self.size(dim)
        for value in error.values:
            self.value(value)
        for value in error.sequences:
            self.sequence(value)
        return Needs(frozenset(self.sizes), frozenset(self.values), frozenset(self.ranks))

    def sequence(self, value: Value) -> None:
        """What the rank of a sequence's tensors depends on: that of the sequences from which it is made."""
        if isinstance(value, BlockArgument):
            if value.block is not self.function.entry:
                raise _Untold
            self.ranks.add(name_of(value))
            return
        operands = value.defining_op.operands if value.defining_op is not None else ()
        made_from = [x for x in operands if isinstance(x.type, SequenceType) and x.type.sizes is None]
        if not made_from:
            raise _Untold
        for other in made_from:
            self.sequence(other)

    def size(self, dim: Dim) -> None:
        """What a size depends on: its symbols, and what has made those that no input has."""
        for name in free_symbols(dim) - self.seen:
            self.seen.add(name)
            if name in self.told:
                self.sizes.add(name)
            else:
                self.born_at(self.bearer(name))

    def born_at(self, op: Operation) -> None:
        """What the symbols that are born at an op depend on, besides the sizes that go into them."""
        if not isinstance(op, DataDependentOp) or isinstance(op, RegionOp):
            self.values_of(op)
            return
        for value in op.deciders:
            self.value(value)

    def bearer(self, name: str) -> Operation:
        """The op at which a symbol is born."""
        for op in self.function.walk():
            kept = op.properties.get("new_dims")
            if isinstance(kept, ArrayAttr) and StringAttr(name) in kept.values:
                return op
        raise _Untold

    def value(self, value: Value) -> None:
        """What the contents of a value depend on."""
        if value in self.seen:
            return
        self.seen.add(value)
        known = content(value)
        if known is not None:
            for dim in known:
                self.size(dim)
        elif isinstance(value, BlockArgument):
            self.argument(value)
        elif isinstance(value.defining_op, ShapeOp):
            for dim in value.defining_op.x.type.shape if isinstance(value.defining_op.x.type, TensorType) else ():
                self.size(dim)
        elif value.defining_op is not None:
            self.values_of(value.defining_op)

    def argument(self, value: BlockArgument) -> None:
        """An input, which is small if it is a list, or a few integers such as pairs of borders."""
        if value.block is not self.function.entry or not isinstance(value.type, TensorType):
            raise _Untold
        few = is_content_type(value.type) and math.prod(value.type.static_shape) <= CONTENT_LIMIT
        if value.type.rank > 1 and not few:
            raise _Untold
        self.values.add(name_of(value))

    def values_of(self, op: Operation) -> None:
        """What the results of an op depend on."""
        if isinstance(op, UnregisteredOp):
            raise _Untold
        for value in op.operands:
            self.value(value)
        for value in _captured(op) if not isinstance(op, IfOp) else ():
            self.value(value)


def _captured(op: Operation) -> Iterator[Value]:
    """The values from around an op that its regions read."""
    for inner in op.walk():
        if inner is not op:
            for value in inner.operands:
                owner = value.block.parent_op if isinstance(value, BlockArgument) else value.defining_op
                if owner is not None and not op.is_ancestor_of(owner):
                    yield value
