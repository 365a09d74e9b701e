"""Sequences and optional values whose tensors are known: models with and without them compute the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.dialects.graph.sequence import OptionalType, SequenceType
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering.pipeline import phases
from stepwell.sources import load_source

F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL  # noqa: E741
X = np.arange(24, dtype=np.float32).reshape(4, 6)
CONSTANTS = {
    "zero": np.array(0), "one": np.array(1), "two": np.array(2), "back": np.array(-1), "four": np.array(4),
    "sizes": np.array([1, 2, 1]), "far": np.array(7), "some": np.float32([10, 20, 30, 40, 50, 60]),
}  # fmt: skip


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(op, ["" if name == "-" else name for name in inputs.split()], outputs.split(), **attributes)


def model(nodes: Sequence[Any], rows: Any = 4, outputs: Sequence[Any] = (("y", F, None),), inputs: Any = ()) -> Any:
    ports = [[helper.make_tensor_value_info(*port) for port in group]
             for group in ([("x", F, [rows, 6]), *inputs], outputs)]  # fmt: skip
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in CONSTANTS.items()]
    graph = helper.make_graph(list(nodes), "g", *ports, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


PAIR = node("SequenceConstruct", "x some", "s")
BODY = helper.make_graph(
    [node("Mul", "e k", "f"), node("ReduceSum", "f", "g", keepdims=0)], "body",
    [helper.make_tensor_value_info(name, F, None) for name in ("e", "k")],
    [helper.make_tensor_value_info(name, F, None) for name in ("f", "g")],
)  # fmt: skip

CASES: dict[str, tuple[list[Any], Any]] = {
    "at": ([PAIR, node("SequenceAt", "s one", "y")], CONSTANTS["some"]),
    "at, from the back": ([PAIR, node("SequenceAt", "s back", "t"), node("Add", "x t", "y")], X + CONSTANTS["some"]),
    "insert in front": ([PAIR, node("SequenceInsert", "s some zero", "t"), node("SequenceAt", "t one", "y")], X),
    "insert at the end": (
        [node("SequenceEmpty", "", "e"), node("SequenceInsert", "e x", "t"), node("SequenceInsert", "t some", "u"),
         node("SequenceAt", "u back", "y")], CONSTANTS["some"],
    ),
    "erase": ([PAIR, node("SequenceErase", "s zero", "t"), node("SequenceAt", "t zero", "y")], CONSTANTS["some"]),
    "erase the last": ([PAIR, node("SequenceErase", "s", "t"), node("SequenceAt", "t back", "y")], X),
    "length": (
        [PAIR, node("SequenceInsert", "s x", "t"), node("SequenceLength", "t", "n"), node("Cast", "n", "y", to=F)],
        np.float32(3),
    ),
    "split by one and drop the axis": (
        [node("SplitToSequence", "x", "s", axis=1, keepdims=0), node("SequenceAt", "s two", "y")], X[:, 2],
    ),
    "split by one": ([node("SplitToSequence", "x", "s", axis=1), node("SequenceAt", "s two", "y")], X[:, 2:3]),
    "split by a size": ([node("SplitToSequence", "x four", "s", axis=1), node("SequenceAt", "s one", "y")], X[:, 4:]),
    "split by sizes": ([node("SplitToSequence", "x sizes", "s"), node("SequenceAt", "s one", "y")], X[1:3]),
    "concat": (
        [node("SplitToSequence", "x sizes", "s"), node("SequenceErase", "s one", "t"),
         node("ConcatFromSequence", "t", "y", axis=0)], X[[0, 3]],
    ),
    "stack": (
        [node("SequenceConstruct", "x x", "s"), node("ConcatFromSequence", "s", "y", axis=-1, new_axis=1)],
        np.stack([X, X], -1),
    ),
    "map": (
        [node("SplitToSequence", "x sizes", "s"), node("SequenceMap", "s some", "t u", body=BODY),
         node("ConcatFromSequence", "t", "v", axis=0), node("ConcatFromSequence", "u", "w", axis=0, new_axis=1),
         node("ReduceSum", "w", "sum", keepdims=0), node("Add", "v sum", "y")],
        X * CONSTANTS["some"] + (X * CONSTANTS["some"]).sum(),
    ),
    "identity": ([PAIR, node("Identity", "s", "t"), node("SequenceAt", "t one", "y")], CONSTANTS["some"]),
    "optional": ([node("Optional", "x", "o"), node("OptionalGetElement", "o", "y")], X),
    "an optional sequence": (
        [PAIR, node("Optional", "s", "o"), node("OptionalGetElement", "o", "t"), node("SequenceAt", "t zero", "y")], X,
    ),
    "is there": (
        [node("Optional", "x", "o"), node("OptionalHasElement", "o", "b"), node("Cast", "b", "y", to=F)], np.float32(1),
    ),
    "is not there": (
        [node("Optional", "", "o", type=helper.make_tensor_type_proto(F, [2])), node("OptionalHasElement", "o", "b"),
         node("Cast", "b", "y", to=F)], np.float32(0),
    ),
    "a tensor is there": ([node("OptionalHasElement", "x", "b"), node("Cast", "b", "y", to=F)], np.float32(1)),
    "nothing is not there": ([node("OptionalHasElement", "", "b"), node("Cast", "b", "y", to=F)], np.float32(0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_of_it(name: str) -> None:
    nodes, expected = CASES[name]
    rows = 4 if "Split" in str(nodes) else "rows"
    module, _ = load_source(model(nodes, rows), None)
    PassManager(phases("graph", "graph")).run(module, PassContext())
    types = {value.type for op in module.walk() for value in op.results}
    assert not [type_ for type_ in types if isinstance(type_, (SequenceType, OptionalType))]
    found = stepwell.compile(model(nodes, rows))(X)
    np.testing.assert_allclose(found, expected, rtol=1e-5, strict=True)


REFUSED: dict[str, tuple[list[Any], str]] = {
    "a place beyond": ([PAIR, node("SequenceAt", "s far", "y")], "place 7 of a sequence of 2"),
    "two element types": ([node("SequenceConstruct", "x one", "s"), node("SequenceAt", "s one", "y")], "of one type"),
    "an empty one": ([node("SequenceEmpty", "", "s"), node("ConcatFromSequence", "s", "y", axis=0)], "empty sequence"),
    "no sequence": ([node("SequenceAt", "x one", "y")], "does not allow float as input 0"),
    "a value that is not there": (
        [node("Optional", "", "o", type=helper.make_tensor_type_proto(F, [2])), node("OptionalGetElement", "o", "y")],
        "absent",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    nodes, message = REFUSED[name]
    with pytest.raises(stepwell.StepwellError, match=message):
        stepwell.compile(model(nodes, "rows", inputs=[("n", I, [])]))
