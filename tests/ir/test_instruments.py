"""What instruments show of a pipeline whose passes do known things."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from stepwell.errors import PassError, VerifyError
from stepwell.ir.core import Operation
from stepwell.ir.instruments import CrashReproducer, DumpFolder, PrintIR, Progress, Timing, VerifyEach
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import Instrument, Pass, PassContext, PassManager
from stepwell.ir.printer import PrintOptions
from stepwell.ir.resources import read_module


@attrs.frozen
class Nothing(Pass):
    """Change nothing."""

    name: ClassVar[str] = "nothing"

    def run(self, module: Operation, context: PassContext) -> None:
        pass


@attrs.frozen
class Drop(Pass):
    """Drop the first op of the function."""

    name: ClassVar[str] = "drop"

    def run(self, module: Operation, context: PassContext) -> None:
        block = next(op for op in module.walk() if op.op_name == "func.func").regions[0].block
        assert block.first is not None
        block.first.erase()


@attrs.frozen
class Break(Pass):
    """Drop the terminator."""

    name: ClassVar[str] = "break"

    def run(self, module: Operation, context: PassContext) -> None:
        next(op for op in module.walk() if op.op_name == "func.return").erase()


@attrs.frozen
class Fail(Pass):
    """Fail half-way."""

    name: ClassVar[str] = "fail"

    def run(self, module: Operation, context: PassContext) -> None:
        Drop().run(module, context)
        raise PassError("no luck")


TEXT = """builtin.module { func.func @main() {
  %a = arith.constant 1 : index
  %b = arith.constant 2 : index
  func.return
} }"""


def run(passes: Sequence[Pass], *instruments: Instrument) -> Operation:
    module = parse_module(TEXT)
    PassManager(passes, instruments).run(module, PassContext())
    return module


def printed(passes: Sequence[Pass], **options: Any) -> str:
    stream = io.StringIO()
    run(passes, PrintIR(stream, PrintOptions(), **options))
    return stream.getvalue()


def test_all_after() -> None:
    text = printed([Nothing(), Drop()], names_after=None)
    assert [line for line in text.splitlines() if line.startswith("//")] == [
        "// ----- after nothing -----", "// ----- after drop -----",
    ]  # fmt: skip
    assert text.count("arith.constant 1 ") == 1
    assert text.count("arith.constant 2 ") == 2


def test_before_and_after_one() -> None:
    text = printed([Nothing(), Drop()], names_before=["drop"], names_after=["drop"])
    assert text.count("// -----") == 2
    assert text.index("before drop") < text.index("arith.constant 1 ") < text.index("after drop")


def test_changes_as_a_diff() -> None:
    text = printed([Nothing(), Drop()], changed=True)
    assert "// ----- nothing changed nothing -----" in text
    assert "-    %a = arith.constant 1 : index" in text
    assert not any(line.startswith("+ ") for line in text.splitlines())


def test_what_a_failing_pass_left_is_printed() -> None:
    stream = io.StringIO()
    with pytest.raises(PassError):
        run([Fail()], PrintIR(stream, PrintOptions(), (), None))
    assert "fail failed and left" in stream.getvalue()


def test_dumps_are_numbered_and_load_again(tmp_path: Path) -> None:
    dump = DumpFolder(tmp_path / "dump", lambda module: "graph")
    module = run([Nothing(), Drop()], dump)
    names = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert names == ["00.graph.input.mlir", "01.graph.nothing.mlir", "02.graph.drop.mlir"]
    assert str(read_module(dump.written[-1])) == str(module)


def test_timing_lists_the_passes_in_order() -> None:
    timing = Timing()
    run([Nothing(), Drop()], timing)
    timing.add("(backend)", 0.5)
    rows = timing.table().splitlines()
    assert [row.split()[-1] for row in rows] == ["nothing", "drop", "(backend)", "all"]


def test_the_verifier_names_the_pass() -> None:
    with pytest.raises(VerifyError) as caught:
        run([Nothing(), Break()], VerifyEach())
    assert caught.value.__notes__ == ["the pass break left the IR so"]


def test_a_crash_can_be_repeated(tmp_path: Path) -> None:
    with pytest.raises(PassError) as caught:
        run([Drop(), Fail()], CrashReproducer(tmp_path))
    saved = tmp_path / "fail.mlir"
    assert f"lower --pipeline 'fail' {saved}" in caught.value.__notes__[0]
    assert saved.read_text().startswith("// PassError: no luck\n")
    with pytest.raises(PassError, match="no luck"):
        PassManager([Fail()]).run(read_module(saved), PassContext())


def test_progress_stays_silent_for_a_moment() -> None:
    quick, slow = io.StringIO(), io.StringIO()
    run([Nothing()], Progress(quick, patience=60))
    shown = Progress(slow, patience=-1)
    run([Nothing()], shown)
    shown.clear()
    assert quick.getvalue() == ""
    assert slow.getvalue() == "\r\x1b[Knothing ...\r\x1b[K"
