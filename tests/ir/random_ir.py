"""Random operations made from the declarations of op classes: values of fitting types, attributes of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from stepwell.dialects.loop import YieldOp
from stepwell.errors import StepwellError
from stepwell.ir.attributes import (
    AffineMapAttr,
    ArrayAttr,
    Attribute,
    DenseArrayAttr,
    DictAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    SymbolRefAttr,
    TypeAttr,
    UnitAttr,
)
from stepwell.ir.core import Block, Operation, Region, UnregisteredOp, Value
from stepwell.ir.location import FileLoc, FusedLoc, Location, NameLoc
from stepwell.ir.opdef import SEGMENTS, Arity, Op, Trait, ValueGroup
from stepwell.ir.parser import Parser
from stepwell.ir.registry import REGISTRY
from stepwell.ir.types import F16, F32, F64, I1, I8, I32, I64, INDEX, IntegerType, Type
from stepwell.ir.verifier import verify

_SCALARS = "f32 f64 f16 bf16 f8E4M3FN i1 i8 i32 i64 si8 ui16 index none !graph.string complex<f32>"
_VECTORS = "4xf32 4xi32 4xi1 4xindex 2x2xf16 2xf32"
_TENSORS = (
    "f32 4xf32 2x3xf32 2x3xf64 4xsi64 si64 2xsi64 4xui8 2x3xsi8 4xi1 2x3xi1 1x2x8x8xf32 4x2x3x3xf32 2x!graph.string "
    "0xf32 4x!tensor.f4E2M1FN 4xcomplex<f32> 2x3xi32 3x4xf32 1x2x8xf32"
)
_GRAPH_TYPES = (
    "!graph.sequence<element = f32, sizes = [-1, 64]>", "!graph.sequence<element = si64, sizes = [2]>",
    "!graph.optional<of = tensor<4xf32>>",
)  # fmt: skip
_MEMREFS = "4xf32 2x3xf32 4xi8 16xi8 16xf32 8x8xi32"
_TYPE_TEXTS = (
    *_SCALARS.split(), *(f"vector<{text}>" for text in _VECTORS.split()),
    *(f"tensor<{text}>" for text in _TENSORS.split()), *(f"memref<{text}>" for text in _MEMREFS.split()),
    *_GRAPH_TYPES,
)  # fmt: skip
_WIDE_TYPES = (
    'tensor<?x4xf32, #graph.shape<["n"]>>', 'tensor<?x?xf32, #graph.shape<["batch", "8*h8 + 1"]>>', "memref<?xf32>",
    'tensor<?xsi64, #graph.shape<["n"]>>', "memref<4x?xf32, strided<[?, 1], offset: ?>>", 'memref<4xf32, "local">',
)  # fmt: skip
_ATTRIBUTE_TEXTS = (
    "dense<[1.0, 0x7FC00000, -0.0, 0.1]> : tensor<4xf32>", "dense<[[1, 2, 3], [4, 5, 6]]> : tensor<2x3xsi64>",
    "dense<[1, 0]> : tensor<2xsi64>", "dense<0> : tensor<si64>", "dense<2.0> : vector<4xf32>",
    "dense<true> : tensor<4xi1>", 'dense<["a", "b"]> : tensor<2x!graph.string>', "dense<> : tensor<0xf32>",
    "dense<1> : vector<4xi32>", "array<i64: 0>", "array<i64: 1, 0>", "array<i64>", "array<i64: 0, 1, 2>",
    "array<f64: 0.1, -0.0>", "array<i64: 2, 2>", '["parallel"]', "[affine_map<(d0) -> (d0)>]",
    '#tensor.dims<[4, "n"]>', '#foreign.attr<"x" {a}>', "#vector.kind<or>", "#arith.fastmath<nnan,nsz>",
    "#arith.overflow<none>", "(f32, i1) -> f32", "() -> ()", "[]", "[@a, 1.5 : f32, {b}]", "[1, 2]", "[0, 0, 1]",
)  # fmt: skip
_WORDS = ("x", "a b", "axis", "", 'quo"te\\', "line\nfeed", "é", "\udcff", "true", "f32", "x.y", "_1", "1x")


def _parsed(text: str) -> Parser:
    return Parser(text, "pool")


TYPES: list[Type] = [_parsed(text).type() for text in (*_TYPE_TEXTS, *_WIDE_TYPES)]
ATTRIBUTES: list[Attribute] = [_parsed(text).attribute() for text in _ATTRIBUTE_TEXTS]


def random_float(rng: Random) -> float:
    special = [0.0, -0.0, 1.0, 0.1, 1e-45, 3.4e38, 1e308, float("inf"), float("-inf"), float("nan"), 5e-324]
    return rng.choice(special) if rng.random() < 0.5 else rng.uniform(-1000, 1000)


def random_attribute(rng: Random, depth: int = 2) -> Attribute:
    """Any attribute."""
    kind = rng.randrange(12 if depth else 8)
    if kind == 0:
        type_ = rng.choice([I8, I32, I64, INDEX, I1, IntegerType(5)])
        return IntegerAttr(rng.randint(0, 1) if type_ is I1 else rng.randint(-16, 15), type_)
    if kind == 1:
        return FloatAttr(random_float(rng), rng.choice([F16, F32, F64]))
    if kind == 2:
        return StringAttr(rng.choice(_WORDS))
    if kind == 3:
        return TypeAttr(rng.choice(TYPES))
    if kind == 4:
        return SymbolRefAttr(rng.choice([word for word in _WORDS if word]))
    if kind == 5:
        return UnitAttr()
    if kind == 6:
        return DenseArrayAttr(I32, tuple(rng.randint(-3, 3) for _ in range(rng.randrange(3))))
    if kind == 7:
        return rng.choice(ATTRIBUTES)
    if kind < 10:
        return ArrayAttr(tuple(random_attribute(rng, depth - 1) for _ in range(rng.randrange(3))))
    return DictAttr.of(random_dict(rng, depth - 1))


def random_dict(rng: Random, depth: int = 1) -> dict[str, Attribute]:
    keys = [word for word in _WORDS if word]
    return {rng.choice(keys): random_attribute(rng, depth) for _ in range(rng.randrange(3))}


def random_location(rng: Random) -> Location:
    names: list[Location] = [NameLoc(word) for word in _WORDS]
    place = FileLoc("a file.mlir", rng.randint(1, 9), rng.randint(1, 9))
    return rng.choice([*names, place, FusedLoc((NameLoc("a"), place))])


def _attribute_of(rng: Random, kind: Any) -> Attribute | None:
    """An attribute that a kind accepts, None where the pool has none."""
    if kind.keywords:
        found: Attribute = kind.encode(rng.choice(kind.keywords))
        return found
    maps = [item for a in ATTRIBUTES if isinstance(a, ArrayAttr) for item in a if isinstance(item, AffineMapAttr)]
    numbers = [IntegerAttr(rng.randint(-1, 4)), IntegerAttr(1, I1), FloatAttr(random_float(rng), F64)]
    others = [random_attribute(rng) for _ in range(4)]
    words = [StringAttr(rng.choice(_WORDS)), StringAttr(kind.description.rpartition(" ")[2])]
    accepted = [a for a in (*numbers, *maps, *words, *others, *ATTRIBUTES) if kind.accepts(a)]
    return rng.choice(accepted) if accepted else None


def _types_of(rng: Random, groups: Sequence[ValueGroup], common: Type) -> tuple[list[Type], list[int]] | None:
    types: list[Type] = []
    sizes: list[int] = []
    for group in groups:
        accepted = [type_ for type_ in TYPES if group.constraint.accepts(type_)]
        if not accepted:
            return None
        size = {Arity.ONE: 1, Arity.OPTIONAL: rng.randrange(2), Arity.MANY: rng.randrange(3)}[group.arity]
        use_common = group.constraint.accepts(common) and rng.random() < 0.8
        types += [common if use_common else rng.choice(accepted) for _ in range(size)]
        sizes.append(size)
    return types, sizes


def values_of(block: Block, types: Sequence[Type]) -> list[Value]:
    """A value of each type, made by an unregistered op at the end of a block."""
    if not types:
        return []
    op = UnregisteredOp.named("test.values", result_types=types)
    block.append(op)
    return list(op.results)


def random_op(rng: Random, cls: type[Op]) -> Operation | None:
    """A valid op of a class without regions, inside an op of its own; None where the attempt gave no valid one."""
    spec = cls.spec
    common = rng.choice(TYPES)
    operands, results = _types_of(rng, spec.operands, common), _types_of(rng, spec.results, common)
    if operands is None or results is None or spec.regions or spec.successors:
        return None
    properties: dict[str, Attribute] = {}
    for name, field in spec.attrs.items():
        import attrs

        if field.default is not attrs.NOTHING and rng.random() < 0.5:
            continue
        made = _attribute_of(rng, field.kind)
        if made is None:
            return None
        properties[name] = made
    for of_operands, (_, sizes) in ((True, operands), (False, results)):
        segments = spec.segments_name(of_operands)
        if segments is not None:
            properties[segments] = DenseArrayAttr(I32, tuple(sizes))
    attributes = {k: v for k, v in random_dict(rng).items() if k not in spec.attrs and k not in SEGMENTS}
    block = Block()
    values = values_of(block, operands[0])
    op = cls.make(values, results[0], properties, attributes, loc=random_location(rng))
    for value in (*values, *op.results):
        value.name = rng.choice([None, *_WORDS])
    holder = UnregisteredOp.named("test.holder", regions=[Region([block])])
    if not _infer(op):
        return None
    block.append(op)
    if Trait.TERMINATOR not in spec.traits:
        block.append(YieldOp(()))
    try:
        verify(holder)
    except StepwellError:
        return None
    return holder


def _infer(op: Op) -> bool:
    if type(op).infer_types is Op.infer_types:
        return True
    try:
        op._set_results(op.infer_types())
    except Exception:  # whatever inference makes of unsuitable operands; such ops are not wanted here
        return False
    return True


def random_module(rng: Random, names: Sequence[str], count: int = 6) -> Operation:
    """Valid random ops of random classes in a module."""
    cls = REGISTRY.op("builtin.module")
    assert cls is not None
    module = cls.make(regions=[Region([Block()])])
    for _ in range(count):
        made = random_op(rng, REGISTRY.ops[rng.choice(names)])
        if made is not None:
            module.regions[0].block.append(made)
    return module


