"""What a step of a decoder streams: pairs that grow, weights apart from all else, the past as arrays and as state."""

from __future__ import annotations

import json
from typing import Any

import attrs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from benchmarks import decode

ROWS = 100


def step_of(rows: str | int) -> onnx.ModelProto:
    """One token against all keys so far, behind one product with weights of 64 x 64."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("Concat", ["past", "q"], ["present"], axis=0),
        helper.make_node("Transpose", ["present"], ["turned"]),
        helper.make_node("MatMul", ["q", "turned"], ["scores"]),
    ]
    grown = f"{rows} + 1" if isinstance(rows, str) else rows + 1
    shapes: dict[str, list[Any]] = {"x": [1, 64], "past": [rows, 64], "present": [grown, 64], "scores": [1, grown]}
    x, past, present, scores = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items())
    w = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    graph = helper.make_graph(nodes, "step", [x, past], [scores, present], [w])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(("rows", "pairs"), [("past", {"past": "present"}), (ROWS, {})])
def test_pairs_that_grow_by_a_row(rows: str | int, pairs: dict[str, str]) -> None:
    model = stepwell.compile(step_of(rows))
    assert decode.growing_pairs(model.inputs, model.outputs) == pairs


def test_weights_are_counted_apart_and_a_state_copies_no_past() -> None:
    sizes = {"past": ROWS}
    given = stepwell.compile(step_of("past"), cache=False)
    kept = stepwell.compile(step_of("past"), cache=False, state={"past": "present"}, capacity=2 * ROWS)
    (weights, others), (same, fewer) = (decode.streamed(decode._launches(model), sizes) for model in (given, kept))
    row = 4 * 64
    assert weights == same == 64 * row
    assert others - fewer >= 2 * ROWS * row  # read and written again
    assert ROWS * row <= fewer < (ROWS + 8) * row + 8 * ROWS  # read once, by the product with all keys


def test_a_table_of_steps() -> None:
    kernels = (decode.Lost("k_slow", 2, 900, 1000, 3e-6, 1.0), decode.Lost("k_fast", 1, 900, 1000, 1e-6, 2.0))
    step = decode.Step("m", 2, False, 1_800_000, 200_000, ((1e-4, 9e-5), (2e-4, 9e-5), (1e-4, 8e-5)), kernels)
    cells = ["m", "2", "arrays", "0.100", "1.8", "18.0", "20.0", "80%", "45%-90%", "0.20"]
    for past, text in ((0, "-"), (1_500_000, "1.50")):
        row = decode.table([attrs.evolve(step, past=past)]).splitlines()[-1]
        assert [cell.strip() for cell in row.strip("|").split("|")] == [*cells, text]
    assert [line.split()[0] for line in decode.kernels_table(step, 1).splitlines()[1:]] == ["k_slow"]
    assert decode.steps(json.loads(json.dumps({"steps": [attrs.asdict(step)]}))) == [step]
    assert decode.remarks([step]) == []
    remark = "m, threads 2, arrays: other processes were busy during 2 of 3 rounds"
    assert decode.remarks([attrs.evolve(step, disturbed=2)]) == [remark]
