"""Strict arithmetic: the bits of plain loops in the documented order, on every target and with any team."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.backends.cpu import target as targets
from stepwell.compiler import Options, context_of, lower
from stepwell.errors import TargetError
from stepwell.ir.core import Operation
from stepwell.lowering.loop.math.numpy_builder import NumpyMath
from stepwell.lowering.loop.math.recipes import FUNCTIONS
from stepwell.sources import load_source

Array = np.ndarray[Any, Any]
TARGETS = ("cpu", "x86-64-v3", "x86-64")
F = np.float32


def model_of(
    nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Sequence[int | str]],
    constants: Mapping[str, Array] | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """`inputs` -> y, of f32."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    given = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "strict", infos, [result], given)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def node(op: str, inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), ["y"], **attributes)


def numbers(*shape: int) -> Array:
    """Of all signs and many magnitudes, so that every order of a sum has bits of its own."""
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) * 2.0 ** rng.integers(-6, 7, shape)).astype(F)


# The oracles: sums from 0, one element after the other


def in_order(x: Array, axes: Sequence[int]) -> Array:
    """The sum over axes, in row-major order of the reduced ones."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    moved = x.transpose(*sorted(axes), *kept).reshape(-1, *(x.shape[axis] for axis in kept))
    total = np.zeros(moved.shape[1:], x.dtype)
    for part in moved:
        total = total + part
    return total


def matmul(a: Array, b: Array) -> Array:
    total = np.zeros((*a.shape[:-1], b.shape[-1]), a.dtype)
    for k in range(a.shape[-1]):
        total = total + a[..., :, k, None] * b[..., k, None, :]
    return total


def conv(x: Array, w: Array, bias: Array | None = None, *, pad: int = 0, stride: int = 1, groups: int = 1) -> Array:
    """Over the input channels of a group, then the rows, then the columns of the window; the padding counts."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    oc, ic, kh, kw = w.shape
    h, v = (x.shape[2] - kh) // stride + 1, (x.shape[3] - kw) // stride + 1
    total = np.zeros((x.shape[0], oc, h, v), x.dtype)
    group = np.arange(oc) // (oc // groups)
    for c, i, j in itertools.product(range(ic), range(kh), range(kw)):
        places = x[:, group * ic + c, i : i + stride * h : stride, j : j + stride * v : stride]
        total = total + places * w[:, c, i, j, None, None]
    return total if bias is None else total + bias[:, None, None]


def elementary(name: str, *x: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(FUNCTIONS[name].recipe(NumpyMath(x[0].dtype.itemsize * 8, has_fma=False), *x))


def softmax(x: Array, axis: int) -> Array:
    powers = elementary("exp", x - x.max(axis, keepdims=True))
    return powers / np.expand_dims(in_order(powers, [axis % x.ndim]), axis)


def layer_norm(x: Array, scale: Array, bias: Array, epsilon: float = 1e-5) -> Array:
    count = F(x.shape[-1])
    mean = (in_order(x, [x.ndim - 1]) / count)[..., None]
    centred = x - mean
    deviation = np.sqrt((in_order(centred * centred, [x.ndim - 1]) / count)[..., None] + F(epsilon))
    return centred * (F(1) / deviation) * scale + bias


W, B = numbers(24, 20, 3, 3), numbers(24)
SCALE, BIAS = numbers(300), numbers(300) + 1
NORM = {"s": np.abs(B) + 1, "t": B, "m": B * 2, "v": np.abs(B) * 3 + 1}


def batch_norm(x: Array) -> Array:
    factor = NORM["s"] / np.sqrt(NORM["v"] + F(1e-5))
    return (x - NORM["m"][:, None, None]) * factor[:, None, None] + NORM["t"][:, None, None]


# name -> (model, shapes of the inputs, oracle)
Case = tuple[onnx.ModelProto, Sequence[Sequence[int]], Callable[..., Array]]
CASES: dict[str, Case] = {
    "matmul": (model_of([node("MatMul", "a b")], {"a": (70, 700), "b": (700, 90)}), [(70, 700), (700, 90)], matmul),
    "matmul of a weight": (
        model_of([node("MatMul", "a w")], {"a": ("m", 513)}, {"w": numbers(513, 130)}), [(37, 513)],
        lambda a: matmul(a, numbers(513, 130)),
    ),
    "matrix times vector": (
        model_of([node("MatMul", "a b")], {"a": (50, 300), "b": (300, 1)}), [(50, 300), (300, 1)], matmul,
    ),
    "row times row": (
        model_of([node("Gemm", "a b", transB=1)], {"a": (3, 999), "b": (5, 999)}), [(3, 999), (5, 999)],
        lambda a, b: matmul(a, b.T),
    ),
    "batched, of run-time sizes": (
        model_of([node("MatMul", "a b")], {"a": ("n", "m", "k"), "b": ("n", "k", 40)}),
        [(3, 9, 300), (3, 300, 40)], matmul,
    ),
    "large matmul": (
        model_of([node("MatMul", "a b")], {"a": (260, 1100), "b": (1100, 520)}), [(260, 1100), (1100, 520)], matmul,
    ),
    "deep matmul": (
        model_of([node("MatMul", "a b")], {"a": (30, 6000), "b": (6000, 100)}), [(30, 6000), (6000, 100)], matmul,
    ),
    "conv": (
        model_of([node("Conv", "x w b", pads=[1] * 4)], {"x": (2, 20, 17, 19)}, {"w": W, "b": B}), [(2, 20, 17, 19)],
        lambda x: conv(x, W, B, pad=1),
    ),
    "conv of blocks": (
        model_of(
            [node("Conv", "x w", pads=[1] * 4, strides=[2, 2])], {"x": (1, 32, 30, 30)}, {"w": numbers(64, 32, 3, 3)}
        ), [(1, 32, 30, 30)], lambda x: conv(x, numbers(64, 32, 3, 3), pad=1, stride=2),
    ),
    "1x1 conv": (
        model_of([node("Conv", "x w")], {"x": (1, 48, 14, 14)}, {"w": numbers(32, 48, 1, 1)}), [(1, 48, 14, 14)],
        lambda x: conv(x, numbers(32, 48, 1, 1)),
    ),
    "grouped conv": (
        model_of([node("Conv", "x w", group=4)], {"x": ("n", 80, 9, 11)}, {"w": W}), [(2, 80, 9, 11)],
        lambda x: conv(x, W, groups=4),
    ),
    "depthwise conv": (
        model_of([node("Conv", "x w", group=32, pads=[2] * 4)], {"x": (1, 32, 21, 23)}, {"w": numbers(32, 1, 5, 5)}),
        [(1, 32, 21, 23)], lambda x: conv(x, numbers(32, 1, 5, 5), pad=2, groups=32),
    ),
    "conv and batch norm": (
        model_of(
            [helper.make_node("Conv", ["x", "w", "b"], ["c"]), node("BatchNormalization", "c s t m v")],
            {"x": (1, 20, 12, 12)}, {"w": W, "b": B, **NORM},
        ), [(1, 20, 12, 12)], lambda x: batch_norm(conv(x, W, B)),
    ),
    "sum of rows": (
        model_of([node("ReduceSum", "x axes", keepdims=0)], {"x": (40, 3000)}, {"axes": np.array([1])}), [(40, 3000)],
        lambda x: in_order(x, [1]),
    ),
    "sum of columns": (
        model_of([node("ReduceSum", "x axes", keepdims=0)], {"x": (3000, 70)}, {"axes": np.array([0])}), [(3000, 70)],
        lambda x: in_order(x, [0]),
    ),
    "sum of all": (
        model_of([node("ReduceSum", "x axes", keepdims=0)], {"x": ("n", 30, 50)}, {"axes": np.array([0, 1, 2])}),
        [(20, 30, 50)], lambda x: in_order(x, [0, 1, 2]),
    ),
    "sum of outer and inner axes": (
        model_of([node("ReduceSum", "x axes", keepdims=0)], {"x": (40, 17, 90)}, {"axes": np.array([0, 2])}),
        [(40, 17, 90)], lambda x: in_order(x, [0, 2]),
    ),
    "mean of pixels": (
        model_of([node("GlobalAveragePool", "x")], {"x": (2, 30, 15, 13)}), [(2, 30, 15, 13)],
        lambda x: (in_order(x, [2, 3]) / F(195))[..., None, None],
    ),
    "mean": (
        model_of([node("ReduceMean", "x axes", keepdims=1)], {"x": (30, 777)}, {"axes": np.array([-1])}), [(30, 777)],
        lambda x: (in_order(x, [1]) / F(777))[:, None],
    ),
    "cumulative sum": (
        model_of([node("CumSum", "x axis")], {"x": ("n", 200)}, {"axis": np.array(1)}), [(7, 200)],
        lambda x: np.stack([in_order(x[:, : n + 1], [1]) for n in range(200)], 1),
    ),
    "cumulative sum from the end": (
        model_of([node("CumSum", "x axis", reverse=1, exclusive=1)], {"x": (7, "n")}, {"axis": np.array(1)}),
        [(7, 90)], lambda x: np.stack([in_order(x[:, :n:-1], [1]) for n in range(90)], 1),
    ),
    "softmax": (model_of([node("Softmax", "x", axis=-1)], {"x": (50, 333)}), [(50, 333)], lambda x: softmax(x, -1)),
    "softmax of columns": (
        model_of([node("Softmax", "x", axis=1)], {"x": ("n", 65, 40)}), [(3, 65, 40)], lambda x: softmax(x, 1),
    ),
    "layer norm": (
        model_of([node("LayerNormalization", "x s b", axis=-1)], {"x": (60, 300)}, {"s": SCALE, "b": BIAS}),
        [(60, 300)], lambda x: layer_norm(x, SCALE, BIAS),
    ),
    "matmul, bias and gelu's parts": (
        model_of(
            [
                helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["q"]),
                helper.make_node("Div", ["q", "root"], ["r"]), helper.make_node("Erf", ["r"], ["e"]),
                helper.make_node("Add", ["e", "one"], ["f"]), helper.make_node("Mul", ["q", "f"], ["g"]),
                node("Mul", "g half"),
            ], {"x": (33, 64)},
            {"w": numbers(64, 48), "b": numbers(48), "root": F(2**0.5), "one": F(1), "half": F(0.5)},
        ), [(33, 64)], lambda x: _gelu(matmul(x, numbers(64, 48)) + numbers(48)),
    ),
}  # fmt: skip


def _gelu(q: Array) -> Array:
    return q * (elementary("erf", q / F(2**0.5)) + F(1)) * F(0.5)


def bits(x: Array) -> Array:
    """A float's bits, all NaN being one."""
    return np.where(np.isnan(x), np.uint32(0x7FC00000), np.ascontiguousarray(x).view(np.uint32))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_strict_bits_are_those_of_loops_in_order(name: str, target: str) -> None:
    model, shapes, oracle = CASES[name]
    inputs = [numbers(*shape) for shape in shapes]
    wanted = oracle(*inputs)
    for threads in (1, 2, 3) if target == "cpu" else (2,):
        got = stepwell.compile(model, target=target, precision="strict", threads=threads)(*inputs)
        assert got.shape == wanted.shape
        assert np.array_equal(bits(got), bits(wanted)), f"{np.count_nonzero(bits(got) != bits(wanted))} of {got.size}"


@pytest.mark.parametrize("name", CASES)
def test_the_default_differs_in_rounding_alone(name: str) -> None:
    model, shapes, oracle = CASES[name]
    inputs = [numbers(*shape) for shape in shapes]
    wanted = oracle(*inputs)
    np.testing.assert_allclose(stepwell.compile(model)(*inputs), wanted, rtol=1e-3, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    "name", ["matmul", "sum of rows", "conv of blocks", "softmax", "layer norm", "conv and batch norm"]
)
def test_the_default_has_bits_of_its_own(name: str) -> None:
    """So that the test above can fail."""
    model, shapes, oracle = CASES[name]
    inputs = [numbers(*shape) for shape in shapes]
    assert not np.array_equal(stepwell.compile(model)(*inputs), oracle(*inputs))


# Element types


@pytest.mark.parametrize("target", TARGETS)
def test_f64(target: str) -> None:
    text = """builtin.module { func.func @main(%a: tensor<9x400xf64>, %b: tensor<400x33xf64>) -> tensor<9x33xf64> {
        %c = graph.matmul %a, %b : (tensor<9x400xf64>, tensor<400x33xf64>) -> tensor<9x33xf64>
        %d = graph.tanh %c : (tensor<9x33xf64>) -> tensor<9x33xf64>
        func.return %d : tensor<9x33xf64> } }
    """
    a, b = numbers(9, 400).astype(np.float64) / 3, numbers(400, 33).astype(np.float64) / 7
    wanted = elementary("tanh", matmul(a, b))
    np.testing.assert_array_equal(stepwell.compile(text, target, "strict")(a, b), wanted)


@pytest.mark.parametrize("target", TARGETS)
def test_narrow_floats_are_summed_in_f32(target: str) -> None:
    text = """builtin.module { func.func @main(%a: tensor<9x400xf16>, %b: tensor<400x33xf16>) -> tensor<9x33xf16> {
        %c = graph.matmul %a, %b : (tensor<9x400xf16>, tensor<400x33xf16>) -> tensor<9x33xf16>
        func.return %c : tensor<9x33xf16> } }
    """
    a, b = numbers(9, 400).astype(np.float16), numbers(400, 33).astype(np.float16)
    wanted = matmul(a.astype(F), b.astype(F)).astype(np.float16)
    np.testing.assert_array_equal(stepwell.compile(text, target, "strict")(a, b), wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chains_of_basic_operations_have_the_bits_of_numpy(dtype: Any) -> None:
    """+ - * / sqrt, divisors that are constants among them; multiply-adds that could be fused."""
    type_ = f"tensor<700xf{8 * np.dtype(dtype).itemsize}>"
    steps = [("mul", "a", "b"), ("add", "v0", "c"), ("div", "v1", "three"), ("sub", "v2", "a"), ("mul", "v3", "v3"),
             ("add", "v4", "v0"), ("div", "v5", "b"), ("mul", "v6", "tenth"), ("sub", "v7", "c")]  # fmt: skip
    lines = [f'%three = graph.constant dense<3.0> : {type_}', f'%tenth = graph.constant dense<0.1> : {type_}']
    lines += [f"%v{n} = graph.{op} %{x}, %{y} : ({type_}, {type_}) -> {type_}" for n, (op, x, y) in enumerate(steps)]
    lines += [f"%w = graph.abs %v8 : ({type_}) -> {type_}", f"%y = graph.sqrt %w : ({type_}) -> {type_}"]
    body = "\n".join(lines)
    text = f"""builtin.module {{ func.func @main(%a: {type_}, %b: {type_}, %c: {type_}) -> {type_} {{
        {body}
        func.return %y : {type_} }} }}
    """
    a, b, c = (numbers(700 + n)[:700].astype(dtype) for n in range(3))
    v0 = a * b
    v4 = (((v0 + c) / dtype(3)) - a) ** 2
    wanted = np.sqrt(np.abs((v4 + v0) / b * dtype(0.1) - c))
    for name in TARGETS:
        np.testing.assert_array_equal(stepwell.compile(text, name, "strict")(a, b, c), wanted)


# Other operations: the same bits everywhere

OTHERS: dict[str, Case] = {
    "log softmax": (model_of([node("LogSoftmax", "x", axis=-1)], {"x": (9, 100)}), [(9, 100)], np.asarray),
    "average pool": (
        model_of([node("AveragePool", "x", kernel_shape=[3, 3], pads=[1] * 4)], {"x": (1, 16, 20, 20)}),
        [(1, 16, 20, 20)], np.asarray,
    ),
    "norm": (model_of([node("ReduceL2", "x")], {"x": (40, 50)}), [(40, 50)], np.asarray),
    "log of a sum": (model_of([node("ReduceLogSumExp", "x")], {"x": (40, 50)}), [(40, 50)], np.asarray),
    "einsum": (
        model_of([node("Einsum", "a b", equation="bik,bjk->bij")], {"a": (3, 20, 90), "b": (3, 30, 90)}),
        [(3, 20, 90), (3, 30, 90)], np.asarray,
    ),
    "instance norm": (
        model_of([node("InstanceNormalization", "x s t")], {"x": (2, 24, 9, 9)}, {"s": NORM["s"], "t": NORM["t"]}),
        [(2, 24, 9, 9)], np.asarray,
    ),
    "lstm": (
        model_of(
            [helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], hidden_size=32), node("Squeeze", "h axes")],
            {"x": (5, 2, 40)}, {"w": numbers(1, 128, 40), "r": numbers(1, 128, 32), "axes": np.array([0])},
        ), [(5, 2, 40)], np.asarray,
    ),
    "attention": (
        model_of(
            [
                helper.make_node("Transpose", ["k"], ["t"], perm=[0, 1, 3, 2]),
                helper.make_node("MatMul", ["q", "t"], ["s"]), helper.make_node("Softmax", ["s"], ["p"], axis=-1),
                node("MatMul", "p v"),
            ], dict.fromkeys("qkv", (1, 4, 60, 32)),
        ), [(1, 4, 60, 32)] * 3, np.asarray,
    ),
    "powers and angles": (
        model_of(
            [
                helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Pow", ["a", "e"], ["b"]),
                helper.make_node("Sin", ["x"], ["c"]), helper.make_node("Mul", ["b", "c"], ["d"]),
                helper.make_node("Log", ["a"], ["f"]), node("Add", "d f"),
            ], {"x": (500,)}, {"e": F(1.7)},
        ), [(500,)], np.asarray,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_strict_bits_are_the_same_everywhere(name: str) -> None:
    model, shapes, _ = OTHERS[name]
    inputs = [numbers(*shape) for shape in shapes]
    found = [stepwell.compile(model, target=target, precision="strict", threads=n)(*inputs)
             for target, n in zip((*TARGETS, "cpu"), (2, 2, 2, 1), strict=True)]  # fmt: skip
    assert all(np.array_equal(bits(found[0]), bits(other)) for other in found[1:])
    default, most = stepwell.compile(model)(*inputs), np.abs(found[0]).max()
    np.testing.assert_allclose(default, found[0], rtol=1e-3, atol=2e-5 * most)


def test_constants_are_folded_to_the_bits_that_code_gives() -> None:
    """NumPy's exp of a constant, and its sums, may be rounded otherwise."""
    given = numbers(64)
    model = model_of(
        [
            helper.make_node("Exp", ["c"], ["e"]), helper.make_node("ReduceSum", ["e"], ["s"], keepdims=1),
            node("Mul", "x s"),
        ], {"x": (3,)}, {"c": given},
    )  # fmt: skip
    x = numbers(3)
    wanted = x * in_order(elementary("exp", given), [0])
    np.testing.assert_array_equal(stepwell.compile(model, precision="strict")(x), wanted)


# The option


def lowered(name: str, stop: str, precision: str = "strict") -> Operation:
    module, _ = load_source(CASES[name][0])
    context = context_of(Options(precision=precision), targets.host())
    lower(module, stop, context)
    return module


def test_the_ir_says_so_and_has_neither_fused_nor_partial_sums() -> None:
    for name in ("large matmul", "conv of blocks", "softmax", "layer norm"):
        text = str(lowered(name, "loop"))
        assert 'sw.precision = "strict"' in text.partition("func.func")[0]
        assert "fma" not in text and "fma" in str(lowered(name, "loop", "f32"))
        schedules = str(lowered(name, "tensor"))
        assert "partial =" not in schedules


def test_a_dump_goes_on_as_it_began() -> None:
    _, shapes, oracle = CASES["softmax"]
    inputs = [numbers(*shape) for shape in shapes]
    for landing in ("graph", "tensor", "loop"):
        got = stepwell.compile(lowered("softmax", landing))(*inputs)
        np.testing.assert_array_equal(got, oracle(*inputs))


@pytest.mark.parametrize("landing", ["tensor", "loop"])
def test_strict_after_kernels_is_refused(landing: str) -> None:
    module = lowered("softmax", landing, "f32")
    with pytest.raises(TargetError, match="strict precision: kernels were made of the module without it"):
        stepwell.compile(module, precision="strict")


def test_an_unknown_precision_names_the_choices() -> None:
    with pytest.raises(TargetError, match="unknown precision 'exact'; known: f32, strict"):
        stepwell.compile(CASES["softmax"][0], precision="exact")
