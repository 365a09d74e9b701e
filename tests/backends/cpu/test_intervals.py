"""Which launches share an interval: pairs of a program and the intervals that it is given."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.backends.cpu import model, target
from stepwell.backends.cpu.abi import JOBS
from stepwell.backends.cpu.intervals import Uses
from stepwell.backends.cpu.share import ShareOut
from stepwell.backends.cpu.team import Team
from stepwell.dialects import cpu
from stepwell.dialects.func import FuncOp
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify

TEXT = """
builtin.module {
  func.func private @add(%x: memref<8xi64>, %y: memref<8xi64>, %z: memref<8xi64>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c8 = arith.constant 8 : index
    loop.parallel %i = %c0 to %c8 step %c1 {
      %v = buffer.load %x[%i] : memref<8xi64>
      %w = buffer.load %y[%i] : memref<8xi64>
      %s = arith.addi %v, %w : i64
      buffer.store %s, %z[%i] : memref<8xi64>
      loop.yield
    }
    func.return
  }
  func.func @main(%x: memref<8xi64>, %y: memref<8xi64> {sw.out}, %z: memref<16xi64> {sw.out}, %arena: memref<?xi8>)
      attributes {sw.arena = "192"} {
    %c0 = arith.constant 0 : index
    %c64 = arith.constant 64 : index
    %c128 = arith.constant 128 : index
    %a = buffer.view %arena[%c0]() : memref<?xi8> to memref<8xi64>
    %b = buffer.view %arena[%c64]() : memref<?xi8> to memref<8xi64>
    %c = buffer.view %arena[%c128]() : memref<?xi8> to memref<8xi64>
    %again = buffer.view %arena[%c0]() : memref<?xi8> to memref<8xi64>
    %odd = buffer.load %x[%c0] : memref<8xi64>
    %somewhere = arith.index_cast %odd : i64 to index
    %unknown = buffer.view %arena[%somewhere]() : memref<?xi8> to memref<8xi64>
    %low = buffer.part %z {offset = 0} : memref<16xi64> to memref<8xi64>
    %high = buffer.part %z {offset = 8} : memref<16xi64> to memref<8xi64>
    LAUNCHES
    func.return
  }
}
"""


def add(*names: str, parts: str = "") -> str:
    marked = f"{{sw.parts = array<i64: {parts}>}}" if parts else ""
    return f"kernel.launch @add(%{', %'.join(names)}) {marked} : (memref<8xi64>, memref<8xi64>, memref<8xi64>) -> ()"


# What follows each other -> the intervals; a launch is named by its place in the text.
CASES = {
    "independent": ([add("x", "x", "a"), add("x", "x", "b"), add("x", "x", "c")], [[0, 1, 2]]),
    "a chain": ([add("x", "x", "a"), add("a", "a", "b"), add("b", "a", "c")], [[0], [1], [2]]),
    "two chains": ([add("x", "x", "a"), add("a", "a", "b"), add("x", "x", "c"), add("c", "c", "y")], [[0, 2], [1, 3]]),
    "read by both": ([add("x", "x", "a"), add("a", "a", "b"), add("a", "a", "c")], [[0], [1, 2]]),
    "written after it was read": ([add("a", "a", "b"), add("x", "x", "a")], [[0], [1]]),
    "written twice": ([add("x", "x", "a"), add("x", "x", "a")], [[0], [1]]),
    "one place of the arena": ([add("x", "x", "b"), add("a", "x", "y"), add("b", "b", "again")], [[0, 1], [2]]),
    "a view that nobody planned": ([add("x", "x", "b"), add("x", "x", "unknown")], [[0], [1]]),
    "parts of one buffer": ([add("x", "x", "low"), add("x", "x", "high")], [[0, 1]]),
    "marked parts of one buffer": (
        [add("x", "x", "y", parts="2"), add("x", "x", "y", parts="2"), add("x", "x", "y")], [[0, 1], [2]]
    ),
    "a part and its reader": ([add("x", "x", "a", parts="2"), add("a", "x", "a", parts="2")], [[0], [1]]),
    "parts of two buffers in one place": (
        [add("x", "x", "a", parts="2"), add("x", "x", "again", parts="2")], [[0], [1]]
    ),
    "a part twice": ([add("x", "x", "low"), add("x", "x", "high"), add("high", "x", "low")], [[0, 1], [2]]),
    "a look at memory between": (
        [add("x", "x", "a"), "%v = buffer.load %x[%c0] : memref<8xi64>\n" + add("x", "x", "b")], [[0], [1]]
    ),
}  # fmt: skip


def shared(launches: list[str]) -> Operation:
    module = parse_module(TEXT.replace("LAUNCHES", "\n".join(launches)))
    ShareOut().run(module, PassContext(None))
    verify(module)
    return module


def written(launch: str) -> str:
    return launch.rpartition("@add(")[2]


@pytest.mark.parametrize("name", list(CASES))
def test_intervals(name: str) -> None:
    launches, expected = CASES[name]
    found: list[list[str]] = [[]]
    for op in model.program_of(shared(launches)).body.block:
        if isinstance(op, cpu.ShareOp):
            found[-1].append(", ".join(f"%{value.name}" for value in op.inputs))
        elif isinstance(op, cpu.JoinOp):
            found.append([])
    assert found[:-1] == [[written(launches[n]).partition(")")[0] for n in interval] for interval in expected]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["two chains", "parts of one buffer", "a part twice", "one place of the arena"])
def test_intervals_compute_what_the_order_says(name: str, threads: int) -> None:
    launches = CASES[name][0]
    compiled = model.build(parse_module(TEXT.replace("LAUNCHES", "\n".join(launches))), target.host())
    x = np.arange(8)
    memory = {key: np.zeros(8, np.int64) for key in "abcy"} | {"x": x, "z": np.zeros(16, np.int64)}
    memory |= {"again": memory["a"], "low": memory["z"][:8], "high": memory["z"][8:]}
    for launch in launches:
        left, right, out = (word.strip(" %") for word in written(launch).partition(")")[0].split(","))
        memory[out][:] = memory[left] + memory[right]
    Team.get(threads=threads)
    touched = {"two chains": [0], "parts of one buffer": [1], "a part twice": [1], "one place of the arena": []}[name]
    for _ in range(20):
        outputs = compiled.run([x])
        for place in touched:
            assert outputs[place].tolist() == memory["yz"[place]].tolist()


def test_an_interval_has_a_bounded_number_of_launches() -> None:
    count = JOBS + 4
    part = "%p{} = buffer.part %z {{{{offset = {}}}}} : memref<160xi64> to memref<8xi64>"
    parts = "\n".join(part.format(n, 8 * n).replace("{{", "{").replace("}}", "}") for n in range(count))
    text = TEXT.replace("LAUNCHES", "\n".join([parts, *[add("x", "x", f"p{n}") for n in range(count)]]))
    module = parse_module(text.replace("memref<16xi64>", "memref<160xi64>"))
    compiled = model.build(module, target.host())
    ShareOut().run(module, PassContext(None))
    kinds = [type(op) for op in model.program_of(module).body.block if isinstance(op, (cpu.ShareOp, cpu.JoinOp))]
    assert kinds == [*[cpu.ShareOp] * JOBS, cpu.JoinOp, *[cpu.ShareOp] * 4, cpu.JoinOp]
    assert compiled.run([np.arange(8)])[1].tolist() == (2 * np.arange(8)).tolist() * count


def test_what_a_kernel_reads_and_writes() -> None:
    module = parse_module(TEXT.replace("LAUNCHES", ""))
    kernel = next(op for op in module.walk_of(FuncOp) if op.sym_name == "add")
    assert Uses.of(kernel) == Uses(frozenset([0, 1]), frozenset([2]))


CARRIED = """
builtin.module {
  func.func private @k(%x: memref<2x8xi64>, %y: memref<2x8xi64>, %z: memref<8xi64>, %n: index) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %row = buffer.slice %x[%n] : memref<2x8xi64>
    %first = buffer.slice %y[%c0] : memref<2x8xi64>
    %last = loop.for %i = %c0 to %n step %c1 iter(%r = %first) -> (memref<8xi64>) {
      %v = buffer.load %row[%i] : memref<8xi64>
      buffer.store %v, %r[%i] : memref<8xi64>
      loop.yield %r : memref<8xi64>
    }
    %w = buffer.load %last[%c0] : memref<8xi64>
    buffer.store %w, %z[%c0] : memref<8xi64>
    func.return
  }
}
"""


def test_uses_are_followed_through_views_and_loops() -> None:
    kernel = next(iter(parse_module(CARRIED).walk_of(FuncOp)))
    assert Uses.of(kernel) == Uses(frozenset([0, 1]), frozenset([1, 2]))
