"""Checks the rules that every valid IR keeps: declared fields, types, SSA dominance, terminators, symbols."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.errors import IRError, VerifyError
from stepwell.ir.core import Block, BlockArgument, Operation, OpResult, Value
from stepwell.ir.dominance import Dominance
from stepwell.ir.opdef import Arity, Op, Trait, ValueGroup, group_sizes, has_trait, is_self_contained
from stepwell.ir.symbols import symbol_name
from stepwell.ir.types import Type

# What an op's hooks may raise on operands, attributes or regions that they take for granted.
STUMBLES = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


def verify(root: Operation) -> None:
    """Raise VerifyError for the first broken rule in `root` or anything inside it."""
    dominance = Dominance()
    for op in root.walk():
        verify_fields(op)
        _verify_regions(op)
        _verify_symbols(op)
        _verify_operands(op, root, dominance)
        _verify_hook(op)


def fail(op: Operation, message: str) -> VerifyError:
    """An error that names the op and where it came from."""
    place = f" (from {op.loc.label})" if op.loc.label else ""
    return VerifyError(f"{op.op_name}{place}: {message}")


def verify_fields(op: Operation, *, results: bool = True) -> None:
    """Compare an op with its class's declaration: number and types of its values, attributes, regions, successors.

    Raises VerifyError. Without `results`, an op whose results are yet to be inferred."""
    if not isinstance(op, Op):
        return
    spec = op.spec
    _verify_groups(op, True)
    if results:
        _verify_groups(op, False)
    segments = {spec.segments_name(True), spec.segments_name(False)}
    for name, attribute in op.properties.items():
        field = spec.attrs.get(name)
        if field is None and name not in segments:
            raise fail(op, f"has no attribute {name!r}")
        if field is not None and not field.kind.accepts(attribute):
            raise fail(op, f"attribute {name!r} must be {field.kind.description}, is {attribute}")
    import attrs

    for name, field in spec.attrs.items():
        if field.default is attrs.NOTHING and name not in op.properties:
            raise fail(op, f"lacks its attribute {name!r}")
    fixed = sum(not field.variadic for field in spec.regions)
    variadic = any(field.variadic for field in spec.regions)
    if len(op.regions) < fixed or (len(op.regions) > fixed and not variadic):
        raise fail(op, f"has {len(op.regions)} regions, expected {fixed}")
    if len(op.successors) != len(spec.successors):
        raise fail(op, f"has {len(op.successors)} successors, expected {len(spec.successors)}")


def _verify_groups(op: Op, of_operands: bool) -> None:
    values: Sequence[Value] = op.operands if of_operands else op.results
    try:
        sizes = group_sizes(op, of_operands)
    except IRError as error:
        raise fail(op, str(error)) from None
    start = 0
    for group, size in zip(op.spec.operands if of_operands else op.spec.results, sizes, strict=True):
        if group.arity is not Arity.MANY and size > 1:
            raise fail(op, f"has {size} values for {group.name!r}")
        for value in values[start : start + size]:
            _verify_type(op, group, value.type)
        start += size


def _verify_type(op: Operation, group: ValueGroup, type_: Type) -> None:
    if not group.constraint.accepts(type_):
        what = "operand" if group.is_operand else "result"
        raise fail(op, f"{what} {group.name!r} must be {group.constraint.description}, is {type_}")


def _verify_regions(op: Operation) -> None:
    unterminated = not isinstance(op, Op) or has_trait(op, Trait.NO_TERMINATOR)
    for region in op.regions:
        for block in region.blocks:
            last = block.last
            for inner in block:
                if (has_trait(inner, Trait.TERMINATOR) or inner.successors) and inner is not last:
                    raise fail(inner, "ends a block, but is not the last operation of its block")
            if not unterminated and not _may_end(last):
                raise fail(op, "has a block that does not end with a terminator")
            for target in last.successors if last is not None else ():
                if target.parent is not region:
                    raise fail(op, "a branch leaves its region")
                if target is region.entry:
                    raise fail(op, "a branch leads to the entry block of its region")


def _verify_symbols(op: Operation) -> None:
    if not has_trait(op, Trait.SYMBOL_TABLE):
        return
    if len(op.regions) != 1 or len(op.regions[0].blocks) != 1:
        raise fail(op, "a symbol table has one region of one block")
    seen: set[str] = set()
    for inner in op.regions[0].block:
        name = symbol_name(inner)
        if name in seen:
            raise fail(inner, f"@{name} is defined twice")
        if name is not None:
            seen.add(name)


def _may_end(last: Operation | None) -> bool:
    return last is not None and (has_trait(last, Trait.TERMINATOR) or not isinstance(last, Op))


def _verify_operands(op: Operation, root: Operation, dominance: Dominance) -> None:
    for index, value in enumerate(op.operands):
        if (op, index) not in value._uses:
            raise fail(op, f"operand {index} does not know its use")
        if not _is_visible(value, op, root, dominance):
            name = f"%{value.name}" if value.name else f"operand {index}"
            inside = _is_inside(value, root)
            raise fail(op, f"{name} does not dominate its use" if inside else f"{name} is from outside")


def _is_inside(value: Value, root: Operation) -> bool:
    block = value.owner_block
    return block is not None and block.parent_op is not None and root.is_ancestor_of(block.parent_op)


def _is_visible(value: Value, user: Operation, root: Operation, dominance: Dominance) -> bool:
    definition = value.owner_block
    if definition is None:
        return False
    node: Operation | None = user
    while node is not None:
        if node.parent is not None and node.parent.parent is definition.parent:
            return _precedes(value, node, definition, dominance)
        if node is root:  # values from outside the verified op are the caller's business, unless it is isolated
            return (not has_trait(root, Trait.ISOLATED) and root is not user) or _outer_is_fine(value, root)
        node = node.parent_op
        if node is not None and is_self_contained(node):
            return False
    return False


def _outer_is_fine(value: Value, root: Operation) -> bool:
    return isinstance(value, (BlockArgument, OpResult)) and root.parent is not None


def _precedes(value: Value, user: Operation, definition: Block, dominance: Dominance) -> bool:
    assert user.parent is not None
    if user.parent is not definition:
        return dominance.dominates(definition, user.parent)
    if isinstance(value, BlockArgument):
        return True
    assert isinstance(value, OpResult)
    if isinstance(user.parent_op, Op) and has_trait(user.parent_op, Trait.GRAPH_REGION):
        return True
    return value.op is not user and value.op.is_before(user)


def _verify_hook(op: Operation) -> None:
    try:
        op.verify_op()
        if isinstance(op, Op) and type(op).infer_types is not Op.infer_types:
            inferred = list(op.infer_types())
            actual = [result.type for result in op.results]
            if not types_agree(inferred, actual):
                raise IRError(f"result types {_list(actual)} do not fit, {_list(inferred)} follow from the operands")
    except VerifyError:
        raise
    except IRError as error:
        raise fail(op, str(error)) from None
    except STUMBLES as error:
        raise fail(op, f"its operands, attributes or regions do not fit together ({error!r})") from error


def _list(types: Sequence[Type]) -> str:
    return ", ".join(map(str, types))


def types_agree(inferred: Sequence[Type], actual: Sequence[Type]) -> bool:
    """Whether written types may stand where others were inferred: equal, or tensors that differ only in dims of which
    one is symbolic, or in layout, or of a type that says less."""
    from stepwell.ir.types import TensorType

    if len(inferred) != len(actual):
        return False
    for a, b in zip(inferred, actual, strict=True):
        if a is b:
            continue
        if not (isinstance(a, TensorType) and isinstance(b, TensorType)):
            if b.may_stand_for(a):
                continue
            return False
        if a.element is not b.element or a.rank != b.rank:
            return False
        if any(isinstance(x, int) and isinstance(y, int) and x != y for x, y in zip(a.shape, b.shape, strict=True)):
            return False
    return True
