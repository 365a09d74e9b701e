"""Types that a model declares for values inside it: read plainly, and compared with what was inferred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepwell.dialects.sequence_types import same_kind
from stepwell.frontends.onnx.element_types import text
from stepwell.ir.dims import Dim, parse_dim, symbol
from stepwell.ir.types import TensorType, Type

UNNAMED = frozenset(("", "?", "None", "unk", "unknown"))  # what exporters write for a dim of which they know nothing


def plain_dims(shape: Any) -> tuple[Dim, ...]:
    """The dims of a type that is declared inside the model, unnamed ones as the symbol `?`: for comparing only."""
    return tuple(symbol("?") if (dim := _dim(proto)) is None else dim for proto in shape.dim)


def fresh_dims(prefix: str, used: set[str]) -> Callable[[Any], tuple[Dim, ...]]:
    """The same with a symbol of its own for each unnamed dim, called after `prefix` and the axis, that is not in `used`
    yet."""

    def convert(shape: Any) -> tuple[Dim, ...]:
        dims: list[Dim] = []
        for axis, proto in enumerate(shape.dim):
            dim = _dim(proto)
            if dim is None:
                name = base = f"{prefix}_d{axis}"
                count = 0
                while name in used:
                    count += 1
                    name = f"{base}_{count}"
                used.add(name)
                dim = symbol(name)
            dims.append(dim)
        return tuple(dims)

    return convert


def _dim(proto: Any) -> Dim | None:
    name = text(proto.dim_param).strip()
    if proto.HasField("dim_value") and proto.dim_value >= 0:
        return int(proto.dim_value)
    return parse_dim(name) if name and name not in UNNAMED else None


def fits(declared: Type, actual: Type, *, sizes: bool = True) -> bool:
    """Whether a declared type can be that of a value: same element type and rank and, if asked, no two integer dims
    that differ."""
    if not isinstance(declared, TensorType) or not isinstance(actual, TensorType):
        return same_kind(declared, actual)
    if declared.element is not actual.element or declared.rank != actual.rank:
        return False
    pairs = zip(declared.shape, actual.shape, strict=True)
    return not sizes or not any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)
