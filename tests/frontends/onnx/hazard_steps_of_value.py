"""Steps of the operators that compute: which version means what by the same node, worked out by hand."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper

from tests.frontends.onnx.hazard_sides import N, Side, X, at, f32, ints

INF, NAN = np.inf, np.nan
CUBE = np.arange(24, dtype=N).reshape(2, 3, 4) / 8
PAIRS = f32([1, 2], [3, 6])
ONES, ZEROS = f32(1, 1), f32(0, 0)
LINE = f32(1, 2, 3, 4).reshape(1, 1, 4)
SIGNAL = np.random.default_rng(1).standard_normal((1, 4, 3, 1)).astype(N)
GROUPED = f32([[0, 2], [4, 8], [1, 5], [3, 3]])
EIGHT = {dtype: np.dtype(getattr(ml_dtypes, dtype)) for dtype in ("float8_e4m3fn", "float8_e8m0fnu", "int4")}
KEYS = [np.zeros((1, 1, 3, 1), N), np.zeros((1, 1, 3, 1), N), f32([[[0], [3], [6]]])]


def softmax(x: Any, axis: int = -1) -> Any:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def rows(function: Any, x: Any, axis: int) -> Any:
    """A function along the rows of the matrix that x is when it is cut in two before `axis`."""
    return function(x.reshape(int(np.prod(x.shape[:axis])), -1)).reshape(x.shape)


def hardmax(x: Any) -> Any:
    return (x.argmax(-1)[..., None] == np.arange(x.shape[-1])).astype(N)


def small(dtype: str, *values: float) -> Any:
    return np.array(values, EIGHT[dtype])


def totals() -> Any:
    """The body of a scan: a running total, and the same as output."""
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("total", "next", "sum", "out")]
    nodes = [helper.make_node("Add", ["total", "next"], ["sum"]), helper.make_node("Identity", ["sum"], ["out"])]
    return helper.make_graph(nodes, "body", info[:2], info[2:])


def spectrum(x: Any, axis: int) -> Any:
    made = np.fft.fft(x[..., 0].astype(np.float64), axis=axis)
    return np.stack([made.real, made.imag], -1).astype(N)


def normed() -> Any:
    """GROUPED in two groups of two channels."""
    apart = GROUPED.reshape(2, 4)
    made = (apart - apart.mean(1, keepdims=True)) / np.sqrt(apart.var(1, keepdims=True) + N(1e-5))
    return made.reshape(1, 4, 2)


SCAN_IN = f32([1, 2], [3, 4], [5, 6])
SCAN_OUT = f32([1, 2], [4, 6], [9, 12])
STEPS: dict[str, tuple[Side, ...]] = {
    "Softmax 11 -> 13: along one axis, no longer along the rows of a matrix": (
        at(11, rows(softmax, CUBE, 1), CUBE),
        at(13, softmax(CUBE), CUBE),
        at(11, rows(softmax, CUBE, 1), CUBE, axis=1),
        at(13, softmax(CUBE, 1), CUBE, axis=1),
    ),
    "LogSoftmax 11 -> 13: along one axis, no longer along the rows of a matrix": (
        at(11, np.log(rows(softmax, CUBE, 1)), CUBE),
        at(13, np.log(softmax(CUBE)), CUBE),
    ),
    "Hardmax 11 -> 13: along one axis, no longer along the rows of a matrix": (
        at(11, rows(hardmax, CUBE, 1), CUBE),
        at(13, hardmax(CUBE), CUBE),
    ),
    "BatchNormalization 6 -> 7: no flag tells inference": (
        at(6, PAIRS, PAIRS, ONES, ZEROS, ZEROS, ONES, epsilon=0.0, is_test=1),
        at(7, PAIRS, PAIRS, ONES, ZEROS, ZEROS, ONES, epsilon=0.0),
        at(7, "is_test", PAIRS, ONES, ZEROS, ZEROS, ONES, is_test=1),
    ),
    "BatchNormalization 7 -> 9: statistics are those of channels only": (
        at(7, f32([[1, 4]]), f32([[1, 2]]), f32([1, 2]), *[f32(ZEROS)] * 2, f32(ONES), epsilon=0.0, spatial=0),
        at(9, f32([[2, 4]]), f32([[1, 2]]), f32(2), f32(0), f32(0), f32(1), epsilon=0.0),
        at(9, "spatial", f32([[1, 2]]), f32(2), f32(0), f32(0), f32(1), spatial=0),
    ),
    "BatchNormalization 9 -> 14: a flag tells training, with three outputs": (
        at(9, [f32([-1, -1], [1, 1]), f32(1, 2), f32(1, 2.5), f32(2, 4), f32(1, 4)],
           PAIRS, ONES, ZEROS, ZEROS, ONES, outputs=5, epsilon=0.0, momentum=0.5),
        at(14, [f32([-1, -1], [1, 1]), f32(1, 2), f32(1, 2.5)], PAIRS, ONES, ZEROS, ZEROS, ONES, outputs=3,
           epsilon=0.0, momentum=0.5, training_mode=1),
        at(14, PAIRS, PAIRS, ONES, ZEROS, ZEROS, ONES, epsilon=0.0),
    ),
    "BatchNormalization 14 -> 15: statistics of another type": (
        at(14, PAIRS.astype(np.float16), *(a.astype(np.float16) for a in (PAIRS, ONES, ZEROS, ZEROS, ONES)),
           epsilon=0.0),
        at(15, PAIRS.astype(np.float16), PAIRS.astype(np.float16), ONES, ZEROS, ZEROS, ONES, epsilon=0.0),
    ),
    "GroupNormalization 18 -> 21: a scale per channel, no longer per group": (
        at(18, normed() * f32([1], [1], [2], [2]), GROUPED.reshape(1, 4, 2), f32(1, 2), ZEROS, num_groups=2),
        at(21, normed() * f32([1], [2], [3], [4]), GROUPED.reshape(1, 4, 2), f32(1, 2, 3, 4), np.zeros(4, N),
           num_groups=2),
        at(21, "2 elements, in opset 21 it has 4", GROUPED.reshape(1, 4, 2), f32(1, 2), ZEROS, num_groups=2),
    ),
    "RMSNormalization 22 -> 23: it is new": (
        at(23, f32([3, 4]) / np.sqrt(N(12.5)), f32([3, 4]), ONES, epsilon=0.0),
    ),
    "Clip 1 -> 6: the same attributes, now with defaults": (
        at(1, f32(-2, 0.5, 6), f32(-2, 0.5, 7), max=6.0),
        at(6, f32(-2, 0.5, 6), f32(-2, 0.5, 7), max=6.0),
    ),
    "Clip 6 -> 11: bounds become inputs": (
        at(6, f32(0, 0.5, 6, NAN), f32(-2, 0.5, 7, NAN), min=0.0, max=6.0),
        at(11, f32(0, 0.5, 6, NAN), f32(-2, 0.5, 7, NAN), N(0), N(6)),
        at(11, f32(-2, 0.5, 6, NAN), f32(-2, 0.5, 7, NAN), None, N(6)),
        at(11, "min", f32(1), min=0.0),
    ),
    "Clip 11 -> 12: integers": (
        at(11, f32(0, 3), f32(-1, 3), N(0), N(5)),
        at(12, ints(0, 3, 5), ints(-1, 3, 9), np.int64(0), np.int64(5)),
        at(13, np.array([4, 200], np.uint8), np.array([0, 250], np.uint8), np.uint8(4), np.uint8(200)),
    ),
    "Dropout 6 -> 7: no flag tells inference": (
        at(6, [X, np.ones_like(X)], X, outputs=2, is_test=1),
        at(7, [X, np.ones_like(X)], X, outputs=2),
    ),
    "Dropout 7 -> 10: the mask is of bool": (
        at(7, [X, np.ones_like(X)], X, outputs=2, ratio=0.9),
        at(10, [X, np.ones((2, 3), bool)], X, outputs=2, ratio=0.9),
    ),
    "Dropout 10 -> 12: the ratio becomes an input, with a flag for training": (
        at(10, X, X, ratio=0.9),
        at(12, X, X, N(0.9)),
        at(12, [X, np.ones((2, 3), bool)], X, N(0.0), np.array(True), outputs=2),
        at(12, "ratio", X, ratio=0.9),
    ),
    "Cast 1 -> 6: the type is a number, no longer a name": (
        at(1, np.array([1, -2], np.int32), f32(1.9, -2.9), to="INT32"),
        at(6, np.array([1, -2], np.int32), f32(1.9, -2.9), to=TensorProto.INT32),
    ),
    "Cast 6 -> 9: strings": (
        at(6, f32(1, 2), ints(1, 2), to=TensorProto.FLOAT),
        at(9, f32(1.5, INF), np.array(["1.5", "INF"], object), to=TensorProto.FLOAT),
    ),
    "Cast 13 -> 19: floats of eight bits, which saturate": (
        at(13, np.array([1000], np.float16), f32(1000), to=TensorProto.FLOAT16),
        at(19, small("float8_e4m3fn", 448), f32(1000), to=TensorProto.FLOAT8E4M3FN),
        at(19, small("float8_e4m3fn", NAN), f32(1000), to=TensorProto.FLOAT8E4M3FN, saturate=0),
        at(13, "saturate", f32(1000), to=TensorProto.FLOAT16, saturate=0),
    ),
    "Cast 23 -> 24: powers of two, rounded up by default": (
        at(23, "round_mode", f32(3), to=TensorProto.FLOAT16, round_mode="up"),
        at(24, small("float8_e8m0fnu", 4), f32(3), to=TensorProto.FLOAT8E8M0),
        at(24, small("float8_e8m0fnu", 2), f32(3), to=TensorProto.FLOAT8E8M0, round_mode="down"),
    ),
    "AveragePool 1 -> 7: borders may count": (
        at(1, f32([[1.5, 2, 3, 3.5]]), LINE, kernel_shape=[3], pads=[1, 1]),
        at(7, f32([[1.5, 2, 3, 3.5]]), LINE, kernel_shape=[3], pads=[1, 1]),
        at(7, f32([[1, 2, 3, 7 / 3]]), LINE, kernel_shape=[3], pads=[1, 1], count_include_pad=1),
    ),
    "AveragePool 7 -> 10: a last window that is cut": (
        at(7, f32([[1.5]]), LINE[..., :3], kernel_shape=[2], strides=[2]),
        at(10, f32([[1.5]]), LINE[..., :3], kernel_shape=[2], strides=[2]),
        at(10, f32([[1.5, 3]]), LINE[..., :3], kernel_shape=[2], strides=[2], ceil_mode=1),
    ),
    "AveragePool 11 -> 19: dilations, no window that starts in the border behind": (
        at(11, f32([[1.5, 3.5]]), LINE, kernel_shape=[2], strides=[2], pads=[0, 0], ceil_mode=1),
        at(19, f32([[1.5, 3.5]]), LINE, kernel_shape=[2], strides=[2], pads=[0, 1], ceil_mode=1),
        at(19, f32([[1, 3, 2]]), LINE, kernel_shape=[3], strides=[2], pads=[1, 1], ceil_mode=1,
           count_include_pad=1),
        at(19, f32([[2, 3]]), LINE, kernel_shape=[2], dilations=[2]),
        at(11, "dilations", LINE, kernel_shape=[2], dilations=[2]),
    ),
    "MaxPool 1 -> 8: places": (
        at(1, f32([[4, 6]]), f32([[4, 1, 6]]), kernel_shape=[2]),
        at(8, [f32([[4, 6]]), ints(0, 2).reshape(1, 1, 2)], f32([[4, 1, 6]]), kernel_shape=[2], outputs=2),
        at(8, [f32([[[5]]]), ints(5).reshape(1, 1, 1, 1)], X[None, None], kernel_shape=[2, 3], storage_order=1,
           outputs=2),
    ),
    "MaxPool 8 -> 10: dilations, a last window that is cut": (
        at(8, f32([[2]]), LINE[..., :3], kernel_shape=[2], strides=[2]),
        at(10, f32([[2, 3]]), LINE[..., :3], kernel_shape=[2], strides=[2], ceil_mode=1),
        at(10, f32([[3, 4]]), LINE, kernel_shape=[2], dilations=[2]),
    ),
    "MaxPool 11 -> 12: integers of eight bits": (
        at(11, f32([[2, 3]]), LINE[..., :3], kernel_shape=[2]),
        at(12, np.array([[[-1, 7]]], np.int8), np.array([[[-1, -5, 7]]], np.int8), kernel_shape=[2]),
    ),
    "ConvTranspose 1 -> 11: the wording of the borders, not their meaning": tuple(
        at(version, f32([made]), f32([[1, 10, 100]]), f32([kernel]), strides=[2], **told)
        for version in (1, 11)
        for kernel, told, made in (
            ([1, 2, 3, 4], {"output_shape": [7]}, [2, 13, 24, 130, 240, 300, 400]),
            ([1, 2, 3, 4], {"output_shape": [7], "auto_pad": "SAME_UPPER"}, [1, 2, 13, 24, 130, 240, 300]),
            ([1, 2, 3, 4], {"output_shape": [7], "auto_pad": "SAME_LOWER"}, [2, 13, 24, 130, 240, 300, 400]),
            ([1, 2, 3], {"auto_pad": "SAME_UPPER"}, [1, 2, 13, 20, 130, 200]),
            ([1, 2, 3], {"auto_pad": "SAME_LOWER"}, [2, 13, 20, 130, 200, 300]),
        )
    ),
    "DFT 17 -> 20: the axis becomes an input, and is the last but one by default": (
        at(17, spectrum(SIGNAL, 1), SIGNAL),
        at(20, spectrum(SIGNAL, 2), SIGNAL),
        at(17, spectrum(SIGNAL, 2), SIGNAL, axis=2),
        at(20, spectrum(SIGNAL, 1), SIGNAL, None, np.int64(1)),
        at(20, "axis", SIGNAL, axis=1),
    ),
    "Add 6 -> 7: shapes meet at their ends, no longer at an axis": (
        at(6, X + f32([10], [20]), X, f32(10, 20), broadcast=1, axis=0),
        at(6, X + f32(1, 2, 3), X, f32(1, 2, 3), broadcast=1),
        at(7, X + f32(1, 2, 3), X, f32(1, 2, 3)),
        at(7, X + f32([10], [20]), X, f32([10], [20])),
        at(7, "broadcast", X, f32(10, 20)),
        at(7, "axis", X, f32(10, 20), axis=0),
    ),
    "Less 6 -> 7: shapes meet at their ends, no longer at an axis": (
        at(1, f32([1], [4]) > X, X, f32(1, 4), broadcast=1, axis=0),
        at(7, f32([1], [4]) > X, X, f32([1], [4])),
    ),
    "Scan 8 -> 9: no batch, axes and directions of its own": (
        at(8, [f32([9, 12]), SCAN_OUT[None]], None, f32([0, 0]), SCAN_IN[None], outputs=2, num_scan_inputs=1,
           body=totals()),
        at(9, [f32(9, 12), SCAN_OUT], ZEROS, SCAN_IN, outputs=2, num_scan_inputs=1, body=totals()),
        at(9, [f32(9, 12), SCAN_OUT.T], ZEROS, SCAN_IN.T, outputs=2, num_scan_inputs=1, scan_input_axes=[1],
           scan_output_axes=[1], body=totals()),
        at(9, [f32(9, 12), f32([5, 6], [8, 10], [9, 12])], ZEROS, SCAN_IN, outputs=2, num_scan_inputs=1,
           scan_input_directions=[1], body=totals()),
        at(8, [f32([9, 12]), f32([[5, 6], [8, 10], [9, 12]])], None, f32([0, 0]), SCAN_IN[None], outputs=2,
           num_scan_inputs=1, directions=[1], body=totals()),
    ),
    "QuantizeLinear 10 -> 13: a scale per slice": (
        at(10, np.array([[1, 3], [0, 5]], np.uint8), f32([0, 3], [-2, 9]), N(2), np.uint8(1)),
        at(13, np.array([[0, 1], [-2, 3]], np.int8), f32([0, 3], [-2, 9]), f32(1, 3), np.array([0, 0], np.int8)),
        at(13, np.array([[0, 3], [-1, 3]], np.int8), f32([0, 3], [-2, 9]), f32(1, 3), np.array([0, 0], np.int8),
           axis=0),
    ),
    "QuantizeLinear 13 -> 19: floats of eight bits, which saturate": (
        at(13, np.array([127], np.int8), f32(1000), N(1), np.int8(0)),
        at(19, small("float8_e4m3fn", 448), f32(1000), N(1), small("float8_e4m3fn", 0)[0]),
        at(19, small("float8_e4m3fn", NAN), f32(1000), N(1), small("float8_e4m3fn", 0)[0], saturate=0),
    ),
    "QuantizeLinear 19 -> 21: blocks, sixteen and four bits, a type without a zero point": (
        at(19, np.array([4], np.int8), f32(9), N(2), np.int8(0)),
        at(21, np.array([[1, 2, 1, 2]], np.uint8), f32([1, 2, 4, 8]), f32([1, 4]), axis=1, block_size=2),
        at(21, small("int4", 7, -8), f32(9, -9), N(1), small("int4", 0)[0]),
        at(21, np.array([-300], np.int16), f32(-300), N(1), output_dtype=TensorProto.INT16),
        at(19, "block_size", f32([1, 2, 4, 8]), f32([1, 4]), axis=1, block_size=2),
    ),
    "QuantizeLinear 21 -> 23: the type that is divided in": (
        at(21, np.array([2049], np.uint16), f32(2049), N(1), np.uint16(0)),
        at(23, np.array([2049], np.uint16), f32(2049), N(1), np.uint16(0)),
        at(23, np.array([2048], np.uint16), f32(2049), N(1), np.uint16(0), precision=TensorProto.FLOAT16),
    ),
    "DequantizeLinear 10 -> 13: a scale per slice": (
        at(10, f32([4, -2]), np.array([[3, 0]], np.int8), N(2), np.int8(1)),
        at(13, f32([3, 0]), np.array([[3, 1]], np.int8), f32(1, 2), np.array([0, 1], np.int8)),
    ),
    "DequantizeLinear 19 -> 21: blocks": (
        at(19, f32([2, 4]), np.array([[1, 2]], np.int8), N(2)),
        at(21, f32([2, 4, 9, 12]), np.array([[1, 2, 3, 4]], np.uint8), f32([2, 3]), axis=1, block_size=2),
        at(21, f32(-8, 7), small("int4", -8, 7), N(1)),
        at(19, "block_size", np.array([[1, 2]], np.uint8), f32([2]), axis=1, block_size=2),
    ),
    "DequantizeLinear 21 -> 23: the type of the result": (
        at(21, np.array([2, 4], np.float16), np.array([1, 2], np.int8), np.float16(2)),
        at(23, f32(2, 4), np.array([1, 2], np.int8), np.float16(2), output_dtype=TensorProto.FLOAT),
        at(21, "output_dtype", np.array([1], np.int8), np.float16(2), output_dtype=TensorProto.FLOAT),
    ),
    "Attention 22 -> 23: it is new": (
        at(23, f32([[[3], [3], [3]]]), *KEYS),
    ),
    "Attention 23 -> 24: the number of keys that are no padding": (
        at(23, "7 inputs|inputs", *KEYS, None, None, None, ints(2)),
        at(24, f32([[[1.5], [1.5], [1.5]]]), *KEYS, None, None, None, ints(2)),
    ),
    "Attention 24 -> 25: windows": (
        at(24, "left_window_size", *KEYS, left_window_size=0),
        at(25, f32([[[0], [3], [6]]]), *KEYS, left_window_size=0, right_window_size=0),
        at(25, f32([[[0], [1.5], [4.5]]]), *KEYS, left_window_size=1, is_causal=1),
    ),
    "RotaryEmbedding 22 -> 23: it is new": (
        at(23, f32([[[-2, 1]]]), f32([[[1, 2]]]), f32([[0]]), f32([[1]])),
    ),
    "Swish 23 -> 24: it is new": (
        at(24, f32(0, 1 / (1 + np.exp(-2))), f32(0, 1), alpha=2.0),
    ),
    "LinearAttention 26 -> 27: it is new": (
        at(27, f32([[2], [14]]), f32([[1], [2]]), f32([[2], [1]]), f32([[1], [5]]), q_num_heads=1, kv_num_heads=1,
           update_rule="linear", scale=1.0),
    ),
    "CausalConvWithState 26 -> 27: it is new": (
        at(27, [f32([[1, 12, 23]]), f32([[3]])], f32([[1, 2, 3]]), f32([[10, 1]]), outputs=2),
    ),
    "SwiGLU 27 -> 28: it is new": (
        at(28, f32(0, 3 / (1 + np.exp(-1))), f32(0, 1), f32(5, 3)),
    ),
}  # fmt: skip
