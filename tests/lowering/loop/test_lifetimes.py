"""Buffers around loops: what lives through all rounds, and what a round has for itself."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.backends.cpu import model, target
from stepwell.dialects import buffer
from stepwell.dialects.func import FuncOp
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.loop.lifetimes import Positions, buffer_roots, lifetimes
from stepwell.lowering.loop.plan_memory import PlanMemory

ADD = """
  func.func private @add(%x: memref<16xf32>, %y: memref<16xf32>, %z: memref<16xf32>) attributes {kernel} {
    %0 = arith.constant 0 : index
    %1 = arith.constant 1 : index
    %n = arith.constant 16 : index
    loop.parallel %i = %0 to %n step %1 {
      %a = buffer.load %x[%i] : memref<16xf32>
      %b = buffer.load %y[%i] : memref<16xf32>
      %c = arith.addf %a, %b : f32
      buffer.store %c, %z[%i] : memref<16xf32>
      loop.yield
    }
    func.return
  }
"""
M = "memref<16xf32>"


def add(x: str, y: str, z: str) -> str:
    return f"kernel.launch @add({x}, {y}, {z}) : ({M}, {M}, {M}) -> ()"


def program(body: str) -> Operation:
    module = parse_module(f"""
    builtin.module {{
      {ADD}
      func.func @main(%x: {M} {{sw.tensor = "tensor<16xf32>"}}, %y: {M} {{sw.out, sw.tensor = "tensor<16xf32>"}}) {{
        %0 = arith.constant 0 : index
        %1 = arith.constant 1 : index
        %3 = arith.constant 3 : index
        {body}
        func.return
      }}
    }}""")
    verify(module)
    return module


# Two temporaries of a round, one after the other; what is carried takes turns in two buffers.
ROUNDS = f"""
  %h0 = buffer.alloc() : {M}
  {add("%x", "%x", "%h0")}
  %a = buffer.alloc() : {M}
  %b = buffer.alloc() : {M}
  %r, %p, %q = loop.for %i = %0 to %3 step %1 iter(%h = %h0, %c = %a, %d = %b) -> ({M}, {M}, {M}) {{
    %t = buffer.alloc() : {M}
    {add("%h", "%x", "%t")}
    %u = buffer.alloc() : {M}
    {add("%t", "%t", "%u")}
    {add("%u", "%h", "%c")}
    loop.yield %c, %d, %c : {M}, {M}, {M}
  }}
  %late = buffer.alloc() : {M}
  {add("%r", "%x", "%late")}
  {add("%late", "%x", "%y")}
"""
# A buffer from outside that a round reads before it writes it anew.
KEPT = f"""
  %s = buffer.alloc() : {M}
  {add("%x", "%x", "%s")}
  loop.for %i = %0 to %3 step %1 {{
    %t = buffer.alloc() : {M}
    {add("%s", "%x", "%t")}
    %u = buffer.alloc() : {M}
    {add("%t", "%x", "%u")}
    {add("%t", "%u", "%s")}
    loop.yield
  }}
  {add("%s", "%x", "%y")}
"""


def expected(name: str, x: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    h = x + x
    for _ in range(3):
        h = 2 * (h + x) + h if name == "rounds" else (h + x) + (h + x + x)
    return h + x + x if name == "rounds" else h + x


PROGRAMS = {"rounds": (ROUNDS, 5), "kept": (KEPT, 3)}


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_planned_loops_compute_the_same(name: str) -> None:
    text, buffers = PROGRAMS[name]
    module = program(text)
    PlanMemory().run(module, PassContext())
    verify(module)
    main = next(f for f in module.walk_of(FuncOp) if f.sym_name == "main")
    assert not list(main.walk_of(buffer.AllocOp))
    assert int(str(main.attributes["sw.arena"]).strip('"')) == 64 * buffers
    x, y = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
    run_function(main, [x, y, np.full(64 * buffers, 77, np.int8)])
    np.testing.assert_array_equal(y, expected(name, x))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_launches_in_loops_natively(name: str, threads: int) -> None:
    module = program(PROGRAMS[name][0])
    PlanMemory().run(module, PassContext())
    compiled = model.build(module, target.host(), threads=threads)
    x = np.arange(16, dtype=np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(compiled.run([x])[0], expected(name, x))


def test_roots_go_through_rounds_branches_and_views() -> None:
    module = program(f"""
      %a = buffer.alloc() : {M}
      %b = buffer.alloc() : {M}
      %c = arith.cmpi eq, %0, %1 : index
      %r = loop.for %i = %0 to %3 step %1 iter(%h = %a) -> ({M}) {{
        %s = loop.if %c : (i1) -> {M} {{
          loop.yield %h : {M}
        }} {{
          loop.yield %b : {M}
        }}
        loop.yield %s : {M}
      }}
      %w = loop.while %r : ({M}) -> {M} {{
      ^bb0(%v: {M}):
        loop.yield %c, %v : i1, {M}
      }} {{
      ^bb0(%v: {M}):
        loop.yield %v : {M}
      }}
      %e = buffer.slice %w[%1] : {M}
      %f = buffer.load %e[] : memref<f32>
      """)
    main = next(f for f in module.walk_of(FuncOp) if f.sym_name == "main")
    roots, positions = buffer_roots(main), Positions(main)
    a, b = (op.result for op in main.walk_of(buffer.AllocOp))
    (load,) = main.walk_of(buffer.LoadOp)
    assert roots[load.memory] == {a, b}
    needed = lifetimes(main, roots, positions)
    rounds = next(op for op in positions.first if op.op_name == "loop.for")
    assert needed[b] == (positions.first[rounds], positions.first[load])


def test_what_is_carried_lives_through_the_loop_wherever_it_was_made() -> None:
    module = program(f"""
      %a = buffer.alloc() : {M}
      %r = loop.for %i = %0 to %3 step %1 iter(%h = %a) -> ({M}) {{
        %t = buffer.alloc() : {M}
        {add("%h", "%x", "%t")}
        {add("%x", "%x", "%a")}
        loop.yield %t : {M}
      }}""")
    main = next(f for f in module.walk_of(FuncOp) if f.sym_name == "main")
    positions = Positions(main)
    needed = lifetimes(main, buffer_roots(main), positions)
    rounds = next(op for op in positions.first if op.op_name == "loop.for")
    carried = next(op.result for op in rounds.walk() if isinstance(op, buffer.AllocOp))
    assert needed[carried] == (positions.first[rounds], positions.last[rounds])
