"""Turns what is left of quantised types into plain integers and arithmetic.

quant.qcast %x  ->  generic { saturate(round(x / s) + z) }
quant.dcast %q  ->  generic { float(q - z) * s }
quant.scast %q  ->  %q
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from stepwell.dialects import func, math
from stepwell.dialects.quant import DCastOp, QCastOp, SCastOp, UniformType, storage_of, uniform
from stepwell.dialects.tensor import ConstantOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import dim
from stepwell.ir.attributes import ArrayAttr, DictAttr, StringAttr, elements
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion, Rule
from stepwell.ir.core import Operation, Value
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import F32, F64, TensorType, Type, numpy_dtype
from stepwell.lowering.to_tensor.conversion import integer_to_float
from stepwell.lowering.to_tensor.quantization import divided, multiplied, saturated
from stepwell.lowering.to_tensor.rules import map_generic
from stepwell.lowering.to_tensor.scalars import Scalars


@attrs.frozen
class LowerQuant(Pass):
    """Expand quantising and dequantising, and let tensors hold plain integers."""

    name: ClassVar[str] = "lower-quant"

    def run(self, module: Operation, context: PassContext) -> None:
        for function in module.walk_of(func.FuncOp):
            keep_signs(function)
            give_integers(function)
            Conversion(RULES, storage_of, lambda op: type(op) not in RULES, context=context).run(function)
            function.update_type()


def give_integers(function: func.FuncOp) -> None:
    """Let ops other than conversions give integers, so that below every quantised number is made by a conversion.

    %r = tensor.reshape %q : i8:f32, s:z  ->  %i = tensor.reshape %q : i8; %r = quant.scast %i : i8 to i8:f32, s:z"""
    for op in list(function.walk()):
        for result in op.results if type(op) not in RULES else ():
            given, plain = result.type, storage_of(result.type)
            if given is plain:
                continue
            result.type = plain
            if isinstance(given, TensorType):
                cast = Builder.after(op).insert(SCastOp(result, result_types=[given]))
                for user, index in result.uses:
                    if user is not cast:
                        user.set_operand(index, cast.result)


def keep_signs(function: func.FuncOp) -> None:
    """Attach the integer type with its sign to quantised arguments and results, which callers see as integers.

    @f(%x: tensor<4x!quant.uniform<u8:f32, 0.5>>)  ->  @f(%x: tensor<4xi8> {sw.graph = "tensor<4xui8>"})"""
    results = [value.type for value in function.returned]
    for key, types, given in (
        ("arg_attrs", [a.type for a in function.arguments], function.argument_attributes),
        ("res_attrs", results, function.result_attributes),
    ):
        if any(storage_of(type_) is not type_ for type_ in types):
            kept = [DictAttr.of({**_sign(type_), **given(n)}) for n, type_ in enumerate(types)]
            function.properties[key] = ArrayAttr(tuple(kept))


def _sign(type_: Type) -> dict[str, StringAttr]:
    if isinstance(type_, TensorType) and isinstance(type_.element, UniformType):
        return {"sw.graph": StringAttr(str(type_.with_element(type_.element.integer)))}
    return {}


def quantise(op: QCastOp, c: Conversion) -> Value:
    """quant.qcast %x : f32 to i8:f32, s:z  ->  generic { saturate(round(x / s) + z) }"""
    type_ = uniform(op.result)

    def body(s: Scalars, x: Value, scale: Value, *zero: Value) -> Value:
        whole = s.unary(math.RoundEvenOp, divided(s, x, scale, type_.expressed))
        if zero:
            whole = s.add(whole, integer_to_float(s, zero[0], type_.integer, whole.type))
        return saturated(s, whole, type_.integer, type_.range)

    return _scaled(c, op.input, op.result, type_, body)


def dequantise(op: DCastOp, c: Conversion) -> Value:
    """quant.dcast %q : i8:f32, s:z to f32  ->  generic { float(q - z) * s }"""
    type_ = uniform(op.input)
    wide = F64 if type_.expressed is F64 else F32

    def body(s: Scalars, x: Value, scale: Value, *zero: Value) -> Value:
        return multiplied(s, x, scale, zero, type_.integer, wide)

    return _scaled(c, op.input, op.result, type_, body)


def _scaled(c: Conversion, x: Value, result: Value, type_: UniformType, body: Any) -> Value:
    """A map over x, and over the scales and zero points along the quantised axis; zero points that are all 0 are left
    out."""
    made = storage_of(result.type)
    assert isinstance(made, TensorType)
    place = AffineMap(made.rank, 0, [] if type_.axis is None else [dim(type_.axis)])
    operands = [c.new(x), _constant(c, type_, type_.scales, type_.expressed)]
    if any(type_.zero_points):
        operands.append(_constant(c, type_, type_.zero_points, type_.integer))
    return map_generic(c, operands, made, body, maps=[None, *[place] * (len(operands) - 1)])


def _constant(c: Conversion, type_: UniformType, numbers: Sequence[float], element: Type) -> Value:
    """A scalar, or one number for each place along the axis; integers without their sign, as all below the graph."""
    array = np.array(numbers if type_.axis is not None else numbers[0]).astype(numpy_dtype(element))
    held = type_.storage if element is type_.integer else element
    tensor = TensorType(array.shape, held)
    return c.insert(ConstantOp(value=elements(array.view(numpy_dtype(held)), tensor, "scales"))).result


def same_bits(op: SCastOp, c: Conversion) -> Value:
    """quant.scast %q  ->  %q"""
    return c.new(op.input)


RULES: dict[type[Operation], list[Rule]] = {
    QCastOp: [Rule(QCastOp, quantise)],
    DCastOp: [Rule(DCastOp, dequantise)],
    SCastOp: [Rule(SCastOp, same_bits)],
}
