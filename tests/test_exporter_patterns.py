"""Subgraphs as PyTorch's exporters write them, compiled once and run at several sizes beside onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def whole(*values: int) -> Array:
    return np.array(values, np.int64)


def made(
    nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Sequence[Any]], outputs: Sequence[str],
    constants: Mapping[str, Array], opset: int = 17,
) -> onnx.ModelProto:  # fmt: skip
    """A model of float inputs; an output's type is left to be inferred."""
    graph = helper.make_graph(
        nodes, "pattern",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def agrees(model: onnx.ModelProto, *feeds: Mapping[str, Array]) -> None:
    """One compile gives onnxruntime's outputs for all feeds."""
    compiled = stepwell.compile(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for feed in feeds:
        expected = session.run(None, dict(feed))
        found = compiled.run(feed)
        for name, array in zip((o.name for o in session.get_outputs()), expected, strict=True):
            assert found[name].shape == array.shape
            np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


node = helper.make_node


def border_pairs(before: str, rank: int) -> list[onnx.NodeProto]:
    """pads = the list `before`, filled up with zeros, as pairs, in reverse order, its ends behind its beginnings."""
    return [
        node("ConstantOfShape", ["missing"], ["zeros"], value=numpy_helper.from_array(whole(0))),
        node("Concat", [before, "zeros"], ["all"], axis=0),
        node("Reshape", ["all", "pairs"], ["paired"]),
        node("Slice", ["paired", "last", "first", "axis", "back"], ["turned"]),
        node("Transpose", ["turned"], ["sides"], perm=[1, 0]),
        node("Reshape", ["sides", "flat"], ["listed"]),
        node("Cast", ["listed"], ["pads"], to=TensorProto.INT64),
    ]


PAIRS = {
    "pairs": whole(-1, 2), "last": whole(-1), "first": whole(-(2**63) + 1), "axis": whole(0), "back": whole(-1),
    "flat": whole(-1),
}  # fmt: skip


@pytest.mark.parametrize("opset", [11, 17])
def test_borders_computed_as_pairs(opset: int) -> None:
    nodes = [*border_pairs("before", 3), node("Pad", ["x", "pads", "value"], ["y"])]
    constants = {**PAIRS, "before": whole(2, 1), "missing": whole(4), "value": np.array(1.5, np.float32)}
    agrees(made(nodes, {"x": ["b", 3, "t"]}, ["y"], constants, opset), {"x": normal(2, 3, 5)}, {"x": normal(1, 3, 8)})


def test_borders_that_depend_on_sizes() -> None:
    """Half of what two sizes differ by on each side, in rank 2 on the way."""
    nodes = [
        node("Shape", ["x"], ["small"], start=2), node("Shape", ["z"], ["large"], start=2),
        node("Sub", ["large", "small"], ["lack"]), node("Div", ["lack", "two"], ["left"]),
        node("Sub", ["lack", "left"], ["right"]), node("Concat", ["left", "right"], ["before"], axis=0),
        *border_pairs("before", 3), node("Pad", ["x", "pads"], ["wide"]), node("Add", ["wide", "z"], ["y"]),
    ]  # fmt: skip
    constants = {**PAIRS, "two": whole(2), "missing": whole(4)}
    model = made(nodes, {"x": ["b", 3, "t"], "z": ["b", 3, "u"]}, ["y"], constants)
    agrees(model, {"x": normal(2, 3, 5), "z": normal(2, 3, 8)}, {"x": normal(1, 3, 6), "z": normal(1, 3, 6)})


def test_a_size_divided_in_floats() -> None:
    """floor(cast(n) / 2) and the root of a constant, as older exporters write `n // 2` and `n ** 0.5`."""
    nodes = [
        node("Shape", ["x"], ["size"], start=1, end=2), node("Cast", ["size"], ["float"], to=TensorProto.FLOAT),
        node("Div", ["float", "two"], ["half"]), node("Floor", ["half"], ["floor"]),
        node("Cast", ["floor"], ["end"], to=TensorProto.INT64), node("Slice", ["x", "zero", "end", "one"], ["front"]),
        node("Pow", ["sixteen", "exponent"], ["root"]), node("Cast", ["root"], ["four"], to=TensorProto.INT64),
        node("Concat", ["zero", "minus", "four"], ["shape"], axis=0), node("Reshape", ["front", "shape"], ["y"]),
    ]  # fmt: skip
    constants = {
        "two": np.array([2], np.float32), "zero": whole(0), "one": whole(1), "minus": whole(-1),
        "sixteen": np.array([16], np.float32), "exponent": np.array([0.5], np.float32),
    }  # fmt: skip
    agrees(made(nodes, {"x": [3, "n", 4]}, ["y"], constants), {"x": normal(3, 6, 4)}, {"x": normal(3, 9, 4)})


def test_repeats_written_as_one_hot() -> None:
    """repeat_interleave: a Tile by 1, except along one axis."""
    nodes = [
        node("Shape", ["z"], ["count"], start=0, end=1), node("Concat", ["one", "count"], ["values"], axis=0),
        node("OneHot", ["axis", "depth", "values"], ["hot"]), node("Reshape", ["hot", "flat"], ["repeats"]),
        node("Tile", ["x", "repeats"], ["y"]),
    ]  # fmt: skip
    constants = {"one": whole(1), "axis": whole(1), "depth": whole(3), "flat": whole(-1)}
    model = made(nodes, {"x": [2, "n", 3], "z": ["m"]}, ["y"], constants)
    agrees(model, {"x": normal(2, 4, 3), "z": normal(3)}, {"x": normal(2, 1, 3), "z": normal(5)})


def test_a_size_divided_by_a_size() -> None:
    nodes = [
        node("Shape", ["x"], ["rows"], start=0, end=1), node("Shape", ["z"], ["parts"], start=0, end=1),
        node("Div", ["rows", "parts"], ["each"]), node("Squeeze", ["each"], ["limit"]),
        node("Range", ["zero", "limit", "one"], ["y"]),
    ]  # fmt: skip
    constants = {"zero": np.array(0, np.int64), "one": np.array(1, np.int64)}
    model = made(nodes, {"x": ["n", 2], "z": ["m"]}, ["y"], constants)
    agrees(model, {"x": normal(12, 2), "z": normal(3)}, {"x": normal(7, 2), "z": normal(2)})


def test_batches_of_a_product_that_may_be_one() -> None:
    nodes = [node("MatMul", ["a", "b"], ["y"]), node("Einsum", ["a", "b"], ["z"], equation="bij,bjk->bki")]
    model = made(nodes, {"a": ["n", 3, 4], "b": ["m", 4, 5]}, ["y", "z"], {})
    sizes = ((2, 2), (1, 3), (3, 1), (1, 1))
    agrees(model, *({"a": normal(n, 3, 4), "b": normal(m, 4, 5)} for n, m in sizes))


def test_a_product_squared_at_once() -> None:
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Relu", ["p"], ["r"]), node("Mul", ["r", "r"], ["y"])]
    agrees(made(nodes, {"x": ["n", 8]}, ["y"], {"w": normal(8, 40)}), {"x": normal(5, 8)}, {"x": normal(1, 8)})


def test_a_product_times_its_transpose_elementwise() -> None:
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Transpose", ["p"], ["t"], perm=[1, 0]),
             node("Mul", ["p", "t"], ["y"])]  # fmt: skip
    agrees(made(nodes, {"x": [6, 8]}, ["y"], {"w": normal(8, 6)}), {"x": normal(6, 8)})


@pytest.mark.parametrize(
    ("groups", "channels", "attributes"),
    [
        (4, (8, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        (6, (6, 1), {"strides": [2, 1], "pads": [1, 1, 1, 1]}),
        (1, (4, 5), {"strides": [2, 2], "dilations": [2, 1]}),
        (2, (4, 3), {"strides": [3, 2], "dilations": [2, 3], "pads": [0, 1, 2, 0]}),
    ],
)
def test_transposed_convolutions(groups: int, channels: tuple[int, int], attributes: dict[str, Any]) -> None:
    constants = {"w": normal(*channels, 3, 3), "b": normal(groups * channels[1])}
    nodes = [node("ConvTranspose", ["x", "w", "b"], ["y"], group=groups, **attributes)]
    model = made(nodes, {"x": ["n", channels[0], "h", "v"]}, ["y"], constants)
    agrees(model, {"x": normal(1, channels[0], 5, 7)}, {"x": normal(2, channels[0], 1, 4)})


def test_a_transposed_convolution_of_a_given_size() -> None:
    nodes = [node("ConvTranspose", ["x", "w"], ["y"], strides=[3, 2], output_shape=[13, 11], group=2)]
    agrees(made(nodes, {"x": ["n", 4, 4, 5]}, ["y"], {"w": normal(4, 2, 3, 3)}), {"x": normal(2, 4, 4, 5)})


def test_boxes_written_in_place() -> None:
    """y[..., :2] = f(y[..., :2]): a ScatterND of one element an update, as many as there are boxes."""
    count, width = 500, 6
    places = np.stack(np.meshgrid(np.arange(count), np.arange(2), indexing="ij"), -1).astype(np.int64)
    nodes = [
        node("Slice", ["x", "zero", "two", "one"], ["front"]), node("Mul", ["front", "front"], ["new"]),
        node("ScatterND", ["x", "places", "new"], ["y"]),
    ]  # fmt: skip
    constants = {"zero": whole(0), "one": whole(1), "two": whole(2), "places": places}
    agrees(made(nodes, {"x": [count, width]}, ["y"], constants), {"x": normal(count, width)})


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_updates_of_one_place_keep_their_order(reduction: str) -> None:
    """Two scatters of one tensor do not see each other's updates."""
    places = RNG.integers(-7, 7, (40, 1))
    nodes = [
        node("ScatterND", ["x", "places", "u"], ["y"], reduction=reduction),
        node("Neg", ["u"], ["v"]),
        node("ScatterND", ["x", "places", "v"], ["z"], reduction=reduction),
        node("Add", ["x", "y"], ["w"]),
    ]
    model = made(nodes, {"x": [7, "n"], "u": [40, "n"]}, ["y", "z", "w"], {"places": places}, opset=18)
    if reduction == "none":  # the order of updates of one place is not defined there
        model = made([node("ScatterND", ["x", "places", "u"], ["y"])], {"x": [7, "n"], "u": [7, "n"]}, ["y"],
                     {"places": RNG.permutation(7)[:, None]}, opset=18)  # fmt: skip
        agrees(model, {"x": normal(7, 3), "u": normal(7, 3)}, {"x": normal(7, 130), "u": normal(7, 130)})
        return
    agrees(model, {"x": normal(7, 3), "u": normal(40, 3)}, {"x": normal(7, 130), "u": normal(40, 130)})


def test_the_last_update_of_a_place_holds() -> None:
    model = made([node("ScatterND", ["x", "places", "u"], ["y"])], {"x": [4], "u": [6]}, ["y"],
                 {"places": np.array([[1], [3], [1], [-1], [0], [1]])})  # fmt: skip
    found = stepwell.compile(model)(np.zeros(4, np.float32), np.arange(1, 7, dtype=np.float32))
    np.testing.assert_array_equal(found, [5, 6, 0, 4])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_elements_scattered_along_an_axis(axis: int) -> None:
    """The indices cover a part of the other axes only."""
    shape = [4, 5, 6]
    reach, shape[axis] = shape[axis], 3
    shape[(axis + 1) % 3] -= 1
    order = np.argsort(RNG.random([*shape[:axis], reach, *shape[axis + 1 :]]), axis)
    model = made([node("ScatterElements", ["x", "i", "u"], ["y"], axis=axis)], {"x": [4, 5, 6], "u": shape}, ["y"],
                 {"i": np.take(order, np.arange(3), axis)})  # fmt: skip
    agrees(model, {"x": normal(4, 5, 6), "u": normal(*shape)})


@pytest.mark.parametrize("length", [1, 7, 64, 600, 1000])
@pytest.mark.parametrize("onesided", [0, 1])
def test_fourier_transforms(length: int, onesided: int) -> None:
    """Above 512 samples, in steps."""
    nodes = [node("DFT", ["x"], ["y"], axis=1, onesided=onesided)]
    found = stepwell.compile(made(nodes, {"x": ["b", length, 1]}, ["y"], {}))(x := normal(3, length, 1))
    spectrum = (np.fft.rfft if onesided else np.fft.fft)(x[..., 0].astype(np.float64), axis=1)
    np.testing.assert_allclose(found, np.stack([spectrum.real, spectrum.imag], -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("known", [False, True])
def test_framed_transforms(parts: int, known: bool) -> None:
    """The window is a weight or an input; the number of samples is open."""
    inputs: dict[str, list[Any]] = {"x": ["b", "n", parts]}
    constants = {"step": np.array(8, np.int64)}
    window = np.hanning(32).astype(np.float32)
    if known:
        constants["w"] = window
    else:
        inputs["w"] = [32]
    model = made([node("STFT", ["x", "step", "w"], ["y"], onesided=2 - parts)], inputs, ["y"], constants)
    feeds = [{"x": normal(2, count, parts)} for count in (32, 77, 200)]
    agrees(model, *feeds) if known else agrees(model, *({**feed, "w": window} for feed in feeds))


def test_a_signal_without_an_axis_of_parts() -> None:
    model = made([node("STFT", ["x", "step", "w"], ["y"])], {"x": ["b", "n"]}, [],
                 {"step": np.array(8, np.int64), "w": np.ones(16, np.float32)})  # fmt: skip
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    x = normal(2, 40)
    frames = np.lib.stride_tricks.sliding_window_view(x, 16, 1)[:, ::8]
    spectrum = np.fft.rfft(frames.astype(np.float64))
    np.testing.assert_allclose(stepwell.compile(model)(x), np.stack([spectrum.real, spectrum.imag], -1), atol=1e-4)


@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "dilations": [1, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 0, 1], "storage_order": 1},
])  # fmt: skip
def test_max_pools_with_indices(attributes: dict[str, Any]) -> None:
    model = made([node("MaxPool", ["x"], ["y", "i"], **attributes)], {"x": ["n", 3, "h", 9]}, ["y", "i"], {})
    equal = np.full((1, 3, 6, 9), -np.inf, np.float32)
    agrees(model, {"x": normal(2, 3, 8, 9)}, {"x": np.round(normal(1, 3, 6, 9))}, {"x": equal})


def test_deformable_convolution() -> None:
    constants = {"w": normal(6, 2, 3, 3), "b": normal(6)}
    nodes = [node("DeformConv", ["x", "w", "o", "b", "m"], ["y"], group=2, offset_group=2, strides=[2, 1],
                  pads=[1, 1, 1, 1])]  # fmt: skip
    model = made(nodes, {"x": ["n", 4, 8, 7], "o": ["n", 36, 4, 7], "m": ["n", 18, 4, 7]}, ["y"], constants, opset=19)
    agrees(model, *({"x": normal(n, 4, 8, 7), "o": 2 * normal(n, 36, 4, 7), "m": normal(n, 18, 4, 7)} for n in (1, 3)))


def test_rows_of_a_norm_times_a_mask() -> None:
    """The mask has fewer dims than the rows that the norm shares; it is computed beside them."""
    nodes = [
        node("LayerNormalization", ["x", "scale", "shift"], ["n"]), node("Unsqueeze", ["m", "last"], ["wide"]),
        node("Cast", ["wide"], ["kept"], to=TensorProto.INT64), node("Cast", ["kept"], ["mask"], to=TensorProto.FLOAT),
        node("Mul", ["n", "mask"], ["y"]),
    ]  # fmt: skip
    constants = {"scale": np.ones(32, np.float32), "shift": np.zeros(32, np.float32), "last": whole(2)}
    model = made(nodes, {"x": ["b", "s", 32], "m": ["b", "s"]}, ["y"], constants)
    agrees(model, *({"x": normal(b, s, 32), "m": np.ones((b, s), np.float32)} for b, s in ((2, 7), (1, 40))))
