"""Arithmetic, rounding and elementary functions -> `tensor.generic` with a scalar body.

graph.add %a, %b  ->  tensor.generic %a, %b { arith.addf }
"""

from __future__ import annotations

from collections.abc import Callable

from stepwell.dialects import arith, math
from stepwell.dialects.graph import elementwise as graph
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Operation, Value
from stepwell.ir.opdef import Op
from stepwell.ir.types import FloatType, TensorType, is_unsigned
from stepwell.lowering.to_tensor import integers
from stepwell.lowering.to_tensor.proofs import never_zero
from stepwell.lowering.to_tensor.rules import lowers, map_generic, signless
from stepwell.lowering.to_tensor.scalars import Scalars

ScalarBody = Callable[..., Value]

INFINITY = float("inf")


def _function(cls: type[graph.UnaryOp], function: type[Op]) -> tuple[type[Operation], ScalarBody]:
    return cls, lambda s, unsigned, x: s.unary(function, x)


def _by_kind(on_floats: ScalarBody, on_integers: ScalarBody) -> ScalarBody:
    """One body for floats, (s, operands), and one for integers, (s, unsigned, operands)."""

    def body(s: Scalars, unsigned: bool, *x: Value) -> Value:
        return on_floats(s, *x) if isinstance(x[0].type, FloatType) else on_integers(s, unsigned, *x)

    return body


def sigmoid(s: Scalars, x: Value) -> Value:
    """1 / (1 + e^-x)"""
    one = s.constant(1.0, x.type)
    return s.divf(one, s.add(one, s.unary(math.ExpOp, s.negate(x))))


def _absolute(s: Scalars, unsigned: bool, x: Value) -> Value:
    return x if unsigned else s.unary(math.AbsIOp, x)


def _relu(s: Scalars, unsigned: bool, x: Value) -> Value:
    return x if unsigned else s.maximum(x, s.constant(0, x.type))


def _sign(s: Scalars, unsigned: bool, x: Value) -> Value:
    """1 above zero, -1 below it, 0 at it; a NaN stays itself."""
    zero, one = s.constant(0, x.type), s.constant(1, x.type)
    rest = zero if not isinstance(x.type, FloatType) else s.select(s.compare("eq", x, zero), zero, x)
    if not unsigned:
        rest = s.select(s.compare("lt", x, zero), s.constant(-1, x.type), rest)
    return s.select(s.compare("gt", x, zero, unsigned), one, rest)


def _float_modulo(s: Scalars, a: Value, b: Value) -> Value:
    """fmod(a, b), moved by b where the signs differ; a zero gets the sign of b."""
    zero = s.constant(0.0, a.type)
    rest = s.emit(arith.RemFOp(a, b))
    differ = s.emit(arith.XOrIOp(s.compare("lt", rest, zero), s.compare("lt", b, zero)))
    moved = s.select(differ, s.add(rest, b), rest)
    return s.select(s.compare("eq", rest, zero), s.emit(math.CopySignOp(zero, b)), moved)


def float_power(s: Scalars, x: Value, y: Value) -> Value:
    """pow(x, y); roots and small powers known at compile time are computed by what is exact for them, or nearly."""
    known = s.known(y)
    if known in (1.0, 2.0, 3.0):
        made = x
        for _ in range(int(known) - 1):
            made = s.mul(made, x)
        return made
    if known == -1.0:
        return s.divf(s.constant(1.0, x.type), x)
    if known is not None and abs(known) in (0.25, 0.5, 0.75):
        return _root_power(s, x, int(4 * abs(known)), known < 0)
    return s.emit(math.PowFOp(x, y))


def _root_power(s: Scalars, x: Value, quarters: int, inverted: bool) -> Value:
    """x^(quarters / 4), or one divided by it, from square roots, but for two arguments: the power of -0 is that of 0,
    that of -inf is that of inf."""
    made = root = s.unary(math.SqrtOp, s.add(x, s.constant(0.0, x.type)))
    if quarters != 2:
        fourth = s.unary(math.SqrtOp, root)
        made = fourth if quarters == 1 else s.mul(root, fourth)
    made = s.divf(s.constant(1.0, x.type), made) if inverted else made
    lost = s.compare("eq", x, s.constant(-INFINITY, x.type))
    return s.select(lost, s.constant(0.0 if inverted else INFINITY, x.type), made)


# graph op class -> (scalars, whether the operands are unsigned, operands) -> result
BODIES: dict[type[Operation], ScalarBody] = dict([
    (graph.AddOp, lambda s, unsigned, a, b: s.add(a, b)),
    (graph.SubOp, lambda s, unsigned, a, b: s.sub(a, b)),
    (graph.MulOp, lambda s, unsigned, a, b: s.mul(a, b)),
    (graph.DivOp, _by_kind(lambda s, a, b: s.divf(a, b), integers.divide)),
    (graph.MaxOp, lambda s, unsigned, a, b: s.maximum(a, b, unsigned)),
    (graph.MinOp, lambda s, unsigned, a, b: s.minimum(a, b, unsigned)),
    (graph.PowOp, _by_kind(float_power, integers.power)),
    (graph.ModOp, _by_kind(_float_modulo, integers.modulo)),
    (graph.RemOp, _by_kind(lambda s, a, b: s.emit(arith.RemFOp(a, b)), integers.remainder)),
    (graph.NegOp, lambda s, unsigned, x: s.negate(x)),
    (graph.AbsOp, _by_kind(lambda s, x: s.unary(math.AbsFOp, x), _absolute)),
    (graph.SignOp, _sign),
    (graph.ReluOp, _relu),
    (graph.SigmoidOp, lambda s, unsigned, x: sigmoid(s, x)),
    _function(graph.CeilOp, math.CeilOp), _function(graph.FloorOp, math.FloorOp),
    _function(graph.RoundOp, math.RoundEvenOp), _function(graph.ExpOp, math.ExpOp),
    _function(graph.ExpM1Op, math.ExpM1Op), _function(graph.LogOp, math.LogOp), _function(graph.SqrtOp, math.SqrtOp),
    _function(graph.ErfOp, math.ErfOp), _function(graph.SinOp, math.SinOp), _function(graph.CosOp, math.CosOp),
    _function(graph.TanOp, math.TanOp), _function(graph.AsinOp, math.AsinOp), _function(graph.AcosOp, math.AcosOp),
    _function(graph.AtanOp, math.AtanOp), _function(graph.SinhOp, math.SinhOp), _function(graph.CoshOp, math.CoshOp),
    _function(graph.TanhOp, math.TanhOp), _function(graph.AsinhOp, math.AsinhOp),
    _function(graph.AcoshOp, math.AcoshOp), _function(graph.AtanhOp, math.AtanhOp),
])  # fmt: skip


@lowers(*BODIES)
def elementwise(op: graph.ElementwiseOp, c: Conversion) -> Value:
    """graph.OP %a, %b  ->  tensor.generic %a, %b { scalar body }"""
    body, unsigned = BODIES[type(op)], is_unsigned(op.operands[0].type)
    result = signless(op.results[0].type)
    assert isinstance(result, TensorType)
    proven = [never_zero(value) for value in op.operands]

    def scalars(s: Scalars, *x: Value) -> Value:
        s.nonzero.update(value for value, never in zip(x, proven, strict=True) if never)
        return body(s, unsigned, *x)

    return map_generic(c, [c.new(v) for v in op.operands], result, scalars)
