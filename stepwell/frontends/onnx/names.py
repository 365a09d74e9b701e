"""ONNX names on the IR: how a value of the model is found again after import.

An op carries `onnx.outputs`, one string per result ("" where a result has no name in the model). Arguments and results
of a function carry `onnx.name`. A name that means a value which has another name already (the output of an Identity)
is kept in the function's `onnx.aliases`: name -> the other name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stepwell.dialects.func import FuncOp
from stepwell.ir.attributes import ArrayAttr, Attribute, DictAttr, StringAttr
from stepwell.ir.core import BlockArgument, Operation, OpResult, Value

NAME = "onnx.name"
OUTPUTS = "onnx.outputs"
ALIASES = "onnx.aliases"
METADATA = "onnx.metadata"
PRODUCER = "onnx.producer"


def hint(name: str) -> str:
    """A value name made of an ONNX name: `/layer.0/MatMul_output_0` -> `layer.0_MatMul_output_0`."""
    return re.sub(r"[^A-Za-z0-9_$.-]", "_", name).strip("_") or "v"


def output_names(op: Operation) -> tuple[str, ...]:
    """The ONNX names of an op's results, "" where there is none."""
    attribute = op.attributes.get(OUTPUTS)
    if not isinstance(attribute, ArrayAttr) or len(attribute) != len(op.results):
        return ("",) * len(op.results)
    return tuple(item.value if isinstance(item, StringAttr) else "" for item in attribute)


def name_of(value: Value) -> str:
    """The ONNX name of a value, "" where it has none."""
    if isinstance(value, OpResult):
        return output_names(value.op)[value.index]
    if isinstance(value, BlockArgument) and isinstance(function := value.block.parent_op, FuncOp):
        return _text(function.argument_attributes(value.index).get(NAME))
    return ""


def set_name(result: OpResult, name: str) -> None:
    """Give an op's result its ONNX name."""
    names = list(output_names(result.op))
    names[result.index] = name
    result.op.attributes[OUTPUTS] = ArrayAttr(tuple(map(StringAttr, names)))


def aliases(function: FuncOp) -> dict[str, str]:
    """Further ONNX names of values: alias -> name."""
    attribute = function.attributes.get(ALIASES)
    return {key: _text(value) for key, value in attribute.items} if isinstance(attribute, DictAttr) else {}


def argument_names(function: FuncOp) -> list[str]:
    """The ONNX names of a function's arguments."""
    return [_text(function.argument_attributes(index).get(NAME)) for index in range(len(function.function_type.inputs))]


def result_names(function: FuncOp) -> list[str]:
    """The ONNX names of a function's results."""
    return [_text(function.result_attributes(index).get(NAME)) for index in range(len(function.function_type.results))]


def named_values(function: FuncOp) -> Iterator[tuple[str, Value]]:
    """(ONNX name, value) of every argument, intermediate and constant that has one, aliases not included."""
    yield from ((name, value) for name, value in zip(argument_names(function), function.arguments, strict=True) if name)
    for op in function.walk():
        if OUTPUTS in op.attributes:
            yield from ((name, value) for name, value in zip(output_names(op), op.results, strict=True) if name)


def find_value(function: FuncOp, name: str) -> Value | None:
    """The value that an ONNX name means; None where the function has none of that name."""
    name = aliases(function).get(name, name)
    return next((value for found, value in named_values(function) if found == name), None)


def named(name: str) -> DictAttr:
    """The attribute dictionary of an argument or result: `{onnx.name = "x"}`."""
    return DictAttr.of({NAME: StringAttr(name)})


def _text(attribute: Attribute | None) -> str:
    return attribute.value if isinstance(attribute, StringAttr) else ""
