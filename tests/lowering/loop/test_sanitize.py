"""Wrong IR at the loop landing ends in an error where bounds are checked; right IR gives the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell import cli
from stepwell.backends.cpu import model, target
from stepwell.backends.cpu.team import Team
from stepwell.errors import PassError, RuntimeError, VerifyError
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.loop.sanitize import Sanitize

NUMBERS = np.arange(1, 9, dtype=np.float32)
FAR = 1 << 40


def program(body: str, at: int, before: str = "", memory: str = "%a") -> str:
    """A kernel over eight elements; %at is a place to go wrong at."""
    return f"""builtin.module {{
  func.func private @k(%a: memref<8xf32>, %b: memref<8xf32>) attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c8 = arith.constant 8 : index
    %at = arith.constant {at} : index
    loop.parallel %i = %c0 to %c8 step %c8 {{
      {body}
      loop.yield
    }}
    func.return
  }}
  func.func @main(%a: memref<8xf32>, %b: memref<8xf32> {{sw.out}}, %arena: memref<?xi8> {{sw.arena}})
      attributes {{sw.arena = "64"}} {{
    %c0 = arith.constant 0 : index
    %at = arith.constant {at} : index
    {before}
    kernel.launch @k({memory}, %b) : (memref<8xf32>, memref<8xf32>) -> ()
    func.return
  }}
}}
"""


VECTOR = "memref<8xf32>, vector<8xf32>"
COPY = f"""%all = vector.load %a[%c0] : {VECTOR}
      vector.store %all, %b[%c0] : {VECTOR}"""
MASK = """%m = vector.create_mask %c8 : vector<8xi1>
      %f = arith.constant dense<0.0> : vector<8xf32>"""

# name -> the body of the kernel, right places, wrong places
ACCESSES: dict[str, tuple[str, list[int], list[int]]] = {
    "load": (f"""{COPY}
      %x = buffer.load %a[%at] : memref<8xf32>
      buffer.store %x, %b[%c0] : memref<8xf32>""", [0, 7], [8, -1, FAR, -FAR]),
    "store": (f"""{COPY}
      %x = buffer.load %a[%c1] : memref<8xf32>
      buffer.store %x, %b[%at] : memref<8xf32>""", [0, 7], [8, -1, FAR, -FAR]),
    "vector load": (f"""%x = vector.load %a[%at] : {VECTOR}
      vector.store %x, %b[%c0] : {VECTOR}""", [0], [1, -1, 8, FAR, -FAR]),
    "vector store": (f"""%x = vector.load %a[%c0] : {VECTOR}
      vector.store %x, %b[%at] : {VECTOR}""", [0], [1, -1, FAR, -FAR]),
    "masked load": (f"""{MASK}
      %x = vector.maskedload %a[%at], %m, %f : memref<8xf32>, vector<8xi1>, vector<8xf32> into vector<8xf32>
      vector.store %x, %b[%c0] : {VECTOR}""", [0], [1, FAR]),
    "masked store": (f"""{MASK}
      %x = vector.load %a[%c0] : {VECTOR}
      vector.maskedstore %b[%at], %m, %x : memref<8xf32>, vector<8xi1>, vector<8xf32>""", [0], [-1, FAR]),
    "lanes that do not exist": (f"""%m = vector.create_mask %at : vector<8xi1>
      %s = arith.subi %c8, %at : index
      %x = vector.load %a[%c0] : {VECTOR}
      vector.store %x, %b[%c0] : {VECTOR}
      vector.maskedstore %b[%s], %m, %x : memref<8xf32>, vector<8xi1>, vector<8xf32>""", [0, 3, 8], [9, FAR]),
    "gather": (f"""{MASK}
      %l = vector.step : vector<8xindex>
      %x = vector.gather %a[%at] [%l], %m, %f :
          memref<8xf32>, vector<8xindex>, vector<8xi1>, vector<8xf32> into vector<8xf32>
      vector.store %x, %b[%c0] : {VECTOR}""", [0], [1, -1, FAR]),
    "row": (f"""{COPY}
      %g = buffer.reshape %a() : memref<8xf32> to memref<4x2xf32>
      %r = buffer.slice %g[%at] : memref<4x2xf32>
      %x = buffer.load %r[%c1] : memref<2xf32>
      buffer.store %x, %b[%c0] : memref<8xf32>""", [0, 3], [4, -1, FAR]),
    "reshape": (f"""{COPY}
      %g = buffer.reshape %a(%at) : memref<8xf32> to memref<?xf32>
      %e = arith.subi %at, %c1 : index
      %x = buffer.load %g[%e] : memref<?xf32>
      buffer.store %x, %b[%c0] : memref<8xf32>""", [1, 8], [9, FAR, -5]),
    "rebased": (f"""{COPY}
      %g = buffer.rebase %a[%at] : memref<8xf32>
      %x = buffer.load %g[%c8] : memref<8xf32>
      buffer.store %x, %b[%c0] : memref<8xf32>""", [1, 8], [0, 9, FAR]),
}  # fmt: skip


def run(text: str, sanitize: bool = True) -> Any:
    module = parse_module(text)
    verify(module)
    return model.build(module, target.host(), sanitize=sanitize).run([NUMBERS])[0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ACCESSES)
def test_accesses(name: str, threads: int) -> None:
    body, right, wrong = ACCESSES[name]
    Team.get(threads=threads)
    for at in right:
        np.testing.assert_array_equal(run(program(body, at)), run(program(body, at), sanitize=False))
    for at in wrong:
        with pytest.raises(RuntimeError, match=r"out(side| of range)|more elements|negative size"):
            run(program(body, at))


VIEW = "%v = buffer.view %arena[%at]() : memref<?xi8> to memref<8xf32>"
ROW = """%g = buffer.reshape %a() : memref<8xf32> to memref<1x8xf32>
    %v = buffer.slice %g[%at] : memref<1x8xf32>"""


@pytest.mark.parametrize(
    ("before", "at", "words"),
    [(VIEW, 0, ""), (VIEW, 32, ""), (VIEW, 33, "beyond the end"), (VIEW, -4, "negative"), (VIEW, FAR, "beyond"),
     (ROW, 0, ""), (ROW, 1, "row out of range"), (ROW, FAR, "row out of range")],
)  # fmt: skip
def test_buffers_that_a_program_makes(before: str, at: int, words: str) -> None:
    text = program(COPY, at, before, memory="%v")
    if not words:
        run(text)
        return
    with pytest.raises(RuntimeError, match=words):
        run(text)


def test_the_checks_are_ir_that_can_be_read_and_interpreted() -> None:
    module = parse_module(program(ACCESSES["load"][0], 3))
    Sanitize().run(module, PassContext())
    verify(module)
    assert "check.require" in str(module)
    assert "loop.if" in str(module)


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("@main(%a: memref<8xf32>", "@main(%a: memref<4xf32>", PassError, r"it takes \(memref<8xf32>"),
        ("@main(%a: memref<8xf32>", '@main(%a: memref<8xf32> {sw.tensor = "tensor<4xf32>"}', PassError, "stands for"),
        ("@main(%a: memref<8xf32>", '@main(%a: memref<8xf32> {sw.tensor = "tensor<8xf16>"}', PassError, "stands for"),
    ],
)
def test_types_that_do_not_fit(old: str, new: str, error: Any, words: str) -> None:
    text = program(COPY, 0).replace(old, new)
    text = text.replace("@k(%a, %b) : (memref<8xf32>", "@k(%a, %b) : (memref<4xf32>") if "<4xf32>" in new[:30] else text
    with pytest.raises(error, match=words):
        run(text)


def test_a_constant_of_another_size() -> None:
    text = program(COPY, 0, "%v = buffer.constant dense<[1.0, 2.0]> : tensor<2xf32> as memref<8xf32>", "%v")
    with pytest.raises(VerifyError, match="8 bytes of tensor<2xf32>"):
        verify(parse_module(text))


def test_edited_ir_is_run_with_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edited.mlir"
    path.write_text(program(ACCESSES["store"][0], 1 << 30))
    assert cli.main(["--from-ir", str(path), "--run"]) == 1
    assert "buffer.store: index out of range for axis 0 of memref<8xf32> (value 1073741824)" in capsys.readouterr().err


def test_the_api_takes_it() -> None:
    text = program(ACCESSES["vector load"][0], 3)
    with pytest.raises(stepwell.RuntimeError, match=r"vector.load: lanes outside memref<8xf32> \(value 8\)"):
        stepwell.compile(text, sanitize=True)(NUMBERS)
