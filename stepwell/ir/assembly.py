"""Custom textual forms of declared ops.

An op class chooses one of three:
  * nothing: the common form, `name %a, %b {axis = 1} : (types) -> types { region }`;
  * `assembly`: a declarative format such as "$lhs `,` $rhs attr-dict `:` type($result)";
  * `print_custom` and `parse_custom`: by hand, for ops with block-like syntax.

A format is a sequence of: `literal` in backquotes; $name of an operand, attribute or region; type($name);
functional-type; attr-dict; regions; and optional groups `( ... ^ ... )?`, printed when what is before ^ is there."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from stepwell.errors import IRError
from stepwell.ir.attributes import Attribute, FloatAttr, IntegerAttr, SymbolRefAttr, TypeAttr
from stepwell.ir.opdef import SEGMENTS, Arity, AttrField, Op, RegionField, ValueGroup, group_range
from stepwell.ir.types import I1, Type

if TYPE_CHECKING:
    from stepwell.ir.core import Region, Value
    from stepwell.ir.parser import Parser
    from stepwell.ir.printer import Printer

COMMON_FORM = "$operands attr-dict `:` functional-type regions"


@attrs.frozen
class Literal:
    """Fixed text."""

    text: str


@attrs.frozen
class Directive:
    """`$name`, `type($name)` or a directive without argument."""

    kind: str
    name: str = ""


@attrs.frozen
class Group:
    """`( elements )?`, present when its anchor is."""

    elements: tuple[Any, ...]
    anchor: str


_ELEMENT = re.compile(
    r"\s*(?:`(?P<literal>[^`]*)`|\$(?P<var>\w+)|type\(\$(?P<type>\w+)\)|(?P<word>functional-type|attr-dict|regions)"
    r"|(?P<open>\()|(?P<close>\)\?)|(?P<anchor>\^))"
)


@functools.cache
def compiled(format_: str) -> tuple[Any, ...]:
    """The elements of a format. Raises IRError on a malformed one."""
    stack: list[list[Any]] = [[]]
    anchors: list[str] = []
    position = 0
    while position < len(format_.rstrip()):
        match = _ELEMENT.match(format_, position)
        if match is None:
            raise IRError(f"malformed assembly format at {format_[position:]!r}")
        position = match.end()
        if match["literal"] is not None:
            stack[-1].append(Literal(match["literal"]))
        elif match["var"]:
            stack[-1].append(Directive("var", match["var"]))
        elif match["type"]:
            stack[-1].append(Directive("type", match["type"]))
        elif match["word"]:
            stack[-1].append(Directive(match["word"]))
        elif match["open"]:
            stack.append([])
            anchors.append("")
        elif match["anchor"]:
            anchors[-1] = stack[-1][-1].name
        else:
            elements = stack.pop()
            stack[-1].append(Group(tuple(elements), anchors.pop()))
    return tuple(stack[0])


def field_of(cls: type[Op], name: str) -> Any:
    """The declared field of that name; `operands` stands for all of them."""
    field = getattr(cls, name, None)
    if name != "operands" and not isinstance(field, (ValueGroup, AttrField, RegionField)):
        raise IRError(f"{cls.name}: the assembly format names an unknown field {name!r}")
    return field


# Printing


def print_custom(printer: Printer, op: Op) -> None:
    """Print an op in its custom form, after the results and ` = `."""
    printer.emit(op.name)
    by_hand = getattr(op, "print_custom", None)
    if by_hand is not None:
        by_hand(printer)
        return
    format_ = op.assembly or COMMON_FORM
    named = {e.name for e in _flat(compiled(format_)) if isinstance(e, Directive) and e.kind == "var"}
    _print_elements(printer, op, compiled(format_), named)


def _flat(elements: Sequence[Any]) -> list[Any]:
    out: list[Any] = []
    for element in elements:
        out.extend(_flat(element.elements) if isinstance(element, Group) else [element])
    return out


def _print_elements(printer: Printer, op: Op, elements: Sequence[Any], named: set[str]) -> None:
    for element in elements:
        if isinstance(element, Literal):
            _print_literal(printer, element.text)
        elif isinstance(element, Group):
            if _is_present(op, element.anchor):
                _print_elements(printer, op, element.elements, named)
        else:
            _print_directive(printer, op, element, named)


def _print_literal(printer: Printer, text: str) -> None:
    tight = text in {",", ")", "]", ">", "(", "[", "<"}
    printer.emit(text if tight else f" {text}")


def _is_present(op: Op, name: str) -> bool:
    if name == "operands":
        return bool(op.operands)
    field = field_of(type(op), name)
    if isinstance(field, AttrField):
        return name in op.properties
    return bool(group_range(op, field)[1]) if isinstance(field, ValueGroup) else bool(op.regions)


def _space(printer: Printer) -> None:
    if printer.parts and not printer.parts[-1].endswith(("(", "[", "<", " ")):
        printer.emit(" ")


def _print_directive(printer: Printer, op: Op, element: Directive, named: set[str]) -> None:
    from stepwell.ir.printer import signature_text, type_text

    if element.kind == "attr-dict":
        hidden = {name for name in named if name in op.spec.attrs}
        if "operands" not in named:
            hidden.add(SEGMENTS[0])
        items = [(k, v) for k, v in op.properties.items() if k not in hidden]
        printer.attr_dict(items + list(op.attributes.items()))
    elif element.kind == "functional-type":
        printer.emit(" " + signature_text([v.type for v in op.operands], [r.type for r in op.results]))
    elif element.kind == "regions":
        for region in op.regions:
            printer.emit(" ")
            printer.region(op, region)
    elif element.kind == "type":
        _space(printer)
        printer.emit(", ".join(type_text(value.type) for value in _values(op, element.name)))
    else:
        _print_variable(printer, op, element.name)


def _values(op: Op, name: str) -> Sequence[Value]:
    if name == "operands":
        return op.operands
    group = getattr(type(op), name)
    start, size = group_range(op, group)
    return (op.operands if group.is_operand else op.results)[start : start + size]


def _print_variable(printer: Printer, op: Op, name: str) -> None:
    field = field_of(type(op), name)
    if isinstance(field, RegionField):
        printer.emit(" ")
        printer.region(op, op.regions[field.position])
    elif isinstance(field, AttrField):
        _space(printer)
        printer.emit(_variable_text(field, op.properties[name]))
    elif _values(op, name):
        _space(printer)
        printer.values(_values(op, name))


def _variable_text(field: AttrField, attribute: Attribute) -> str:
    from stepwell.ir.printer import attribute_text

    if field.kind.keywords:
        return str(field.kind.decode(attribute))
    if isinstance(attribute, (IntegerAttr, FloatAttr)) and field.kind.description != "an i64" and attribute.type != I1:
        text = attribute_text(attribute)
        return text if " : " in text else f"{text} : {attribute.type}"
    return attribute_text(attribute)


# Parsing


@attrs.define
class Pieces:
    """What has been read of an op."""

    operands: dict[str, list[Value]] = attrs.Factory(dict)
    result_types: dict[str, list[Type]] = attrs.Factory(dict)
    all_result_types: list[Type] | None = None
    properties: dict[str, Attribute] = attrs.Factory(dict)
    attributes: dict[str, Attribute] = attrs.Factory(dict)
    regions: list[Region] = attrs.Factory(list)


def parse_custom(parser: Parser, cls: type[Op]) -> Op:
    """Read an op in its custom form; its name was just read."""
    by_hand = getattr(cls, "parse_custom", None)
    if by_hand is not None:
        op = by_hand(parser)
        assert isinstance(op, Op)
        return op
    pieces = Pieces()
    _parse_elements(parser, cls, compiled(cls.assembly or COMMON_FORM), pieces)
    return _assemble(cls, pieces)


def _assemble(cls: type[Op], pieces: Pieces) -> Op:
    from stepwell.ir.attributes import DenseArrayAttr
    from stepwell.ir.types import I32

    if "operands" in pieces.operands:
        operands = pieces.operands["operands"]
    else:
        groups = [pieces.operands.get(group.name, []) for group in cls.spec.operands]
        operands = [value for group in groups for value in group]
        segments = cls.spec.segments_name(True)
        if segments is not None:
            pieces.properties[segments] = DenseArrayAttr(I32, tuple(map(len, groups)))
    types = pieces.all_result_types
    if types is None and (pieces.result_types or not cls.spec.results):
        types = [type_ for group in cls.spec.results for type_ in pieces.result_types.get(group.name, [])]
    op = cls.make(operands, types or (), pieces.properties, pieces.attributes, pieces.regions)
    if types is None:
        op._set_results(_inferred(op))
    return op


def _inferred(op: Op) -> Sequence[Type]:
    """The result types of an op that was just read. An op behind its operands may be malformed; whatever its inference
    stumbles over is an error of the text."""
    from stepwell.ir.verifier import STUMBLES, verify_fields

    verify_fields(op, results=False)
    try:
        return op.infer_types()
    except (*STUMBLES, NotImplementedError) as error:
        raise IRError(f"the result types of {op.op_name} do not follow from its operands: {error}") from error


def _parse_elements(parser: Parser, cls: type[Op], elements: Sequence[Any], pieces: Pieces) -> None:
    for element in elements:
        if isinstance(element, Literal):
            parser.expect(element.text)
        elif isinstance(element, Group):
            if _starts(parser, cls, element.elements[0]):
                _parse_elements(parser, cls, element.elements, pieces)
        elif element.kind == "var":
            _parse_variable(parser, cls, element.name, pieces)
        elif element.kind == "type":
            _parse_types(parser, cls, element.name, pieces)
        elif element.kind == "attr-dict":
            if parser.at("{"):
                token = parser.peek()
                for key, value in parser.attr_dict().items():
                    if key in pieces.properties:
                        raise parser.error(f"attribute {key!r} is given twice", token)
                    own = key in cls.spec.attrs or key in SEGMENTS
                    (pieces.properties if own else pieces.attributes)[key] = value
        elif element.kind == "functional-type":
            token = parser.peek()
            inputs, pieces.all_result_types = parser.signature()
            parser.check_operand_types(pieces.operands.get("operands", []), inputs, token)
        elif element.kind == "regions":
            while parser.at("{"):
                pieces.regions.append(parser.region(cls=cls))


def _starts(parser: Parser, cls: type[Op], first: Any) -> bool:
    """Whether an optional group begins here."""
    if isinstance(first, Literal):
        return parser.at(first.text)
    field = field_of(cls, first.name)
    if isinstance(field, ValueGroup) or first.name == "operands":
        return parser.at_value()
    return parser.at("{") if isinstance(field, RegionField) else not parser.at_punctuation()


def _parse_variable(parser: Parser, cls: type[Op], name: str, pieces: Pieces) -> None:
    field = field_of(cls, name)
    if isinstance(field, RegionField):
        pieces.regions.append(parser.region(cls=cls))
    elif isinstance(field, AttrField):
        pieces.properties[name] = _parse_attribute(parser, field)
    elif name == "operands" or field.arity is Arity.MANY:
        pieces.operands[name] = parser.value_list() if parser.at_value() else []
    elif field.arity is Arity.OPTIONAL:
        pieces.operands[name] = [parser.value()] if parser.at_value() else []
    else:
        pieces.operands[name] = [parser.value()]


def _parse_attribute(parser: Parser, field: AttrField) -> Attribute:
    token = parser.peek()
    if field.kind.keywords:
        word = parser.bare()
        if word not in field.kind.keywords:
            raise parser.error(f"expected {field.kind.description}, found {word!r}", token)
        return field.kind.encode(word)
    if field.kind.description == "a type":
        attribute: Attribute = TypeAttr(parser.type())
    elif field.kind.description == "a symbol":
        attribute = SymbolRefAttr(parser.symbol())
    else:
        attribute = parser.attribute()
    if not field.kind.accepts(attribute):
        raise parser.error(f"expected {field.kind.description}, found {attribute}", token)
    return attribute


def _parse_types(parser: Parser, cls: type[Op], name: str, pieces: Pieces) -> None:
    field = field_of(cls, name)
    token = parser.peek()
    if field.is_operand:
        values = pieces.operands.get(name, [])
        types = parser.type_list(len(values))
        if len(types) != len(values):
            raise parser.error(f"{len(types)} types for {len(values)} values", token)
        parser.check_operand_types(values, types, token)
    else:
        many = field.arity is Arity.MANY
        pieces.result_types[name] = parser.type_list(None) if many else [parser.type()]
