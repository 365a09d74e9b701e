"""The part of the parser that reads tokens, types, attributes and locations."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from stepwell.errors import IRError, ParseError
from stepwell.ir import location as loc_
from stepwell.ir.affine import AffineMap, parse_affine_map
from stepwell.ir.attributes import (
    AffineMapAttr,
    ArrayAttr,
    Attribute,
    Blob,
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
)
from stepwell.ir.dims import Dim, parse_dim, symbol
from stepwell.ir.lexer import Kind, Lexer, Token, unquote
from stepwell.ir.opdef import Op
from stepwell.ir.registry import REGISTRY
from stepwell.ir.types import (
    DYNAMIC,
    F64,
    FLOAT_FORMATS,
    I1,
    I64,
    INDEX,
    NONE,
    ComplexType,
    FloatType,
    FunctionType,
    IntegerType,
    MemRefType,
    OpaqueType,
    Signedness,
    StridedLayout,
    StringType,
    TensorType,
    Type,
    VectorType,
    numpy_dtype,
)

_DIM = re.compile(r"\s*(\d+|\?)\s*x")
_INTEGER_TYPE = re.compile(r"(si|ui|i)([1-9]\d?)\Z")
MAX_NESTING = 120
MAX_ELEMENTS = 1 << 20
UNNAMED = symbol("?")


class AttributeParser:
    """Tokens, types, attributes, locations."""

    def __init__(self, text: str, filename: str, resources: Mapping[str, Blob] | None) -> None:
        self.lexer = Lexer(text, filename)
        self._token: Token | None = None
        self._position = 0
        self._depth = 0
        self._opening: type[Op] | None = None
        self.track_lines = True
        self.resources: dict[str, Blob] = dict(resources or {})
        self.resource_places: dict[str, str] = {}
        self._aliases: dict[str, Attribute | Type] = {}

    # Tokens

    def peek(self) -> Token:
        """The next token."""
        if self._token is None:
            self._token = self.lexer.token_at(self._position)
        return self._token

    def peek_after(self) -> Token:
        """The token behind the next one."""
        return self.lexer.token_at(self.peek().end)

    def advance(self) -> Token:
        """Take the next token."""
        token = self.peek()
        self._position, self._token = token.end, None
        return token

    def at(self, text: str) -> bool:
        """Whether the next token is this one."""
        token = self.peek()
        return token.text == text and token.kind is not Kind.STRING

    def at_punctuation(self) -> bool:
        """Whether the next token is punctuation or the end."""
        return self.peek().kind in (Kind.PUNCTUATION, Kind.END)

    def accept(self, text: str) -> bool:
        """Take the next token if it is this one."""
        if self.at(text):
            self.advance()
            return True
        return False

    def expect(self, text: str) -> Token:
        """Take this token or raise."""
        if not self.at(text):
            token = self.peek()
            raise self.error(f"expected {text!r}, found {token.text!r}" if token.text else f"expected {text!r}")
        return self.advance()

    def expect_kind(self, kind: Kind) -> Token:
        """Take a token of this kind or raise."""
        if self.peek().kind is not kind:
            raise self.error(f"expected a {kind.value}, found {self.peek().text!r}")
        return self.advance()

    def error(self, message: str, token: Token | None = None) -> ParseError:
        """An error at a token (default: the next one)."""
        place = token or self._token
        return self.lexer.error(message, place.start if place else self._position)

    @contextmanager
    def nesting(self, token: Token) -> Iterator[None]:
        """Count nesting, so that hostile text cannot exhaust the stack."""
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self.error(f"nested more than {MAX_NESTING} deep", token)
        try:
            yield
        finally:
            self._depth -= 1

    def bare(self) -> str:
        """An identifier."""
        return self.expect_kind(Kind.BARE).text

    def integer(self) -> int:
        """An integer literal."""
        token = self.peek()
        if token.kind not in (Kind.INTEGER, Kind.HEX):
            raise self.error(f"expected an integer, found {token.text!r}")
        if len(token.text) > 40:
            raise self.error("integer too large")
        self.advance()
        return int(token.text, 0) if token.kind is Kind.HEX else int(token.text)

    def string(self) -> str:
        """A string literal."""
        return self.unquoted(self.expect_kind(Kind.STRING))

    def unquoted(self, token: Token) -> str:
        """The text of a string token."""
        try:
            return unquote(token.text)
        except (ParseError, IndexError):
            raise self.error("bad escape in a string", token) from None

    def symbol(self) -> str:
        """`@name`."""
        text = self.expect_kind(Kind.SYMBOL).text[1:]
        return unquote(text) if text.startswith('"') else text

    def comma_list(self, close: str, item: Any) -> list[Any]:
        """`item, item` up to and including `close`."""
        items: list[Any] = []
        if self.accept(close):
            return items
        while True:
            items.append(item())
            if self.accept(close):
                return items
            self.expect(",")

    # Types

    def type(self) -> Type:
        """A type."""
        token = self.peek()
        with self.nesting(token):
            if token.kind is Kind.BARE:
                found = self._builtin_type(token)
                if found is not None:
                    return found
            elif token.kind is Kind.BANG:
                return self._dialect_type()
            elif self.at("("):
                inputs, outputs = self.signature()
                return FunctionType(tuple(inputs), tuple(outputs))
            raise self.error(f"expected a type, found {token.text!r}")

    def _builtin_type(self, token: Token) -> Type | None:
        text = token.text
        simple = {"index": INDEX, "none": NONE}.get(text)
        if simple is None and text in FLOAT_FORMATS:
            simple = FloatType(text)
        match = _INTEGER_TYPE.match(text)
        if simple is None and match and 1 <= int(match[2]) <= 64:
            simple = IntegerType(int(match[2]), Signedness(match[1]))
        if simple is not None:
            self.advance()
            return simple
        if text in ("tensor", "memref", "vector", "complex", "strided"):
            self.advance()
            self.expect("<") if text != "strided" else None
            return getattr(self, f"_{text}_type")()  # type: ignore[no-any-return]
        return None

    def type_list(self, count: int | None) -> list[Type]:
        """`a, b`: `count` types, or as many as follow."""
        types: list[Type] = []
        while count is None or len(types) < count:
            types.append(self.type())
            if len(types) == count or not self.accept(","):
                break
        return types

    def signature(self) -> tuple[list[Type], list[Type]]:
        """`(a, b) -> c` or `(a, b) -> (c, d)`."""
        self.expect("(")
        inputs = self.comma_list(")", self.type)
        self.expect("->")
        outputs = self.comma_list(")", self.type) if self.accept("(") else [self.type()]
        return inputs, outputs

    def _dims(self) -> list[int | None]:
        """`4x?x`, None for `?`."""
        dims: list[int | None] = []
        position = self.peek().start
        while match := _DIM.match(self.lexer.text, position):
            if len(match[1]) > 18:
                raise self.error("dimension too large")
            dims.append(None if match[1] == "?" else int(match[1]))
            position = match.end()
        self._position, self._token = position, None
        return dims

    def _tensor_type(self) -> Type:
        sizes = self._dims()
        element = self.type()
        names: list[Dim] | None = None
        layout: Attribute | None = None
        if self.accept(","):
            if self.at("#graph.shape") or self.at("#tensor.encoding"):
                both = self.advance().text == "#tensor.encoding"
                self.expect("<")
                self.expect("[")
                names = self.comma_list("]", self._dim)
                if both:
                    self.expect(",")
                    layout = self.attribute()
                self.expect(">")
            else:
                layout = self.attribute()
        self.expect(">")
        unknown = sizes.count(None)
        if names is not None and len(names) != unknown:
            raise self.error(f"{len(names)} dim expressions for {unknown} unknown dims")
        rest = iter(names or [UNNAMED] * unknown)
        return TensorType(tuple(next(rest) if size is None else size for size in sizes), element, layout)

    def _dim(self) -> Dim:
        token = self.peek()
        try:
            return parse_dim(self.string())
        except IRError as error:
            raise self.error(str(error), token) from None

    def _memref_type(self) -> Type:
        shape = tuple(DYNAMIC if size is None else size for size in self._dims())
        element = self.type()
        layout: Any = None
        space: Attribute | None = None
        while self.accept(","):
            if self.at("affine_map"):
                layout = self.affine_map()
            elif self.at("strided"):
                layout = self.type()
            else:
                space = self.attribute()
        self.expect(">")
        return MemRefType(shape, element, layout, space)

    def _strided_type(self) -> Type:
        self.expect("<")
        self.expect("[")
        strides = self.comma_list("]", self._stride)
        offset = 0
        if self.accept(","):
            self.expect("offset")
            self.expect(":")
            offset = self._stride()
        self.expect(">")
        return StridedLayout(tuple(strides), offset)

    def _stride(self) -> int:
        return DYNAMIC if self.accept("?") else self.integer()

    def _vector_type(self) -> Type:
        token = self.peek()
        sizes = self._dims()
        if any(size is None or size < 1 for size in sizes):
            raise self.error("vector dims are positive integers", token)
        element = self.type()
        self.expect(">")
        return VectorType(tuple(size for size in sizes if size is not None), element)

    def _complex_type(self) -> Type:
        element = self.type()
        self.expect(">")
        return ComplexType(element)

    def _dialect_type(self) -> Type:
        token = self.advance()
        name = token.text[1:]
        if token.text in self._aliases:
            alias = self._aliases[token.text]
            if isinstance(alias, Type):
                return alias
        if name.startswith("tensor.") and name[7:] in FLOAT_FORMATS:
            return FloatType(name[7:])
        if name == StringType.mnemonic:
            return StringType()
        cls = REGISTRY.type(name)
        if cls is None:
            return OpaqueType(token.text + self._balanced())
        return self._from_parameters(cls, token)  # type: ignore[no-any-return]

    # Attributes

    def attr_dict(self) -> dict[str, Attribute]:
        """`{a = 1, unit}`."""
        self.expect("{")
        found: dict[str, Attribute] = {}

        def item() -> None:
            token = self.peek()
            key = self.string() if token.kind is Kind.STRING else self.bare()
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
        return TypeAttr(self.type())

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
        return TypeAttr(self.type())

    def _number(self) -> Attribute:
        token = self.advance()
        type_: Type | None = self.type() if self.accept(":") else None
        if token.kind is Kind.FLOAT or isinstance(type_, FloatType):
            float_type = type_ or F64
            return FloatAttr(self._float_value(token, float_type), float_type)
        if len(token.text) > 40:
            raise self.error("integer too large", token)
        return IntegerAttr(int(token.text, 0) if token.kind is Kind.HEX else int(token.text), type_ or I64)

    def _float_value(self, token: Token, type_: Type) -> float:
        if token.kind is not Kind.HEX:
            return float(token.text) if len(token.text) < 400 else math.inf
        bits = int(token.text, 16)
        if type_ is F64:
            return float(struct.unpack("<d", struct.pack("<Q", bits & (2**64 - 1)))[0])
        dtype = numpy_dtype(type_)
        return float(np.frombuffer((bits & (256**dtype.itemsize - 1)).to_bytes(dtype.itemsize, "little"), dtype)[0])

    def affine_map(self) -> AffineMap:
        """`affine_map<(d0) -> (d0)>`."""
        self.expect("affine_map")
        start = self.expect("<").end
        close = self._closing_angle(start)
        self._position, self._token = close + 1, None
        try:
            return parse_affine_map(self.lexer.text[start:close])
        except IRError as error:
            raise self.lexer.error(str(error), start) from None
        except ParseError as error:
            raise self.lexer.error(str(error).splitlines()[0], start) from None

    def _closing_angle(self, start: int) -> int:
        """The position of the `>` that closes an affine map whose text begins at `start`; `->` does not count."""
        text, position = self.lexer.text, start
        while position < len(text):
            if text[position] == ">" and text[position - 1] != "-":
                return position
            position += 1
        raise self.lexer.error("unterminated affine map", start)

    def _dense_array(self) -> Attribute:
        self.expect("array")
        self.expect("<")
        type_ = self.type()
        values = self.comma_list(">", lambda: self._scalar(type_)) if self.accept(":") else []
        if not values and not self.lexer.text[: self._position].endswith(">"):
            self.expect(">")
        return DenseArrayAttr(type_, tuple(values))

    def _scalar(self, type_: Type) -> Any:
        token = self.peek()
        if isinstance(type_, FloatType):
            if token.kind not in (Kind.FLOAT, Kind.INTEGER, Kind.HEX):
                raise self.error("expected a number")
            return self._float_value(self.advance(), type_)
        if isinstance(type_, ComplexType):
            self.expect("(")
            real = self._scalar(type_.element)
            self.expect(",")
            imaginary = self._scalar(type_.element)
            self.expect(")")
            return complex(real, imaginary)
        if type_ is I1 and token.text in ("true", "false"):
            return self.advance().text == "true"
        if isinstance(type_, StringType):
            return self.string()
        return self.integer()

    def _dense(self) -> Attribute:
        """`dense<[[1, 2], [3, 4]]> : tensor<2x2xi64>`; the type comes last, so the elements are read again under it."""
        self.expect("dense")
        start = self.expect("<").start
        self._position, self._token = start, None
        self._balanced()
        self.expect(":")
        type_ = self.type()
        end = self._position
        if not isinstance(type_, TensorType) or not type_.is_static:
            raise self.error("a dense constant has a static tensor type")
        self._position, self._token = start + 1, None
        flat: list[Any] = []
        token = self.peek()
        if not self.at(">"):
            self._nested_elements(type_.element, flat)
        self.expect(">")
        self._position, self._token = end, None
        return self._dense_of(type_, flat, token)

    def _nested_elements(self, element: Type, flat: list[Any]) -> None:
        if self.accept("["):
            self.comma_list("]", lambda: self._nested_elements(element, flat))
            return
        flat.append(self._scalar(element))
        if len(flat) > MAX_ELEMENTS:
            raise self.error("too many elements in the text: use a resource")

    def _dense_of(self, type_: TensorType, flat: list[Any], token: Token) -> Attribute:
        size = math.prod(type_.static_shape)
        if size > MAX_ELEMENTS:
            raise self.error("too many elements in the text: use a resource", token)
        if len(flat) == 1 and size > 1:
            flat = flat * size
        if len(flat) != size:
            raise self.error(f"{len(flat)} elements for {type_}", token)
        if isinstance(type_.element, StringType):
            return StringElementsAttr(type_, tuple(flat))
        try:
            return DenseAttr(type_, np.array(flat, numpy_dtype(type_)).tobytes())
        except (OverflowError, ValueError):
            raise self.error(f"an element does not fit in {type_.element}", token) from None

    def _dense_resource(self) -> Attribute:
        self.expect("dense_resource")
        self.expect("<")
        token = self.expect_kind(Kind.BARE)
        self.expect(">")
        self.expect(":")
        type_ = self.type()
        if not isinstance(type_, TensorType) or not type_.is_static:
            raise self.error("a dense constant has a static tensor type")
        if token.text not in self.resources:
            self.resources[token.text] = Blob(token.text, np.empty(0, numpy_dtype(type_)))
        return DenseResourceAttr(self.resources[token.text], type_)

    def resource_section(self) -> None:
        """`{-# external_resources: { stepwell: { key: "place" } } #-}`: fills `resource_places`."""
        self.expect("{-#")
        while not self.accept("#-}"):
            self.bare()
            self.expect(":")
            self.expect("{")
            while not self.accept("}"):
                self.bare()
                self.expect(":")
                self.expect("{")
                while not self.accept("}"):
                    key = self.bare()
                    self.expect(":")
                    self.resource_places[key] = self.string()
                    self.accept(",")
                self.accept(",")
            self.accept(",")

    def alias_definition(self) -> None:
        """`#map = affine_map<...>` or `!t = tensor<...>`."""
        token = self.advance()
        if "." in token.text:
            raise self.error(f"expected an operation, found {token.text!r}", token)
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

    def _balanced(self) -> str:
        """The text of `<...>` if it follows, brackets and strings balanced."""
        if not self.at("<"):
            return ""
        start, depth = self.peek().start, 0
        while True:
            token = self.advance()
            if token.kind is Kind.END:
                raise self.lexer.error("unbalanced brackets", start)
            if token.text in ("<", "(", "[", "{"):
                depth += 1
            elif token.text in (">", ")", "]", "}"):
                depth -= 1
                if depth == 0:
                    return self.lexer.text[start : token.end]

    def _from_parameters(self, cls: Any, token: Token) -> Any:
        by_hand = getattr(cls, "parse_parameters", None)
        try:
            if by_hand is not None:
                return by_hand(self)
            fields: dict[str, Any] = {}

            def item() -> None:
                name = self.bare()
                self.expect("=")
                fields[name] = self.parameter()

            if self.accept("<"):
                self.comma_list(">", item)
            return cls(**fields)
        except (TypeError, IRError) as error:
            raise self.error(f"{token.text}: {error}", token) from None

    def parameter(self) -> Any:
        """The inverse of `parameter_text`."""
        token = self.peek()
        if self.accept("["):
            return tuple(self.comma_list("]", self.parameter))
        if token.kind in (Kind.INTEGER, Kind.HEX):
            return self.integer()
        if token.kind is Kind.FLOAT:
            return self._float_value(self.advance(), F64)
        if token.kind is Kind.STRING:
            return self.string()
        if token.text in ("true", "false"):
            return self.advance().text == "true"
        if token.text == "affine_map":
            return self.affine_map()
        if token.kind is Kind.HASH or token.text in ("dense", "array"):
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
        if self.accept("unknown"):
            return loc_.UNKNOWN
        if self.accept("fused"):
            self.expect("[")
            return loc_.FusedLoc(tuple(self.comma_list("]", self._location)))
        name = self.string()
        if self.accept(":"):
            line = self.integer()
            self.expect(":")
            return loc_.FileLoc(name, line, self.integer())
        return loc_.NameLoc(name)
