"""Passes that change results are found, with the op or the kernel; those that do not are left in peace."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest

from stepwell.check import CheckEach, ResultChanged
from stepwell.check.compare import ROUNDINGS
from stepwell.dialects import arith, buffer, vector
from stepwell.dialects.arith import SubFOp, index_constant
from stepwell.dialects.graph.elementwise import AddOp, ExpOp, MulOp, SqrtOp, SubOp
from stepwell.dialects.kernel import LaunchOp
from stepwell.ir.attributes import DenseAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import Pass, PassContext, PassManager
from stepwell.lowering.pipeline import parse, phases

T = "tensor<4xf32>"
SMALL = f"""builtin.module {{
  func.func @main(%x: {T}, %y: {T}) -> ({T}, {T}) {{
    %a = graph.exp %x : ({T}) -> {T} loc("Exp_0")
    %b = graph.add %a, %y : ({T}, {T}) -> {T} loc("Add_1")
    %c = graph.mul %b, %x : ({T}, {T}) -> {T} loc("Mul_2")
    func.return %b, %c : {T}, {T}
  }}
}}"""
X, Y = np.array([1, -2, 3, 0], np.float32), np.array([0.5, 1.5, -1, 4], np.float32)


def network(batch: str) -> str:
    """Two products with a subtraction and a softmax over the rows between them; 37 columns leave a masked tail."""
    a, w, b = f"tensor<{batch}x9xf32{_symbols(batch)}>", "tensor<9x37xf32>", "tensor<37xf32>"
    h, v, o = f"tensor<{batch}x37xf32{_symbols(batch)}>", "tensor<37x5xf32>", f"tensor<{batch}x5xf32{_symbols(batch)}>"
    return f"""builtin.module {{
      func.func @main(%x: {a}, %w: {w}, %b: {b}, %v: {v}) -> {o} {{
        %0 = graph.matmul %x, %w : ({a}, {w}) -> {h} loc("MatMul_0")
        %1 = graph.sub %0, %b : ({h}, {b}) -> {h} loc("Sub_1")
        %2 = graph.softmax %1 {{axes = array<i64: 0>}} : ({h}) -> {h} loc("Softmax_2")
        %3 = graph.matmul %2, %v : ({h}, {v}) -> {o} loc("MatMul_3")
        func.return %3 : {o}
      }}
    }}"""


def _symbols(batch: str) -> str:
    return ', #graph.shape<["n"]>' if batch == "?" else ""


def arrays(batch: int) -> list[np.ndarray[Any, Any]]:
    random = np.random.default_rng(1)
    return [random.standard_normal(shape).astype(np.float32) for shape in ((batch, 9), (9, 37), (37,), (37, 5))]


@attrs.frozen
class Edited(Pass):
    """Apply a change to the module."""

    name: ClassVar[str] = "edited"
    change: Callable[[Operation], None]

    def run(self, module: Operation, context: PassContext) -> None:
        self.change(module)

    def __str__(self) -> str:
        return self.name


def add_becomes_sub(module: Operation) -> None:
    for op in list(module.walk_of(AddOp)):
        made = SubOp(op.lhs, op.rhs, loc=op.loc)
        assert op.parent is not None
        op.parent.insert_before(op, made)
        op.replace_with(made.results)


def nothing(module: Operation) -> None:
    pass


def swap_one_subtraction(module: Operation) -> None:
    op = next(op for op in module.walk_of(SubFOp) if op.lhs is not op.rhs)
    op.set_operands([op.rhs, op.lhs])


def fill_masks(module: Operation) -> None:
    for op in module.walk():
        if isinstance(op, vector.MaskedStoreOp):
            mask = op.mask.type
            every = DenseAttr(mask, np.ones(mask.shape, np.bool_).tobytes())  # type: ignore[attr-defined, arg-type]
            op.set_operand(len(op.indices) + 1, Builder.before(op).insert(arith.ConstantOp(value=every)).result)


def one_place_for_all(module: Operation) -> None:
    for op in module.walk_of(buffer.ViewOp):
        op.set_operand(1, Builder.before(op).insert(index_constant(0)).result)


def run(text: str, inputs: Sequence[Any], passes: Sequence[Any]) -> CheckEach:
    context = PassContext()
    check = CheckEach(inputs, context=context)
    PassManager(passes, [check]).run(parse_module(text), context)
    return check


def before_and(stage: str, change: Callable[[Operation], None]) -> list[Any]:
    """The way down to the end of a pass, and one more pass."""
    way = [pass_ for phase in phases("graph", "loop") for pass_ in phase.passes]
    names = [str(pass_) for pass_ in way]
    return [*way[: names.index(stage) + 1], Edited(change)]


# Of f64 numbers, whose roundings the f32 in which the kernel computes does not see.
NORM = """builtin.module {
func.func @main(%x: tensor<1x3xf64>, %s: tensor<?x?xf64, #graph.shape<["a", "b"]>>) -> tensor<1x3xf64> {
  %y, %mean, %deviation = graph.layer_norm %x, %s {axes = array<i64: 1>, epsilon = 1.0e-5,
    operandSegmentSizes = array<i32: 1, 1, 0>, stash = f32}
    : (tensor<1x3xf64>, tensor<?x?xf64, #graph.shape<["a", "b"]>>)
    -> (tensor<1x3xf64>, tensor<1x1xf32>, tensor<1x1xf32>)
  func.return %y : tensor<1x3xf64>
}}
"""


# The same where kernels write parts of what the program gives.
JOINED = """builtin.module {
func.func @main(%x: tensor<5x132xf64>, %s: tensor<132xf64>) -> tensor<10x132xf64> {
  %y, %mean, %deviation = graph.layer_norm %x, %s {axes = array<i64: 1>, epsilon = 1.0e-5,
    operandSegmentSizes = array<i32: 1, 1, 0>, stash = f32}
    : (tensor<5x132xf64>, tensor<132xf64>) -> (tensor<5x132xf64>, tensor<5x1xf32>, tensor<5x1xf32>)
  %z = graph.concat %y, %x {axis = 0} : (tensor<5x132xf64>, tensor<5x132xf64>) -> tensor<10x132xf64>
  func.return %z : tensor<10x132xf64>
}}
"""
QUARTERS = np.random.default_rng(0).integers(-16, 16, (5, 132)) / 4


@pytest.mark.parametrize(("text", "inputs"), [
    (SMALL, [X, Y]), (network("6"), arrays(6)), (network("?"), arrays(6)), (network("?"), arrays(1)),
    (NORM, [np.array([[0.1, -2.0, 0.7]]), np.array([[0.3]])]), (JOINED, [QUARTERS, QUARTERS[0]]),
])  # fmt: skip
def test_the_whole_way_down_is_checked(text: str, inputs: Sequence[Any]) -> None:
    check = run(text, inputs, phases("graph", "loop"))
    assert [outcome.skipped for outcome in check.outcomes if outcome.skipped] == []
    ways = ["graph -> graph", "graph -> tensor", "tensor -> tensor", "tensor -> loop", "loop -> loop"]
    assert list(dict.fromkeys(outcome.checked.partition(";")[0] for outcome in check.outcomes)) == ways
    assert check.report().endswith("no pass changed a result\n")


def test_roundings_of_what_cancels_are_no_change() -> None:
    """The mean of centred numbers is what roundings left of it, another one for each order of the sum."""
    text = """builtin.module {
      func.func @main(%x: tensor<5x340xf32>) -> tensor<5xf32> {
        %m = graph.reduce %x {kind = "mean", axes = array<i64: 1>} : (tensor<5x340xf32>) -> tensor<5x1xf32>
        func.return %m : tensor<5x1xf32>
      }
    }"""
    x = np.random.default_rng(0).standard_normal((5, 340))
    check = run(text, [(x - x.mean(1, keepdims=True)).astype(np.float32)], phases("graph", "loop"))
    assert check.report().endswith("no pass changed a result\n")


COUNTED = """builtin.module {
  func.func @main(%i: tensor<6xsi32>) -> tensor<6xf32> {
    %f = graph.cast %i {to = f32} : (tensor<6xsi32>) -> tensor<6xf32> loc("Cast_0")
    %d = graph.sub %f, %f : (tensor<6xf32>, tensor<6xf32>) -> tensor<6xf32> loc("Sub_1")
    func.return %d : tensor<6xf32>
  }
}"""


def squares_of(first: type[Operation]) -> Callable[[Operation], None]:
    """sub %f, %g  ->  sub (%h * %h), %g with %h = first %f"""

    def change(module: Operation) -> None:
        for op in list(module.walk_of(SubOp)):
            builder = Builder.before(op)
            part = builder.insert(first(op.lhs)).results[0]
            op.set_operand(0, builder.insert(MulOp(part, part)).results[0])

    return change


def test_each_op_may_round_otherwise() -> None:
    """What the square of a root is off by is left of a difference; the input is of integers, which nothing nudges."""
    inputs = [np.array([2, 3, 5, 7, 11, 13], np.int32)]
    check = run(COUNTED, inputs, [Edited(nothing), Edited(squares_of(SqrtOp))])
    assert check.report().endswith("graph -> graph; interpreted)\nno pass changed a result\n")
    with pytest.raises(ResultChanged, match="the pass edited changed a result: output 0"):
        run(COUNTED, inputs, [Edited(nothing), Edited(squares_of(ExpOp))])


def test_each_launch_may_round_otherwise() -> None:
    """The results of kernels are nudged, and the constants they read, where inputs are of integers."""
    text = COUNTED.replace("graph.sub %f, %f", "graph.softmax %f {axes = array<i64: 0>}").replace(
        "(tensor<6xf32>, tensor<6xf32>)", "(tensor<6xf32>)")  # fmt: skip
    module, inputs = parse_module(text), [np.arange(6, dtype=np.int32)]
    check, context = CheckEach(inputs), PassContext()
    PassManager(phases("graph", "loop"), [check]).run(module, context)
    assert check._reference is not None
    (plain,) = check._reference.results
    (other,) = check._launched(module, inputs, np.random.default_rng(0)).results
    off = np.abs(other / plain - 1)
    assert 0 < off.max() < 8 * ROUNDINGS * np.finfo(np.float32).eps


def test_the_report_says_what_was_run() -> None:
    check = run(network("6"), arrays(6), phases("graph", "loop"))
    said = {outcome.pass_name: outcome.checked for outcome in check.outcomes}
    kernels = r"(\d+) kernels? changed: \1 run as scalar code, \d+ shrunk ones interpreted"
    assert re.fullmatch(f"loop -> loop; program unchanged; {kernels}", said["vectorize"])
    assert said["assign-layouts"] == "tensor -> tensor; unchanged"
    assert said["fuse"] == "tensor -> tensor; interpreted"
    assert re.fullmatch(rf"tensor -> loop; \d+ launch(?:es)? compared; {kernels}", said["outline"])
    assert re.fullmatch(r"loop -> loop; program run, \d+ launch(?:es)?; kernels unchanged", said["plan-memory"])


def test_the_pass_and_the_op_are_named_at_the_graph_landing() -> None:
    with pytest.raises(ResultChanged, match="the pass edited changed a result: output 0") as caught:
        run(SMALL, [X, Y], [Edited(nothing), Edited(add_becomes_sub), Edited(nothing)])
    assert "first at Add_1: graph.add became graph.sub" in str(caught.value)


@pytest.mark.parametrize(("after", "change", "message"), [
    ("fuse", swap_one_subtraction, "first at "),
    ("outline", swap_one_subtraction, r"@k_\w+ \(of MatMul_0 \+ Sub_1"),
    ("vectorize", swap_one_subtraction, r"@k_\w+ \(of MatMul_0 \+ Sub_1"),
    ("vectorize", fill_masks, "(leaves its|outside a) buffer"),
])  # fmt: skip
@pytest.mark.parametrize("batch", ["6", "?"])
def test_the_pass_and_the_kernel_are_named(
    after: str, change: Callable[[Operation], None], message: str, batch: str
) -> None:
    with pytest.raises(ResultChanged, match=f"(?s)the pass edited changed a result: .*{message}"):
        run(network(batch), arrays(6), before_and(after, change))


def test_memory_that_is_written_over_is_found_where_it_is_read() -> None:
    with pytest.raises(ResultChanged, match=r"(?s)the pass edited changed a result: @k_.*does not read what it read"):
        run(network("?"), arrays(6), before_and("plan-memory", one_place_for_all))


@pytest.mark.parametrize(("after", "change"), [("tile", swap_one_subtraction), ("plan-memory", one_place_for_all)])
def test_a_module_from_a_dump_is_its_own_measure(after: str, change: Callable[[Operation], None]) -> None:
    module, context = parse_module(network("?")), PassContext()
    *way, wrong = before_and(after, change)
    PassManager(way).run(module, context)
    check = CheckEach(arrays(40), context=context)  # rows enough for a whole register tile, which comes first
    PassManager(parse("cse,dce"), [check]).run(module, context)
    with pytest.raises(ResultChanged, match="the pass edited changed a result: @k_"):
        PassManager([wrong], [check]).run(module, context)


def test_a_kernel_without_scalar_form_is_interpreted() -> None:
    """f16 has none."""
    text = SMALL.replace("f32", "f16")
    check = run(text, [X.astype(np.float16), Y.astype(np.float16)], phases("graph", "loop"))
    said = {outcome.pass_name: outcome.checked for outcome in check.outcomes}
    assert "2 kernels changed: 2 interpreted, " in said["outline"]


def test_what_is_interpreted_at_small_sizes_alone_is_said() -> None:
    type_ = 'tensor<?x700xf16, #graph.shape<["n"]>>'
    text = f"""builtin.module {{
      func.func @main(%x: {type_}) -> {type_} {{
        %a = graph.softmax %x {{axes = array<i64: 1>}} : ({type_}) -> {type_} loc("Softmax_0")
        func.return %a : {type_}
      }}
    }}"""
    check = run(text, [np.zeros((2, 700), np.float16)], phases("graph", "loop"))
    said = {outcome.pass_name: outcome for outcome in check.outcomes}
    assert said["outline"].checked.endswith("1 kernel changed: 1 interpreted")
    assert said["outline"].skipped == (
        "@k_Softmax_0 has no plain code for f16 and is not interpreted at sizes of more than 20000 elements"
    )


def test_what_takes_too_long_is_skipped_and_said_so() -> None:
    context = PassContext()
    check = CheckEach([X.astype(np.float16), Y.astype(np.float16)], budget=5, context=context)
    PassManager(phases("graph", "loop"), [check]).run(parse_module(SMALL.replace("f32", "f16")), context)
    said = {outcome.pass_name: outcome.skipped for outcome in check.outcomes}
    assert said["fuse"] == ""
    assert said["outline"].endswith("no plain code for f16 and takes more than 5 interpreted operations")


WINDOW = "kernel = array<i64: 3, 3>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>"
POOLED = f"""builtin.module {{
  func.func @main(%x: tensor<1x3x6x7xf32>) -> tensor<1x3x6x7xf32> {{
    %a = graph.tanh %x : (tensor<1x3x6x7xf32>) -> tensor<1x3x6x7xf32> loc("Tanh_0")
    %b = graph.max_pool %a {{{WINDOW}, pads = array<i64: 1, 1, 1, 1>}}
      : (tensor<1x3x6x7xf32>) -> tensor<1x3x6x7xf32> loc("MaxPool_1")
    func.return %b : tensor<1x3x6x7xf32>
  }}
}}"""


def test_sizes_that_a_kernel_cannot_have() -> None:
    """Of the sizes that are tried besides those of the call, 1 would leave a local buffer w - 2 = -1 elements."""
    text = """builtin.module {
      func.func @main(%x: tensor<?x?x?x?xf32, #graph.shape<["n", "c", "h", "w"]>>)
          -> tensor<?x?x1x1xf32, #graph.shape<["n", "c"]>> {
        %p = graph.max_pool %x {kernel = array<i64: 1, 3>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>,
                                pads = array<i64: 0, 0, 0, 0>}
          : (tensor<?x?x?x?xf32, #graph.shape<["n", "c", "h", "w"]>>)
          -> tensor<?x?x?x?xf32, #graph.shape<["n", "c", "h", "w - 2"]>> loc("MaxPool_0")
        %y = graph.reduce %p {axes = array<i64: 2, 3>, keepdims = true, kind = "max"}
          : (tensor<?x?x?x?xf32, #graph.shape<["n", "c", "h", "w - 2"]>>)
          -> tensor<?x?x1x1xf32, #graph.shape<["n", "c"]>> loc("Max_1")
        func.return %y : tensor<?x?x1x1xf32, #graph.shape<["n", "c"]>>
      }
    }"""
    check = run(text, [np.arange(27, dtype=np.float32).reshape(1, 1, 9, 3)], phases("graph", "loop"))
    said = {outcome.pass_name: outcome.checked for outcome in check.outcomes}
    assert "1 kernel changed: 1 run as scalar code" in said["tile"]


def without_border(module: Operation) -> None:
    for op in list(module.walk_of(LaunchOp)):
        if op.callee.startswith("border"):
            op.erase()


def test_memory_that_several_kernels_write_parts_of() -> None:
    """The border of a max pool's input is a launch of its own, which no tensor.kernel stands for."""
    x = np.random.default_rng(3).standard_normal((1, 3, 6, 7)).astype(np.float32)
    check = run(POOLED, [x], phases("graph", "loop"))
    said = {outcome.pass_name: outcome.checked for outcome in check.outcomes}
    assert said["outline"].startswith("tensor -> loop; program run")
    assert said["plan-memory"].startswith("loop -> loop; program run")
    with pytest.raises(ResultChanged, match="edited changed a result"):
        run(POOLED, [-np.abs(x)], before_and("plan-memory", without_border))


def test_sums_stay_as_long_as_they_were() -> None:
    """At the loop landing no op says how many terms a kernel adds up."""
    one, row = "tensor<1x1xf32>", "tensor<1x4000xf32>"
    text = f"""builtin.module {{
      func.func @main(%x: {row}, %i: tensor<1x1xsi64>, %u: {one}) -> {row} {{
        %a = graph.exp %x : ({row}) -> {row}
        %s = graph.scatter_elements %a, %i, %u {{axis = 1 : i64, reduction = "none"}}
          : ({row}, tensor<1x1xsi64>, {one}) -> {row}
        %r = graph.softmax %s {{axes = array<i64: 1>}} : ({row}) -> {row}
        func.return %r : {row}
      }}
    }}"""
    inputs = [np.full((1, 4000), 0.3, np.float32), np.array([[7]]), np.array([[2.0]], np.float32)]
    reference = run(text, inputs, phases("graph", "loop"))._reference
    assert reference is not None
    assert (reference.landing, reference.arithmetic.terms) == ("loop", 4000)


def test_a_part_is_read_and_written_in_one_memory() -> None:
    """The second part of a concatenation is made where it goes, and read from there by the kernel of the first one."""
    row, both = "tensor<1x6xf32>", "tensor<2x6xf32>"
    text = f"""builtin.module {{
      func.func @main(%x: {row}) -> {both} {{
        %a = graph.exp %x : ({row}) -> {row} loc("Exp_0")
        %c = graph.concat %a, %a {{axis = 0}} : ({row}, {row}) -> {both} loc("Concat_1")
        func.return %c : {both}
      }}
    }}"""
    check = run(text, [np.linspace(-1, 1, 6, dtype=np.float32)[None]], phases("graph", "loop"))
    assert check.report().endswith("no pass changed a result\n")
