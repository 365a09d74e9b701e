"""What all ops of the tensor dialect share: sizes as an attribute, the terminator, sizes in the interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stepwell.ir.attributes import Attribute
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, DimExpr
from stepwell.ir.interned import interned
from stepwell.ir.opdef import Op, Trait, operands
from stepwell.ir.types import TensorType

if TYPE_CHECKING:
    from stepwell.ir.parser import Parser


@interned
class DimsAttr(Attribute):
    """`#tensor.dims<[4, "batch"]>`: sizes, each an integer or an expression over symbols."""

    mnemonic = "tensor.dims"
    dims: tuple[Dim, ...]

    def print_parameters(self) -> str:
        """`<[4, "batch"]>`"""
        from stepwell.ir.printer import parameter_text

        return f"<{parameter_text(self.dims)}>"

    @staticmethod
    def parse_parameters(parser: Parser) -> DimsAttr:
        """The inverse of `print_parameters`."""
        from stepwell.ir.dims import parse_dim

        parser.expect("<")
        parser.expect("[")
        found = parser.comma_list("]", parser.parameter)
        parser.expect(">")
        return DimsAttr(tuple(parse_dim(item) if isinstance(item, str) else int(item) for item in found))


def tensor_type(value: Value) -> TensorType:
    """The type of a tensor value."""
    assert isinstance(value.type, TensorType)
    return value.type


class YieldOp(Op):
    """Ends a body with the values it gives.

    ```mlir
    %x = "test.value"() : () -> f32
    tensor.yield %x : f32
    ```
    """

    name = "tensor.yield"
    traits = frozenset({Trait.TERMINATOR})
    assembly = "attr-dict ($values^ `:` type($values))?"
    values: Sequence[Value] = operands()


def concrete(dim: Dim, frame: Any) -> int:
    """A dim's size in the interpreter. Raises IRError for a symbol without a value."""
    return dim.evaluate(frame.state.get("symbols", {})) if isinstance(dim, DimExpr) else dim


def concrete_shape(shape: Sequence[Dim], frame: Any) -> tuple[int, ...]:
    """A shape in the interpreter."""
    return tuple(concrete(dim, frame) for dim in shape)
