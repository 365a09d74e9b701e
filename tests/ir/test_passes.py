"""Pipelines: their text, the options of passes, the errors with carets, and the hooks around passes."""

from __future__ import annotations

import attrs
import pytest

from stepwell.errors import PassError
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import Pass, PassContext, PassManager, Phase, parse_pipeline

RAN: list[str] = []


@attrs.frozen
class Mark(Pass):
    """Writes down where it ran."""

    name = "mark"
    word: str = "x"
    times: int = 1
    scale: float = 1.0
    loud: bool = False
    limit: int | None = None
    fast: bool | None = None

    def run(self, module: Operation, context: PassContext) -> None:
        context.count("marks", self.times)
        RAN.append(f"{self.word}@{module.op_name}")


@attrs.frozen
class Fail(Pass):
    """Raises."""

    name = "fail"

    def run(self, module: Operation, context: PassContext) -> None:
        raise PassError("on purpose")


def find(name: str) -> type[Pass] | None:
    return {"mark": Mark, "fail": Fail}.get(name)


def parse(text: str) -> list[Pass | Phase]:
    return parse_pipeline(text, find, ["graph", "loop"])


@pytest.mark.parametrize(
    "text",
    [
        "mark",
        "mark,fail",
        "graph(mark,fail),mark",
        "graph(loop(mark))",
        "func.func(mark)",
        "graph()",
        "",
        "mark{word=y times=3 scale=0.5 loud=true}",
        "mark{limit=4 fast=false}",
    ],
)
def test_pipelines_print_as_they_are_written(text: str) -> None:
    assert ",".join(map(str, parse(text))) == text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", Mark()),
        ("{times=2}", Mark(times=2)),
        ("{loud}", Mark(loud=True)),
        ("{loud=false}", Mark()),
        ("{scale=2 word=}", Mark(scale=2.0, word="")),
        ("{limit=none}", Mark()),
        ("{limit=7}", Mark(limit=7)),
        ("{fast=true}", Mark(fast=True)),
        ("{fast=none}", Mark(fast=None)),
    ],
)
def test_options(options: str, expected: Mark) -> None:
    assert parse(f"mark{options}") == [expected]


@pytest.mark.parametrize(
    ("text", "caret", "message"),
    [
        ("mork", 0, "unknown pass 'mork'"),
        ("mark,", 5, "expected a pass name"),
        ("mark;fail", 4, "expected ','"),
        ("graph(mark", 10, "missing ')'"),
        ("mark)", 4, "unexpected text"),
        ("tensor(mark)", 0, "neither a phase nor"),
        ("mark{times=1", 4, "missing '}'"),
        ("graph(mark{tames=1})", 6, "'mark' has no option 'tames' (it has: word, "),
        ("mark{times=x}", 0, "bad value 'x' for option 'times' of 'mark'"),
        ("fail{a=1}", 0, "(it has: none)"),
        ("mark{loud=maybe}", 0, "bad value 'maybe'"),
        ("?", 0, "expected a pass name"),
        (",mark", 0, "expected a pass name"),
        ("graph(" * 30 + ")" * 30, 126, "nested too deeply"),
    ],
)
def test_errors_have_carets(text: str, caret: int, message: str) -> None:
    with pytest.raises(PassError) as raised:
        parse(text)
    head, source, pointer = str(raised.value).split("\n")
    assert message in head
    assert head.endswith(" in the pipeline:")
    assert source == f"  {text}"
    assert pointer == f"  {' ' * caret}^"


class Recorder:
    def __init__(self) -> None:
        self.events: list[str] = []

    def before(self, pass_: Pass, module: Operation) -> None:
        self.events.append(f"before {pass_}")

    def after(self, pass_: Pass, module: Operation) -> None:
        self.events.append(f"after {pass_}")

    def failed(self, pass_: Pass, module: Operation, error: Exception) -> None:
        self.events.append(f"failed {pass_}: {error}")


MODULE = "builtin.module {\nfunc.func private @a()\nfunc.func private @b()\n}"


def test_passes_run_in_order_on_the_module_or_on_anchored_ops() -> None:
    RAN.clear()
    context = PassContext()
    PassManager(parse("mark,func.func(mark{word=y}),graph(mark{word=z times=5})")).run(parse_module(MODULE), context)
    assert RAN == ["x@builtin.module", "y@func.func", "y@func.func", "z@builtin.module"]
    assert context.statistics == {"marks": 8}


def test_instruments_stand_around_passes_and_hear_of_failures() -> None:
    recorder = Recorder()
    with pytest.raises(PassError, match="on purpose"):
        PassManager(parse("mark,graph(fail),mark"), [recorder]).run(parse_module(MODULE), PassContext())
    assert recorder.events == ["before mark", "after mark", "before fail", "failed fail: on purpose"]


def test_remarks_name_the_op_or_its_source() -> None:
    context = PassContext()
    for text in ('"op"() : () -> () loc("node")', '"op"() : () -> () loc(unknown)'):
        context.remark(parse_module(text), "not fused")
    assert list(map(str, context.remarks)) == ["node: not fused", "op: not fused"]


def test_phases_are_flattened_and_described() -> None:
    (phase,) = parse("graph(mark,loop(fail,mark))")
    assert isinstance(phase, Phase)
    assert [p.name for p in phase.flat()] == ["mark", "fail", "mark"]
    assert Mark().description == "Writes down where it ran."
