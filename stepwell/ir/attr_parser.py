"""The part of the parser that reads attributes, resources and locations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stepwell.errors import IRError
from stepwell.ir import location as loc_
from stepwell.ir.attributes import (
    AffineMapAttr,
    ArrayAttr,
    Attribute,
    DenseArrayAttr,
    DenseAttr,
    DenseResourceAttr,
    DictAttr,
    FloatAttr,
    IntegerAttr,
    OpaqueAttr,
    StringAttr,
    StringElementsAttr,
    SymbolRefAttr,
    TypeAttr,
    UnitAttr,
    integer_range,
)
from stepwell.ir.blobs import Blob
from stepwell.ir.lexer import Kind, Token
from stepwell.ir.registry import REGISTRY
from stepwell.ir.type_parser import TypeParser
from stepwell.ir.types import (
    F64,
    I1,
    I64,
    ComplexType,
    FloatType,
    IndexType,
    IntegerType,
    StringType,
    TensorType,
    Type,
    VectorType,
    numpy_dtype,
)

MAX_ELEMENTS = 1 << 20
MAX_FLOAT_DIGITS = 400


class AttributeParser(TypeParser):
    """Attributes, resources, locations."""

    def __init__(self, text: str, filename: str, resources: Mapping[str, Blob] | None) -> None:
        super().__init__(text, filename, resources)
        self.track_lines = True
        self.resource_places: dict[str, str] = {}

    def attr_dict(self) -> dict[str, Attribute]:
        """`{a = 1, unit}`."""
        self.expect("{")
        found: dict[str, Attribute] = {}

        def item() -> None:
            token = self.peek()
            key = self.key()
            if key in found:
                raise self.error(f"attribute {key!r} is given twice", token)
            found[key] = self.attribute() if self.accept("=") else UnitAttr()

        self.comma_list("}", item)
        return found

    def attribute(self) -> Attribute:
        """An attribute, its type included."""
        token = self.peek()
        with self.nesting(token):
            try:
                return self._attribute(token)
            except IRError as error:
                raise self.error(str(error), token) from None

    def _attribute(self, token: Token) -> Attribute:
        if token.kind in (Kind.INTEGER, Kind.FLOAT, Kind.HEX):
            return self._number()
        if token.kind is Kind.STRING:
            return StringAttr(self.string())
        if token.kind is Kind.SYMBOL:
            return SymbolRefAttr(self.symbol())
        if token.kind is Kind.HASH:
            return self._dialect_attribute()
        if self.accept("["):
            return ArrayAttr(tuple(self.comma_list("]", self.attribute)))
        if self.at("{"):
            return DictAttr.of(self.attr_dict())
        if token.kind is Kind.BARE:
            return self._keyword_attribute(token)
        if token.kind is Kind.BANG or self.at("("):
            return TypeAttr(self.type())
        raise self.unexpected("an attribute")

    def _keyword_attribute(self, token: Token) -> Attribute:
        text = token.text
        if text in ("true", "false"):
            self.advance()
            return IntegerAttr(int(text == "true"), I1)
        if text == "unit":
            self.advance()
            return UnitAttr()
        if text == "affine_map":
            return AffineMapAttr(self.affine_map())
        if text == "array":
            return self._dense_array()
        if text == "dense":
            return self._dense()
        if text == "dense_resource":
            return self._dense_resource()
        found = self._builtin_type(token)
        if found is None:
            raise self.unexpected("an attribute")
        return TypeAttr(found)

    def _number(self) -> Attribute:
        token = self.advance()
        type_: Type | None = self.type() if self.accept(":") else None
        if token.kind is Kind.FLOAT or isinstance(type_, FloatType):
            return FloatAttr(float(self._float_value(token, type_ or F64)), type_ or F64)
        return IntegerAttr(self.integer_value(token), type_ or I64)

    def _float_value(self, token: Token, type_: Type) -> Any:
        """The NumPy scalar that a literal stands for: a decimal rounded to the type, or bits in hexadecimal."""
        if not isinstance(type_, FloatType):
            raise self.error(f"{token.text} is a float, which {type_} is not", token)
        dtype = numpy_dtype(type_)
        if token.kind is Kind.HEX:
            bits = int(token.text, 16) if len(token.text) < 20 else 1 << 64
            if bits >> type_.width:
                raise self.error(f"{token.text} has more bits than {type_}", token)
            return np.frombuffer(bits.to_bytes(dtype.itemsize, "little"), dtype)[0]
        if len(token.text) > MAX_FLOAT_DIGITS:
            raise self.error("number too long", token)
        with np.errstate(all="ignore"):
            value = dtype.type(float(token.text))
        if not np.isfinite(value):
            raise self.error(f"{token.text} does not fit in {type_}", token)
        return value

    def _dense_array(self) -> Attribute:
        self.expect("array")
        self.expect("<")
        type_ = self.type()
        if not isinstance(type_, (IntegerType, FloatType)):
            raise self.error(f"an array holds integers or floats, not {type_}")
        if self.accept(":"):
            return DenseArrayAttr(type_, tuple(self.comma_list(">", lambda: self._scalar(type_))))
        self.expect(">")
        return DenseArrayAttr(type_, ())

    def _scalar(self, type_: Type) -> Any:
        """One element of a dense constant or array."""
        token = self.peek()
        if isinstance(type_, FloatType):
            if token.kind not in (Kind.FLOAT, Kind.INTEGER, Kind.HEX):
                raise self.unexpected("a number")
            return self._float_value(self.advance(), type_)
        if isinstance(type_, ComplexType):
            self.expect("(")
            real = self._scalar(type_.element)
            self.expect(",")
            imaginary = self._scalar(type_.element)
            self.expect(")")
            return np.array([real, imaginary], numpy_dtype(type_.element)).view(numpy_dtype(type_))[0]
        if type_ is I1 and token.text in ("true", "false"):
            return self.advance().text == "true"
        if isinstance(type_, StringType):
            return self.string()
        if not isinstance(type_, (IntegerType, IndexType)):
            raise self.error(f"a constant cannot hold elements of type {type_}")
        return self._wrapped_integer(type_)

    def _wrapped_integer(self, type_: IntegerType | IndexType) -> int:
        """An integer of the type, in the range of the NumPy type that holds it."""
        token = self.peek()
        value = self.integer()
        low, high = integer_range(type_)
        if not low <= value <= high:
            raise self.error(f"{value} does not fit in {type_}", token)
        dtype = numpy_dtype(type_)
        if dtype.kind == "b" or isinstance(type_, IndexType) or low == 0:
            return value
        return value - (1 << type_.width) if value >> (type_.width - 1) == 1 else value

    def _dense(self) -> Attribute:
        """`dense<[[1, 2], [3, 4]]> : tensor<2x2xi64>`; the type comes last, so the elements are read again under it."""
        self.expect("dense")
        start = self.peek().start
        if not self._balanced():
            raise self.unexpected("'<'")
        self.expect(":")
        type_, tensor_type = self._static_type()
        end = self._position
        self.seek(start + 1)
        token = self.peek()
        flat: list[Any] = []
        if not self.at(">"):
            self._check_shape(self._nested_elements(tensor_type.element, flat), flat, tensor_type, token)
        self.expect(">")
        self.seek(end)
        return self._dense_of(type_, tensor_type, flat, token)

    def _static_type(self) -> tuple[TensorType | VectorType, TensorType]:
        """The type of a constant, and the tensor type of the same shape and element."""
        token = self.peek()
        type_ = self.type()
        if isinstance(type_, VectorType):
            return type_, TensorType(type_.shape, type_.element)
        if not isinstance(type_, TensorType) or not type_.is_static:
            raise self.error("a dense constant has a vector type or a static tensor type", token)
        return type_, type_

    def _nested_elements(self, element: Type, flat: list[Any]) -> tuple[int, ...]:
        """Append the elements to `flat`; returns the shape in which they are written."""
        token = self.peek()
        if not self.accept("["):
            flat.append(self._scalar(element))
            if len(flat) > MAX_ELEMENTS:
                raise self.error("too many elements in the text: use a resource", token)
            return ()
        with self.nesting(token):
            shapes = self.comma_list("]", lambda: self._nested_elements(element, flat))
        if any(shape != shapes[0] for shape in shapes):
            raise self.error("the rows of a constant differ in length", token)
        return (len(shapes), *(shapes[0] if shapes else ()))

    def _check_shape(self, shape: tuple[int, ...], flat: list[Any], type_: TensorType, token: Token) -> None:
        if shape and shape != type_.static_shape and (flat or 0 not in type_.static_shape):
            written = "x".join(map(str, shape))
            raise self.error(f"elements in shape {written} for {type_}", token)

    def _dense_of(
        self, type_: TensorType | VectorType, tensor_type: TensorType, flat: list[Any], token: Token
    ) -> Attribute:
        size = math.prod(tensor_type.static_shape)
        if size > MAX_ELEMENTS:
            raise self.error("too many elements in the text: use a resource", token)
        if len(flat) == 1 and size != 1:
            flat = flat * size
        if len(flat) != size:
            raise self.error(f"{len(flat)} elements for {type_}", token)
        if isinstance(tensor_type.element, StringType):
            return StringElementsAttr(tensor_type, tuple(flat))
        dtype = numpy_dtype(type_)
        if dtype.kind == "b":
            return DenseAttr(type_, np.array([int(value) != 0 for value in flat], dtype).tobytes())
        return DenseAttr(type_, np.array(flat, dtype).tobytes())

    def _dense_resource(self) -> Attribute:
        self.expect("dense_resource")
        self.expect("<")
        key = self.key()
        self.expect(">")
        self.expect(":")
        type_ = self._static_type()[1]
        if key not in self.resources:
            self.resources[key] = Blob(key, np.empty(0, numpy_dtype(type_)))
        return DenseResourceAttr(self.resources[key], type_)

    def resource_section(self) -> None:
        """`{-# external_resources: { stepwell: { key: "place" } } #-}`: fills `resource_places`.

        Entries of other owners are read and left aside."""
        self.expect("{-#")

        def section() -> None:
            name = self.bare()
            self.expect(":")
            self._entries(lambda owner: self._entries(lambda key: place(name, owner, key)))

        def place(name: str, owner: str, key: str) -> None:
            text = self.string()
            if (name, owner) == ("external_resources", "stepwell"):
                self.resource_places[key] = text

        self.comma_list("#-}", section)

    def _entries(self, read: Callable[[str], None]) -> None:
        """`{ key: ..., key: ... }`"""
        self.expect("{")

        def item() -> None:
            key = self.key()
            self.expect(":")
            read(key)

        self.comma_list("}", item)

    def alias_definition(self) -> None:
        """`#map = affine_map<...>` or `!t = tensor<...>`."""
        token = self.advance()
        if "." in token.text:
            raise self.error(f"expected an operation, found {token.text!r}", token)
        if token.text in self._aliases:
            raise self.error(f"alias {token.text} is defined twice", token)
        self.expect("=")
        self._aliases[token.text] = self.attribute() if token.kind is Kind.HASH else self.type()

    def _dialect_attribute(self) -> Attribute:
        token = self.advance()
        alias = self._aliases.get(token.text)
        if isinstance(alias, Attribute):
            return alias
        if "." not in token.text:
            raise self.error(f"unknown attribute alias {token.text}", token)
        cls = REGISTRY.attribute(token.text[1:])
        if cls is None:
            return OpaqueAttr(token.text + self._balanced())
        return self._from_parameters(cls, token)  # type: ignore[no-any-return]

    def parameter(self) -> Any:
        """The inverse of `parameter_text`."""
        token = self.peek()
        if self.accept("["):
            with self.nesting(token):
                return tuple(self.comma_list("]", self.parameter))
        if token.kind in (Kind.INTEGER, Kind.HEX):
            return self.integer()
        if token.kind is Kind.FLOAT:
            return float(self._float_value(self.advance(), F64))
        if token.kind is Kind.STRING:
            return self.string()
        if token.text in ("true", "false"):
            return self.advance().text == "true"
        if token.text == "affine_map":
            return self.affine_map()
        if token.kind in (Kind.HASH, Kind.SYMBOL) or token.text in ("dense", "array"):
            return self.attribute()
        return self.type()

    # Locations

    def location(self) -> loc_.Location:
        """`(unknown)`, `("name")`, `("file":1:2)`, `(fused["a", "b"])`; `loc` was just read."""
        self.expect("(")
        found = self._location()
        self.expect(")")
        return found

    def _location(self) -> loc_.Location:
        token = self.peek()
        if self.accept("unknown"):
            return loc_.UNKNOWN
        if self.accept("fused"):
            self.expect("[")
            with self.nesting(token):
                return loc_.FusedLoc(tuple(self.comma_list("]", self._location)))
        if token.kind is not Kind.STRING:
            raise self.unexpected("a location")
        name = self.string()
        if self.accept(":"):
            line = self.integer()
            self.expect(":")
            return loc_.FileLoc(name, line, self.integer())
        return loc_.NameLoc(name)
