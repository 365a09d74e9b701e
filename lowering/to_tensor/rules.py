"""How rules of this stretch are written: one function per graph op class, registered with `@lowers`.

    @lowers(MatmulOp)
    def matmul(op: MatmulOp, c: Conversion) -> Value: ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepwell.dialects.tensor import DimsAttr, GenericOp, YieldOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.attributes import Attribute
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion, Rule
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F32, I64, FloatType, IntegerType, Signedness, StringType, TensorType, Type
from stepwell.lowering.to_tensor.operands import Mapped, Stretched, operand_of
from stepwell.lowering.to_tensor.scalars import Scalars

RULES: dict[type[Operation], list[Rule]] = {}


def lowers(*classes: type[Operation]) -> Callable[[Callable[[Any, Conversion], Any]], Callable[[Any, Conversion], Any]]:
    """Register a function as the lowering of graph op classes."""

    def register(function: Callable[[Any, Conversion], Any]) -> Callable[[Any, Conversion], Any]:
        for cls in classes:
            RULES.setdefault(cls, []).append(Rule(cls, function))
        return function

    return register


def signless(type_: Type) -> Type:
    """Graph type -> tensor type: integers lose their sign, which the ops carry from here on; strings become handles."""
    if isinstance(type_, TensorType):
        return type_.with_element(signless(type_.element))
    if isinstance(type_, IntegerType):
        return IntegerType(type_.width, Signedness.SIGNLESS)
    if isinstance(type_, StringType):
        return I64
    return type_


Body = Callable[..., "Value | Sequence[Value]"]


def scalar_region(types: Sequence[Type], body: Body, source: Operation | None = None) -> Region:
    """A region on scalars; floats narrower than f32 are widened on entry and narrowed once at the end.

    `source` is the op whose meaning it is, for errors."""
    block = Block(types)
    scalars = Scalars(Builder.at_end(block), source)
    arguments = [scalars.widened(argument) for argument in block.arguments]
    made = body(scalars, *arguments)
    values = [made] if isinstance(made, Value) else list(made)
    scalars.builder.insert(YieldOp(values))
    return Region([block])


def dim_names(rank: int) -> list[str]:
    """Names of the dims of a plain iteration space."""
    return [f"d{index}" for index in range(rank)]


def map_generic(
    c: Conversion, inputs: Sequence[Value], result: TensorType, body: Body, sources: Sequence[Value] = (), *,
    maps: Sequence[AffineMap | None] | None = None, widen: bool = True,
) -> Value:  # fmt: skip
    """result[i] = body(inputs[map(i)], sources): a generic over the result's elements.

    An input without a map broadcasts. Narrow floats are widened on entry unless `widen` is off."""
    given = maps or [None] * len(inputs)
    operands = [operand_of(value, map_, result.shape) for value, map_ in zip(inputs, given, strict=True)]
    read = [item for item in operands if isinstance(item, Mapped)]
    whole = [item for item in operands if isinstance(item, Stretched)]

    def scalars(s: Scalars, *args: Value) -> Value:
        elements, tensors = iter(args[: len(read)]), iter(args[len(read) :])
        values = [item.element(s, elements, tensors) for item in operands]
        made = body(s, *(s.widened(v) if widen else v for v in values), *args[len(read) + len(whole) :])
        assert isinstance(made, Value)
        return s.narrowed(made, result.element)

    tensors = [*(item.value for item in whole), *sources]
    types = [*(tensor_type(item.value).element for item in read), *(value.type for value in tensors)]
    return c.insert(
        GenericOp(
            [item.value for item in read],
            tensors,
            result_types=[result],
            regions=[plain_region(types, scalars, c.builder.anchor)],
            sizes=DimsAttr(tuple(result.shape)),
            iterators=["parallel"] * result.rank,
            maps=[*(item.map for item in read), AffineMap.identity(result.rank)],
            names=dim_names(result.rank),
        )
    ).outputs[0]


def reduce_generic(
    c: Conversion, inputs: Sequence[Value], result: TensorType, *, sizes: Sequence[Dim], iterators: Sequence[str],
    maps: Sequence[AffineMap], names: Sequence[str], body: Body, combine: Body, identity: Attribute, accumulator: Type,
    sources: Sequence[Value] = (),
) -> Value:  # fmt: skip
    """A reduction with one accumulator; the result has the accumulator's type and is narrowed by a map of its own."""
    made, = reduce_generics(
        c, inputs, [result.with_element(accumulator)], sizes=sizes, iterators=iterators, maps=maps, names=names,
        body=body, combine=combine, identities=[identity], sources=sources,
    )  # fmt: skip
    return made if accumulator is result.element else map_generic(c, [made], result, lambda s, x: x)


def reduce_generics(
    c: Conversion, inputs: Sequence[Value], results: Sequence[TensorType], *, sizes: Sequence[Dim],
    iterators: Sequence[str], maps: Sequence[AffineMap], names: Sequence[str], body: Body, combine: Body,
    identities: Sequence[Attribute], sources: Sequence[Value] = (),
) -> list[Value]:  # fmt: skip
    """A reduction with an accumulator, and an identity, for each result; `combine` merges (accumulators, values)."""
    elements = [*(tensor_type(value).element for value in inputs), *(value.type for value in sources)]
    accumulators = [type_.element for type_ in results]
    made = c.insert(
        GenericOp(
            inputs,
            sources,
            result_types=results,
            regions=[scalar_region(elements, body, c.builder.anchor), plain_region(accumulators * 2, combine)],
            sizes=DimsAttr(tuple(sizes)),
            iterators=iterators,
            maps=maps,
            names=names,
            identities=identities,
        )
    )
    return list(made.outputs)


def plain_region(types: Sequence[Type], body: Body, source: Operation | None = None) -> Region:
    """A region on scalars as they are; `source` is the op whose meaning it is, for errors."""
    block = Block(types)
    scalars = Scalars(Builder.at_end(block), source)
    made = body(scalars, *block.arguments)
    scalars.builder.insert(YieldOp([made] if isinstance(made, Value) else list(made)))
    return Region([block])


def accumulator_type(element: Type) -> Type:
    """The type in which sums of an element type are kept: f32 for narrower floats, else the type itself."""
    return F32 if isinstance(element, FloatType) and element.width < 32 else element
