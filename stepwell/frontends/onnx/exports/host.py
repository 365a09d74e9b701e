"""Calls of functions on the host, as the operators that they are made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.host import HostCallOp
from stepwell.frontends.onnx.exports.composing import number_of
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.frontends.onnx.writer import Writer, exports

OPERATORS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "string_concat": ("StringConcat", {}),
    "string_split": ("StringSplit", {"delimiter": "delimiter", "maxsplit": "maxsplit"}),
    "string_normalizer": (
        "StringNormalizer",
        {"case": "case_change_action", "is_case_sensitive": "is_case_sensitive", "stopwords": "stopwords"},
    ),
    "regex_full_match": ("RegexFullMatch", {"pattern": "pattern"}),
    "image_decoder": ("ImageDecoder", {"pixel_format": "pixel_format"}),
}
"""Function -> its operator, and what the operator calls the entries of its config."""


@exports(HostCallOp)
def host_call(op: HostCallOp, writer: Writer) -> None:
    """graph.host_call @string_concat(%a, %b) -> StringConcat(a, b); Unique has no op of its own for ranks"""
    told = op.told()
    if op.callee == "string_cast":
        writer.node("Cast", list(op.inputs), op.results, to=number_of(told["to"]))
        return
    if op.callee not in OPERATORS:
        raise Unsupported(f"ONNX has no operator for @{op.callee}", "keep the model as it was exported")
    op_type, entries = OPERATORS[op.callee]
    attributes = {entries[name]: int(value) if isinstance(value, bool) else value for name, value in told.items()}
    given: dict[str, Any] = {name: value for name, value in attributes.items() if value != []}
    if op.callee == "string_normalizer" and shape_of(op.inputs[0])[:-1] not in ((), (1,)):
        _normalized_row(op, writer, given)
    else:
        writer.node(op_type, list(op.inputs), op.results, **given)


def _normalized_row(op: HostCallOp, writer: Writer, given: dict[str, Any]) -> None:
    """Rows whose number is not known to be 1 -> Unsqueeze(StringNormalizer(Squeeze(x))), since ONNX asks for a 1"""
    axis = writer.constant(np.array([0]))
    words = writer.make("Squeeze", [op.inputs[0], axis])
    made = writer.make("StringNormalizer", [words], **given)
    writer.node("Unsqueeze", [made, axis], op.results)
