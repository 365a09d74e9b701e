"""Which version of an ONNX operator can be written: from the schemas that the onnx package has.

    least_opset("", "Swish", 23, ["alpha"], ["float"], ["float"])    # 24: the first version that has it
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from onnx import TensorProto

from stepwell.frontends.onnx.element_types import ELEMENT_NUMBERS
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.frontends.onnx.versions import history, misfit
from stepwell.ir.types import Type

Elements = Sequence["str | None"]  # of each input or output; None: absent or not known


def element_text(element: Type) -> str:
    """What ONNX calls an element type: `float`, `int64`. Raises Unsupported for one that it lacks."""
    number = ELEMENT_NUMBERS.get(element)
    if number is None:
        raise Unsupported(f"ONNX lacks the element type {element}", "cast it to another one before")
    return str(TensorProto.DataType.Name(number)).lower()


def least_opset(
    domain: str, op_type: str, base: int, attributes: Sequence[str], inputs: Elements, outputs: Elements
) -> int:
    """The least opset from `base` on under which a node with these attributes and element types is well formed; `base`
    for an operator without schemas (of a domain that is not ONNX's). Raises Unsupported with what no version allows."""
    if not history(domain, op_type):
        return base
    return _least(domain, op_type, base, frozenset(attributes), tuple(inputs), tuple(outputs))


@functools.cache
def _least(
    domain: str, op_type: str, base: int, attributes: frozenset[str], inputs: tuple[str | None, ...],
    outputs: tuple[str | None, ...],
) -> int:  # fmt: skip
    schemas = history(domain, op_type)
    start = max((i for i, schema in enumerate(schemas) if schema.since_version <= base), default=0)
    reason = ""
    for schema in schemas[start:]:
        reason = _misfit(schema, attributes, inputs, outputs)
        if not reason:
            return max(base, int(schema.since_version))
    raise Unsupported(f"{op_type} (opset {schemas[-1].since_version}) {reason}")


def _misfit(
    schema: Any, attributes: frozenset[str], inputs: tuple[str | None, ...], outputs: tuple[str | None, ...]
) -> str:
    if schema.deprecated:
        return "is deprecated"
    unknown = sorted(attributes - set(schema.attributes))
    if unknown:
        return f"has no attribute {', '.join(unknown)}"
    return misfit(schema, _tensors(inputs), _tensors(outputs))


def _tensors(elements: Elements) -> list[str | None]:
    return [element and f"tensor({element})" for element in elements]
