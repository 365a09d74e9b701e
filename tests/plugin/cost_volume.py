"""A plug-in with an operator of stereo matching: the correlation cost volume of two feature maps.

out[n, d, h, w] = sum over c of left[n, c, h, w] * right[n, c, h, w - d], where right is 0 outside its columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import GraphOp, same_element, shape_of
from stepwell.errors import IRError
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.ir.attrkinds import INT
from stepwell.ir.constraints import FLOAT_TENSOR
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.registry import Dialect
from stepwell.ir.types import TensorType, Type
from stepwell.lowering.to_tensor.places import Places, dims, reduced, result_type
from stepwell.lowering.to_tensor.rules import lowers


class CostVolumeOp(GraphOp):
    """Correlates each column of `left` with those of `right` up to `disparities` - 1 to its left, over all channels.

    [n, c, h, w] x [n, c, h, w] -> [n, disparities, h, w].

    ```mlir
    %l = "test.value"() : () -> tensor<1x3x4x8xf32>
    %r = "test.value"() : () -> tensor<1x3x4x8xf32>
    %v = stereo.cost_volume %l, %r {disparities = 2} : (tensor<1x3x4x8xf32>, tensor<1x3x4x8xf32>) -> tensor<1x2x4x8xf32>
    ```
    """

    name = "stereo.cost_volume"
    left: Value = operand(FLOAT_TENSOR)
    right: Value = operand(FLOAT_TENSOR)
    disparities: int = attr(INT)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.left)
        if len(shape) != 4 or shape != shape_of(self.right) or self.disparities < 1:
            raise IRError("a cost volume takes two feature maps of one shape [n, c, h, w], and 1 disparity or more")
        return [TensorType((shape[0], self.disparities, *shape[2:]), same_element(self.left, self.right))]

    def interpret(self, frame: Any, *args: Any) -> Any:
        left, right = args
        planes = []
        for d in range(self.disparities):
            moved = np.zeros_like(right)
            moved[..., d:] = right[..., : max(right.shape[-1] - d, 0)]
            planes.append(np.sum(left * moved, axis=1, dtype=left.dtype))
        return np.stack(planes, axis=1)


@rule("CostVolume", domain="org.stereo")
def import_cost_volume(node: Node) -> Value:
    """org.stereo.CostVolume(left, right), attribute `disparities`."""
    return node.insert(CostVolumeOp(node.input(0), node.input(1), disparities=node.int("disparities"))).result


@lowers(CostVolumeOp)
def lower_cost_volume(op: CostVolumeOp, c: Conversion) -> Value:
    """A sum of products over the channels, in which `right` is read to the left of the place, guarded."""
    out = result_type(op)
    n, _, h, w, channel = dims(5)

    def product(p: Places, x: Value, right: Value) -> Value:
        column = p.sub(p.at(3), p.at(1))
        return p.mul(x, p.read(right, [p.at(0), p.at(4), p.at(2), column]))

    return reduced(
        c, out, [shape_of(op.left)[1]], product, lambda p, a, b: p.add(a, b), attribute_of(0, out.element),
        inputs=[c.new(op.left)], maps=[[n, channel, h, w]], sources=[c.new(op.right)],
    )  # fmt: skip


DIALECT = Dialect.of_module("stereo", globals().values(), __doc__, landing="graph")
