"""The part of the parser that reads types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stepwell.errors import IRError, ParseError
from stepwell.ir.affine import AffineMap, parse_affine_map
from stepwell.ir.affine_text import AffineParseError
from stepwell.ir.attributes import Attribute
from stepwell.ir.blobs import Blob
from stepwell.ir.dims import Dim, parse_dim, symbol
from stepwell.ir.lexer import Kind, Token
from stepwell.ir.registry import REGISTRY
from stepwell.ir.token_parser import TokenParser
from stepwell.ir.types import (
    DYNAMIC,
    FLOAT_FORMATS,
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
)

_DIM = re.compile(r"([0-9]+|\?)x")
_INTEGER_TYPE = re.compile(r"(si|ui|i)([1-9][0-9]?)\Z")
_SIMPLE: dict[str, Any] = {"int": int, "str": str, "bool": bool, "float": (int, float)}
UNNAMED = symbol("?")


class TypeParser(TokenParser):
    """Types, and the parameters of dialects' types and attributes."""

    def __init__(self, text: str, filename: str, resources: Mapping[str, Blob] | None) -> None:
        super().__init__(text, filename)
        self.resources: dict[str, Blob] = dict(resources or {})
        self._aliases: dict[str, Attribute | Type] = {}

    def attribute(self) -> Attribute:
        """An attribute, its type included."""
        raise NotImplementedError

    def parameter(self) -> Any:
        """A field of a dialect's type or attribute."""
        raise NotImplementedError

    def type(self) -> Type:
        """A type."""
        token = self.peek()
        with self.nesting(token):
            try:
                return self._type(token)
            except IRError as error:
                raise self.error(str(error), token) from None

    def _type(self, token: Token) -> Type:
        if token.kind is Kind.BARE:
            found = self._builtin_type(token)
            if found is not None:
                return found
        elif token.kind is Kind.BANG:
            return self._dialect_type()
        elif self.at("("):
            inputs, outputs = self.signature()
            return FunctionType(tuple(inputs), tuple(outputs))
        raise self.unexpected("a type")

    def _builtin_type(self, token: Token) -> Type | None:
        text = token.text
        simple = {"index": INDEX, "none": NONE}.get(text)
        if simple is None and text in FLOAT_FORMATS:
            simple = FloatType(text)
        match = _INTEGER_TYPE.match(text)
        if simple is None and match:
            simple = IntegerType(int(match[2]), Signedness(match[1]))
        if simple is not None:
            self.advance()
            return simple
        if text in ("tensor", "memref", "vector", "complex", "strided"):
            self.advance()
            self.expect("<")
            return getattr(self, f"_{text}_type")(token)  # type: ignore[no-any-return]
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
                raise self.lexer.error("dimension too large", position)
            dims.append(None if match[1] == "?" else int(match[1]))
            position = match.end()
        self.seek(position)
        return dims

    def _tensor_type(self, token: Token) -> Type:
        sizes = self._dims()
        element = self.type()
        names: list[Dim] | None = None
        layout: Attribute | None = None
        place = token
        if self.accept(","):
            place = self.peek()
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
            raise self.error(f"{len(names)} dim expressions for {unknown} unknown dims", place)
        rest = iter(names or [UNNAMED] * unknown)
        return TensorType(tuple(next(rest) if size is None else size for size in sizes), element, layout)

    def _dim(self) -> Dim:
        token = self.peek()
        text = self.string()
        try:
            return parse_dim(text)
        except (IRError, ParseError) as error:
            raise self.error(str(error), token) from None

    def _memref_type(self, token: Token) -> Type:
        shape = tuple(DYNAMIC if size is None else size for size in self._dims())
        element = self.type()
        layout: AffineMap | StridedLayout | None = None
        space: Attribute | None = None
        while self.accept(","):
            if layout is None and space is None and self.at("affine_map"):
                layout = self.affine_map()
            elif layout is None and space is None and self.at("strided"):
                found = self.type()
                assert isinstance(found, StridedLayout)
                layout = found
            elif space is None:
                space = self.attribute()
            else:
                raise self.unexpected("'>'")
        self.expect(">")
        return MemRefType(shape, element, layout, space)

    def _strided_type(self, token: Token) -> Type:
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

    def _vector_type(self, token: Token) -> Type:
        sizes = self._dims()
        if None in sizes:
            raise self.error("vector dims are positive integers", token)
        element = self.type()
        self.expect(">")
        return VectorType(tuple(size for size in sizes if size is not None), element)

    def _complex_type(self, token: Token) -> Type:
        element = self.type()
        self.expect(">")
        return ComplexType(element)

    def _dialect_type(self) -> Type:
        token = self.advance()
        name = token.text[1:]
        alias = self._aliases.get(token.text)
        if isinstance(alias, Type):
            return alias
        if "." not in name:
            raise self.error(f"unknown type alias {token.text}", token)
        if name.startswith("tensor.") and name[7:] in FLOAT_FORMATS:
            return FloatType(name[7:])
        if name == StringType.mnemonic:
            return StringType()
        cls = REGISTRY.type(name)
        if cls is None:
            return OpaqueType(token.text + self._balanced())
        return self._from_parameters(cls, token)  # type: ignore[no-any-return]

    def affine_map(self) -> AffineMap:
        """`affine_map<(d0) -> (d0)>`."""
        self.expect("affine_map")
        start = self.expect("<").end
        close = self._closing_angle(start)
        self.seek(close + 1)
        try:
            return parse_affine_map(self.lexer.text[start:close])
        except AffineParseError as error:
            raise self.lexer.error(f"affine map: {error.message}", start + error.position) from None
        except (IRError, ParseError) as error:
            raise self.lexer.error(str(error).splitlines()[0], start) from None

    def _closing_angle(self, start: int) -> int:
        """The position of the `>` that closes an affine map whose text begins at `start`; `->` does not count."""
        text, position = self.lexer.text, start
        while (position := text.find(">", position)) >= 0:
            if text[position - 1] != "-":
                return position
            position += 1
        raise self.lexer.error("unterminated affine map", start)

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
        """A dialect's type or attribute from `<field = value, ...>`, or as its class reads it."""
        by_hand = getattr(cls, "parse_parameters", None)
        try:
            if by_hand is not None:
                return by_hand(self)
            fields: dict[str, Any] = {}

            def item() -> None:
                place = self.peek()
                name = self.bare()
                if name in fields:
                    raise self.error(f"{name!r} is given twice", place)
                self.expect("=")
                fields[name] = self.parameter()

            if self.accept("<"):
                self.comma_list(">", item)
            _check_parameters(cls, fields)
            return cls(**fields)
        except (TypeError, ValueError, IRError) as error:
            raise self.error(f"{token.text}: {error}", token) from None


def _check_parameters(cls: Any, fields: Mapping[str, Any]) -> None:
    import attrs

    for field in attrs.fields(cls):
        wanted = _SIMPLE.get(str(field.type))
        if wanted is not None and field.name in fields and not isinstance(fields[field.name], wanted):
            raise IRError(f"{field.name} must be of type {field.type}")
