"""Activations, norms and softmax that exporters wrote out, in the orders of association that are met."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.normalization import LayerNormOp, RmsNormOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.ir.core import Operation, Value
from stepwell.ir.passes import PassContext
from stepwell.lowering.graph.recognize import Recognize
from tests.lowering.graph.recognition import kinds, last_axis, normal, number, recognised
from tests.lowering.to_tensor.descent import constant, graph_module, types_of

SPECIAL = np.array([[0.0, -0.0, np.nan, 1.5], [np.inf, -np.inf, 1e-40, -3.0]], np.float32)
ROWS = normal(3, 2, 8)


def add(a: Value, b: Value | float) -> Value:
    return graph.AddOp(a, number(b, a) if isinstance(b, float) else b).result


def mul(a: Value, b: Value | float) -> Value:
    return graph.MulOp(a, number(b, a) if isinstance(b, float) else b).result


def div(a: Value | float, b: Value | float) -> Value:
    a, b = (constant(np.float32(v)) if isinstance(v, float) else v for v in (a, b))
    return graph.DivOp(a, b).result


def power(a: Value, exponent: float) -> Value:
    return graph.PowOp(a, number(exponent, a)).result


def erf(x: Value) -> Value:
    return graph.ErfOp(x).result


def tanh(x: Value) -> Value:
    return graph.TanhOp(x).result


def sigmoid(x: Value) -> Value:
    return graph.SigmoidOp(x).result


def exp(x: Value) -> Value:
    return graph.ExpOp(x).result


ROOT, SLOPE = math.sqrt(2.0), math.sqrt(2 / math.pi)
ACTIVATIONS: list[tuple[Callable[[Value], Value], str]] = [
    (lambda x: mul(mul(x, 0.5), add(erf(div(x, ROOT)), 1.0)), "gelu"),
    (lambda x: mul(mul(x, add(erf(mul(x, 1 / ROOT)), 1.0)), 0.5), "gelu"),
    (lambda x: mul(x, mul(add(erf(div(x, 1.4142135)), 1.0), 0.5)), "gelu"),
    (lambda x: mul(add(x, mul(x, erf(div(x, ROOT)))), 0.5), "gelu"),
    (lambda x: mul(mul(x, 0.5), add(tanh(mul(add(x, mul(power(x, 3.0), 0.044715)), SLOPE)), 1.0)), "gelu"),
    (lambda x: mul(mul(x, 0.5), add(tanh(mul(mul(x, SLOPE), add(mul(mul(x, x), 0.044715), 1.0))), 1.0)), "gelu"),
    (lambda x: mul(x, sigmoid(x)), "silu"),
    (lambda x: div(x, add(exp(graph.NegOp(x).result), 1.0)), "silu"),
    (lambda x: mul(x, div(1.0, add(exp(graph.NegOp(x).result), 1.0))), "silu"),
    (lambda x: div(1.0, add(exp(graph.NegOp(x).result), 1.0)), "sigmoid"),
]


@pytest.mark.parametrize("index", range(len(ACTIVATIONS)))
def test_activations(index: int) -> None:
    build, name = ACTIVATIONS[index]
    assert kinds(recognised(lambda x: [build(x)], SPECIAL)) == [name]
    assert kinds(recognised(lambda x: [build(x)], normal(4, 33), symbolic=True)) == [name]


def both(x: Value) -> list[Value]:
    """The error function is read by something else as well."""
    e = erf(div(x, ROOT))
    return [e, mul(mul(x, 0.5), add(e, 1.0))]


@pytest.mark.parametrize(
    "build",
    [
        lambda x: [mul(mul(x, 0.5), add(erf(div(x, 1.5)), 1.0))],
        lambda x: [mul(mul(x, 0.4), add(erf(div(x, ROOT)), 1.0))],
        lambda x: [mul(mul(x, 0.5), add(erf(div(x, ROOT)), 0.9))],
        lambda x: [mul(mul(x, 0.5), add(tanh(mul(add(x, mul(power(x, 3.0), 0.05)), SLOPE)), 1.0))],
        lambda x: [mul(x, sigmoid(mul(x, 1.702)))],
        lambda x: [div(1.0, add(exp(x), 1.0))],
        both,
    ],
)
def test_what_is_nearly_an_activation_stays(build: Callable[[Value], list[Value]]) -> None:
    assert not {"gelu", "silu"} & set(kinds(recognised(build, SPECIAL)))


def mean(x: Value) -> Value:
    return ReduceOp(x, kind="mean", axes=last_axis(x), keepdims=True).result


def centred(x: Value) -> Value:
    return graph.SubOp(x, mean(x)).result


def deviation(d: Value, square: Value, epsilon: float = 1e-5) -> Value:
    return graph.SqrtOp(add(mean(square), epsilon)).result


def layer_norm_by_quotient(x: Value) -> Value:
    d = centred(x)
    return div(d, deviation(d, power(d, 2.0)))


def layer_norm_by_product(x: Value) -> Value:
    d = centred(x)
    return mul(div(1.0, deviation(d, mul(d, d))), d)


def layer_norm_by_power(x: Value) -> Value:
    d = centred(x)
    return mul(d, power(add(mean(mul(d, d)), 1e-5), -0.5))


def two_differences(x: Value) -> Value:
    """Exporters compute x - mean twice."""
    m = mean(x)
    d, again = graph.SubOp(x, m).result, graph.SubOp(x, m).result
    return div(again, deviation(d, mul(d, d)))


def rms_norm(x: Value) -> Value:
    return mul(x, div(1.0, deviation(x, power(x, 2.0))))


def rms_norm_by_quotient(x: Value) -> Value:
    return div(x, deviation(x, mul(x, x)))


LAYER_NORMS = [layer_norm_by_quotient, layer_norm_by_product, layer_norm_by_power]
RMS_NORMS = [rms_norm, rms_norm_by_quotient]


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("norm", LAYER_NORMS + RMS_NORMS)
def test_norms(norm: Callable[[Value], Value], symbolic: bool) -> None:
    name = "layer_norm" if norm in LAYER_NORMS else "rms_norm"
    assert kinds(recognised(lambda x: [norm(x)], ROWS, symbolic=symbolic)) == [name]
    assert kinds(recognised(lambda x: [norm(x)], SPECIAL)) == [name]


@pytest.mark.parametrize("norm", LAYER_NORMS)
def test_scale_and_bias_join_a_layer_norm(norm: Callable[[Value], Value]) -> None:
    (op,) = recognised(lambda x: [add(mul(constant(normal(8)), norm(x)), constant(normal(8)))], ROWS)
    assert isinstance(op, LayerNormOp)
    assert op.scale is not None
    assert op.bias is not None
    assert op.epsilon == np.float32(1e-5)


@pytest.mark.parametrize("norm", RMS_NORMS)
def test_a_scale_joins_an_rms_norm(norm: Callable[[Value], Value]) -> None:
    (op,) = recognised(lambda x: [mul(norm(x), constant(normal(8)))], ROWS)
    assert isinstance(op, RmsNormOp)
    assert op.scale.type.shape == (8,)  # type: ignore[attr-defined]


def test_differences_are_one_after_common_subexpressions() -> None:
    from stepwell.lowering.graph.cse import CommonSubexpressions

    module = graph_module(types_of([ROWS]), lambda x: [two_differences(x)])
    for pass_ in (CommonSubexpressions(), Recognize()):
        pass_.run(module, PassContext())
    assert "graph.layer_norm" in [op.op_name for op in module.walk()]


def other_mean(x: Value) -> Value:
    d = graph.SubOp(x, mean(mul(x, x))).result
    return div(d, deviation(d, mul(d, d)))


def other_operand(x: Value) -> Value:
    return div(centred(x), deviation(x, mul(x, x)))


def no_square(x: Value) -> Value:
    return div(x, deviation(x, mul(x, graph.NegOp(x).result)))


@pytest.mark.parametrize("build", [other_operand, no_square])
def test_what_is_nearly_a_norm_stays(build: Callable[[Value], Value]) -> None:
    assert not {"layer_norm", "rms_norm"} & set(kinds(recognised(lambda x: [build(x)], np.abs(ROWS))))


def test_another_mean_makes_an_rms_norm_of_the_difference() -> None:
    assert "rms_norm" in kinds(recognised(lambda x: [other_mean(x)], ROWS))


@pytest.mark.parametrize("shape", [(3, 2, 8), (2, 1)], ids=str)
def test_a_residual_is_no_scale_or_bias(shape: tuple[int, ...]) -> None:
    made = recognised(lambda x: [add(mul(layer_norm_by_quotient(x), constant(normal(*shape))), x)], ROWS)
    assert kinds(made) == ["layer_norm", "mul", "add"]


def softmax(x: Value, axis: int) -> Value:
    peak = ReduceOp(x, kind="max", axes=[axis], keepdims=True).result
    powers = exp(graph.SubOp(x, peak).result)
    return div(powers, ReduceOp(powers, kind="sum", axes=[axis], keepdims=True).result)


def log_softmax(x: Value) -> Value:
    shifted = graph.SubOp(x, ReduceOp(x, kind="max", axes=[1], keepdims=True).result).result
    total = ReduceOp(exp(shifted), kind="sum", axes=[1], keepdims=True).result
    return graph.SubOp(shifted, graph.LogOp(total).result).result


SCORES = np.array([[0.0, 1.0, -np.inf, 2.0], [-np.inf] * 4, [np.inf, 0, 0, 0], [np.nan, 0, 1, 2]], np.float32)


@pytest.mark.parametrize("axis", [0, 1])
def test_softmax(axis: int) -> None:
    assert kinds(recognised(lambda x: [softmax(x, axis)], SCORES)) == ["softmax"]


def test_log_softmax() -> None:
    assert kinds(recognised(lambda x: [log_softmax(x)], SCORES)) == ["log_softmax"]


def without_peak(x: Value) -> Value:
    powers = exp(x)
    return div(powers, ReduceOp(powers, kind="sum", axes=[1], keepdims=True).result)


def over_two_axes(x: Value) -> Value:
    peak = ReduceOp(x, kind="max", axes=[0], keepdims=True).result
    powers = exp(graph.SubOp(x, peak).result)
    return div(powers, ReduceOp(powers, kind="sum", axes=[1], keepdims=True).result)


@pytest.mark.parametrize("build", [without_peak, over_two_axes])
def test_what_is_nearly_a_softmax_stays(build: Callable[[Value], Value]) -> None:
    assert "softmax" not in kinds(recognised(lambda x: [build(x)], SCORES))


def test_what_was_recognised_is_remarked() -> None:
    def build(x: Value) -> Operation:
        return graph.MulOp(x, sigmoid(x))

    module, context = graph_module(types_of([SPECIAL]), build), PassContext()
    Recognize().run(module, context)
    assert [remark.message for remark in context.remarks] == ["recognised as graph.silu"]
    assert context.statistics == {"rewrites: silu": 1}
