"""How an op class is declared: typed fields for operands, results, attributes, regions and successors.

    class SoftmaxOp(Operation):
        '''Softmax along one axis. ...'''
        name = "graph.softmax"
        traits = frozenset({PURE})
        x: Value = operand(FLOAT_TENSOR)
        axis: int = attr(INT, default=-1)
        result: Value = result(FLOAT_TENSOR)

The constructor takes the operands in the order of their declaration (a sequence for a variadic one, None for an absent
optional one) and the attributes as Python values by name; result types come from `infer_types` unless given as
`result_types=`. The parser, the printer, the verifier and the documentation read the same declaration (`spec`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, NamedTuple, TypeAlias

import attrs

from stepwell.errors import IRError
from stepwell.ir.attributes import Attribute, DenseArrayAttr
from stepwell.ir.attrkinds import AttrKind
from stepwell.ir.constraints import ANY, TypeConstraint
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.location import UNKNOWN, Location
from stepwell.ir.types import I32, Type


class Trait(Enum):
    """What holds for every operation of a class."""

    __hash__ = object.__hash__  # Enum's own is written in Python, and passes ask for traits a million times

    PURE = "no side effect: unused it may go, twice it may be merged"
    COMMUTATIVE = "the operands may be swapped"
    TERMINATOR = "ends a block"
    ISOLATED = "its regions use no value from outside, and name theirs anew"
    CLOSED = "its regions use no value from outside: it moves as a whole, into a kernel of its own too"
    SYMBOL_TABLE = "its region's operations with a sym_name are found by it"
    CONSTANT = "its `value` attribute is its result"
    NO_TERMINATOR = "its region's blocks end without a terminator"
    IDEMPOTENT = "a second one on the same operands does nothing: it may be merged with the first"
    GRAPH_REGION = "order in its region does not matter"


PURE, COMMUTATIVE, TERMINATOR, ISOLATED = Trait.PURE, Trait.COMMUTATIVE, Trait.TERMINATOR, Trait.ISOLATED
SYMBOL_TABLE, CONSTANT, NO_TERMINATOR = Trait.SYMBOL_TABLE, Trait.CONSTANT, Trait.NO_TERMINATOR


class Arity(Enum):
    """How many values a declared operand or result group stands for."""

    ONE = "one"
    OPTIONAL = "optional"
    MANY = "many"


class ValueGroup(NamedTuple):
    """A declared operand or result group; as a descriptor, a value, None or a tuple of values."""

    constraint: TypeConstraint
    arity: Arity
    is_operand: bool
    name: str = ""
    position: int = -1
    fixed_index: int = -1  # index of the value where no group before it varies

    def __get__(self, op: Operation | None, owner: type) -> Any:
        if op is None:
            return self
        if self.fixed_index >= 0:
            values: Sequence[Value] = op._operands if self.is_operand else op.results
            return values[self.fixed_index]
        start, size = group_range(op, self)
        values = op._operands if self.is_operand else op.results
        if self.arity is Arity.MANY:
            return tuple(values[start : start + size])
        return values[start] if size else None


class AttrField(NamedTuple):
    """A declared attribute; as a descriptor, the Python value it stands for."""

    kind: AttrKind
    default: Any = attrs.NOTHING
    name: str = ""

    def __get__(self, op: Operation | None, owner: type) -> Any:
        if op is None:
            return self
        attribute = op.properties.get(self.name)
        if attribute is not None:
            return self.kind.decode(attribute)
        if self.default is attrs.NOTHING:
            raise IRError(f"{op.op_name} lacks its attribute {self.name!r}")
        return self.default

    def __set__(self, op: Operation, value: Any) -> None:
        if value is None:
            op.properties.pop(self.name, None)
        else:
            op.properties[self.name] = self.kind.encode(value)


class RegionField(NamedTuple):
    """A declared region; as a descriptor, the region (a tuple of all further ones where variadic)."""

    variadic: bool = False
    name: str = ""
    position: int = -1

    def __get__(self, op: Operation | None, owner: type) -> Any:
        if op is None:
            return self
        return tuple(op.regions[self.position :]) if self.variadic else op.regions[self.position]


class SuccessorField(NamedTuple):
    """A declared successor block."""

    name: str = ""
    position: int = -1

    def __get__(self, op: Operation | None, owner: type) -> Any:
        return self if op is None else op.successors[self.position]


_FIELDS = (ValueGroup, AttrField, RegionField, SuccessorField)


def operand(constraint: TypeConstraint = ANY) -> Any:
    """One operand."""
    return ValueGroup(constraint, Arity.ONE, True)


def optional_operand(constraint: TypeConstraint = ANY) -> Any:
    """An operand that may be absent."""
    return ValueGroup(constraint, Arity.OPTIONAL, True)


def operands(constraint: TypeConstraint = ANY) -> Any:
    """Any number of operands."""
    return ValueGroup(constraint, Arity.MANY, True)


def result(constraint: TypeConstraint = ANY) -> Any:
    """One result."""
    return ValueGroup(constraint, Arity.ONE, False)


def results(constraint: TypeConstraint = ANY) -> Any:
    """Any number of results."""
    return ValueGroup(constraint, Arity.MANY, False)


def attr(kind: AttrKind, default: Any = attrs.NOTHING) -> Any:
    """An attribute; one with a default (None included) may be absent."""
    return AttrField(kind, default)


def region() -> Any:
    """One region."""
    return RegionField()


def regions() -> Any:
    """All further regions."""
    return RegionField(variadic=True)


def successor() -> Any:
    """One successor block."""
    return SuccessorField()


SEGMENTS = ("operandSegmentSizes", "resultSegmentSizes")  # properties that hold the sizes of value groups

Counts: TypeAlias = tuple["str | None", int, bool]
"""The property that holds the sizes of groups where several vary, how many are one value, whether any varies."""


class OpSpec(NamedTuple):
    """What an op class declares, for the parser, printer, verifier and documentation."""

    name: str
    doc: str
    traits: frozenset[Trait]
    operands: tuple[ValueGroup, ...]
    results: tuple[ValueGroup, ...]
    attrs: Mapping[str, AttrField]
    regions: tuple[RegionField, ...]
    successors: tuple[SuccessorField, ...]
    operand_counts: Counts
    result_counts: Counts

    @staticmethod
    def of(cls: type[Operation]) -> OpSpec:
        """Read the declaration off a class, bases first, and bind the field names."""
        fields: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            fields |= {name: member for name, member in vars(base).items() if isinstance(member, _FIELDS)}
        groups = [(n, f) for n, f in fields.items() if isinstance(f, ValueGroup)]
        operand_groups = _bind_groups(cls, [(n, f) for n, f in groups if f.is_operand])
        result_groups = _bind_groups(cls, [(n, f) for n, f in groups if not f.is_operand])
        attr_fields = {n: f._replace(name=n) for n, f in fields.items() if isinstance(f, AttrField)}
        region_fields = [f._replace(name=n) for n, f in fields.items() if isinstance(f, RegionField)]
        region_fields = [f._replace(position=i) for i, f in enumerate(region_fields)]
        successor_fields = [f._replace(name=n) for n, f in fields.items() if isinstance(f, SuccessorField)]
        successor_fields = [f._replace(position=i) for i, f in enumerate(successor_fields)]
        bound_fields: list[Any] = [
            *operand_groups, *result_groups, *attr_fields.values(), *region_fields, *successor_fields
        ]  # fmt: skip
        for bound in bound_fields:
            setattr(cls, bound.name, bound)
        return OpSpec(
            cls.name, cls.__doc__ or "", frozenset(getattr(cls, "traits", ())), operand_groups, result_groups,
            attr_fields, tuple(region_fields), tuple(successor_fields),
            _counts(operand_groups, SEGMENTS[0]), _counts(result_groups, SEGMENTS[1]),
        )  # fmt: skip

    def segments_name(self, of_operands: bool) -> str | None:
        """The property that holds the group sizes, where more than one group varies."""
        return (self.operand_counts if of_operands else self.result_counts)[0]


def _counts(groups: Sequence[ValueGroup], segments: str) -> Counts:
    ones = sum(group.arity is Arity.ONE for group in groups)
    return (segments if len(groups) - ones > 1 else None), ones, len(groups) > ones


def _bind_groups(cls: type, groups: list[tuple[str, ValueGroup]]) -> tuple[ValueGroup, ...]:
    bound, fixed = [], True
    for position, (name, group) in enumerate(groups):
        fixed = fixed and group.arity is Arity.ONE
        bound.append(group._replace(name=name, position=position, fixed_index=position if fixed else -1))
    return tuple(bound)


def group_sizes(op: Operation, of_operands: bool) -> Sequence[int]:
    """How many operands (results) each declared group of an operation has. Raises IRError where they do not add up."""
    spec = op.spec
    groups = spec.operands if of_operands else spec.results
    total = len(op._operands) if of_operands else len(op.results)
    what = "operands" if of_operands else "results"
    segments, ones, variable = spec.operand_counts if of_operands else spec.result_counts
    if segments is not None:
        attribute = op.properties.get(segments)
        if not isinstance(attribute, DenseArrayAttr) or (attribute.type, len(attribute.values)) != (I32, len(groups)):
            raise IRError(f"needs {segments} with {len(groups)} entries")
        if sum(attribute.values) != total or min(attribute.values, default=0) < 0:
            raise IRError(f"{segments} does not add up to its {total} {what}")
        return attribute.values
    rest = total - ones
    if rest < 0 or (rest > 0 and not variable):
        raise IRError(f"has {total} {what}, expected {'at least ' if variable else ''}{ones}")
    return [1 if group.arity is Arity.ONE else rest for group in groups]


def group_range(op: Operation, group: ValueGroup) -> tuple[int, int]:
    """(index of the first value, number of values) of a group."""
    sizes = group_sizes(op, group.is_operand)
    return sum(sizes[: group.position]), sizes[group.position]


class Op(Operation):
    """Base of declared op classes: subclasses get their `spec` and this constructor."""

    __slots__ = ()
    traits: ClassVar[frozenset[Trait]] = frozenset()
    assembly: ClassVar[str | None] = None  # declarative custom format; None: the dialect's common form

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.spec = OpSpec.of(cls)

    def __init__(
        self,
        *groups: Value | Sequence[Value] | None,
        result_types: Sequence[Type] | None = None,
        regions: Sequence[Region] = (),
        successors: Sequence[Block] = (),
        loc: Location = UNKNOWN,
        attributes: Mapping[str, Attribute] | None = None,
        **fields: Any,
    ) -> None:
        spec = self.spec
        properties: dict[str, Attribute] = {}
        values, sizes = _flatten(spec, groups)
        segments = spec.segments_name(True)
        if segments is not None:
            properties[segments] = DenseArrayAttr(I32, tuple(sizes))
        for name, value in fields.items():
            if name not in spec.attrs:
                raise IRError(f"{spec.name} has no attribute {name!r}")
            if value is not None:
                properties[name] = spec.attrs[name].kind.encode(value)
        self._setup(values, (), properties, dict(attributes or {}), regions, successors, loc)
        try:
            self._set_results(self.infer_types() if result_types is None else result_types)
        except NotImplementedError:
            self.drop_operands()
            raise IRError(f"{spec.name} cannot infer its result types: pass result_types=") from None
        except IRError:
            self.drop_operands()
            raise

    def _set_results(self, types: Sequence[Type]) -> None:
        from stepwell.ir.core import OpResult

        self.results = [OpResult(self, index, type_) for index, type_ in enumerate(types)]

    def infer_types(self) -> Sequence[Type]:
        if not self.spec.results:
            return ()
        raise NotImplementedError

    def is_named(self) -> bool:
        """Whether types of other values mention what this op brings, so that it is needed without uses."""
        return False


def _flatten(spec: OpSpec, groups: Sequence[Value | Sequence[Value] | None]) -> tuple[list[Value], list[int]]:
    if len(groups) > len(spec.operands):
        raise IRError(f"{spec.name} takes {len(spec.operands)} operand groups, not {len(groups)}")
    values: list[Value] = []
    sizes: list[int] = []
    for index, group in enumerate(spec.operands):
        given = groups[index] if index < len(groups) else None
        members = [] if given is None else [given] if isinstance(given, Value) else list(given)
        if group.arity is Arity.ONE and len(members) != 1:
            raise IRError(f"{spec.name} needs one value for its operand {group.name!r}")
        if group.arity is Arity.OPTIONAL and len(members) > 1:
            raise IRError(f"{spec.name} takes at most one value for its operand {group.name!r}")
        values.extend(members)
        sizes.append(len(members))
    return values, sizes


def has_trait(op: Operation, trait: Trait) -> bool:
    """Whether an operation's class declares a trait; never so for unregistered ones."""
    spec: OpSpec | None = getattr(type(op), "spec", None)
    return spec is not None and trait in spec.traits


def is_self_contained(op: Operation) -> bool:
    """Whether the regions of an op use no values that are defined outside of it."""
    return has_trait(op, Trait.ISOLATED) or has_trait(op, Trait.CLOSED)
