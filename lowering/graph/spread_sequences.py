"""The pass behind which there are no sequences and no optional values, only tensors.

%s : !graph.sequence<element = f32>        ->  %data : tensor<?xf32>, %shapes : tensor<?x9xsi64>
%o : !graph.optional<of = tensor<4xf32>>   ->  the same, a sequence of at most one tensor
%p : !graph.optional<of = !graph.sequence> ->  %present : tensor<i1>, %data, %shapes

Loops carry and branches yield the parts, arguments and results of the function become parts as well: attributes say of
what (`sw.list`) and which (`sw.part`), so that callers see lists. What data decide, the number of tensors and of all
elements, are sizes of these tensors: they grow, and lie on the heap, as any tensor that data make large."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from stepwell.dialects import func
from stepwell.dialects.graph import sequence as graph
from stepwell.dialects.graph.base import ConstantOp
from stepwell.dialects.graph.control import IfOp, LoopOp, YieldOp
from stepwell.dialects.graph.sequence_tensors import ConcatSequenceOp, SplitSequenceOp
from stepwell.dialects.graph.symbols import fresh_name, fresh_names_after
from stepwell.dialects.kept import Kept, kept_by, set_kept
from stepwell.dialects.sequence_types import OptionalType, SequenceType, is_list, list_element
from stepwell.errors import PassError
from stepwell.ir.attributes import ArrayAttr, Attribute, DictAttr, StringAttr, elements
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.dims import free_symbols, symbol
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.types import I1, SI64, TensorType, Type
from stepwell.lowering.graph.canonicalize import Canonicalize
from stepwell.lowering.graph.packed import WIDTH, Code, Packed

LIST, PART = "sw.list", "sw.part"
"""Attributes of an argument or result that is a part: the type of the whole, and one of PRESENT, DATA, SHAPES."""

PRESENT, DATA, SHAPES = "present", "data", "shapes"


def part_names(type_: Type) -> tuple[str, ...]:
    """The parts of a sequence or an optional value, in order. Raises PassError for an optional of an optional."""
    if isinstance(type_, OptionalType) and not isinstance(type_.of, TensorType):
        if not isinstance(type_.of, SequenceType):
            raise PassError(f"a value of type {type_} cannot be taken apart")
        return PRESENT, DATA, SHAPES
    return DATA, SHAPES


@attrs.frozen
class SpreadSequences(Pass):
    """Turn sequences and optional values into tensors: all elements in one list, and a row of sizes for each."""

    name: ClassVar[str] = "spread-sequences"

    def run(self, module: Operation, context: PassContext) -> None:
        functions = [function for function in module.walk_of(func.FuncOp) if any(map(is_list, _types(function)))]
        if not functions:
            return
        with fresh_names_after(_symbols(module)):
            for function in functions:
                _Spread().function(function)
            Canonicalize().run(module, context)


def _values(op: Operation) -> Iterator[Value]:
    for inner in op.walk():
        yield from inner.results
        for region in inner.regions:
            for block in region.blocks:
                yield from block.arguments


def _types(op: Operation) -> Iterator[Type]:
    return (value.type for value in _values(op))


def _symbols(module: Operation) -> set[str]:
    dims = (dim for type_ in _types(module) if isinstance(type_, TensorType) for dim in type_.shape)
    return {name for dim in dims for name in free_symbols(dim)}


@attrs.frozen
class _Whole:
    """The parts of a value that was a list; `present` where it may be absent."""

    packed: Packed
    present: Value | None = None

    @property
    def values(self) -> list[Value]:
        """The parts in the order of `part_names`."""
        return [*([self.present] if self.present is not None else []), self.packed.data, self.packed.shapes]

    @staticmethod
    def of(parts: Sequence[Value]) -> _Whole:
        """From its parts in order."""
        return _Whole(Packed(*parts[-2:]), parts[0] if len(parts) == 3 else None)


class _Spread:
    """The conversion of one function."""

    def __init__(self) -> None:
        self.wholes: dict[Value, _Whole] = {}

    def function(self, function: func.FuncOp) -> None:
        """Convert in place."""
        entry = function.body.block
        given = [function.argument_attributes(index) for index in range(len(entry.arguments))]
        described = _described(given, [argument.type for argument in entry.arguments])
        returned = [value.type for value in function.returned]
        kept = _moved(kept_by(function), [argument.type for argument in entry.arguments], returned)
        results = _described([function.result_attributes(n) for n in range(len(returned))], returned)
        self.block(entry)
        function.properties["arg_attrs"] = described
        function.properties["res_attrs"] = results
        function.update_type()
        for pair in kept:
            set_kept(function, pair)

    def block(self, block: Block) -> None:
        """Convert a block's arguments and ops; what becomes parts is replaced where it stands."""
        for argument in [a for a in block.arguments if is_list(a.type)]:
            name = argument.name or "list"
            parts = [block.insert_argument(argument.index, _part_type(argument.type, part), f"{name}_{part}")
                     for part in part_names(argument.type)]  # fmt: skip
            self.wholes[argument] = _Whole.of(parts)
        done = [op for op in list(block) if self._convert(op)]
        for op in reversed(done):
            op.erase()
        for argument in [a for a in block.arguments if is_list(a.type)]:
            block.erase_argument(argument.index)

    def _convert(self, op: Operation) -> bool:
        """Convert an op, or what it contains; whether nothing needs it any more."""
        code = Code(Builder.before(op))
        rule = _RULES.get(type(op))
        if rule is not None:
            made = rule(self, op, code)
            result = op.results[0]
            if isinstance(made, Value):
                made.name = made.name or result.name
                result.replace_all_uses_with(made)
            else:
                self.wholes[result] = made
            return True
        if isinstance(op, (YieldOp, func.ReturnOp)):
            op.set_operands(self._flat(op.operands))
            return False
        lists = [value.type for value in (*op.operands, *op.results) if is_list(value.type)]
        if lists and not isinstance(op, (IfOp, LoopOp)):
            raise PassError(f"{op.loc.label or op.op_name}: {op.op_name} does not take or give {lists[0]}")
        for region in op.regions:
            for inner in region.blocks:
                self.block(inner)
        if not lists:
            return False
        self._control(op, code)
        return True

    def _flat(self, values: Sequence[Value]) -> list[Value]:
        return [part for value in values for part in (self.wholes[value].values if is_list(value.type) else [value])]

    def _control(self, op: Operation, code: Code) -> None:
        """A branch that yields parts, or a loop that carries them."""
        regions = []
        for region in op.regions:
            block = region.block
            region.remove(block)
            regions.append(Region([block]))
        new: IfOp | LoopOp
        if isinstance(op, IfOp):
            new = IfOp(op.condition, regions=regions)
        else:
            assert isinstance(op, LoopOp)
            new = LoopOp(op.count, op.condition, self._flat(op.initial), regions=regions)
        code.builder.insert(new)
        rest, names = list(new.results), dict[str, str]()
        labels: list[Attribute] = []
        shown = op.attributes.get("onnx.outputs")
        for index, old in enumerate(op.results):
            label = shown.values[index] if isinstance(shown, ArrayAttr) else StringAttr("")
            if is_list(old.type):
                count = len(part_names(old.type))
                self.wholes[old] = _Whole.of(rest[:count])
                rest, labels = rest[count:], [*labels, *[StringAttr("")] * count]
                continue
            made = rest.pop(0)
            _rename(made.type, old.type, names)
            labels.append(label)
            made.name = old.name
            old.replace_all_uses_with(made)
        if shown is not None:
            new.attributes["onnx.outputs"] = ArrayAttr(tuple(labels))
        new.properties["new_dims"] = ArrayAttr(tuple(StringAttr(names.get(name, name)) for name in new.new_dims))
        for result, type_ in zip(new.results, new.infer_types(), strict=True):
            result.type = type_


def _rename(made: Type, wanted: Type, names: dict[str, str]) -> None:
    """The names that fresh symbols had before."""
    assert isinstance(made, TensorType) and isinstance(wanted, TensorType)
    for size, old in zip(made.shape, wanted.shape, strict=True):
        if size != old and len(free_symbols(size)) == len(free_symbols(old)) == 1:
            names[next(iter(free_symbols(size)))] = next(iter(free_symbols(old)))


def _part_type(type_: Type, part: str) -> TensorType:
    if part == PRESENT:
        return TensorType((), I1)
    size = symbol(fresh_name(f"list_{part}"))
    return TensorType((size,), list_element(type_)) if part == DATA else TensorType((size, WIDTH), SI64)


def _described(given: Sequence[dict[str, Attribute]], types: Sequence[Type]) -> Attribute:
    """The attributes of arguments or results, once for each part."""
    found = []
    for own, type_ in zip(given, types, strict=True):
        if is_list(type_):
            whole = StringAttr(str(type_))
            found += [DictAttr.of({**own, LIST: whole, PART: StringAttr(part)}) for part in part_names(type_)]
        else:
            found.append(DictAttr.of(own))
    return ArrayAttr(tuple(found))


def _moved(kept: Sequence[Kept], given: Sequence[Type], returned: Sequence[Type]) -> list[Kept]:
    """What is kept, by the numbers that arguments and results have once lists before them are parts. Raises PassError
    for a list that is kept."""

    def place(number: int, types: Sequence[Type]) -> int:
        if is_list(types[number]):
            raise PassError(f"a state keeps tensors, and no value of type {types[number]}")
        return sum(len(part_names(type_)) if is_list(type_) else 1 for type_ in types[:number])

    return [
        pair._replace(argument=place(pair.argument, given), result=place(pair.result, returned)) for pair in kept
    ]


# One op at a time

_Made = Value | _Whole
_RULES: dict[type[Operation], Callable[[_Spread, Any, Code], _Made]] = {}
_Rule = Callable[[_Spread, Any, Code], _Made]


def _spreads(cls: type[Operation]) -> Callable[[_Rule], _Rule]:
    def register(function: _Rule) -> _Rule:
        _RULES[cls] = function
        return function

    return register


def _sizes(value: Value) -> list[int]:
    type_ = value.type
    assert isinstance(type_, TensorType)
    return [dim if isinstance(dim, int) else -1 for dim in type_.shape]


@_spreads(graph.SequenceOp)
def _sequence(s: _Spread, op: graph.SequenceOp, code: Code) -> _Made:
    return _Whole(code.packed(op.xs, op.element))


@_spreads(graph.SequenceInsertOp)
def _insert(s: _Spread, op: graph.SequenceInsertOp, code: Code) -> _Made:
    return _Whole(code.inserted(s.wholes[op.sequence].packed, op.x, op.position))


@_spreads(graph.SequenceEraseOp)
def _erase(s: _Spread, op: graph.SequenceEraseOp, code: Code) -> _Made:
    return _Whole(code.erased(s.wholes[op.sequence].packed, op.position))


@_spreads(graph.SequenceAtOp)
def _at(s: _Spread, op: graph.SequenceAtOp, code: Code) -> _Made:
    packed = s.wholes[op.sequence].packed
    return _renamed(op, lambda known, names: code.at(packed, op.position, known, names))


def _renamed(op: Any, make: Callable[[list[int], list[str]], Value]) -> Value:
    """Sizes that the op brought are brought by its replacement; others follow from elsewhere, and are met again."""
    type_ = op.result.type
    born = [dim for dim in type_.shape if free_symbols(dim) & set(op.new_dims)]
    if len(born) == sum(not isinstance(dim, int) for dim in type_.shape):
        return make(_sizes(op.result), [str(dim) for dim in born])
    made = make([dim if isinstance(dim, int) else -1 for dim in type_.shape], [
        str(dim) if dim in born else fresh_name("met") for dim in type_.shape if not isinstance(dim, int)
    ])  # fmt: skip
    builder = Builder.before(op)
    return Code(builder).reshape(made, type_.shape)


@_spreads(graph.SequenceLengthOp)
def _length(s: _Spread, op: graph.SequenceLengthOp, code: Code) -> _Made:
    return code.size(s.wholes[op.sequence].packed.shapes)


@_spreads(ConcatSequenceOp)
def _concat(s: _Spread, op: ConcatSequenceOp, code: Code) -> _Made:
    packed = s.wholes[op.sequence].packed
    return _renamed(op, lambda known, names: code.concatenated(packed, op.axis, op.new, known, names))


@_spreads(SplitSequenceOp)
def _split(s: _Spread, op: SplitSequenceOp, code: Code) -> _Made:
    return _Whole(code.split(op.x, op.sizes, op.axis, op.keeps_axis))


@_spreads(graph.OptionalOp)
def _optional(s: _Spread, op: graph.OptionalOp, code: Code) -> _Made:
    if isinstance(op.of, TensorType):
        return _Whole(code.packed([op.x] if op.x is not None else [], op.of.element))
    part_names(op.result.type)
    present = code.op(ConstantOp(value=elements(np.array(op.x is not None), TensorType((), I1))))
    return _Whole(s.wholes[op.x].packed if op.x is not None else code.empty(list_element(op.of)), present)


@_spreads(graph.OptionalHasElementOp)
def _has(s: _Spread, op: graph.OptionalHasElementOp, code: Code) -> _Made:
    whole = s.wholes[op.x]
    return whole.present if whole.present is not None else code.test(code.size(whole.packed.shapes), "gt", 0)


@_spreads(graph.OptionalGetElementOp)
def _get(s: _Spread, op: graph.OptionalGetElementOp, code: Code) -> _Made:
    whole = s.wholes[op.x]
    if whole.present is None:
        return _renamed(op, lambda known, names: code.at(whole.packed, code.number(0), known, names))
    there = code.zero_if(whole.present, "the value is absent")
    return _Whole(Packed(whole.packed.data, code.add(whole.packed.shapes, there)))
