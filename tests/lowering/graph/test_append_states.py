"""Which results grow in place: those that are their argument with rows behind it."""

from __future__ import annotations

import pytest

from stepwell.dialects.kept import Kept, kept_by
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.graph.append_states import AppendStates
from stepwell.ports import main_function

PAST, NEW = 'tensor<?x4xf32, #graph.shape<["past"]>>', "tensor<1x4xf32>"
PRESENT = 'tensor<?x4xf32, #graph.shape<["past + 1"]>>'


def appended(
    body: str, result: str = PRESENT, capacity: str = "attributes {sw.capacity = {past = 8}}"
) -> tuple[str, list[str]]:
    """(the op that makes the result, the reasons of what is carried)."""
    module = parse_module(f"""builtin.module {{
      func.func @main(%past: {PAST} {{sw.state = {{result = 0}}}}, %x: {NEW}) -> {result} {capacity} {{
        {body}
        func.return %r : {result}
      }}
    }}""")
    verify(module)
    context = PassContext()
    AppendStates().run(module, context)
    verify(module)
    op = main_function(module).returned[0].defining_op
    assert op is not None
    kept = Kept(0, 0, 0, 8) if op.op_name == "graph.append" else Kept(0, 0)
    assert kept_by(main_function(module)) == [kept]
    return op.op_name, [str(remark).partition("whole: ")[2] for remark in context.remarks]


CONCAT = f"%r = graph.concat %past, %x {{axis = 0}} : ({PAST}, {NEW}) -> {PRESENT}"


def test_rows_behind_the_argument_are_appended() -> None:
    assert appended(CONCAT) == ("graph.append", [])


def test_several_parts_behind_it_are_joined_first() -> None:
    two = PRESENT.replace("+ 1", "+ 2")
    name, _ = appended(f"%r = graph.concat %past, %x, %x {{axis = 0}} : ({PAST}, {NEW}, {NEW}) -> {two}", two)
    assert name == "graph.append"


@pytest.mark.parametrize(
    ("body", "options", "reason"),
    [
        (f"%r = graph.concat %x, %past {{axis = 0}} : ({NEW}, {PAST}) -> {PRESENT}", {}, "rows behind it"),
        (f"%y = graph.neg %past : ({PAST}) -> {PAST} " + CONCAT.replace("%past,", "%y,"), {}, "rows behind it"),
        (CONCAT, {"capacity": "attributes {sw.capacity = {other = 8}}"}, "no capacity is given for its past rows"),
    ],
)
def test_others_are_carried(body: str, options: dict[str, str], reason: str) -> None:
    name, reasons = appended(body, **options)
    assert name == "graph.concat" and len(reasons) == 1 and reason in reasons[0]


def test_nothing_is_said_where_nothing_is_asked_for() -> None:
    assert appended(CONCAT, capacity="") == ("graph.concat", [])
