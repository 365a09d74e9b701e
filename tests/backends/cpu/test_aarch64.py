"""Models compiled for AArch64 and executed by qemu: the numbers of onnxruntime, and the bits of this machine's code
wherever the order of sums does not differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

import stepwell
from stepwell.backends.cpu import jit, target
from stepwell.backends.cpu.team import Team
from tests import emulation

pytestmark = pytest.mark.skipif(bool(emulation.missing()), reason=emulation.missing())

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def graph(text: str, constants: Feeds | None = None) -> onnx.ModelProto:
    """A model from ONNX's own textual form, some of its inputs turned into initializers."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in (constants or {}).items())
    left = [port for port in model.graph.input if port.name not in (constants or {})]
    del model.graph.input[:]
    model.graph.input.extend(left)
    return model


def emulated(model: onnx.ModelProto, folder: Path, **options: Any) -> stepwell.Model:
    with emulation.of(folder):
        return stepwell.compile(model, target="aarch64", **options)


def results(model: stepwell.Model, feeds: Feeds) -> list[Array]:
    return list(model.run(feeds).values())


# Sums and functions


MLP = graph(
    """mlp (float[n, 37] x, float[37, 61] w, float[61] b, float[61, 5] v) => (float[n, 5] y) {
        h = MatMul(x, w)  s = Add(h, b)  r = Relu(s)  y = MatMul(r, v)
    }""",
    {"w": normal(37, 61), "b": normal(61), "v": normal(61, 5)},
)
ROWS = graph(
    """rows (float[n, m] x, float[m] g, float[m] b, int64[1] last) => (float[n, m] p, float[n, m] y, float[n, 1] s) {
        p = Softmax<axis = -1>(x)  y = LayerNormalization<axis = -1>(x, g, b)  s = ReduceLogSumExp(x, last)
    }""",
    {"last": np.array([1])},
)
CONVOLUTION = graph(
    """convolution (float[n, 3, h, w] x, float[20, 3, 3, 3] k, float[20] b, float[20, 1, 3, 3] d)
        => (float[n, 20, p, q] y) {
        c = Conv<pads = [1, 1, 1, 1]>(x, k, b)
        r = Relu(c)
        e = Conv<pads = [0, 1, 2, 1], strides = [2, 1], group = 20>(r, d)
        y = MaxPool<kernel_shape = [2, 2]>(e)
    }""",
    {"k": normal(20, 3, 3, 3), "b": normal(20), "d": normal(20, 1, 3, 3)},
)
ATTENTION = graph(
    """attention (float[b, s, 12] q, float[b, t, 12] k, float[b, t, 7] v, float[s, t] mask) => (float[b, s, 7] y) {
        kt = Transpose<perm = [0, 2, 1]>(k)  a = MatMul(q, kt)  m = Add(a, mask)  p = Softmax(m)  y = MatMul(p, v)
    }"""
)
RECURRENCE = graph(
    """recurrence (float[s, b, 9] x, float[1, 44, 9] w, float[1, 44, 11] r, float[1, 88] c) => (float[s, 1, b, 11] y) {
        y = LSTM<hidden_size = 11>(x, w, r, c)
    }""",
    {"w": normal(1, 44, 9), "r": normal(1, 44, 11), "c": normal(1, 88)},
)
FUNCTIONS = graph(
    """functions (float[n] x) => (float[n] e, float[n] l, float[n] t, float[n] f, float[n] g, float[n] s) {
        e = Exp(x)  a = Abs(x)  l = Log(a)  t = Tanh(x)  f = Erf(x)  g = Gelu(x)  s = Sin(x)
    }"""
)


def with_masked_rows(*shape: int) -> Array:
    mask = np.where(normal(*shape) > 0.3, -np.inf, 0).astype(np.float32)
    mask[:, 0] = 0
    return mask


CASES: dict[str, tuple[onnx.ModelProto, list[Feeds]]] = {
    "mlp": (MLP, [{"x": normal(n, 37)} for n in (0, 1, 3, 8, 50)]),
    "rows": (ROWS, [{"x": normal(n, m) * 3, "g": normal(m), "b": normal(m)} for n, m in ((1, 1), (5, 3), (4, 127))]),
    "convolution": (CONVOLUTION, [{"x": normal(n, 3, h, w)} for n, h, w in ((1, 5, 4), (2, 15, 17))]),
    "attention": (ATTENTION, [
        {"q": normal(b, s, 12), "k": normal(b, t, 12), "v": normal(b, t, 7), "mask": with_masked_rows(s, t)}
        for b, s, t in ((1, 1, 1), (3, 9, 21))
    ]),
    "recurrence": (RECURRENCE, [{"x": normal(s, b, 9)} for s, b in ((1, 1), (6, 5))]),
    "functions": (FUNCTIONS, [
        {"x": np.append(normal(n) * 3, np.array([0, 1e-40, 30, -30], np.float32))} for n in (3, 60)
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_like_onnxruntime(name: str, tmp_path: Path) -> None:
    model, all_feeds = CASES[name]
    compiled = emulated(model, tmp_path)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for feeds in all_feeds:
        for found, expected in zip(results(compiled, feeds), session.run(None, dict(feeds)), strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, strict=True)


def test_not_a_number_and_infinity_stay_in_their_rows(tmp_path: Path) -> None:
    compiled = emulated(MLP, tmp_path)
    x = normal(6, 37)
    (clean,) = results(compiled, {"x": x})
    x[1, 5], x[4, 36] = np.nan, np.inf
    (y,) = results(compiled, {"x": x})
    assert np.isnan(y[1]).all()
    assert not np.isfinite(y[4]).any()
    np.testing.assert_array_equal(y[[0, 2, 3, 5]], clean[[0, 2, 3, 5]])


@pytest.mark.parametrize("name", CASES)
def test_strict_arithmetic_has_the_bits_of_this_machine(name: str, tmp_path: Path) -> None:
    model, all_feeds = CASES[name]
    compiled, here = emulated(model, tmp_path, precision="strict"), stepwell.compile(model, precision="strict")
    for feeds in all_feeds:
        for found, expected in zip(results(compiled, feeds), results(here, feeds), strict=True):
            assert found.tobytes() == expected.tobytes()


# What no order of sums touches


WHOLE = graph(
    """whole (int32[n] a, int32[n] b, int64[n] c, uint8[n] d, int64 zero)
        => (int32[n] q, int32[n] r, int64[n] m, uint8[n] s, int32[n] t, int64 u, bool[n] l, int64[n] i) {
        q = Div(a, b)  r = Mod(a, b)  cb = Cast<to = 7>(b)  m = Mul(c, cb)  s = BitShift<direction = "LEFT">(d, d)
        x = BitwiseXor(a, b)  t = Max(x, a)  u = ReduceSum<keepdims = 0>(c)  l = Less(a, b)  i = CumSum(c, zero)
    }""",
    {"zero": np.array(0)},
)
NARROW = graph(
    """narrow (float[n] x, double[n] z, float16[n] h, bfloat16[n] b)
        => (float16[n] xh, bfloat16[n] xb, float8e4m3fn[n] x8, float16[n] zh, float[n] hf, float[n] bf, float16[n] hs,
            bfloat16[n] bs, int8[n] xi) {
        xh = Cast<to = 10>(x)  xb = Cast<to = 16>(x)  x8 = Cast<to = 17>(x)  zh = Cast<to = 10>(z)
        hf = Cast<to = 1>(h)  bf = Cast<to = 1>(b)  hs = Mul(h, h)  bs = Add(b, b)  xi = Cast<to = 3>(x)
    }"""
)
QUANTISED = graph(
    """quantised (float[n, k] x, int8[k, 13] w, float scale, uint8 zero, float coarse)
        => (uint8[n, k] q, float[n, k] d, int32[n, 13] y, uint8[n, 13] z) {
        q = QuantizeLinear(x, scale, zero)  d = DequantizeLinear(q, scale, zero)  y = MatMulInteger(q, w, zero)
        f = Cast<to = 1>(y)  z = QuantizeLinear(f, coarse, zero)
    }""",
    {"scale": np.array(0.021, np.float32), "zero": np.array(117, np.uint8), "coarse": np.array(37.5, np.float32)},
)


def integers(dtype: Any, count: int) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(count).integers(info.min, info.max, count, dtype, endpoint=True)


def all_bits(dtype: Any, count: int) -> Array:
    """Numbers of every size with NaN, infinities and denormals among them."""
    words = {2: np.uint16, 4: np.uint32, 8: np.uint64}[np.dtype(dtype).itemsize]
    return integers(words, count).view(dtype)


def exact_feeds(name: str, count: int) -> Feeds:
    if name == "whole":
        b = integers(np.int32, count)
        return {"a": b[::-1].copy(), "b": np.where(b % 3 == 0, 7, b), "c": integers(np.int64, count),
                "d": integers(np.uint8, count) % 8}  # fmt: skip
    if name == "narrow":
        return {"x": np.where(np.arange(count) % 2, normal(count) * 100, 1e-6).astype(np.float32),
                "z": all_bits(np.float64, count), "h": all_bits(np.float16, count),
                "b": all_bits(ml_dtypes.bfloat16, count)}  # fmt: skip
    return {"x": normal(5, count), "w": integers(np.int8, 13 * count).reshape(count, 13)}


def bits(array: Array) -> Array:
    """The bytes of an array; which NaN a NaN is may differ between processors."""
    if array.dtype.kind not in "biu":
        array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
    return array.reshape(-1).view(np.uint8)


@pytest.mark.parametrize("count", [1, 19, 260])
@pytest.mark.parametrize(("name", "model"), [("whole", WHOLE), ("narrow", NARROW), ("quantised", QUANTISED)])
def test_the_bits_of_this_machine(name: str, model: onnx.ModelProto, count: int, tmp_path: Path) -> None:
    feeds = exact_feeds(name, count)
    here, there = results(stepwell.compile(model), feeds), results(emulated(model, tmp_path), feeds)
    for port, expected, found in zip(model.graph.output, here, there, strict=True):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(bits(found), bits(expected), err_msg=port.name)


# The team and the status word


@pytest.mark.parametrize("threads", [2, 3])
def test_results_do_not_depend_on_the_number_of_threads(threads: int, tmp_path: Path) -> None:
    feeds = {"x": normal(2, 3, 30, 31)}
    compiled = emulated(CONVOLUTION, tmp_path, threads=threads)
    found = []
    for team in (1, threads):
        Team.get(threads=team)
        found.append(results(compiled, feeds)[0])
    np.testing.assert_array_equal(found[0], found[1])


GATHER = graph("gather (float[n] x, int64[m] i) => (float[m] y) { y = Gather(x, i) }")


def test_run_time_errors_reach_the_caller(tmp_path: Path) -> None:
    compiled = emulated(GATHER, tmp_path)
    x = normal(5)
    assert results(compiled, {"x": x, "i": np.array([4, -5, 0])})[0].tolist() == [x[4], x[0], x[0]]
    with pytest.raises(stepwell.RuntimeError, match="Gather"):
        compiled.run({"x": x, "i": np.array([1, 5])})


NONZERO = graph(
    """nonzero (float[n] x) => (int64[1, k] i, float[k] y) {
        i = NonZero(x)  b = Cast<to = 9>(x)  y = Compress(x, b)
    }"""
)


@pytest.mark.parametrize("count", [0, 1, 100])
def test_sizes_that_data_decides(count: int, tmp_path: Path) -> None:
    x = np.maximum(normal(count), 0)
    i, y = results(emulated(NONZERO, tmp_path), {"x": x})
    np.testing.assert_array_equal(i, np.array(np.nonzero(x)), strict=True)
    np.testing.assert_array_equal(y, x[x > 0], strict=True)


def test_what_is_defined_nowhere_is_named(tmp_path: Path) -> None:
    text = "declare void @nobody()\ndefine i64 @main(ptr %a, ptr %t, i64 %i) { call void @nobody() ret i64 0 }"
    image = jit.compile_object(text, target.named("aarch64"))
    with pytest.raises(AssertionError, match="nobody"):
        emulation.link(emulation.Objects((image,), tmp_path), "main")
