"""The table of families: how a node of each operator is drawn, and how often. One place for what schemas do not say."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import onnx

from tests.fuzz.graphs import control, detection, elementwise, layers, movement, products, sequences, windows
from tests.fuzz.graphs.draft import Draft, Rejected, Site

FAMILIES: dict[str, Callable[[Site], Any]] = {
    **elementwise.FAMILY, **movement.FAMILY, **products.FAMILY, **windows.FAMILY, **layers.FAMILY, **control.FAMILY,
    **detection.FAMILY, **sequences.FAMILY,
}  # fmt: skip

# Operators that fusion, layouts and schedules act on: drawn more often.
OFTEN = {
    **dict.fromkeys(("Conv", "MatMul", "Transpose", "Concat", "Reshape", "Slice"), 6),
    **dict.fromkeys(("Add", "Mul", "MaxPool", "AveragePool", "Pad", "Softmax", "ReduceSum", "ReduceMax", "ReduceMean",
                     "Relu", "Gemm", "Split", "Gather", "Where", "Cast", "LayerNormalization", "Expand"), 3),
}  # fmt: skip

# Operators that are not drawn, and why.
LEFT_OUT = {
    **dict.fromkeys(("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
                     "RandomUniformLike"), "random"),
    **dict.fromkeys(("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"),
                    "strings run on the host"),
    "ImageDecoder": "runs on the host",
}  # fmt: skip


@functools.cache
def drawable(opset: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The operators that an opset has and that are drawn, and their weights."""
    found = []
    for name in FAMILIES:
        try:
            schema = onnx.defs.get_schema(name, opset)
        except onnx.defs.SchemaError:
            continue
        if not schema.deprecated:
            found.append(name)
    return tuple(found), tuple(OFTEN.get(name, 1) for name in found)


TRIES = 12  # per node


def draw_node(draft: Draft, rejected: Counter[str] | None = None, only: Collection[str] = ()) -> None:
    """Add a node, of the operators `only` where some are given; none where too many tries are rejected."""
    names, weights = drawable(draft.opset)
    for _ in range(TRIES):
        op = draft.random.choice(sorted(only)) if only else draft.random.choices(names, weights)[0]
        if op not in names:
            continue
        undo = draft.undoing()
        try:
            FAMILIES[op](Site(draft, op))
            return
        except Rejected as error:
            if rejected is not None:
                rejected[f"{op}: {str(error)[:120]}"] += 1
            undo()
