"""Rewriting: patterns typed by the op they match, and the greedy driver that applies them to a fixpoint with folding.

    @pattern
    def drop_double_transpose(op: TransposeOp, rewriter: Rewriter) -> bool:
        '''transpose(transpose(x, p), q) -> transpose(x, p o q)'''
        ...
"""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from stepwell.errors import PassError
from stepwell.ir.attributes import Attribute
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, OpT, Value
from stepwell.ir.location import fused
from stepwell.ir.opdef import Op, Trait, has_trait
from stepwell.ir.origins import note
from stepwell.ir.registry import REGISTRY


@attrs.frozen(eq=False)
class Pattern:
    """A rewrite of ops of one class (None: of any class): `apply` changes the IR and returns True, or leaves it alone
    and returns False. Patterns with more benefit are tried first; one that `rounds` changes how floats are rounded."""

    name: str
    root: type[Operation] | None
    apply: Callable[[Any, Rewriter], bool]
    benefit: int = 1
    doc: str = ""
    rounds: bool = False

    def __attrs_post_init__(self) -> None:
        note(self.apply)


def pattern(function: Callable[[Any, Rewriter], bool]) -> Pattern:
    """Decorator: the class of the first parameter is what the pattern matches; the doc string shows before -> after."""
    hints = typing.get_type_hints(function)
    root = next(iter(hints.values()))
    return Pattern(function.__name__, None if root is Operation else root, function, doc=function.__doc__ or "")


Remarker = Callable[[Operation, str], None]  # records a decision about an op, and why


class Rewriter:
    """Changes the IR on behalf of a pattern and tells the driver what has changed.

    `remark` records a decision that people may want to hear of."""

    def __init__(
        self, listener: Callable[[Operation], None] = lambda op: None, remark: Remarker = lambda op, message: None
    ) -> None:
        self._changed = listener
        self.remark = remark
        self.builder: Builder | None = None

    def set_before(self, op: Operation) -> None:
        """New operations go before `op` and get its location."""
        self.builder = Builder.before(op)

    def insert(self, op: OpT) -> OpT:
        """Put a new operation at the insertion point."""
        assert self.builder is not None
        self.builder.insert(op)
        self._changed(op)
        return op

    def replace(self, op: Operation, values: Value | Sequence[Value]) -> None:
        """Give the results' uses to values and erase the op."""
        values = [values] if isinstance(values, Value) else list(values)
        for value in values:
            made = value.defining_op
            if made is not None and made.loc is not op.loc and not made.loc.label:
                made.loc = op.loc
        users = [user for result in op.results for user in result.users]
        self._touch_definitions(op)
        op.replace_with(values)
        for user in users:
            self._changed(user)

    def replace_with(self, op: Operation, new: OpT) -> OpT:
        """Insert `new` before `op` and let its results take over."""
        self.set_before(op)
        self.insert(new)
        self.replace(op, list(new.results))
        return new

    def erase(self, op: Operation) -> None:
        """Erase an unused op."""
        self._touch_definitions(op)
        op.erase()

    def modified(self, op: Operation) -> None:
        """An op was changed in place."""
        self._changed(op)
        for result in op.results:
            for user in result.users:
                self._changed(user)

    def merge_locations(self, op: Operation, *others: Operation) -> None:
        """`op` now also does the work of `others`."""
        op.loc = fused(op.loc, *(other.loc for other in others))

    def _touch_definitions(self, op: Operation) -> None:
        for value in op.operands:
            if value.defining_op is not None:
                self._changed(value.defining_op)


# What turns a folded attribute into an op, per dialect: (attribute, type, loc) -> op with one result, or None.
ConstantMaker = Callable[[Attribute, Any], "Operation | None"]
CONSTANT_MAKERS: dict[str, ConstantMaker] = {}


def constant_value(value: Value) -> Attribute | None:
    """The attribute of a value that a constant op defines."""
    op = value.defining_op
    if op is not None and has_trait(op, Trait.CONSTANT):
        return op.properties.get("value")
    return None


class _Worklist:
    def __init__(self) -> None:
        self._stack: list[Operation] = []
        self._members: set[Operation] = set()

    def push(self, op: Operation) -> None:
        if op not in self._members:
            self._members.add(op)
            self._stack.append(op)

    def pop(self) -> Operation | None:
        if not self._stack:
            return None
        op = self._stack.pop()
        self._members.discard(op)
        return op


MAX_REWRITES_PER_OP = 64  # rewrites of one program, per operation in it, before a cycle is assumed


def apply_greedily(
    root: Operation, patterns: Iterable[Pattern], *, fold: Callable[[Operation], bool] | bool = True,
    remark: Remarker = lambda op, message: None,
) -> Counter[str]:  # fmt: skip
    """Fold, drop dead pure ops and apply patterns until nothing changes. Returns how often each did, by name. `fold`
    says whether ops are folded, or which.

    Raises PassError naming the most applied pattern when the rewriting does not come to an end."""
    by_class: dict[type[Operation] | None, list[Pattern]] = {}
    for candidate in sorted(patterns, key=lambda p: -p.benefit):
        by_class.setdefault(candidate.root, []).append(candidate)
    worklist = _Worklist()
    rewriter = Rewriter(worklist.push, remark)
    ops = [op for op in root.walk() if op is not root]
    for op in reversed(ops):
        worklist.push(op)
    budget = MAX_REWRITES_PER_OP * (len(ops) + 64)
    applied: Counter[str] = Counter()
    while (item := worklist.pop()) is not None:
        if not root.is_ancestor_of(item):  # erased since, alone or with what holds it
            continue
        name = _step(item, by_class, rewriter, fold)
        if name is not None:
            applied[name] += 1
            if applied.total() > budget:
                looping, count = applied.most_common(1)[0]
                raise PassError(f"rewriting does not end: {looping!r} was applied {count} times, lately to {item!r}")
    return applied


def _step(
    op: Operation, by_class: dict[type[Operation] | None, list[Pattern]], rewriter: Rewriter,
    fold: Callable[[Operation], bool] | bool,
) -> str | None:  # fmt: skip
    if is_dead(op):
        rewriter.erase(op)
        return "dead code"
    if (fold(op) if callable(fold) else fold) and fold_op(op, rewriter):
        return "fold"
    for key in (type(op), None):
        for candidate in by_class.get(key, ()):
            rewriter.set_before(op)
            if candidate.apply(op, rewriter):
                return candidate.name
            if op.parent is None:
                raise PassError(f"pattern {candidate.name!r} changed the IR but reports no match")
    return None


def is_dead(op: Operation) -> bool:
    """Whether an op is pure and nobody uses it, be it without its results."""
    unused = has_trait(op, Trait.PURE) and not any(result.has_uses for result in op.results) and bool(op.results)
    return unused and not (isinstance(op, Op) and op.is_named())


def fold_op(op: Operation, rewriter: Rewriter) -> bool:
    """Replace an op by what its `fold` gives; not by values of other types where the types behind it name its symbols,
    which nothing would bind then."""
    if not isinstance(op, Op) or has_trait(op, Trait.CONSTANT):
        return False
    folded = op.fold([constant_value(value) for value in op.operands])
    if folded is None or any(item is result for item, result in zip(folded, op.results, strict=True)):
        return False
    pairs = zip(folded, op.results, strict=True)
    if any(isinstance(item, Value) and item.type is not result.type for item, result in pairs) and op.is_named():
        return False
    rewriter.set_before(op)
    values: list[Value] = []
    for item, result in zip(folded, op.results, strict=True):
        if isinstance(item, Value):
            values.append(item)
            continue
        maker = CONSTANT_MAKERS.get(op.dialect) or CONSTANT_MAKERS.get(REGISTRY.landing(op.dialect))
        constant = maker(item, result.type) if maker else None
        if constant is None:
            return False
        constant.loc = op.loc
        values.append(rewriter.insert(constant).results[0])
    rewriter.replace(op, values)
    return True
