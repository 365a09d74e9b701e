"""What a model computes when every float of it has 64 bits, and how far a run in 32 bits is from that.

Rounding in 64 bits is nine digits finer than in 32, so that the difference to it is the 32-bit run's own error. The
model is rewritten and interpreted op by op; no kernel, schedule or fusion takes part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stepwell.ir.interpreter import run_function
from stepwell.ports import main_function, ports_of
from stepwell.sources import load_source

Array = np.ndarray[Any, Any]

_TYPE_ATTRIBUTES = ("to", "dtype", "stash_type", "softmax_precision")  # of ONNX ops: the number of an element type
ROUNDING = 2.0**-24  # of f32, relative to the number that is rounded


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with f64 in the place of f32: initializers, inputs, outputs, constants in nodes, casts."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    _widen_graph(wide.graph)
    return wide


def _widen_graph(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for node in graph.node:
        _widen_node(node)


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def _widen_node(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            _widen_tensor(attribute.t)
        elif attribute.type == onnx.AttributeProto.GRAPH:
            _widen_graph(attribute.g)
        elif attribute.name in _TYPE_ATTRIBUTES and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            values = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            tensor = numpy_helper.from_array(np.array(values, np.float64))
            attribute.CopyFrom(helper.make_attribute("value", tensor))
    given = {attribute.name for attribute in node.attribute}
    if node.op_type == "ConstantOfShape" and not given:
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float64))))
    if node.op_type == "LayerNormalization" and "stash_type" not in given:
        node.attribute.append(helper.make_attribute("stash_type", TensorProto.DOUBLE))


class DoubleModel:
    """A model widened to f64. Raises ModelError where an op has no f64 form."""

    def __init__(self, model: onnx.ModelProto) -> None:
        module, _ = load_source(widened(model))
        self._function = main_function(module)

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs, in the order of the graph."""
        inputs, outputs = ports_of(self._function)
        wide = [np.asarray(feeds[port.name]) for port in inputs]
        arrays = [port.accept(a.astype(port.dtype)) for port, a in zip(inputs, wide, strict=True)]
        results = [np.asarray(result) for result in run_function(self._function, arrays)]
        return [port.restore(result) for port, result in zip(outputs, results, strict=True)]


@attrs.frozen
class Distance:
    """How far two runs of one output are from the f64 run: `ours` and `theirs` are largest absolute errors.

    The largest error, not the mean, is what anyone who reads one element may meet; absolute, not relative to each
    element, since where terms cancel an element near zero carries the rounding of the large ones and a quotient says
    nothing. `scale` is the largest magnitude of the output: `ours / scale` compares outputs with each other, and
    `floor` is one rounding at that magnitude, an error that a result in 32 bits cannot avoid."""

    ours: float
    theirs: float
    scale: float

    @staticmethod
    def farthest(runs: Sequence[Distance]) -> Distance:
        """Over several runs. An output that a few elements dominate, such as the largest probability of a softmax, is
        one draw of a random error; the quotient of two draws is often far from that of what they are drawn from."""
        return Distance(max(d.ours for d in runs), max(d.theirs for d in runs), max(d.scale for d in runs))

    @property
    def floor(self) -> float:
        """An error that needs no reason: half a unit in the last place of the largest element."""
        return ROUNDING * self.scale

    @property
    def ratio(self) -> float:
        """Our error by theirs, where theirs counts as at least the floor."""
        return self.ours / max(self.theirs, self.floor) if self.ours else 0.0

    def __str__(self) -> str:
        relative = self.ours / self.scale if self.scale else 0.0
        return f"{self.ratio:.2f} (error {self.ours:.2g} by {self.theirs:.2g}, {relative:.1g} of the scale)"


def distances(exact: Sequence[Array], ours: Sequence[Array], theirs: Sequence[Array]) -> list[Distance]:
    """One distance for each float output; elements that are NaN or infinite in the f64 run take no part."""
    found = []
    for reference, mine, other in zip(exact, ours, theirs, strict=True):
        if reference.dtype == np.float64:
            finite = np.isfinite(reference)
            right = reference[finite]
            errors = [float(np.max(np.abs(run[finite] - right), initial=0.0)) for run in (mine, other)]
            found.append(Distance(errors[0], errors[1], float(np.max(np.abs(right), initial=0.0))))
    return found
