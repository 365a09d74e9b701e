"""Models for the tests, written in ONNX's own text form, and rules for operators that have none yet."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import parser

from stepwell.frontends.onnx import importer
from stepwell.frontends.onnx.registry import RULES, Node, RuleTable
from stepwell.ir.core import Block, Region, UnregisteredOp, Value
from stepwell.ir.printer import PrintOptions, print_op
from stepwell.ir.verifier import verify

HEADER = '<ir_version: 10, opset_import: ["": {opset}{domains}]>'


def model(text: str, *, opset: int = 17, domains: str = "", functions: str = "") -> Any:
    """A ModelProto from `g (float[N] x) => (float[N] y) { y = Relu(x) }`."""
    return parser.parse_model(HEADER.format(opset=opset, domains=domains) + text + functions)


def text_of(source: Any, *, locations: bool = False, **options: Any) -> str:
    """The imported module's text."""
    module = importer.import_model(source, **options)
    verify(module)
    return print_op(module, PrintOptions(locations=locations))


def body_of(source: Any, **options: Any) -> list[str]:
    """The lines of @main's body, without the attributes that carry names and without types."""
    lines = text_of(source, **options).splitlines()[2:-2]
    return [line.strip().partition(" : ")[0].partition(" {onnx.")[0] for line in lines]


def table(*without: str) -> RuleTable:
    """The import rules without those for some operators, and with stand-ins for Constant, Identity, If and Cast where
    there are none."""
    rules = RULES.copy()
    for name in without:
        rules._rules.pop(("", name), None)
    for name, function in (("Constant", _constant), ("Identity", _identity), ("If", _if), ("Cast", _identity)):
        if not rules.since("", name):
            rules.add("", name, 1, function)
    return rules


def _constant(node: Node) -> Value:
    if node.has("value_float"):
        import numpy as np

        return node.constant(np.float32(node.float("value_float")))
    return node.constant(node.tensor("value"))


def _identity(node: Node) -> Value:
    return node.input(0)


def _if(node: Node) -> list[Value]:
    regions = []
    types: list[Any] = []
    for name in ("then_branch", "else_branch"):
        block = Block()
        values = node.subgraph(name).import_into(block, [])
        types = [value.type for value in values]
        block.append(UnregisteredOp.named("test.yield", operands=values))
        regions.append(Region([block]))
    made = UnregisteredOp.named("test.if", operands=[node.input(0)], result_types=types, regions=regions)
    return list(node.insert(made).results)


def tensor(name: str, data_type: int, dims: list[int], **fields: Any) -> Any:
    """A TensorProto with its fields set as they are."""
    return onnx.TensorProto(name=name, data_type=data_type, dims=dims, **fields)
