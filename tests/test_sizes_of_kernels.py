"""Convolutions whose weights have sizes that only a call tells."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.errors import InputError, ModelError
from tests.symbolic_nodes import arrays, model, results

Array = np.ndarray[Any, Any]


def check(made: Any, compiled: Any, shapes: Sequence[Sequence[int]]) -> None:
    for own, wanted in results(made, compiled, shapes):
        assert own.shape == wanted.shape
        np.testing.assert_allclose(own, wanted, rtol=1e-5, atol=1e-5)


PLANE, SHAPES = {"x": 4, "w": 4, "b": 1}, [
    ((2, 4, 7, 6), (6, 2, 3, 2)), ((1, 2, 3, 3), (2, 1, 3, 3)), ((1, 6, 9, 8), (2, 3, 1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("attributes", [
    {}, {"strides": [2, 1], "dilations": [1, 2], "pads": [1, 2, 0, 1]}, {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
    {"auto_pad": "SAME_LOWER"},
])  # fmt: skip
def test_groups_and_padding(attributes: dict[str, Any]) -> None:
    made = model("Conv", 22, PLANE, group=2, **attributes)
    compiled = stepwell.compile(made)
    for x, w in SHAPES:
        check(made, compiled, [x, w, (w[0],)])


@functools.cache
def grouped() -> Any:
    return stepwell.compile(model("Conv", 22, PLANE, group=2))


def test_a_batch_of_none() -> None:
    assert grouped()(*arrays([(0, 4, 7, 6), (6, 2, 3, 2), (6,)])).shape == (0, 6, 5, 5)
    assert grouped()(*arrays([(1, 4, 7, 6), (0, 2, 3, 2), (0,)])).shape == (1, 0, 5, 5)


@pytest.mark.parametrize(("w", "b", "reason"), [
    ((6, 3, 3, 2), 6, "the channels of data and weights"), ((5, 2, 3, 2), 5, "result channels split into groups"),
    ((6, 2, 3, 2), 5, "the bias"), ((6, 4, 1, 1), 6, "the channels of data and weights"),
])  # fmt: skip
def test_weights_that_do_not_fit(w: Sequence[int], b: int, reason: str) -> None:
    with pytest.raises(InputError, match=rf"the_node.*{reason}"):
        grouped()(*arrays([(2, 4, 7, 6), w, (b,)]))


def test_a_kernel_larger_than_the_data() -> None:
    with pytest.raises(InputError):
        grouped()(*arrays([(2, 4, 2, 2), (6, 2, 4, 4), (6,)]))


@pytest.mark.parametrize("attributes", [
    {}, {"strides": [2, 3], "pads": [1, 0, 0, 2]}, {"strides": [2, 1], "dilations": [2, 3], "output_padding": [1, 0]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"auto_pad": "SAME_LOWER", "strides": [3, 2]},
])  # fmt: skip
@pytest.mark.parametrize("group", [1, 2])
def test_transposed(group: int, attributes: dict[str, Any]) -> None:
    made = model("ConvTranspose", 22, PLANE, group=group, **attributes)
    compiled = stepwell.compile(made)
    for n, c, kernel, m in ((2, 4, (3, 2), 3), (1, 2, (3, 3), 1), (1, 2, (4, 5), 2)):
        x, w = (n, c, 5, 4), (c, m, *kernel)
        expected = transposed(group, attributes, *arrays([x, w, (m * group,)]))
        np.testing.assert_allclose(compiled(*arrays([x, w, (m * group,)])), expected, rtol=1e-5, atol=1e-5)


def transposed(group: int, attributes: dict[str, Any], x: Array, w: Array, b: Array) -> Array:
    """Scattered element by element into as much room as there can be, then cut as ONNX says."""
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    extra, pads = attributes.get("output_padding", [0, 0]), attributes.get("pads", [0] * 4)
    n, c, *sizes = x.shape
    extents = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    full = [s * (size - 1) + e + o for s, size, e, o in zip(strides, sizes, extents, extra, strict=True)]
    begins, ends = pads[:2], pads[2:]
    if "auto_pad" in attributes:
        totals = [f - s * size for f, s, size in zip(full, strides, sizes, strict=True)]
        cut = [max(total, 0) for total in totals]
        upper = attributes["auto_pad"] == "SAME_UPPER"
        begins = [total // 2 if upper else total - total // 2 for total in cut]
        ends = [total - begin for total, begin in zip(totals, begins, strict=True)]  # a lack lengthens the result
    each, many = w.shape[1], c // group
    y = np.zeros((n, each * group, *(f + 8 for f in full)), np.float32)
    for ic, i, j, p, q in np.ndindex(c, *sizes, *w.shape[2:]):
        out = slice(ic // many * each, ic // many * each + each)
        at = i * strides[0] + p * dilations[0], j * strides[1] + q * dilations[1]
        y[:, out, *at] += x[:, ic, i, j][:, None] * w[ic, :, p, q]
    y = y[:, :, begins[0] : full[0] - ends[0], begins[1] : full[1] - ends[1]]
    return y + b[:, None, None]


def test_transposed_to_a_given_shape() -> None:
    made = model("ConvTranspose", 22, {"x": 3, "w": 3}, strides=[2], output_shape=[9])
    compiled = stepwell.compile(made)
    for size, kernel in ((4, 3), (5, 4), (6, 5), (3, 2)):
        x, w = arrays([(1, 2, size), (2, 3, kernel)])
        full = np.zeros((1, 3, max(2 * (size - 1) + kernel, 9)), np.float32)
        for i in range(size):
            full[..., 2 * i : 2 * i + kernel] += np.einsum("nc,cmk->nmk", x[..., i], w)
        surplus = max(2 * (size - 1) + kernel - 9, 0)
        begin = surplus - surplus // 2
        np.testing.assert_allclose(compiled(x, w), full[..., begin : begin + 9], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("x", "w", "b", "reason"), [
    ((1, 4, 5, 5), (3, 2, 3, 3), 4, "channels of data and weights"),
    ((1, 3, 5, 5), (3, 2, 3, 3), 4, "split into groups"),
    ((1, 4, 5, 5), (4, 2, 3, 3), 2, "the bias"),
])  # fmt: skip
def test_transposed_weights_that_do_not_fit(x: Sequence[int], w: Sequence[int], b: int, reason: str) -> None:
    with pytest.raises(InputError, match=rf"the_node.*{reason}"):
        stepwell.compile(model("ConvTranspose", 22, PLANE, group=2))(*arrays([x, w, (b,)]))


DEFORMED = {"x": 4, "w": 4, "o": 4, "b": 0, "m": 4}


def test_deformed() -> None:
    made = model("DeformConv", 22, DEFORMED, group=2, offset_group=2, pads=[1, 0, 1, 0])
    compiled = stepwell.compile(made)
    for c, kernel, m in ((4, (2, 3), 2), (2, (1, 1), 2), (4, (3, 2), 4)):
        taps = 2 * kernel[0] * kernel[1]
        places = 5 + 2 - kernel[0] + 1, 6 - kernel[1] + 1
        check(made, compiled, [(1, c, 5, 6), (m, c // 2, *kernel), (1, 2 * taps, *places), (1, taps, *places)])
    with pytest.raises(InputError, match=r"the_node.*sizes of the offset"):
        compiled(*arrays([(1, 4, 5, 6), (2, 2, 2, 3), (1, 23, 6, 4), (1, 12, 6, 4)]))
    with pytest.raises(InputError, match=r"the_node.*sizes of the mask"):
        compiled(*arrays([(1, 4, 5, 6), (2, 2, 2, 3), (1, 24, 6, 4), (1, 12, 5, 4)]))


@pytest.mark.parametrize("past", [False, True])
def test_causal_with_a_group_for_each_channel(past: bool) -> None:
    made = model("CausalConvWithState", 27, {"x": 3, "w": 3, "b": 1, "past": 3 if past else 0}, 2)
    compiled = stepwell.compile(made)
    assert str(compiled.outputs[1].shape[2]) == "w2 - 1"
    for c, t, k in ((3, 5, 4), (1, 1, 1), (2, 1, 3), (5, 20, 2)):
        given = arrays([(2, c, t), (c, 1, k), (c,), (2, c, k - 1)][: 4 if past else 3])
        before = given[3] if past else np.zeros((2, c, k - 1), np.float32)
        line = np.concatenate([before, given[0]], axis=2)
        windows = np.lib.stride_tricks.sliding_window_view(line, k, axis=2)
        expected = np.einsum("bctk,ck->bct", windows, given[1][:, 0]) + given[2][:, None]
        y, present = compiled(*given)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
        assert np.array_equal(present, line[:, :, line.shape[2] - k + 1 :])
    for w in ((4, 1, 2), (3, 2, 2)):
        with pytest.raises(InputError, match=r"the_node.*a group for each channel"):
            compiled(*arrays([(2, 3, 5), w, (w[0],), (2, 3, 1)][: 4 if past else 3]))


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "DeformConv"])
def test_no_group_at_all(op: str) -> None:
    with pytest.raises(ModelError, match="the number of groups must be positive, not 0"):
        stepwell.compile(model(op, 22, {"x": 4, "w": 4, "o": 4} if op == "DeformConv" else {"x": 4, "w": 4}, group=0))
