"""Small models that onnxruntime's tools quantise, compiled and compared with onnxruntime."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.frontends.onnx.exporter import export_model
from stepwell.frontends.onnx.importer import import_model
from tests.frontends.onnx.rule_harness import imported, onnxruntime_session

Array = np.ndarray[Any, Any]

quantization = pytest.importorskip("onnxruntime.quantization", reason="onnxruntime's quantisation tools are missing")
QOPERATOR = quantization.QuantFormat.QOperator


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The tools advise on standard error."""
    before = logging.root.level
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
    logging.root.setLevel(before)


def weights(*shape: int) -> Any:
    """An initializer's values, which are scaled so that sums of products stay around 1."""
    wide = np.random.default_rng(sum(shape)).standard_normal(shape) / np.sqrt(max(np.prod(shape[1:]), 1))
    return wide.astype(np.float32)


def saved(
    path: Path, nodes: Sequence[Any], shape: Sequence[int | str], initializers: dict[str, Array], rank: int
) -> Path:
    """A model from "x" to "y"."""
    graph = helper.make_graph(
        list(nodes), "model", [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def convolutions(path: Path) -> Path:
    """[n, 3, 16, 16] -> [n, 10]: two branches that are added and joined, activations, pools, a softmax."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["a"], pads=[1, 1, 1, 1]),
        node("LeakyRelu", ["a"], ["b"], alpha=0.1),
        node("AveragePool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["c", "w2", "b2"], ["d"], pads=[1, 1, 1, 1], group=2),
        node("Sigmoid", ["d"], ["gate"]),
        node("Mul", ["d", "gate"], ["e"]),
        node("Add", ["e", "c"], ["f"]),
        node("Concat", ["f", "c"], ["g"], axis=1),
        node("MaxPool", ["g"], ["h"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["h"], ["i"]),
        node("Flatten", ["i"], ["j"]),
        node("Gemm", ["j", "w3", "b3"], ["k"], transB=1),
        node("Softmax", ["k"], ["y"]),
    ]
    initializers = {
        "w1": weights(8, 3, 3, 3), "b1": weights(8), "w2": weights(8, 4, 3, 3), "b2": weights(8), "w3": weights(10, 16),
        "b3": weights(10),
    }  # fmt: skip
    return saved(path, nodes, ["n", 3, 16, 16], initializers, 2)


def perceptron(path: Path) -> Path:
    """[n, t, 32] -> [n, t, 16]"""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w1"], ["a"], "first"), node("Add", ["a", "b1"], ["b"]), node("Relu", ["b"], ["c"]),
        node("MatMul", ["c", "w2"], ["y"], "second"),
    ]  # fmt: skip
    initializers = {"w1": weights(32, 64), "b1": weights(64), "w2": weights(64, 16)}
    return saved(path, nodes, ["n", "t", 32], initializers, 3)


def recurrent(path: Path) -> Path:
    """[t, n, 8] -> [t, 1, n, 6]"""
    nodes = [helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=6)]
    initializers = {"w": weights(1, 24, 8), "r": weights(1, 24, 6), "b": weights(1, 48)}
    return saved(path, nodes, ["t", "n", 8], initializers, 4)


def transformer(path: Path) -> Path:
    """[n, t, 16] -> [n, t, 16]: attention that the optimiser has fused, and a layer behind it."""
    node = helper.make_node
    nodes = [
        node("Attention", ["x", "w1", "b1"], ["a"], "attention", domain="com.microsoft", num_heads=2),
        node("MatMul", ["a", "w2"], ["b"], "product"), node("Add", ["b", "x"], ["y"]),
    ]  # fmt: skip
    initializers = {"w1": weights(16, 48), "b1": weights(48), "w2": weights(16, 16)}
    return saved(path, nodes, ["n", "t", 16], initializers, 3)


class Readings:
    """A few inputs to find ranges by."""

    def __init__(self, *shape: int) -> None:
        random = np.random.default_rng(7)
        self.arrays = iter([{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(4)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.arrays, None)


def operators(path: Path) -> set[str]:
    """What a model consists of."""
    return {node.op_type for node in onnx.load(path).graph.node}


def compare(path: Path, *shapes: tuple[int, ...], atol: float) -> None:
    """One compilation, at several sizes; onnxruntime without its optimiser."""
    model, session = stepwell.compile(path), onnxruntime_session(path)
    for shape in shapes:
        x = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
        np.testing.assert_allclose(model(x), session.run(None, {"x": x})[0], rtol=1e-4, atol=atol)


@pytest.mark.parametrize(("kind", "per_channel"), [("QUInt8", False), ("QInt8", True)])
def test_convolutions_in_the_operator_format(tmp_path: Path, kind: str, per_channel: bool) -> None:
    """Up to one quantum of the result, which is 1 / 256: onnxruntime adds and looks exponentials up its own way."""
    made, element = tmp_path / "quantised.onnx", getattr(quantization.QuantType, kind)
    quantization.quantize_static(
        str(convolutions(tmp_path / "floats.onnx")), str(made), Readings(2, 3, 16, 16), quant_format=QOPERATOR,
        activation_type=element, weight_type=quantization.QuantType.QInt8, per_channel=per_channel,
    )  # fmt: skip
    assert operators(made) >= {
        "QLinearConv", "QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearSigmoid", "QLinearLeakyRelu", "QGemm",
        "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearSoftmax",
    }  # fmt: skip
    compare(made, (2, 3, 16, 16), (1, 3, 16, 16), atol=1.01 / 256)


def test_what_the_optimiser_makes_of_convolutions(tmp_path: Path) -> None:
    """Channels last; interpreted, since their compilation is tested above."""
    made, fused = tmp_path / "quantised.onnx", tmp_path / "fused.onnx"
    floats = convolutions(tmp_path / "floats.onnx")
    quantization.quantize_static(str(floats), str(made), Readings(2, 3, 16, 16), quant_format=QOPERATOR)
    optimise(made, fused, "ORT_ENABLE_ALL")
    last = {node.op_type for node in onnx.load(fused).graph.node for given in node.attribute if is_last(given)}
    assert last >= {"QLinearConv", "QLinearAveragePool"}
    x = np.random.default_rng(1).standard_normal((2, 3, 16, 16)).astype(np.float32)
    wanted = onnxruntime_session(fused).run(None, {"x": x})[0]
    np.testing.assert_allclose(imported(fused).run([x])[0], wanted, atol=1.01 / 256)


def test_convolutions_in_operators_of_the_standard(tmp_path: Path) -> None:
    """Import and export: onnxruntime gives the same for what comes back."""
    made = tmp_path / "quantised.onnx"
    floats = convolutions(tmp_path / "floats.onnx")
    quantization.quantize_static(str(floats), str(made), Readings(2, 3, 16, 16), quant_format=QOPERATOR)
    back = export_model(import_model(made))
    assert {opset.domain for opset in back.opset_import} == {""}
    x = np.random.default_rng(1).standard_normal((2, 3, 16, 16)).astype(np.float32)
    results = [onnxruntime_session(model).run(None, {"x": x})[0] for model in (made, back)]
    np.testing.assert_allclose(*results, atol=1.01 / 256)


def is_last(attribute: Any) -> bool:
    """Whether it says that channels are the last axis."""
    return bool(attribute.name == "channels_last" and attribute.i == 1)


def optimise(source: Path, target: Path, level: str) -> None:
    """What onnxruntime makes of a model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(target), 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def test_products_in_the_operator_format(tmp_path: Path) -> None:
    made = tmp_path / "quantised.onnx"
    quantization.quantize_static(
        str(perceptron(tmp_path / "floats.onnx")), str(made), Readings(2, 5, 32), quant_format=QOPERATOR
    )
    assert "QLinearMatMul" in operators(made)
    compare(made, (2, 5, 32), (1, 1, 32), atol=1e-5)


def test_dynamic_quantisation_and_what_the_optimiser_makes_of_it(tmp_path: Path) -> None:
    made, fused = tmp_path / "quantised.onnx", tmp_path / "fused.onnx"
    quantization.quantize_dynamic(str(perceptron(tmp_path / "floats.onnx")), str(made))
    compare(made, (2, 5, 32), (1, 1, 32), atol=1e-5)
    optimise(made, fused, "ORT_ENABLE_EXTENDED")
    assert "DynamicQuantizeMatMul" in operators(fused)
    compare(fused, (2, 5, 32), (1, 1, 32), atol=1e-5)


def test_recurrent_layers_quantised_dynamically(tmp_path: Path) -> None:
    """onnxruntime rounds x and the states to 8 bits of their range."""
    made = tmp_path / "quantised.onnx"
    quantization.quantize_dynamic(str(recurrent(tmp_path / "floats.onnx")), str(made))
    assert "DynamicQuantizeLSTM" in operators(made)
    compare(made, (5, 2, 8), (3, 1, 8), atol=3e-2)


def test_attention_quantised_dynamically(tmp_path: Path) -> None:
    made = tmp_path / "quantised.onnx"
    typed = {"DefaultTensorType": TensorProto.FLOAT}  # of what the standard's type inference does not know
    quantization.quantize_dynamic(str(transformer(tmp_path / "floats.onnx")), str(made), extra_options=typed)
    assert "QAttention" in operators(made)
    compare(made, (2, 5, 16), (1, 1, 16), atol=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_weights_in_blocks(tmp_path: Path, symmetric: bool) -> None:
    made = tmp_path / "packed.onnx"
    model = onnx.load(perceptron(tmp_path / "floats.onnx"))
    for node in model.graph.node:
        if node.op_type == "MatMul":
            pack(model.graph, node, symmetric)
    onnx.save(model, made)
    assert "MatMulNBits" in operators(made)
    compare(made, (2, 5, 32), (1, 1, 32), atol=1e-5)


def pack(graph: Any, node: Any, symmetric: bool, block: int = 16) -> None:
    """MatMul(x, w) -> MatMulNBits(x, packed w, scales, zero points), packed by onnxruntime."""
    from onnxruntime.capi.onnxruntime_pybind11_state import quantize_matmul_4bits

    name = node.input[1]
    array = next(numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == name)
    k, n = array.shape
    blocks = -(-k // block)
    packed = np.zeros((n, blocks, block // 2), np.uint8)
    scales = np.zeros(n * blocks, np.float32)
    zeros = np.zeros(n * -(-blocks // 2), np.uint8)
    quantize_matmul_4bits(packed, np.ascontiguousarray(array), scales, zeros, block, n, k, symmetric)
    parts = {"packed": packed, "scales": scales} | ({} if symmetric else {"zeros": zeros})
    for part, values in parts.items():
        graph.initializer.append(numpy_helper.from_array(values, f"{name}_{part}"))
    made = helper.make_node(
        "MatMulNBits", [node.input[0], *(f"{name}_{part}" for part in parts)], list(node.output), node.name,
        domain="com.microsoft", K=k, N=n, bits=4, block_size=block,
    )  # fmt: skip
    node.CopyFrom(made)
