"""What the families of graph ops share: the base class, broadcasting, axes, and symbolic contents of shape tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.demands import demand_broadcast, demand_stretch
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attributes import Attribute, ElementsAttr
from stepwell.ir.attrkinds import ELEMENTS
from stepwell.ir.constraints import TENSOR
from stepwell.ir.core import Operation, Value
from stepwell.ir.dim_poly import TooLarge
from stepwell.ir.dims import Dim, dim_broadcast
from stepwell.ir.opdef import CONSTANT, PURE, Op, attr, result
from stepwell.ir.rewrite import CONSTANT_MAKERS
from stepwell.ir.types import IndexType, IntegerType, TensorType, Type, numpy_dtype

Array = np.ndarray[Any, Any]


class GraphOp(Op):
    """Base of graph ops: pure unless a subclass says otherwise, on tensors of known rank with value semantics.

    Constant operands fold through `interpret`, up to FOLD_LIMIT elements."""

    traits = frozenset({PURE})

    def infer_content(self) -> Content | None:
        """The elements of the first result as dim expressions, row by row, for integer tensors; None: unknown."""
        return None

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        if not constants or PURE not in self.traits or any(not isinstance(c, ElementsAttr) for c in constants):
            return None
        if not all(isinstance(r.type, TensorType) and r.type.is_static for r in self.results):
            return None
        if sum(math.prod(_tensor(r.type).static_shape) for r in self.results) > FOLD_LIMIT:
            return None
        return self.fold_by_interpreting([c.numpy() for c in constants if isinstance(c, ElementsAttr)])

    def fold_by_interpreting(self, arrays: Sequence[Array]) -> Sequence[Attribute] | None:
        """The results as elements attributes."""
        from stepwell.ir.attributes import elements

        try:
            with np.errstate(all="ignore"):
                made = self.interpret(None, *arrays)
        except (IRError, RuntimeError, NotImplementedError):
            return None  # reported where the op is run
        made = made if isinstance(made, tuple) else (made,)
        name = self.results[0].name or "folded"
        return [
            elements(np.asarray(array, numpy_dtype(r.type)), _tensor(r.type), name)
            for r, array in zip(self.results, made, strict=True)
        ]


FOLD_LIMIT = 1 << 26  # elements; a larger result is computed at run time


def _tensor(type_: Type) -> TensorType:
    assert isinstance(type_, TensorType)
    return type_


class ConstantOp(GraphOp):
    """A tensor known at compile time. Large ones live in a resource outside the text.

    ```mlir
    %c = graph.constant dense<[1.0, 2.0]> : tensor<2xf32>
    ```
    """

    name = "graph.constant"
    traits = frozenset({PURE, CONSTANT})
    assembly = "$value attr-dict"
    value: ElementsAttr = attr(ELEMENTS)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return [self.value.tensor_type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return self.value.numpy()

    def infer_content(self) -> Content | None:
        type_ = self.value.tensor_type
        if not is_content_type(type_) or int(np.prod(type_.static_shape)) > CONTENT_LIMIT:
            return None
        return tuple(int(v) for v in self.value.numpy().reshape(-1))


def _make_constant(attribute: Attribute, type_: Type) -> Operation | None:
    return ConstantOp(value=attribute) if isinstance(attribute, ElementsAttr) else None


CONSTANT_MAKERS["graph"] = _make_constant


def shape_of(value: Value) -> tuple[Dim, ...]:
    """The dims of a tensor value."""
    return _tensor(value.type).shape


def blank(dtype: np.dtype[Any]) -> Any:
    """What stands where nothing was written: zero, or the empty string."""
    return "" if dtype.kind == "O" else np.zeros((), dtype)


def tensor_type(value: Value) -> TensorType:
    """The type of a tensor value."""
    return _tensor(value.type)


def constant_array(value: Value | None) -> Array | None:
    """The array of a value that a constant defines."""
    op = value.defining_op if value is not None else None
    return op.value.numpy() if isinstance(op, ConstantOp) else None


# Symbolic contents: what a shape-like tensor holds

Content = tuple[Dim, ...]
CONTENT_LIMIT = 64  # elements


def is_content_type(type_: Type) -> bool:
    """Whether a tensor is an integer (or i1) tensor of static size: what shapes are computed with.

    Those of rank 2 and more, such as pairs of borders, are small."""
    return (
        isinstance(type_, TensorType)
        and type_.is_static
        and isinstance(type_.element, (IntegerType, IndexType))
        and (type_.rank <= 1 or math.prod(type_.static_shape) <= CONTENT_LIMIT)
    )


def content(value: Value | None) -> Content | None:
    """The elements of an integer tensor as dim expressions, row by row, where they are known; else None."""
    if value is None or not is_content_type(value.type):
        return None
    if "content" not in value.facts:
        op = value.defining_op
        found = op.infer_content() if isinstance(op, GraphOp) and value is op.results[0] else None
        value.facts["content"] = found
    found = value.facts["content"]
    return tuple(found) if found is not None else None


def content_array(value: Value | None) -> Array | None:
    """The content as an array of objects that has the tensor's shape: NumPy moves dims as it moves numbers."""
    found = content(value)
    if value is None or found is None:
        return None
    array = np.empty(len(found), object)
    array[:] = found
    return array.reshape(_tensor(value.type).static_shape)


def content_of(array: Any) -> Content:
    """The inverse of `content_array`; NumPy may have taken a lone element out of its array."""
    return tuple(np.asarray(array, object).reshape(-1))


# Broadcasting


def broadcast_dim(a: Dim, b: Dim) -> Dim:
    """The size of a dim of NumPy's broadcasting. Two symbolic sizes that are not equal demand that they are so when the
    model runs, or one of them 1. Raises IRError where they cannot fit."""
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if isinstance(a, int) and isinstance(b, int):
        raise IRError(f"sizes {a} and {b} do not broadcast")
    demand_broadcast(a, b)
    if isinstance(a, int) or isinstance(b, int):
        return a if isinstance(a, int) else b
    return dim_broadcast(a, b)


def broadcast_shapes(*shapes: Sequence[Dim]) -> tuple[Dim, ...]:
    """The shape of NumPy's broadcasting of several shapes. Raises IRError naming the shapes where they do not fit."""
    rank = max(map(len, shapes), default=0)
    out: list[Dim] = [1] * rank
    for shape in shapes:
        for index, dim in enumerate(shape, start=rank - len(shape)):
            try:
                out[index] = broadcast_dim(out[index], dim)
            except TooLarge:
                raise
            except IRError:
                shown = " and ".join("x".join(map(str, s)) or "scalar" for s in shapes)
                raise IRError(f"shapes {shown} do not broadcast") from None
    return tuple(out)


def require_stretch(what: str, value: Value | None, shape: Sequence[Dim]) -> None:
    """Raises IRError unless a value, if there is one, broadcasts to a shape without changing it."""
    if value is None:
        return
    own = shape_of(value)
    fits = len(own) <= len(shape) and not any(
        isinstance(a, int) and a != 1 and isinstance(b, int) and a != b
        for a, b in zip(reversed(own), reversed(shape), strict=False)
    )
    if not fits or (all(isinstance(d, int) for d in (*own, *shape)) and broadcast_shapes(own, shape) != tuple(shape)):
        raise IRError(f"{what} of shape {_by_x(own)} does not broadcast to {_by_x(shape)}")
    for size, wanted in zip(reversed(own), reversed(shape), strict=False):
        demand_stretch(size, wanted, what)


def _by_x(shape: Sequence[Dim]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def normalize_axis(axis: int, rank: int) -> int:
    """An axis counted from the front. Raises IRError outside [-rank, rank)."""
    if not -rank <= axis < rank:
        raise IRError(f"axis {axis} is out of range for rank {rank}")
    return axis % rank if rank else 0


def normalize_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Several axes counted from the front, sorted. Raises IRError for one out of range or given twice."""
    found = tuple(sorted(normalize_axis(axis, rank) for axis in axes))
    if len(set(found)) != len(found):
        raise IRError(f"axes {list(axes)} name an axis twice")
    return found


def same_element(*values: Value) -> Type:
    """The common element type. Raises IRError where they differ."""
    elements = [tensor_type(value).element for value in values]
    for element in elements[1:]:
        if element is not elements[0]:
            raise IRError(f"element types {', '.join(map(str, elements))} differ")
    return elements[0]


def example(text: str) -> str:
    """A doc string's example block."""
    lines = "\n".join(f"    {line}" for line in text.splitlines())
    return f"\n\n    ```mlir\n{lines}\n    ```\n    "


Compute = Callable[..., Any]
