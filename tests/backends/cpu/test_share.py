"""Sharing a program out to a team: grains, intervals, the looks for errors."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.backends.cpu import elf, jit, model, native, target
from stepwell.backends.cpu.share import ShareOut
from stepwell.backends.cpu.team import Team
from stepwell.dialects import arith, cpu, func
from stepwell.dialects.func import FuncOp
from stepwell.errors import PassError
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify


def nest(loops: str, depth: int = 3) -> str:
    """A kernel that adds one to x[i, j, k] for every point of a nest; `depth` closing braces."""
    return f"""
builtin.module {{
  func.func private @k(%x: memref<?x?x?xi64>, %y: memref<?x?x?xi64>, %n: index, %m: index, %l: index)
      attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c2 = arith.constant 2 : index
    {loops}
      %v = buffer.load %x[%i, %j, %k] : memref<?x?x?xi64>
      %one = arith.constant 1 : i64
      %w = arith.addi %v, %one : i64
      buffer.store %w, %y[%i, %j, %k] : memref<?x?x?xi64>
      {"loop.yield }" * depth}
    func.return
  }}
  func.func @main(%x: memref<?x?x?xi64> {{sw.tensor = "tensor<?x?x?xsi64, #graph.shape<[\\"n\\", \\"m\\", \\"l\\"]>>"}},
                  %y: memref<?x?x?xi64> {{sw.out,
                  sw.tensor = "tensor<?x?x?xsi64, #graph.shape<[\\"n\\", \\"m\\", \\"l\\"]>>"}}) {{
    %c0 = arith.constant 0 : index
    %n = buffer.dim %x {{axis = 0}} : memref<?x?x?xi64>
    %m = buffer.dim %x {{axis = 1}} : memref<?x?x?xi64>
    %l = buffer.dim %x {{axis = 2}} : memref<?x?x?xi64>
    kernel.launch @k(%x, %y, %n, %m, %l)
      : (memref<?x?x?xi64>, memref<?x?x?xi64>, index, index, index) -> ()
    func.return
  }}
}}
"""


NESTS = {
    "all parallel": """loop.parallel %i = %c0 to %n step %c1 { loop.parallel %j = %c0 to %m step %c1 {
      loop.parallel %k = %c0 to %l step %c1 {""",
    "serial inside": """loop.parallel %i = %c0 to %n step %c1 { loop.parallel %j = %c0 to %m step %c1 {
      loop.for %k = %c0 to %l step %c1 {""",
    "none parallel": """loop.for %i = %c0 to %n step %c1 { loop.for %j = %c0 to %m step %c1 {
      loop.for %k = %c0 to %l step %c1 {""",
    "parallel inside serial": """loop.for %i = %c0 to %n step %c1 { loop.parallel %j = %c0 to %m step %c1 {
      loop.parallel %k = %c0 to %l step %c1 {""",
    "a bound between": """loop.parallel %i = %c0 to %n step %c1 { %m1 = arith.addi %m, %c0 : index
      loop.parallel %j = %c0 to %m1 step %c1 { loop.for %k = %c0 to %l step %c1 {""",
    "a bound that depends": """loop.parallel %i = %c0 to %n step %c1 { %i1 = arith.muli %i, %c0 : index
      loop.parallel %j = %i1 to %m step %c1 { loop.parallel %k = %c0 to %l step %c1 {""",
}
GRAINS = {"all parallel": 3, "serial inside": 2, "a bound between": 2, "a bound that depends": 1}


def lowered(text: str) -> Operation:
    module = parse_module(text)
    ShareOut().run(module, PassContext(None))
    verify(module)
    return module


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", NESTS)
def test_every_point_is_visited_once(name: str, threads: int) -> None:
    compiled = model.build(parse_module(nest(NESTS[name])), target.host())
    Team.get(threads=threads)
    for shape in ((1, 1, 1), (3, 4, 5), (0, 2, 2), (2, 0, 3), (2, 3, 0), (7, 1, 2)):
        x = np.arange(np.prod(shape)).reshape(shape)
        np.testing.assert_array_equal(compiled.run([x])[0], x + 1, strict=True)


@pytest.mark.parametrize("name", ["all parallel", "none parallel"])
def test_objects_may_be_loaded_far_from_each_other(name: str) -> None:
    """No reference from one object to another, call or address, is a 32-bit distance."""
    program = model.objects(parse_module(nest(NESTS[name])), target.host())[-1]
    kernels = elf.symbols_of(program).undefined - set(native.externals())
    assert kernels
    far = dict.fromkeys(kernels, 8)
    assert jit.load([program], {**native.externals(), **far}).address("stepwell.main") > 1 << 32


@pytest.mark.parametrize("name", NESTS)
def test_loops_with_bounds_known_ahead_are_shared_out(name: str) -> None:
    module = lowered(nest(NESTS[name]))
    text = str(module)
    assert "kernel.launch" not in text
    assert "loop.parallel" not in text
    assert text.count("loop.for") == 3 - GRAINS.get(name, 0)
    assert ("cpu.share" in text) == (name in GRAINS)
    assert ("func.call" in text) == (name not in GRAINS)


def test_static_grain_counts_are_constants() -> None:
    text = nest(NESTS["serial inside"]).replace("%c0 to %n step %c1", "%c0 to %c2 step %c1")
    text = text.replace("%c0 to %m step %c1", "%c1 to %c2 step %c2")
    module = lowered(text)
    (share,) = module.walk_of(cpu.ShareOp)
    assert arith.constant_int(share.grains) == 2


PIPELINE = """
builtin.module {
  func.func private @shift(%x: memref<64xi64>, %y: memref<64xi64>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c64 = arith.constant 64 : index
    %c63 = arith.constant 63 : index
    loop.parallel %i = %c0 to %c64 step %c1 {
      %p = arith.addi %i, %c1 : index
      %q = arith.andi %p, %c63 : index
      %v = buffer.load %x[%q] : memref<64xi64>
      buffer.store %v, %y[%i] : memref<64xi64>
      loop.yield
    }
    func.return
  }
  func.func private @first(%x: memref<64xi64>, %y: memref<1xi64>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %v = buffer.load %x[%c0] : memref<64xi64>
    buffer.store %v, %y[%c0] : memref<1xi64>
    func.return
  }
  func.func private @add(%s: memref<1xi64>, %y: memref<64xi64>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c64 = arith.constant 64 : index
    loop.parallel %i = %c0 to %c64 step %c1 {
      %v = buffer.load %y[%i] : memref<64xi64>
      %a = buffer.load %s[%c0] : memref<1xi64>
      %w = arith.addi %v, %a : i64
      buffer.store %w, %y[%i] : memref<64xi64>
      loop.yield
    }
    func.return
  }
  func.func @main(%x: memref<64xi64>, %y: memref<64xi64> {sw.out}, %arena: memref<?xi8>) attributes {sw.arena = "576"} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c5 = arith.constant 5 : index
    %c512 = arith.constant 512 : index
    %t = buffer.view %arena[%c0]() : memref<?xi8> to memref<64xi64>
    %s = buffer.view %arena[%c512]() : memref<?xi8> to memref<1xi64>
    kernel.launch @shift(%x, %t) : (memref<64xi64>, memref<64xi64>) -> ()
    loop.for %i = %c0 to %c5 step %c1 {
      kernel.launch @first(%t, %s) : (memref<64xi64>, memref<1xi64>) -> ()
      %n = buffer.load %s[%c0] : memref<1xi64>
      %three = arith.constant 3 : i64
      %p = arith.cmpi sgt, %n, %three : i64
      loop.if %p : (i1) -> () {
        kernel.launch @add(%s, %t) : (memref<1xi64>, memref<64xi64>) -> ()
        loop.yield
      } {
        kernel.launch @shift(%t, %y) : (memref<64xi64>, memref<64xi64>) -> ()
        kernel.launch @shift(%y, %t) : (memref<64xi64>, memref<64xi64>) -> ()
        loop.yield
      }
      loop.yield
    }
    kernel.launch @shift(%t, %y) : (memref<64xi64>, memref<64xi64>) -> ()
    func.return
  }
}
"""


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_launches_follow_each_other_through_loops_and_conditions(threads: int) -> None:
    compiled = model.build(parse_module(PIPELINE), target.host())
    Team.get(threads=threads)
    for start in (0, 10):
        x = np.arange(64) + start
        t = np.roll(x, -1)
        for _ in range(5):
            t = t + t[0] if t[0] > 3 else np.roll(t, -2)
        for _ in range(20):
            assert compiled.run([x])[0].tolist() == np.roll(t, -1).tolist()


def test_kernels_of_one_grain_are_called_and_wake_nobody() -> None:
    launches = "kernel.launch @first(%x, %y) : (memref<64xi64>, memref<1xi64>) -> ()\n"
    head = PIPELINE.partition("func.func @main")[0]
    main = "func.func @main(%x: memref<64xi64>, %y: memref<1xi64> {{sw.out}}) {{ {} func.return }} }}"
    module = lowered(head + main.format(launches * 3))
    program = model.program_of(module)
    names = [op.op_name for op in program.body.block if not isinstance(op, arith.ConstantOp)]
    assert names == [*["func.call", "cpu.poll"] * 3, "func.return"]
    compiled = model.build(parse_module(head + main.format(launches * 3)), target.host())
    assert compiled.run([np.arange(64) + 5])[0].tolist() == [5]


def test_a_launch_of_what_is_no_kernel() -> None:
    text = PIPELINE.replace("@first(%x: memref<64xi64>, %y: memref<1xi64>) attributes {kernel}",
                            "@first(%x: memref<64xi64>, %y: memref<1xi64>)")  # fmt: skip
    with pytest.raises(PassError, match=r"arguments must be|launches @first, which is no kernel"):
        lowered(text)


def test_the_program_runs_in_the_interpreter_as_one_thread() -> None:
    module = lowered(PIPELINE)
    x, y, arena = np.arange(64), np.zeros(64, np.int64), np.zeros(576, np.uint8)
    run_function(model.program_of(module), [x, y, arena])
    assert y.tolist() == model.build(parse_module(PIPELINE), target.host()).run([x])[0].tolist()


IN_LOOPS = """
builtin.module {
  func.func private @one(%x: memref<64xi64>, %y: memref<64xi64>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %v = buffer.load %x[%c0] : memref<64xi64>
    %one = arith.constant 1 : i64
    %w = arith.addi %v, %one : i64
    buffer.store %w, %y[%c0] : memref<64xi64>
    func.return
  }
  func.func private @all(%x: memref<64xi64>, %y: memref<64xi64>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %n = arith.constant 64 : index
    loop.parallel %i = %c0 to %n step %c1 {
      %v = buffer.load %x[%c0] : memref<64xi64>
      %k = arith.index_cast %i : index to i64
      %w = arith.addi %v, %k : i64
      buffer.store %w, %y[%i] : memref<64xi64>
      loop.yield
    }
    func.return
  }
  func.func @main(%x: memref<64xi64> {sw.tensor = "tensor<64xsi64>"},
                  %a: memref<64xi64> {sw.out, sw.tensor = "tensor<64xsi64>"},
                  %b: memref<64xi64> {sw.out, sw.tensor = "tensor<64xsi64>"}) {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %n = arith.constant 50 : index
    kernel.launch @one(%x, %a) : (memref<64xi64>, memref<64xi64>) -> ()
    loop.for %i = %c0 to %n step %c1 {
      BODY
      loop.yield
    }
    kernel.launch @all(%a, %b) : (memref<64xi64>, memref<64xi64>) -> ()
    func.return
  }
}
"""
ONE = "kernel.launch @one(%a, %a) : (memref<64xi64>, memref<64xi64>) -> ()"
ALL = "kernel.launch @all(%a, %b) : (memref<64xi64>, memref<64xi64>) -> ()"
BACK = "kernel.launch @one(%b, %a) : (memref<64xi64>, memref<64xi64>) -> ()"
BRANCH = f"""
  %v = buffer.load %a[%c0] : memref<64xi64>
  %two = arith.constant 2 : i64
  %zero = arith.constant 0 : i64
  %odd = arith.remsi %v, %two : i64
  %c = arith.cmpi eq, %odd, %zero : i64
  loop.if %c : (i1) -> () {{
    {ALL}
    {BACK}
    loop.yield
  }} {{
    {ONE}
    {ONE}
    {ONE}
    loop.yield
  }}
"""
# A body of the loop -> how many intervals of the team and calls the program has, and what is in %a[0] behind 50 rounds.
BODIES = {
    "ops of one thread": (f"{ONE}\n{ONE}", 1, 3, 101),
    "shared ops between": (f"{ALL}\n{BACK}\n{ONE}", 2, 3, 101),
    "a branch that memory decides": (BRANCH, 2, 5, 101),
}


@pytest.mark.parametrize("name", list(BODIES))
def test_intervals_of_loops(name: str) -> None:
    body, joins, calls, _ = BODIES[name]
    program = lowered(IN_LOOPS.replace("BODY", body))
    found = [len(list(program.walk_of(kind))) for kind in (cpu.JoinOp, func.CallOp)]
    assert found == [joins, calls]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", list(BODIES))
def test_launches_in_loops_run_in_order(name: str, threads: int) -> None:
    body, _, _, last = BODIES[name]
    module = parse_module(IN_LOOPS.replace("BODY", body))
    expected = [np.zeros(64, np.int64), np.zeros(64, np.int64)]
    run_function(next(f for f in module.walk_of(FuncOp) if f.sym_name == "main"), [np.zeros(64, np.int64), *expected])
    compiled = model.build(module, target.host(), threads=threads)
    for _ in range(5):
        a, b = compiled.run([np.zeros(64, np.int64)])
        assert a[0] == expected[0][0]
        np.testing.assert_array_equal(b, expected[1])
    if name == "ops of one thread":
        assert a[0] == last


LONG = IN_LOOPS.replace("BODY", "").replace("%n = arith.constant 50", "%n = arith.constant 1000")


def test_every_round_of_a_loop_looks_for_errors_and_signals() -> None:
    program = lowered(LONG)
    around = [op.parent_op.op_name for op in program.walk_of(cpu.PollOp) if op.parent_op is not None]
    assert around == ["func.func", "loop.for"]
