"""Operators that look into strings, and images: calls of functions on the host."""

from __future__ import annotations

import importlib.util

from stepwell.dialects.graph.host import HostCallOp
from stepwell.dialects.host_functions.expressions import checked
from stepwell.dialects.host_functions.images import CHANNELS
from stepwell.errors import IRError
from stepwell.frontends.onnx.registry import Node, calls_host, rule
from stepwell.frontends.onnx.rules.composing import HELD_AS_NUMBERS, config_of
from stepwell.ir.attributes import ArrayAttr, Attribute, IntegerAttr, StringAttr, bool_attr
from stepwell.ir.core import Value


def _call(node: Node, callee: str, *inputs: Value, **config: Attribute) -> list[Value]:
    return list(node.insert(HostCallOp(inputs, callee=callee, config=config_of(**config))).results)


@rule("StringConcat", since=20)
@calls_host("string_concat", HELD_AS_NUMBERS)
def string_concat(node: Node) -> list[Value]:
    return _call(node, "string_concat", node.input(0), node.input(1))


@rule("StringSplit", since=20)
@calls_host("string_split", HELD_AS_NUMBERS)
def string_split(node: Node) -> list[Value]:
    """Without `maxsplit`, or with a negative one, as often as can be."""
    config: dict[str, Attribute] = {}
    if node.has("maxsplit"):
        config["maxsplit"] = IntegerAttr(node.int("maxsplit"))
    return _call(node, "string_split", node.input(0), delimiter=StringAttr(node.string("delimiter", "")), **config)


@rule("StringNormalizer", since=10)
@calls_host("string_normalizer", HELD_AS_NUMBERS)
def string_normalizer(node: Node) -> list[Value]:
    """Upper and lower case are Unicode's, in every `locale`."""
    case = node.string("case_change_action", "NONE")
    if case not in ("NONE", "LOWER", "UPPER"):
        raise node.unsupported(f"case_change_action {case!r}", "It is NONE, LOWER or UPPER.")
    stops = ArrayAttr(tuple(map(StringAttr, node.strings("stopwords", []))))
    sensitive = bool_attr(bool(node.int("is_case_sensitive", 0)))
    return _call(node, "string_normalizer", node.input(0), case=StringAttr(case), is_case_sensitive=sensitive,
                 stopwords=stops)  # fmt: skip


@rule("RegexFullMatch", since=20)
@calls_host("regex_full_match", "RE2 matches expressions")
def regex_full_match(node: Node) -> list[Value]:
    pattern = node.string("pattern")
    try:
        checked(pattern)
    except IRError as error:
        raise node.unsupported(str(error), "Patterns are written in RE2's syntax.") from None
    return _call(node, "regex_full_match", node.input(0), pattern=StringAttr(pattern))


@rule("ImageDecoder", since=20)
@calls_host("image_decoder", "Pillow decodes images")
def image_decoder(node: Node) -> list[Value]:
    layout = node.string("pixel_format", "RGB")
    if layout not in CHANNELS:
        raise node.unsupported(f"pixel_format {layout!r}", f"It is one of {', '.join(CHANNELS)}.")
    if importlib.util.find_spec("PIL") is None:
        raise node.unsupported("decoding images needs Pillow, which is not installed",
                               "install it: pip install 'stepwell[image]'")  # fmt: skip
    return _call(node, "image_decoder", node.input(0), pixel_format=StringAttr(layout))
