"""Text to IR: MLIR's generic form for every op, custom forms for declared ones.

Hostile text ends in a ParseError with a caret: nesting is bounded, nothing is evaluated, no array is allocated from a
number in the text (splats are limited like written-out elements)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from stepwell.errors import IRError, ParseError, VerifyError
from stepwell.ir.attr_parser import AttributeParser
from stepwell.ir.attributes import Attribute
from stepwell.ir.blobs import Blob
from stepwell.ir.core import Block, Operation, Region, UnregisteredOp, Value
from stepwell.ir.lexer import Kind, Token
from stepwell.ir.location import UNKNOWN, FileLoc, Location
from stepwell.ir.opdef import SEGMENTS, Op, Trait
from stepwell.ir.registry import REGISTRY
from stepwell.ir.types import NONE, Type


class _Forward(Value):
    """A value used before its definition was read; `is_typed` once a use has told its type."""

    __slots__ = ("is_typed", "token")

    def __init__(self, token: Token) -> None:
        super().__init__(NONE, token.text[1:])
        self.token = token
        self.is_typed = False

    @property
    def owner_block(self) -> Block | None:
        return None


@attrs.define
class _Scope:
    """Names visible in one isolated region."""

    values: dict[str, Value] = attrs.Factory(dict)
    forward: dict[str, _Forward] = attrs.Factory(dict)
    blocks: dict[str, Block] = attrs.Factory(dict)
    undefined_blocks: dict[str, Token] = attrs.Factory(dict)


class Parser(AttributeParser):
    """A recursive-descent parser over one text."""

    def __init__(
        self,
        text: str,
        filename: str = "<text>",
        resources: Mapping[str, Blob] | None = None,
        *,
        allow_free_values: bool = False,
        allow_unregistered: bool = True,
    ) -> None:
        super().__init__(text, filename, resources)
        self._scopes: list[_Scope] = [_Scope()]
        self.allow_free_values = allow_free_values
        self.allow_unregistered = allow_unregistered

    # Whole texts

    def module(self) -> Operation:
        """One top-level operation; several are wrapped into a `builtin.module`."""
        operations: list[Operation] = []
        while self.peek().kind is not Kind.END:
            if self.at("{-#"):
                self.resource_section()
                if self.peek().kind is not Kind.END:
                    raise self.unexpected("the end of the text")
            elif self.peek().kind in (Kind.HASH, Kind.BANG):
                self.alias_definition()
            else:
                operations.append(self.operation())
        self._close_scope(self._scopes[0])
        if not operations:
            raise self.unexpected("an operation")
        if len(operations) == 1:
            return operations[0]
        cls = REGISTRY.op("builtin.module")
        assert cls is not None
        return cls.make(regions=[Region([Block((), operations)])])

    # Values

    def at_value(self) -> bool:
        """Whether a value name follows."""
        return self.peek().kind is Kind.VALUE

    def value(self) -> Value:
        """A use of a value."""
        token = self.expect_kind(Kind.VALUE)
        return self._lookup(token)

    def value_name(self) -> Token:
        """The name of a value that is defined here."""
        token = self.expect_kind(Kind.VALUE)
        if "#" in token.text:
            raise self.error("a value is named without a number", token)
        return token

    def value_list(self) -> list[Value]:
        """`%a, %b`."""
        values = [self.value()]
        while self.accept(","):
            values.append(self.value())
        return values

    def _lookup(self, token: Token) -> Value:
        for scope in reversed(self._scopes):
            found = scope.values.get(token.text)
            if found is not None:
                return found
        forward = self._scopes[-1].forward
        if token.text not in forward:
            forward[token.text] = _Forward(token)
        return forward[token.text]

    def define(self, token: Token, name: str, value: Value) -> None:
        """Bind a name to a value, resolving earlier uses."""
        scope = self._scopes[-1]
        if any(name in outer.values for outer in self._scopes):
            raise self.error(f"{name} is defined twice", token)
        scope.values[name] = value
        value.name = None if name[1:].isdigit() else name[1:].partition("#")[0]
        forward = scope.forward.pop(name, None)
        if forward is not None:
            if forward.is_typed and forward.type is not value.type:
                raise self.error(f"{name} is used as {forward.type} and defined as {value.type}", token)
            forward.replace_all_uses_with(value)

    def check_operand_types(self, values: Sequence[Value], types: Sequence[Type], token: Token | None = None) -> None:
        """Compare operands with the types that the text gives them."""
        if len(values) != len(types):
            raise self.error(f"{len(values)} operands but {len(types)} operand types", token)
        for value, type_ in zip(values, types, strict=True):
            if isinstance(value, _Forward) and not value.is_typed:
                value.type, value.is_typed = type_, True
            elif value.type is not type_:
                raise self.error(f"%{value.name or '?'} has type {value.type}, but {type_} is written here", token)

    def _close_scope(self, scope: _Scope) -> None:
        for name, token in scope.undefined_blocks.items():
            raise self.error(f"block {name} is not defined", token)
        if not self.allow_free_values:
            for name, forward in scope.forward.items():
                raise self.error(f"{name} is not defined", forward.token)

    # Operations

    def operation(self) -> Operation:
        """One operation with its results and location."""
        start = self.peek()
        with self.nesting(start):
            names = self._result_names() if self.at_value() else []
            token = self.peek()
            try:
                op = self._generic_operation() if token.kind is Kind.STRING else self._custom_operation()
            except (IRError, VerifyError) as error:
                raise self.error(str(error), token) from error
            self._define_results(op, names)
            op.loc = self._trailing_location(start)
            return op

    def _result_names(self) -> list[tuple[Token, int]]:
        names = []
        while True:
            token = self.value_name()
            count = 0
            if self.accept(":"):
                place = self.peek()
                count = self.integer()
                if count < 1:
                    raise self.error("a name stands for at least one result", place)
            names.append((token, count))
            if not self.accept(","):
                break
        self.expect("=")
        return names

    def _define_results(self, op: Operation, names: list[tuple[Token, int]]) -> None:
        if not names:
            return
        named = sum(count or 1 for _, count in names)
        if named != len(op.results):
            raise self.error(f"{named} names for the {len(op.results)} results of {op.op_name}", names[0][0])
        index = 0
        for name, count in names:
            if count:
                for number in range(count):
                    self.define(name, f"{name.text}#{number}", op.results[index])
                    index += 1
            else:
                self.define(name, name.text, op.results[index])
                index += 1

    def _trailing_location(self, start: Token) -> Location:
        if self.at("loc") and self.peek_after().text == "(":
            self.advance()
            return self.location()
        return FileLoc(self.lexer.filename, *self.lexer.line_column(start.start)) if self.track_lines else UNKNOWN

    def _generic_operation(self) -> Operation:
        token = self.advance()
        name = self.unquoted(token)
        self.expect("(")
        operands = self.value_list() if self.at_value() else []
        self.expect(")")
        successors = self._successors() if self.at("[") else []
        properties: dict[str, Attribute] = {}
        if self.accept("<"):
            properties = self.attr_dict()
            self.expect(">")
        regions = self._generic_regions(name) if self.at("(") else []
        attributes = self.attr_dict() if self.at("{") else {}
        self.expect(":")
        type_token = self.peek()
        inputs, outputs = self.signature()
        self.check_operand_types(operands, inputs, type_token)
        cls = REGISTRY.op(name)
        if cls is None:
            if not self.allow_unregistered:
                raise self.error(f"unknown operation {name!r}", token)
            return UnregisteredOp.named(
                name, operands=operands, result_types=outputs, properties=properties, attributes=attributes,
                regions=regions, successors=successors,
            )  # fmt: skip
        for key in [key for key in attributes if key in cls.spec.attrs or key in SEGMENTS]:
            if key in properties:
                raise self.error(f"attribute {key!r} is given twice", token)
            properties[key] = attributes.pop(key)
        return cls.make(operands, outputs, properties, attributes, regions, successors)

    def _generic_regions(self, op_name: str) -> list[Region]:
        cls = REGISTRY.op(op_name)
        isolated = cls is not None and Trait.ISOLATED in cls.spec.traits
        self.expect("(")
        regions = [self.region(isolated=isolated)]
        while self.accept(","):
            regions.append(self.region(isolated=isolated))
        self.expect(")")
        return regions

    def _successors(self) -> list[Block]:
        self.expect("[")
        blocks = [self.successor()]
        while self.accept(","):
            blocks.append(self.successor())
        self.expect("]")
        return blocks

    def successor(self) -> Block:
        """A use of a block name."""
        token = self.expect_kind(Kind.BLOCK)
        scope = self._scopes[-1]
        if token.text not in scope.blocks:
            scope.blocks[token.text] = Block()
            scope.undefined_blocks[token.text] = token
        return scope.blocks[token.text]

    def _custom_operation(self) -> Operation:
        from stepwell.ir.assembly import parse_custom

        token = self.peek()
        if token.kind is not Kind.BARE:
            raise self.unexpected("an operation")
        cls = REGISTRY.op(token.text)
        if cls is None:
            raise self.error(f"unknown operation {token.text!r}; an unknown one needs the generic form", token)
        self.advance()
        return parse_custom(self, cls)

    # Regions

    def region(
        self, arguments: Sequence[tuple[Token, Type]] = (), *, isolated: bool | None = None, cls: type[Op] | None = None
    ) -> Region:
        """`{ blocks }` of an op of class `cls`, which says whether the region is isolated.

        `arguments` are those of the entry block where the op's own syntax names them."""
        if isolated is None:
            isolated = cls is not None and Trait.ISOLATED in cls.spec.traits
        opening = self.peek()
        with self.nesting(opening):
            self.expect("{")
            outer = self._scopes
            self._scopes = [_Scope()] if isolated else [*outer, _Scope()]
            try:
                region = self._region_body(arguments)
                self._leave_scope(outer, isolated)
            finally:
                self._scopes = outer
            return region

    def _leave_scope(self, outer: list[_Scope], isolated: bool) -> None:
        inner = self._scopes[-1]
        if isolated or not outer:
            self._close_scope(inner)
            return
        for name, token in inner.undefined_blocks.items():
            raise self.error(f"block {name} is not defined", token)
        for name, forward in inner.forward.items():  # may be defined later in the enclosing region
            known = outer[-1].forward.setdefault(name, forward)
            if known is not forward:
                if known.is_typed and forward.is_typed and known.type is not forward.type:
                    raise self.error(f"{name} is used as {known.type} and as {forward.type}", forward.token)
                known.type, known.is_typed = (known if known.is_typed else forward).type, True
                forward.replace_all_uses_with(known)

    def _region_body(self, arguments: Sequence[tuple[Token, Type]]) -> Region:
        region = Region()
        if not self.at_block_label() and not (self.at("}") and not arguments):
            entry = Block()
            for token, type_ in arguments:
                self.define(token, token.text, entry.add_argument(type_))
            region.append(entry)
            self._block_body(entry)
        elif self.at("}"):
            self.advance()
            return region
        while not self.accept("}"):
            self._labelled_block(region)
        return region

    def at_block_label(self) -> bool:
        """Whether a `^bb:` follows."""
        return self.peek().kind is Kind.BLOCK

    def _labelled_block(self, region: Region) -> None:
        token = self.expect_kind(Kind.BLOCK)
        scope = self._scopes[-1]
        known = token.text in scope.blocks
        if known and token.text not in scope.undefined_blocks:
            raise self.error(f"block {token.text} is defined twice", token)
        block = scope.blocks.setdefault(token.text, Block())
        scope.undefined_blocks.pop(token.text, None)

        def argument() -> None:
            name = self.value_name()
            self.expect(":")
            self.define(name, name.text, block.add_argument(self.type()))

        if self.accept("("):
            self.comma_list(")", argument)
        self.expect(":")
        region.append(block)
        self._block_body(block)

    def _block_body(self, block: Block) -> None:
        while not self.at("}") and not self.at_block_label():
            block.append(self.operation())


def parse_module(text: str, filename: str = "<text>", resources: Mapping[str, Blob] | None = None) -> Operation:
    """The operation that a text describes. Raises ParseError. `resources` gives the blobs that the text names without
    saying where they lie."""
    try:
        return Parser(text, filename, resources).module()
    except RecursionError:
        raise ParseError(f"{filename}: nested too deeply") from None
