"""The greedy driver: folding, dead code, patterns by class and benefit, and the guard against endless rewriting."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stepwell.dialects import arith
from stepwell.errors import IRError, PassError
from stepwell.ir.attributes import Attribute
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, UnregisteredOp, Value
from stepwell.ir.location import NameLoc
from stepwell.ir.opdef import PURE, operand, result
from stepwell.ir.parser import parse_module
from stepwell.ir.rewrite import Pattern, Rewriter, apply_greedily, fold_op, is_dead, pattern
from stepwell.ir.types import F32, I32
from stepwell.ir.verifier import verify


def body(text: str) -> Operation:
    return parse_module(f"func.func @f(%x: i32, %y: i32) {{\n{text}\nfunc.return\n}}")


def lines(module: Operation) -> list[str]:
    return [line.strip() for line in str(module).splitlines()[1:-2]]


def rewritten(text: str, *patterns: Pattern, fold: bool = True) -> list[str]:
    module = body(text)
    apply_greedily(module, patterns, fold=fold)
    verify(module)
    return lines(module)


@pattern
def double_to_shift(op: arith.AddIOp, rewriter: Rewriter) -> bool:
    """x + x -> x << 1"""
    if op.lhs is not op.rhs:
        return False
    rewriter.set_before(op)
    one = rewriter.insert(arith.constant(1, I32))
    rewriter.replace(op, rewriter.insert(arith.ShLIOp(op.lhs, one.result)).result)
    return True


USE = '"use"(%r) : (i32) -> ()'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "%a = arith.constant 2 : i32\n%b = arith.constant 3 : i32\n%r = arith.muli %a, %b : i32",
            ["%r = arith.constant 6 : i32"],
        ),
        ("%a = arith.constant 0 : i32\n%r = arith.addi %x, %a : i32", []),
        ("%a = arith.constant 1 : i32\n%r = arith.muli %a, %x : i32", []),
        (
            "%a = arith.constant 0 : i32\n%r = arith.divsi %x, %a : i32",
            ["%a = arith.constant 0 : i32", "%r = arith.divsi %x, %a : i32"],
        ),
        (
            "%d = arith.addi %x, %y : i32\n%e = arith.muli %d, %d : i32\n%r = arith.subi %x, %y : i32",
            ["%r = arith.subi %x, %y : i32"],
        ),
        (
            '%d = "keep"() : () -> i32\n%r = arith.subi %x, %y : i32',
            ['%d = "keep"() : () -> i32', "%r = arith.subi %x, %y : i32"],
        ),
        (
            "%a = arith.addi %x, %x : i32\n%r = arith.addi %a, %a : i32",
            [
                "%0 = arith.constant 1 : i32",
                "%a = arith.shli %x, %0 : i32",
                "%1 = arith.constant 1 : i32",
                "%r = arith.shli %a, %1 : i32",
            ],
        ),
    ],
    ids=["constants", "identity", "identity on the left", "not a division by zero", "dead code", "effects", "pattern"],
)
def test_before_and_after(before: str, after: list[str]) -> None:
    made = rewritten(f"{before}\n{USE}", double_to_shift)
    assert made[:-1] == after
    assert made[-1].startswith('"use"')


def test_folding_can_be_left_out() -> None:
    text = f"%a = arith.constant 0 : i32\n%r = arith.addi %x, %a : i32\n{USE}"
    assert rewritten(text, fold=False)[1] == "%r = arith.addi %x, %a : i32"


def test_the_answer_says_whether_anything_changed() -> None:
    assert apply_greedily(body(f"%r = arith.addi %x, %x : i32\n{USE}"), [double_to_shift])
    assert not apply_greedily(body(f"%r = arith.addi %x, %y : i32\n{USE}"), [double_to_shift])


def test_more_benefit_goes_first() -> None:
    tried: list[str] = []

    def trying(name: str, benefit: int) -> Pattern:
        return Pattern(name, arith.AddIOp, lambda op, rewriter: bool(tried.append(name)), benefit)

    rewritten(f"%r = arith.addi %x, %y : i32\n{USE}", trying("little", 1), trying("much", 9))
    assert tried == ["much", "little"]


def test_a_pattern_of_any_class_meets_every_op() -> None:
    met: list[str] = []

    @pattern
    def look(op: Operation, rewriter: Rewriter) -> bool:
        met.append(op.op_name)
        return False

    rewritten(f"%r = arith.addi %x, %y : i32\n{USE}", look)
    assert met == ["arith.addi", "use", "func.return"]
    assert look.root is None
    assert double_to_shift.root is arith.AddIOp
    assert double_to_shift.doc == "x + x -> x << 1"


def test_endless_rewriting_names_the_pattern() -> None:
    @pattern
    def swap_for_ever(op: arith.AddIOp, rewriter: Rewriter) -> bool:
        """x + y -> y + x"""
        rewriter.replace_with(op, arith.AddIOp(op.rhs, op.lhs))
        return True

    with pytest.raises(PassError, match=r"rewriting does not end: 'swap_for_ever' was applied \d+ times, lately to"):
        rewritten(f"%r = arith.addi %x, %y : i32\n{USE}", swap_for_ever)


def test_a_pattern_must_tell_what_it_did() -> None:
    @pattern
    def erase_quietly(op: arith.AddIOp, rewriter: Rewriter) -> bool:
        rewriter.replace(op, op.lhs)
        return False

    with pytest.raises(PassError, match="'erase_quietly' changed the IR but reports no match"):
        rewritten(f"%r = arith.addi %x, %y : i32\n{USE}", erase_quietly)


def test_ops_inside_an_erased_op_are_not_visited() -> None:
    @pattern
    def drop(op: UnregisteredOp, rewriter: Rewriter) -> bool:
        if op.op_name != "drop":
            return False
        rewriter.erase(op)
        return True

    @pattern
    def read_operands(op: arith.AddIOp, rewriter: Rewriter) -> bool:
        return op.lhs is None

    inside = '"drop"() ({\n%a = arith.addi %x, %y : i32\n"use"(%a) : (i32) -> ()\n}) : () -> ()'
    assert rewritten(inside, drop, read_operands) == []


def test_replacements_keep_name_and_location() -> None:
    module = body(f"%r = arith.addi %x, %x : i32\n{USE}")
    add = next(op for op in module.walk() if isinstance(op, arith.AddIOp))
    add.loc = NameLoc("node")
    apply_greedily(module, [double_to_shift])
    shift = next(op for op in module.walk() if isinstance(op, arith.ShLIOp))
    assert shift.loc is NameLoc("node")
    assert shift.result.name == "r"


class SelfFolding(arith.Op):
    """An op that folds to itself, which means that it does not fold."""

    name = "test.self"
    traits = frozenset({PURE})
    x: Value = operand()
    result: Value = result()

    def infer_types(self) -> Sequence[object]:  # type: ignore[override]
        return [self.x.type]

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value]:
        return [self.result]


def test_folding_to_itself_is_no_fold() -> None:
    block = Block([F32])
    op = Builder.at_end(block).insert(SelfFolding(block.arguments[0]))
    assert not fold_op(op, Rewriter())


def test_what_is_dead() -> None:
    module = body('%a = arith.addi %x, %y : i32\n%b = "effect"() : () -> i32\n' + USE.replace("%r", "%a"))
    add, effect, *_ = module.regions[0].block
    assert not is_dead(add)
    assert not is_dead(effect)
    add.results[0].replace_all_uses_with(effect.results[0])
    assert is_dead(add)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda add, use: add.erase(), "arith.addi is erased while use uses its result 0"),
        (lambda add, use: add.replace_with([]), "arith.addi has 1 results and was given 0 replacements"),
        (lambda add, use: use.parent.append(use), "use is in a block already"),
        (lambda add, use: Block().insert_before(use, arith.constant(1, I32)), "which is not in this block"),
        (lambda add, use: Block().terminator, "the block is empty"),
        (lambda add, use: use.first_result, "use has 0 results, not one"),
        (lambda add, use: use.is_before(arith.constant(1, I32)), "is_before compares operations of one block"),
    ],
)
def test_misuse_of_the_structure_is_refused(act: object, message: str) -> None:
    module = body(f"%r = arith.addi %x, %y : i32\n{USE}")
    add, use, _ = module.regions[0].block
    with pytest.raises(IRError, match=message):
        act(add, use)  # type: ignore[operator]
    verify(module)
