"""Crops of images, resized to one size."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.logic import AndOp, CompareOp, WhereOp
from stepwell.dialects.graph.movement import ConcatOp, SplitOp
from stepwell.dialects.graph.sampling import GridSampleOp
from stepwell.dialects.graph.shape import ExpandOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.attention import size_of
from stepwell.frontends.onnx.rules.composing import Arithmetic, binary, cast, known_integers, reshaped, scalar, unary
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN
from stepwell.ir.core import Value
from stepwell.ir.types import F32


@rule("CropAndResize", domain=DOMAIN)
def crop_and_resize(node: Node) -> Value:
    """Inputs x [n, c, h, w], boxes [r, 4] of normalised corners y1, x1, y2, x2, the image of each box [r], and the
    crops' height and width -> [r, c, height, width]: x at equally spaced places from corner to corner, their middle
    where there is one only; places outside of the image get `extrapolation_value`."""
    mode = node.string("mode", "bilinear")
    if mode not in ("bilinear", "nearest"):
        raise node.unsupported(f"the mode {mode!r} is neither 'bilinear' nor 'nearest'")
    sizes = known_integers(node, 3, "crop size") or []
    if len(sizes) != 2 or min(sizes) < 1:
        raise node.unsupported(f"a crop size has a height and a width of at least 1, not {sizes}")
    height, width = sizes
    x, (boxes, _) = node.input(0), shape_of(node.input(1))
    images = node.insert(GatherOp(x, node.input(2), axis=0)).result
    corners = node.insert(SplitOp.into(node.input(1), [1] * 4, 1)).parts
    rows, row_inside = _places(node, corners[0], corners[2], x, 2, height, mode)
    columns, column_inside = _places(node, corners[1], corners[3], x, 3, width, mode)
    full = (boxes, height, width, 1)
    grid = [
        node.insert(ExpandOp.to(reshaped(node, part, shape), full)).result
        for part, shape in ((columns, (boxes, 1, width, 1)), (rows, (boxes, height, 1, 1)))
    ]
    places = node.insert(ConcatOp(grid, axis=3)).result
    kind = "linear" if mode == "bilinear" else "nearest"
    read = node.insert(GridSampleOp(images, places, mode=kind, padding="border", align_corners=True)).result
    inside = node.insert(AndOp(
        reshaped(node, row_inside, (boxes, 1, height, 1)), reshaped(node, column_inside, (boxes, 1, 1, width))
    )).result  # fmt: skip
    return node.insert(WhereOp(inside, read, scalar(node, node.float("extrapolation_value", 0.0), read))).result


def _places(node: Node, first: Value, last: Value, x: Value, axis: int, count: int, mode: str) -> tuple[Value, Value]:
    """[r, count]: places between two corners [r, 1] along an axis of x as coordinates in [-1, 1], and whether they lie
    in the image."""
    c = Arithmetic(node)
    end = c.sub(reshaped(node, cast(node, size_of(node, x, axis), F32), ()), 1)
    if count == 1:
        place = c.mul(c.mul(c.add(first, last), 0.5), end)
    else:
        step = c.div(c.mul(c.sub(last, first), end), count - 1)
        steps = node.constant(np.arange(count, dtype=np.float32).reshape(1, count))
        place = c.add(c.mul(first, end), c.mul(step, steps))
    inside = node.insert(AndOp(
        node.insert(CompareOp(place, scalar(node, 0, place), predicate="ge")).result,
        node.insert(CompareOp(place, end, predicate="le")).result,
    )).result  # fmt: skip
    if mode == "nearest":
        place = unary(node, graph.FloorOp, c.add(place, 0.5))
    return c.sub(c.div(c.mul(place, 2), binary(node, graph.MaxOp, end, 1)), 1), inside
