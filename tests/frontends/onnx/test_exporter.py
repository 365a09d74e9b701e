"""Model -> IR -> ONNX again: names, types and results stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import checker, numpy_helper

import stepwell.frontends.onnx.exporter as exporter
from stepwell.errors import ModelError
from stepwell.frontends.onnx.exporter import export_model, save_model
from stepwell.frontends.onnx.importer import import_model
from stepwell.frontends.onnx.writer import EXPORTS, exports
from stepwell.ir.parser import parse_module
from tests.frontends.onnx.models import model, table, text_of
from tests.frontends.onnx.rule_harness import onnxruntime_session, run_module

CHAIN = """g (float[N, 4] x, float["2*k"] z) => (float[N, 4] y, float["2*k"] u) <float[4] w = {1, 2, 3, 4}> {
    a = Add(x, w)  b = Sub(a, x)  c = Mul(b, b)  d = Div(c, w)  e = Max(d, w)  f = Min(e, x)  h = Neg(f)  i = Abs(h)
    j = Exp(h)  k = Sqrt(i)  l = Tanh(j)  m = Erf(l)  n = Sigmoid(m)  o = Relu(n)  p = Add(o, k)  y = Log(p)  u = Neg(z)
}"""


def inputs_of(proto: Any) -> list[Any]:
    random = np.random.default_rng(0)
    return [random.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (6,))][: len(proto.graph.input)]


def run_onnxruntime(proto: Any, inputs: list[Any]) -> list[Any]:
    session = onnxruntime_session(proto)
    return list(session.run(None, {port.name: x for port, x in zip(session.get_inputs(), inputs, strict=True)}))


def test_elementwise_against_onnxruntime() -> None:
    made = model(CHAIN)
    module = import_model(made)
    again = export_model(module)
    checker.check_model(again, full_check=True)
    inputs = inputs_of(made)
    expected = run_onnxruntime(made, inputs)
    for found in (run_onnxruntime(again, inputs), run_module(module, inputs)):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_names_and_dims_are_kept() -> None:
    made = model(CHAIN)
    made.graph.node[0].name = "/layer.0/Add"
    made.graph.node[0].output[0] = made.graph.node[1].input[0] = "/layer.0/Add_output_0"
    again = export_model(import_model(made))
    assert again.graph.name == "g"
    assert [node.output[0] for node in again.graph.node] == [node.output[0] for node in made.graph.node]
    assert again.graph.node[0].name == "/layer.0/Add"
    assert [t.name for t in again.graph.initializer] == ["w"]
    dims = [[d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim] for port in again.graph.input]
    assert dims == [["N", 4], ["2*k"]]


def test_a_second_round_changes_nothing() -> None:
    once = export_model(import_model(model(CHAIN)))
    assert export_model(import_model(once)).SerializeToString() == once.SerializeToString()


def test_text_in_between_changes_nothing() -> None:
    once = import_model(model(CHAIN))
    again = parse_module(text_of(model(CHAIN), locations=True), "text")
    assert export_model(again).SerializeToString() == export_model(once).SerializeToString()


def test_outputs_may_be_anything() -> None:
    made = model("g (float[2] x) => (x, w, y, y2) <float[2] w = {1, 2}> { y = Relu(x)  y2 = Identity(y) }")
    again = export_model(import_model(made, rules=table()))
    checker.check_model(again)
    assert [port.name for port in again.graph.output] == ["x", "w", "y", "y2"]
    found = run_onnxruntime(again, [np.array([-1, 1], np.float32)])
    assert [a.tolist() for a in found] == [[-1, 1], [1, 2], [0, 1], [0, 1]]


@pytest.mark.parametrize("number", [1, 2, 3, 6, 7, 9, 10, 11, 12, 13, 14, 16, 17, 21, 22, 23])
def test_constants_of_every_element_type(number: int) -> None:
    values = np.array([0, 1, 1], onnx.helper.tensor_dtype_to_np_dtype(number))
    made = model("g (float[3] x) => (w) { y = Relu(x) }")
    made.graph.initializer.append(numpy_helper.from_array(values, "w"))
    [tensor] = export_model(import_model(made)).graph.initializer
    assert tensor.data_type == number and tensor.raw_data == made.graph.initializer[0].raw_data


def test_large_weights_get_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = model("g (float[2000] x) => (y) { a = Add(x, w)  y = Add(a, v) }")
    for name in "wv":
        made.graph.initializer.append(numpy_helper.from_array(np.arange(2000, dtype=np.float32), name))
    module = import_model(made)
    save_model(module, tmp_path / "small.onnx")
    monkeypatch.setattr(exporter, "EMBEDDED_LIMIT", 100)
    save_model(module, tmp_path / "large.onnx")
    assert (tmp_path / "large.onnx").stat().st_size < 1000
    x = np.zeros(2000, np.float32)
    for name in ("small.onnx", "large.onnx"):
        assert run_module(import_model(tmp_path / name), [x])[0][1999] == 3998
        assert onnxruntime_session(tmp_path / name).run(None, {"x": x})[0][1999] == 3998


def test_errors() -> None:
    module = import_model(model("g (bool c, float[2] x) => (y) { a = Relu(x)  y = Relu(a) }"))
    relu, other = next(cls for cls in EXPORTS if cls.name == "graph.relu"), dict(EXPORTS)
    del EXPORTS[relu]
    try:
        with pytest.raises(ModelError, match=r"as ONNX: 2 problems\n\ngraph.relu: 2 nodes\n  nothing says"):
            export_model(module)
    finally:
        EXPORTS.update(other)
    with pytest.raises(ModelError, match=r"graph\.relu has two export functions"):
        exports(relu)(lambda op, writer: None)
    with pytest.raises(ModelError, match="no function @main"):
        export_model(parse_module("builtin.module {\n}", "text"))
