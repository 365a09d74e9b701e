"""Where the reference evaluator and onnxruntime are wrong: one table, with the reason each.

A flaw of the reference evaluator may come with what it should give; then that is what results are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import attrs
import numpy as np
from onnx import helper

from tests.fuzz.graphs.values import Array, is_float

REFERENCE, ONNXRUNTIME = "reference", "onnxruntime"

# Operators that add up elements of an input.
SUMMED = (
    "BatchNormalization", "CumSum", "Einsum", "Gemm", "GlobalAveragePool", "GroupNormalization",
    "InstanceNormalization", "LayerNormalization", "LpNormalization", "MatMul", "MeanVarianceNormalization",
    "RMSNormalization", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceSum",
    "ReduceSumSquare", "SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss",
)  # fmt: skip


@attrs.frozen
class Use:
    """A node that is evaluated: the version of its operator, its attributes, its arrays, how many results it gives."""

    operator: str
    version: int
    attributes: dict[str, Any]
    arrays: Sequence[Array]
    outputs: int = 1


@attrs.frozen
class Known:
    """A flaw of a judge, and where it shows; `instead` gives the right results."""

    who: str
    operators: tuple[str, ...]
    reason: str
    where: Callable[[Use], bool]
    instead: Callable[[Use], list[Array]] | None = None


def _flattened(use: Use) -> list[Array]:
    """Softmax and its kin before version 13: of rows of the matrix that the axis cuts the input into."""
    (x,) = use.arrays
    axis = use.attributes.get("axis", 1)
    if not x.size:
        return [x]
    rows = x.reshape(int(np.prod(x.shape[:axis], dtype=int)), -1)
    if use.operator == "Hardmax":
        made = np.zeros_like(rows)
        made[np.arange(len(rows)), np.argmax(rows, 1)] = 1
        return [made.reshape(x.shape)]
    wide = rows.astype(np.float64)
    wide = wide - wide.max(1, keepdims=True)
    sums = np.exp(wide).sum(1, keepdims=True)
    found = wide - np.log(sums) if use.operator == "LogSoftmax" else np.exp(wide) / sums
    return [found.reshape(x.shape).astype(x.dtype)]


def _erf(use: Use) -> list[Array]:
    import math

    (x,) = use.arrays
    found = [math.erf(float(value)) for value in x.reshape(-1)]
    return [np.array(found, np.float64).reshape(x.shape).astype(x.dtype)]


def _gelu(use: Use) -> list[Array]:
    (x,) = (array.astype(np.float64) for array in use.arrays)
    if use.attributes.get("approximate", b"none") == b"tanh":
        made = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    else:
        made = x * 0.5 * (1 + _erf(attrs.evolve(use, arrays=[x / 2**0.5]))[0])
    return [made.astype(use.arrays[0].dtype)]


def _norm_of_one(use: Use) -> list[Array]:
    (x,) = use.arrays
    wide = x.astype(np.float64)
    norm = np.abs(wide).sum(axis=use.attributes.get("axis", -1), keepdims=True)
    return [np.where(norm == 0, 0, wide / np.where(norm == 0, 1, norm)).astype(x.dtype)]


def _normalised(use: Use) -> list[Array]:
    x, scale, bias, mean, var = (array.astype(np.float64) for array in use.arrays)
    turned = [array.reshape(-1, *[1] * (x.ndim - 2)) for array in (scale, bias, mean, var)]
    eps = use.attributes.get("epsilon", float(np.float32(1e-5)))
    made = (x - turned[2]) / np.sqrt(turned[3] + eps) * turned[0] + turned[1]
    return [made.astype(use.arrays[0].dtype)]


def _local_response(use: Use) -> list[Array]:
    (x,), get = use.arrays, use.attributes.get
    size, wide = get("size"), x.astype(np.float64) ** 2
    sums = [wide[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1].sum(1) for c in range(x.shape[1])]
    scale = get("bias", 1.0) + get("alpha", float(np.float32(1e-4))) / size * np.stack(sums, 1)
    return [(x / scale ** get("beta", 0.75)).astype(x.dtype)]


def _grid(use: Use) -> list[Array]:
    theta, size = use.arrays
    if theta.shape != (size[0], len(size) - 2, len(size) - 1):
        raise ValueError("no affine map")
    sides = [int(dim) for dim in size[2:]]
    ends = [1.0 if use.attributes.get("align_corners", 0) else 1 - 1 / dim for dim in sides]
    lines = [np.linspace(-end, end, dim) for end, dim in zip(ends, sides, strict=True)]
    places = np.meshgrid(*lines, indexing="ij")[::-1]
    made = np.einsum("...k,njk->n...j", np.stack([*places, np.ones(sides)], -1), theta.astype(np.float64))
    return [made.astype(theta.dtype)]


def _cubic(use: Use) -> list[Array]:
    """GridSample of the 4 x 4 elements about every place, each clamped to the image, by Keys' kernel of -0.75."""
    x, grid = (array.astype(np.float64) for array in use.arrays)
    sums = np.zeros((x.shape[1], *grid.shape[:3]))
    taps = []
    for size, place in zip(x.shape[2:], (grid[..., 1], grid[..., 0]), strict=True):
        at = (place + 1) / 2 * (size - 1) if use.attributes.get("align_corners", 0) else ((place + 1) * size - 1) / 2
        offsets = np.floor(at)[..., None] + np.arange(-1, 3)
        far = np.abs(at[..., None] - offsets)
        near = (1.25 * far - 2.25) * far**2 + 1
        weights = np.where(far <= 1, near, -0.75 * (((far - 5) * far + 8) * far - 4))
        taps.append([(np.clip(offsets[..., k], 0, size - 1).astype(int), weights[..., k]) for k in range(4)])
    batch = np.arange(len(x))[:, None, None]
    for row, down in taps[0]:
        for column, across in taps[1]:
            sums += np.moveaxis(x[batch, :, row, column], -1, 0) * down * across
    return [np.moveaxis(sums, 0, 1).astype(use.arrays[0].dtype)]


def _attention(use: Use) -> list[Array]:
    """Attention by the evaluator, with a mask's one row repeated for every query, and queries scaled in f64."""
    from onnx.reference import ReferenceEvaluator

    q, k, v, *rest = use.arrays
    attributes = dict(use.attributes)
    if _is_causal_by_one_row(use):
        rest[0] = np.repeat(rest[0], q.shape[-2], -2)
    if _is_scaled_wide(use):
        q, attributes["scale"] = q * attributes["scale"], 1.0
    names = [*"qkv", "mask" if len(rest) % 2 else "", *("ab" if len(rest) > 1 else "")]
    given = dict(zip(filter(None, names), (q, k, v, *rest), strict=True))
    ports = [[helper.make_empty_tensor_value_info(name) for name in names]
             for names in (list(given), [f"y{n}" for n in range(use.outputs)])]  # fmt: skip
    node = helper.make_node("Attention", names, [port.name for port in ports[1]], **attributes)
    opsets = [helper.make_opsetid("", use.version)]
    made = helper.make_model(helper.make_graph([node], "attention", *ports), opset_imports=opsets)
    return list(ReferenceEvaluator(made).run(None, given))


def _invalid(use: Use) -> list[Array]:
    raise ValueError("not what the standard allows")


def _has_windows_of_padding(use: Use) -> bool:
    """Whether a window along some axis meets no element: steps of a dilated kernel may jump over all."""
    sides, get = use.arrays[0].shape[2:], use.attributes.get
    ones, pads = [1] * len(sides), get("pads", [0] * 2 * len(sides))
    kernels, strides, dilations = get("kernel_shape"), get("strides", ones), get("dilations", ones)
    for axis, (size, kernel, stride, dilation) in enumerate(zip(sides, kernels, strides, dilations, strict=True)):
        whole = size + pads[axis] + pads[axis + len(sides)]
        starts = range(-pads[axis], whole - dilation * (kernel - 1) - pads[axis], stride)
        if any(all(not 0 <= at + dilation * k < size for k in range(kernel)) for at in starts):
            return True
    return 0 in sides


def _is_windowed_otherwise(use: Use) -> bool:
    """Whether a short transform has a window and a length that differ."""
    *_, window, length = use.arrays
    return len(use.arrays) == 4 and len(window) != int(length.reshape(-1)[0])


def _pooled_boxes(use: Use) -> list[Array]:
    x, boxes = use.arrays
    pooled, scale = use.attributes["pooled_shape"], use.attributes.get("spatial_scale", 1.0)
    found = np.zeros((len(boxes), x.shape[1], *pooled), x.dtype)
    for number, (batch, *corners) in enumerate(boxes.astype(np.float64)):
        left, top, right, bottom = (
            int(np.copysign(np.floor(np.abs(corner * scale) + 0.5), corner)) for corner in corners
        )
        for cell in np.ndindex(*pooled):
            places = [slice(*np.clip([np.floor(n * size / count) + low, np.ceil((n + 1) * size / count) + low], 0, most)
                            .astype(int))
                      for n, count, low, size, most in zip(
                          cell, pooled, (top, left), (max(bottom - top + 1, 1), max(right - left + 1, 1)),
                          x.shape[2:], strict=True)]  # fmt: skip
            part = x[int(batch), :, places[0], places[1]]
            if part.size:
                found[(number, slice(None), *cell)] = part.max((1, 2))
    return [found]


def _has_no_mean(use: Use) -> bool:
    x = use.arrays[0]
    return not is_float(x) and 0 in x.shape


def _undefined(use: Use) -> list[Array]:
    raise ValueError("is not defined")


def _scattered(use: Use) -> list[Array]:
    x, places, updates = use.arrays
    made = x.copy()
    np.put_along_axis(made, places, updates, use.attributes.get("axis", 0))
    return [made]


def _one_hot(use: Use) -> list[Array]:
    places, depth, values = use.arrays
    count, axis = int(depth.reshape(-1)[0]), use.attributes.get("axis", -1)
    whole = np.expand_dims(np.trunc(places.astype(np.float64)), axis)
    rows = np.arange(count).reshape([-1, *[1] * (places.ndim - (axis % (places.ndim + 1)))])
    return [np.where((whole == rows) | (whole + count == rows), values[1], values[0])]


def _unsorted(use: Use) -> list[Array]:
    (x,), axis = use.arrays, use.attributes.get("axis")
    _, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    order = np.argsort(first)
    taken = x.reshape(-1)[first[order]] if axis is None else np.take(x, first[order], axis)
    found = [taken, first[order], np.argsort(order)[inverse.reshape(-1)], counts[order]]
    return [found[0], *(array.astype(np.int64) for array in found[1:])][: use.outputs]


def _inserted(use: Use) -> list[Any]:
    sequence, x, place = use.arrays
    at = int(place) + (len(sequence) if place < 0 else 0)
    return [[*sequence[:at], x, *sequence[at:]]]


def _has_nan(use: Use) -> bool:
    return is_float(use.arrays[0]) and bool(np.isnan(use.arrays[0].astype(np.float64)).any())


def _jumps(use: Use) -> bool:
    """Whether SAME padding would be negative."""
    kernel = use.attributes.get("kernel_shape") or use.arrays[1].shape[2:]
    strides = use.attributes.get("strides") or [1] * len(kernel)
    is_same = use.attributes.get("auto_pad", b"NOTSET").startswith(b"SAME")
    return is_same and any(stride > size for stride, size in zip(strides, kernel, strict=True))


def _overflows(use: Use) -> bool:
    x, y = use.arrays
    if x.dtype.kind not in "iu":
        return False
    with np.errstate(all="ignore"):
        wide = np.abs(np.power(x.astype(np.float64), y.astype(np.float64)))
    return bool(np.any(~(wide <= np.iinfo(x.dtype).max)))


def _is_wide(use: Use) -> bool:
    """Whether there are integers that f64 does not hold."""
    return use.arrays[0].dtype.kind in "iu" and bool(np.any(np.abs(use.arrays[0].astype(np.float64)) >= 2**53))


def _squares_overflow(use: Use) -> bool:
    """Whether the sum of all squares is beyond the type of the integers."""
    x = use.arrays[0]
    return x.dtype.kind in "iu" and sum(int(value) ** 2 for value in x.reshape(-1)) > np.iinfo(x.dtype).max


def _sums_many_in_bf16(use: Use) -> bool:
    """Whether there are more bf16 numbers than one of them has steps: adding one to their sum may change nothing."""
    return use.arrays[0].dtype.name == "bfloat16" and use.arrays[0].size > 2**8


def _underflows(use: Use) -> bool:
    """Whether a softmax of floats comes near the least number of its type."""
    wide = use.arrays[0].astype(np.float64)
    least = {"float16": 2.0**-14, "float64": 2.0**-1022}.get(use.arrays[0].dtype.name, 2.0**-126)
    finite = wide[np.isfinite(wide)]
    return bool(finite.size) and float(finite.max() - finite.min()) > -np.log(least)


def _is_not_finite(use: Use) -> bool:
    return is_float(use.arrays[0]) and not np.isfinite(use.arrays[0].astype(np.float64)).all()


def _cuts(use: Use) -> list[tuple[int, int, int, int]]:
    """(axis, start, end, step) of a slice that takes them as inputs."""
    x, starts, ends, *rest = use.arrays
    axes = rest[0] if rest and rest[0] is not None else np.arange(len(starts))
    steps = rest[1] if len(rest) > 1 and rest[1] is not None else np.ones(len(starts), np.int64)
    return [(int(axis) % x.ndim, int(start), int(end), int(step))
            for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)]  # fmt: skip


def _begins_before_the_axis(use: Use) -> bool:
    shape = use.arrays[0].shape
    return len(use.arrays) > 2 and any(step < 0 and start < -shape[axis] for axis, start, _, step in _cuts(use))


def _sliced(use: Use) -> list[Array]:
    """Going backwards, a start before the axis is its first element."""
    x = use.arrays[0]
    cut = [slice(None)] * x.ndim
    for axis, start, end, step in _cuts(use):
        cut[axis] = slice(max(start, -x.shape[axis]) if step < 0 else start, end, step)
    return [x[tuple(cut)]]


def _is_beyond_integers(use: Use) -> bool:
    """Whether a quotient may have no i32, in which it is before it is cut off."""
    x, scale = (np.abs(array.astype(np.float64)) for array in use.arrays[:2])
    return bool(x.size and scale.size and not np.nanmax(x) < 2.0**31 * np.min(scale))


def _multiplies_by_one_zero(use: Use) -> bool:
    """Whether there is a matrix of one 0, and a number that is not finite."""
    floats = [array.astype(np.float64) for array in use.arrays if is_float(array)]
    zero = any(array.shape[-2:] == (1, 1) and not array.all() for array in floats)
    return zero and not all(np.isfinite(array).all() for array in floats)


def _is_held_by_no_integer(use: Use) -> bool:
    """Whether a cast to integers meets a number that their type does not have."""
    to = helper.tensor_dtype_to_np_dtype(use.attributes["to"]) if "to" in use.attributes else use.arrays[1].dtype
    if not is_float(use.arrays[0]) or to.kind not in "iu":
        return False
    wide, info = use.arrays[0].astype(np.float64), np.iinfo(to)
    return not bool(np.all((wide > info.min - 1.0) & (wide < info.max + 1.0)))


def _is_cubic_beyond_the_border(use: Use) -> bool:
    """Whether a cubic grid with `border` padding has places outside of the image."""
    kinds = use.attributes.get("mode", b"").endswith(b"cubic"), use.attributes.get("padding_mode") == b"border"
    wide = use.arrays[1].astype(np.float64)
    return all(kinds) and bool(np.any(np.abs(wide) > 1) and np.all(np.abs(wide) < 2**31))


def _is_between_elements(use: Use) -> bool:
    """Whether places that no f32 has are interpolated."""
    if use.attributes.get("mode", b"nearest") == b"nearest":
        return False
    x, *_, last = use.arrays
    if last.dtype == np.int64:
        kept = [x.shape[axis] for axis in use.attributes.get("axes", range(x.ndim))]
        factors = [Fraction(int(size), own) for size, own in zip(last, kept, strict=True) if own]
    else:
        factors = [Fraction(float(number)) for array in use.arrays[1:] for number in array.reshape(-1)]
    factors = [factor for factor in factors if factor not in (0, 1)]
    if use.attributes.get("coordinate_transformation_mode") == b"align_corners":
        return bool(factors)
    return any(factor.numerator & (factor.numerator - 1) for factor in factors)  # places are multiples of 1 / factor


def _is_causal_by_one_row(use: Use) -> bool:
    """Whether Attention is causal with a mask of one row for several queries."""
    q, *rest = use.arrays
    mask = rest[2] if len(rest) in (3, 5) else None
    return bool(use.attributes.get("is_causal")) and mask is not None and mask.shape[-2:-1] == (1,) != q.shape[-2:-1]


def _is_masked_and_not_finite(use: Use) -> bool:
    """Whether Attention masks keys and meets what is not finite."""
    masks = use.attributes.get("is_causal") or len(use.arrays) in (4, 6)
    return bool(masks) and any(is_float(one) and not np.isfinite(one.astype(np.float64)).all() for one in use.arrays)


def _is_scaled_wide(use: Use) -> bool:
    return use.arrays[0].dtype == np.float64 and "scale" in use.attributes


def _is_stashed(use: Use) -> bool:
    return use.arrays[0].dtype == np.float64 and use.attributes.get("stash_type", 1) == 1


KNOWN: tuple[Known, ...] = (
    Known(REFERENCE, ("Softmax", "LogSoftmax", "Hardmax"),
          "takes one axis where versions before 13 flatten to two dims", lambda use: use.version < 13, _flattened),
    Known(REFERENCE, ("Erf",), "computes in f32", lambda use: use.arrays[0].dtype == np.float64, _erf),
    Known(REFERENCE, ("Gelu",), "computes with constants of f32, and cancels digits in narrow types",
          lambda use: is_float(use.arrays[0]), _gelu),
    Known(REFERENCE, ("LpNormalization",), "sums elements, not their absolute values",
          lambda use: use.attributes.get("p", 2) == 1 and is_float(use.arrays[0]), _norm_of_one),
    Known(REFERENCE, ("LayerNormalization", "RMSNormalization", "GroupNormalization"),
          "computes in f64 what the type of `stash_type` says to compute in f32", _is_stashed),
    Known(REFERENCE, ("LRN",), "has results for as many channels as there are batches, of four dims alone",
          lambda use: use.arrays[0].shape[1] > 0, _local_response),
    Known(REFERENCE, ("BatchNormalization",), "mixes in the statistics of the batch before version 14",
          lambda use: use.version < 14, _normalised),
    Known(REFERENCE, ("MaxPool", "AveragePool", "LpPool"), "takes NaN for what is padded", _has_nan),
    Known(REFERENCE, ("MaxPool", "AveragePool", "LpPool", "Conv", "ConvInteger"),
          "crops where strides are larger than the kernel and padding is SAME", _jumps),
    Known(REFERENCE, ("Conv",), "multiplies what is not finite with the zeros between a dilated kernel's elements",
          lambda use: max(use.attributes.get("dilations", (1,))) > 1 and _is_not_finite(use)),
    Known(REFERENCE, ("MaxPool", "AveragePool", "LpPool"), "places windows otherwise where `ceil_mode` meets pads",
          lambda use: use.attributes.get("ceil_mode") == 1 and any(use.attributes.get("pads", ()))),
    Known(REFERENCE, ("LpPool",), "scales up windows that `ceil_mode` leaves incomplete",
          lambda use: use.attributes.get("ceil_mode") == 1),
    Known(REFERENCE, ("ReduceMean", "Mean"), "sums integers in f64, where they do not overflow",
          lambda use: use.arrays[0].dtype.kind in "iu"),
    Known(REFERENCE, SUMMED, "sums in bf16, where small terms are lost", _sums_many_in_bf16),
    Known(REFERENCE, ("ReduceL2",), "squares integers in their type, where they overflow", _squares_overflow),
    *(Known(who, ("MaxPool",), "takes another number than -infinity for the largest of nothing but padding",
            _has_windows_of_padding) for who in (REFERENCE, ONNXRUNTIME)),
    Known(REFERENCE, ("MaxPool",), "numbers places within a batch or a channel", lambda use: use.outputs > 1),
    Known(REFERENCE, ("RNN", "GRU", "LSTM"), "goes on beyond the lengths of sequences",
          lambda use: any(array.dtype == np.int32 for array in use.arrays)),
    Known(REFERENCE, ("RNN", "GRU", "LSTM", "Gemm", "MatMul"), "takes a product with a matrix of one 0 for 0",
          _multiplies_by_one_zero),
    Known(REFERENCE, ("ConvTranspose",), "adds the bias of the first group to all",
          lambda use: use.attributes.get("group", 1) > 1 and len(use.arrays) == 3),
    Known(REFERENCE, ("HardSwish",), "takes a sixth that is rounded to f32",
          lambda use: use.arrays[0].dtype == np.float64,
          lambda use: [use.arrays[0] * np.clip(use.arrays[0] / 6 + 0.5, 0, 1)]),
    Known(REFERENCE, ("PRelu",), "multiplies 0 with a slope that is not finite, or below 0, which gives it a sign",
          lambda use: is_float(use.arrays[1]) and not np.all(np.isfinite(wide := use.arrays[1].astype(np.float64))
                                                             & (wide >= 0))),
    Known(REFERENCE, ("DynamicQuantizeLinear", "QuantizeLinear"), "rounds what is not finite to any integer",
          _is_not_finite),
    Known(REFERENCE, ("Slice",), "takes nothing from before the axis on, backwards", _begins_before_the_axis, _sliced),
    Known(REFERENCE, ("QuantizeLinear",), "rounds to i32 before it cuts off", _is_beyond_integers),
    Known(REFERENCE, ("Cast", "CastLike"), "makes any integer of a number that the type does not have",
          _is_held_by_no_integer),
    Known(REFERENCE, ("RoiAlign",), "samples other places before version 16", lambda use: use.version < 16),
    *(Known(who, ("RoiAlign",), "multiplies the image's first element, which is not finite, with 0 for places outside",
            _is_not_finite) for who in (REFERENCE, ONNXRUNTIME)),
    Known(REFERENCE, ("Pow",), "overflows to another integer", _overflows),
    Known(REFERENCE, ("AffineGrid",), "gives f32", lambda use: use.arrays[0].dtype != np.float32, _grid),
    Known(REFERENCE, ("MaxRoiPool",), "does not have it", lambda use: True, _pooled_boxes),
    Known(REFERENCE, ("ReduceMean",), "makes a number of the mean of no integers", _has_no_mean, _undefined),
    Known(REFERENCE, ("Scatter",), "does not have it", lambda use: True, _scattered),
    Known(REFERENCE, ("OneHot",), "takes indices modulo the depth, with their fractions", lambda use: True, _one_hot),
    Known(REFERENCE, ("Unique",), "sorts where one result is asked for, takes slices where there is no axis",
          lambda use: use.attributes.get("sorted", 1) == 0, _unsorted),
    Known(REFERENCE, ("Attention",), "lets all queries see what the first may where the mask has one row for them",
          _is_causal_by_one_row, _attention),
    *(Known(who, ("Attention",), "adds the mask to scores of NaN, which keys have that are not finite",
            _is_masked_and_not_finite) for who in (REFERENCE, ONNXRUNTIME)),
    *(Known(who, ("Attention",), "takes the root of `scale` in f32", _is_scaled_wide, instead)
      for who, instead in ((REFERENCE, _attention), (ONNXRUNTIME, None))),
    Known(REFERENCE, ("GridSample",), "clamps places outside of the image before it takes the elements about them",
          _is_cubic_beyond_the_border, _cubic),
    Known(REFERENCE, ("LogSoftmax",), "takes the logarithm of a softmax, which underflows", _underflows),
    Known(REFERENCE, ("ReduceLogSumExp",), "gives NaN where all elements are infinity",
          lambda use: bool(np.any(np.isposinf(use.arrays[0].astype(np.float64))))),
    Known(REFERENCE, ("GridSample", "DeformConv"), "rounds places to f32",
          lambda use: any(array.dtype == np.float64 for array in use.arrays)),
    Known(REFERENCE, ("DFT", "STFT"), "takes the parts of real signals apart, where NaN reaches all of ours",
          lambda use: not np.isfinite(use.arrays[0].astype(np.float64)).all()),
    Known(REFERENCE, ("QLinearConv", "QLinearMatMul"), "rounds after the zero point is added, and 0 / 0 to any integer",
          lambda use: bool(np.any(use.arrays[7] % 2)) or not np.all(use.arrays[6])),
    *(Known(who, ("Resize", "Upsample"), "rounds places to f32", _is_between_elements)
      for who in (REFERENCE, ONNXRUNTIME)),
    Known(REFERENCE, ("Resize", "Upsample"), "multiplies what is not finite with the weight 0 of a neighbour",
          _is_not_finite),
    Known(REFERENCE, ("Resize", "Upsample"), "computes integers in f64", _is_wide),
    *(Known(who, ("Shrink",), "computes integers in f64, and makes any integer of what it rounds up", _is_wide)
      for who in (REFERENCE, ONNXRUNTIME)),
    Known(REFERENCE, ("OptionalGetElement",), "gives the list of one element that stands for an optional",
          lambda use: isinstance(use.arrays[0], list), lambda use: [use.arrays[0][0]]),
    Known(REFERENCE, ("SequenceInsert",), "inserts at the front where the place is the end",
          lambda use: len(use.arrays) == 3, _inserted),
    Known(REFERENCE, ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"), "repeats the last weight",
          lambda use: len(use.arrays) == 3 and len(use.arrays[2]) < use.arrays[0].shape[1], _invalid),
    Known(REFERENCE, ("STFT",), "takes a window of another length", _is_windowed_otherwise, _invalid),
    Known(REFERENCE, ("Einsum",), "sums two of several operands first, where 0 does not meet infinity",
          lambda use: len(use.arrays) > 2 and any(is_float(one) and not np.isfinite(one.astype(np.float64)).all()
                                                  for one in use.arrays)),
    Known(REFERENCE, ("Gemm",), "multiplies integers as floats", lambda use: use.arrays[0].dtype.kind in "iu"),
)  # fmt: skip


def flaws(use: Use, who: str) -> list[Known]:
    """The flaws of a judge that a node meets."""
    return [known for known in KNOWN if known.who == who and use.operator in known.operators and known.where(use)]
