"""Operators that resample images: Resize, Upsample, GridSample, AffineGrid, RoiAlign; and Col2Im."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph import resize, sampling
from stepwell.dialects.graph.base import constant_array, content, shape_of
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.shapes import checked_axes, exactly, pick, rank_of, static_length
from stepwell.ir.core import Value

OLD_RESIZE = {"coordinates": "asymmetric", "rounding": "floor"}  # what Upsample and Resize 10 do


@rule("Upsample")
def upsample_1(node: Node) -> Value:
    """Scales of height and width as attributes."""
    x = node.input(0)
    scales = [1.0] * (rank_of(x) - 2) + [node.float("height_scale"), node.float("width_scale")]
    return _upsampled(node, x, node.constant(np.array(scales, np.float32)))


@rule("Upsample", since=7)
def upsample_7(node: Node) -> Value:
    """Scales of all axes as an attribute."""
    return _upsampled(node, node.input(0), node.constant(np.array(node.floats("scales"), np.float32)))


@rule("Upsample", since=9)
@rule("Resize", since=10)
def resize_10(node: Node) -> Value:
    """Scales as an input."""
    return _upsampled(node, node.input(0), node.input(1))


def _upsampled(node: Node, x: Value, scales: Value) -> Value:
    how = {**OLD_RESIZE, "mode": _mode(node)}
    return _resized(node, x, None, scales, None, list(range(rank_of(x))), how)


def _mode(node: Node) -> str:
    mode = node.string("mode", "nearest")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    return _one_of(node, "mode", mode, resize.MODES)


def _one_of(node: Node, what: str, word: str, known: Sequence[str]) -> str:
    if word not in known:
        raise node.unsupported(f"{what} {word!r}", f"Known are {', '.join(known)}.")
    return word


@rule("Resize", since=11)
def resize_11(node: Node) -> Value:
    """Region, scales and sizes as inputs, of which absent ones may be empty; axes and antialiasing since version 18."""
    x = node.input(0)
    coordinates = node.string("coordinate_transformation_mode", "half_pixel")
    how = {
        "mode": _mode(node),
        "coordinates": _one_of(node, "coordinates", coordinates, resize.COORDINATES),
        "rounding": _one_of(node, "rounding", node.string("nearest_mode", "round_prefer_floor"), resize.ROUNDINGS),
        "aspect": _one_of(node, "policy", node.string("keep_aspect_ratio_policy", "stretch"), resize.ASPECTS),
        "antialias": bool(node.int("antialias", 0)),
        "exclude_outside": bool(node.int("exclude_outside", 0)),
        "cubic_a": node.float("cubic_coeff_a", -0.75),
        "extrapolation": node.float("extrapolation_value", 0.0),
    }
    axes = checked_axes(node, node.ints("axes", range(rank_of(x))), rank_of(x))
    region = _given(node, 1) if coordinates == "tf_crop_and_resize" else None
    return _resized(node, x, _given(node, 3), _given(node, 2), region, axes, how)


def _given(node: Node, index: int) -> Value | None:
    value = node.optional(index)
    return None if value is None or shape_of(value) == (0,) else value


def _resized(
    node: Node, x: Value, sizes: Value | None, scales: Value | None, region: Value | None, axes: Sequence[int],
    how: dict[str, Any],
) -> Value:  # fmt: skip
    """A resize along the axes that change."""
    if (sizes is None) == (scales is None):
        raise node.unsupported("either sizes or scales must be given", "The model is malformed.")
    sizes, scales = (value and exactly(node, value, len(axes)) for value in (sizes, scales))
    region = region and exactly(node, region, 2 * len(axes))
    changing = list(range(len(axes)))
    if region is None and how.get("aspect", "stretch") == "stretch" and how["coordinates"] != "tf_half_pixel_for_nn":
        changing = _changing(x, sizes, scales, axes)
    if not changing:
        return x
    if len(changing) < len(axes):
        sizes = pick(node, sizes, changing) if sizes is not None else None
        factors = constant_array(scales)
        scales = node.constant(factors[changing]) if factors is not None else scales
        axes = [axes[index] for index in changing]
    return node.insert(resize.ResizeOp(x, sizes, scales, region, axes=axes, **how)).result


def _changing(x: Value, sizes: Value | None, scales: Value | None, axes: Sequence[int]) -> list[int]:
    """Which of the axes are not known to keep their sizes."""
    places = list(range(len(axes)))
    if sizes is not None:
        known = content(sizes)
        if known is None or len(known) != len(axes):
            return places
        return [i for i in places if known[i] != shape_of(x)[axes[i]]]
    factors = constant_array(scales)
    if factors is None or factors.shape != (len(axes),):
        return places
    return [i for i in places if factors[i] != 1]


@rule("GridSample", since=16)
def grid_sample(node: Node) -> Value:
    """Modes are called linear and cubic since version 20."""
    mode = node.string("mode", "linear")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    op = sampling.GridSampleOp(
        *node.inputs(),
        mode=_one_of(node, "mode", mode, ("nearest", "linear", "cubic")),
        padding=_one_of(node, "padding", node.string("padding_mode", "zeros"), ("zeros", "border", "reflection")),
        align_corners=bool(node.int("align_corners", 0)),
    )
    return node.insert(op).result


@rule("AffineGrid", since=20)
def affine_grid(node: Node) -> Value:
    """Edges, not centers, at -1 and 1 by default."""
    align = bool(node.int("align_corners", 0))
    return node.insert(sampling.AffineGridOp(*node.inputs(), align_corners=align)).result


@rule("RoiAlign", since=10)
def roi_align(node: Node) -> Value:
    """Coordinates are not shifted by half a pixel before version 16, nor then with `output_half_pixel`."""
    default = "half_pixel" if node.version >= 16 else "output_half_pixel"
    coordinates = node.string("coordinate_transformation_mode", default)
    _one_of(node, "coordinates", coordinates, ("half_pixel", "output_half_pixel"))
    mode = _one_of(node, "mode", node.string("mode", "avg"), ("avg", "max"))
    op = sampling.RoiAlignOp(
        *node.inputs(),
        height=node.int("output_height", 1),
        width=node.int("output_width", 1),
        samples=node.int("sampling_ratio", 0),
        scale=node.float("spatial_scale", 1.0),
        half_pixel=coordinates == "half_pixel",
        reduce="mean" if mode == "avg" else "max",
    )
    return node.insert(op).result


@rule("Col2Im", since=18)
def col_to_im(node: Node) -> Value:
    """Strides and dilations are 1, pads 0 by default."""
    x, image, block = node.inputs()
    if node.has("strides") or node.has("dilations"):
        rank = len(node.ints("strides" if node.has("strides") else "dilations"))
    else:
        rank = len(node.ints("pads")) // 2 if node.has("pads") else static_length(node, 1)
    op = sampling.ColToImOp(
        x, exactly(node, image, rank), exactly(node, block, rank),
        strides=node.ints("strides", [1] * rank),
        pads=node.ints("pads", [0] * 2 * rank),
        dilations=node.ints("dilations", [1] * rank),
    )
    return node.insert(op).result
