"""compile, Model and InferenceSession on small models, over a backend that interprets."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import stepwell
from stepwell.errors import InputError, ModelError, ParseError, StepwellError, TargetError, VerifyError
from stepwell.ir.parser import parse_module
from stepwell.lowering.pipeline import phases
from stepwell.sources import load_source

pytestmark = pytest.mark.usefixtures("interpreting_backend")

F = 'tensor<?x3xf32, #graph.shape<["batch"]>>'
GRAPH = f"""builtin.module {{
  func.func @main(%x: {F} {{onnx.name = "x"}}, %w: tensor<3xf32> {{onnx.name = "w"}}) -> ({F} {{onnx.name = "y"}}) {{
    %a = graph.add %x, %w {{onnx.outputs = ["sum"]}} : ({F}, tensor<3xf32>) -> {F}
    %b = graph.relu %a {{onnx.outputs = ["y"]}} : ({F}) -> {F}
    func.return %b : {F}
  }}
}}
"""
X = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
W = np.array([0.5, 0.5, -0.5], np.float32)
Y = np.maximum(X + W, 0)


def onnx_model() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["x", "w"], ["sum"], "Add_0"), helper.make_node("Relu", ["sum"], ["y"], "Relu_1")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3], W)
    graph = helper.make_graph(nodes, "small", inputs, outputs, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("kind", ["proto", "bytes", "path", "text path"])
def test_onnx_sources(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    onnx.save(onnx_model(), path)
    source: Any = {"proto": onnx_model(), "bytes": path.read_bytes(), "path": path, "text path": str(path)}[kind]
    model = stepwell.compile(source)
    np.testing.assert_array_equal(model(X), Y)
    assert [str(port) for port in (*model.inputs, *model.outputs)] == ["x: float32[batch, 3]", "y: float32[batch, 3]"]


@pytest.mark.parametrize("landing", ["graph", "tensor", "loop"])
@pytest.mark.parametrize("as_text", [True, False])
def test_ir_sources_at_every_landing(landing: str, as_text: bool) -> None:
    from stepwell.ir.passes import PassContext, PassManager

    module = parse_module(GRAPH)
    PassManager(phases("graph", landing)).run(module, PassContext())
    text = str(module)
    model = stepwell.compile(text + "\n" if as_text else module)
    assert str(module) == text
    np.testing.assert_array_equal(model(X, W), Y)
    np.testing.assert_array_equal(model(X[:0], W), Y[:0])


def test_a_function_without_a_module() -> None:
    function = GRAPH[GRAPH.index("{") + 1 : GRAPH.rindex("}")].strip() + "\n"
    np.testing.assert_array_equal(stepwell.compile(function)(X, W), Y)


def test_signed_and_unsigned_arrays_keep_their_types() -> None:
    model = stepwell.compile("""builtin.module {
      func.func @main(%x: tensor<2xui8> {onnx.name = "x"}, %y: tensor<2xui8>) -> (tensor<2xui8>, tensor<2xui8>) {
        %a = graph.max %x, %y : (tensor<2xui8>, tensor<2xui8>) -> tensor<2xui8>
        func.return %a, %x : tensor<2xui8>, tensor<2xui8>
      }
    }
    """)
    assert [port.dtype for port in (*model.inputs, *model.outputs)] == [np.uint8] * 4
    largest, copy = model(np.array([200, 1], np.uint8), np.array([100, 2], np.uint8))
    np.testing.assert_array_equal(largest, np.array([200, 2], np.uint8))
    assert (largest.dtype, copy.tolist()) == (np.uint8, [200, 1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([X], r"1 arrays for 2 inputs \(x, w\)"),
        ([X.astype(np.float64), W], r"input 'x' has element type float64, expected float32: convert it with .astype"),
        ([X[0], W], "input 'x' has 1 dimensions"),
        ([X[:, :2], W], "dimension 1 of input 'x' is 2, expected 3"),
        ([X, "text"], "input 'w' cannot be made an array"),
        ([X, None], "input 'w' cannot be made an array of float32: it is None"),
    ],
)
def test_arrays_that_do_not_fit(arrays: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stepwell.compile(GRAPH)(*arrays)


def test_lists_and_strided_arrays_are_taken() -> None:
    model = stepwell.compile(GRAPH)
    np.testing.assert_array_equal(model(np.asfortranarray(X), W.tolist()), Y)
    np.testing.assert_array_equal(model(X.astype(">f4"), W), Y)


def test_run_by_name_and_fetch(interpreting_backend: Any) -> None:
    model = stepwell.compile(GRAPH)
    feeds = {"w": W, "x": X}
    assert list(model.run(feeds)) == ["y"]
    for _ in range(2):
        found = model.run(feeds, fetch=["sum", "y", "x"])
        np.testing.assert_array_equal(found["sum"], X + W)
        np.testing.assert_array_equal(found["y"], Y)
        np.testing.assert_array_equal(found["x"], X)
    assert interpreting_backend.builds == 2


@pytest.mark.parametrize(
    ("feeds", "fetch", "message"),
    [
        ({"x": X}, None, "no array for input 'w'; there are x, w"),
        ({"x": X, "w": W, "v": W}, None, "there is no input 'v'"),
        ({"x": X, "w": W}, ["summ"], "no value named 'summ'; close to it: sum"),
    ],
)
def test_wrong_names(feeds: dict[str, Any], fetch: list[str] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stepwell.compile(GRAPH).run(feeds, fetch=fetch)


def test_only_a_graph_has_intermediates() -> None:
    from stepwell.ir.passes import PassContext, PassManager

    module = parse_module(GRAPH)
    PassManager(phases("graph", "loop")).run(module, PassContext())
    with pytest.raises(InputError, match="graph landing only"):
        stepwell.compile(module).run({"x": X, "w": W}, fetch=["sum"])


def test_onnxruntimes_calling_convention() -> None:
    session = stepwell.InferenceSession(onnx_model().SerializeToString(), providers=["CPUExecutionProvider"])
    assert repr(session.get_inputs()) == "[NodeArg(name='x', type='tensor(float)', shape=['batch', 3])]"
    assert [out.name for out in session.get_outputs()] == ["y"]
    (y,) = session.run(None, {"x": X})
    both = session.run(["sum", "y"], {"x": X})
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(both[0], X + W)


def test_shapes_fix_and_hint() -> None:
    fixed = stepwell.compile(onnx_model(), shapes={"batch": 2})
    assert fixed.inputs[0].shape == (2, 3)
    given = stepwell.compile(onnx_model(), shapes={"x": (5, 3)})
    assert given.inputs[0].shape == (5, 3)
    _, hints = load_source(onnx_model(), {"batch": (1, 8, 64)})
    assert hints == {"batch": (1, 8, 64)}
    assert stepwell.compile(onnx_model(), shapes={"batch": (1, 8, 64)}).inputs[0].shape == ("batch", 3)


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("nowhere.onnx", {}, ModelError, "nowhere.onnx"),
        ("nowhere.mlir", {}, ModelError, "nowhere.mlir cannot be read"),
        (3, {}, ModelError, "not int"),
        ("builtin.module {\n nonsense }", {}, ParseError, "nonsense"),
        (GRAPH.replace("func.return %b", "func.return %x"), {}, None, ""),
        (GRAPH.replace("    func.return %b : " + F + "\n", ""), {}, VerifyError, "terminator"),
        (GRAPH, {"target": "z80"}, TargetError, "unknown CPU target 'z80'"),
        (GRAPH, {"precision": "f3"}, TargetError, "unknown precision 'f3'"),
        (GRAPH, {"threads": 0}, TargetError, "at least one"),
        (GRAPH, {"shapes": {"batch": 2}}, ModelError, "cannot be set from outside"),
        (GRAPH, {"shapes": {"batch": (3, 2, 1)}}, ModelError, "is not"),
    ],
)
def test_bad_sources_and_options(
    source: Any, options: dict[str, Any], error: type[StepwellError] | None, message: str
) -> None:
    if error is None:
        stepwell.compile(source, **options)
        return
    with pytest.raises(error, match=message):
        stepwell.compile(source, **options)


def test_threads_may_call_one_model() -> None:
    model = stepwell.compile(GRAPH)
    results: list[bool] = []

    def call() -> None:
        results.extend(bool(np.array_equal(model.run({"x": X, "w": W}, fetch=["sum"])["sum"], X + W)) for _ in range(5))

    workers = [threading.Thread(target=call) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [True] * 20


def test_importing_is_lazy() -> None:
    code = (
        "import stepwell, sys; light = 'numpy' in sys.modules; stepwell.compile; import stepwell.api;"
        "print(light, 'onnx' in sys.modules, 'llvmlite' in sys.modules, dir(stepwell).count('compile'))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == ["False", "False", "False", "1"]
    with pytest.raises(AttributeError, match="no attribute 'compil'"):
        _ = stepwell.compil
