"""Stages as vector code: the same memory afterwards, in the interpreter and as machine code, at awkward places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.backends.cpu import model, target
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.loop.tile import Tile
from stepwell.lowering.loop.vectorize import Vectorize

Array = np.ndarray[Any, Any]


def program(source: str, into: str, maps: str, body: str, *, size: str = "%n", sources: int = 0, tile: int = 8) -> str:
    """A kernel of one stage over d0 < n in vectors of 8 lanes."""
    inputs = 1 - sources
    argument = "%x: f32" if inputs else f"%x: {source}"
    return f"""builtin.module {{
  func.func private @k(%a: {source}, %b: {into}, %n: index) attributes {{kernel, schedule =
      #tensor.schedule<loops = [], register = {{d0: {tile}}}, vector = d0 by 8>}} {{
    %z = arith.constant 0 : index
    %c11 = arith.constant 11 : index
    loop.stage %z, {size}, %a, %b {{identities = [], iterators = ["parallel"], maps = [{maps}],
        names = ["d0"], operandSegmentSizes = array<i32: 1, 1, {inputs}, {sources}, 1, 0, 0>}}
        : (index, index, {source}, {into}) -> () {{
    ^bb0({argument}):
      {body}
    }}
    func.return
  }}
  func.func @main(%a: {source}, %b: {into} {{sw.out}}) {{
    %n = arith.constant 11 : index
    kernel.launch @k(%a, %b, %n) : ({source}, {into}, index) -> ()
    func.return
  }}
}}
"""


ID, BLOCKS = "affine_map<(d0) -> (d0)>", "affine_map<(d0) -> (d0 floordiv 4, d0 mod 4)>"
COPY = "loop.yield %x : f32"
CASES = {
    "blocks smaller than a vector are read": ("memref<3x4xf32>", "memref<11xf32>", f"{BLOCKS}, {ID}", COPY),
    "blocks smaller than a vector are written": ("memref<11xf32>", "memref<3x4xf32>", f"{ID}, {BLOCKS}", COPY),
    "lanes in two columns": (
        "memref<11xf32>", "memref<11x2xf32>", f"{ID}, affine_map<(d0) -> (d0, 1)>", COPY),
}  # fmt: skip
SHAPES = {"memref<11xf32>": (11,), "memref<3x4xf32>": (3, 4), "memref<11x2xf32>": (11, 2), "memref<0xf32>": (0,)}


def run_all(text: str, source: Array, into: tuple[int, ...]) -> Array:
    """The result before and after vectorising, interpreted, and from machine code; all must agree."""
    module = parse_module(text)
    verify(module)
    expected = np.zeros(into, np.float32)
    run_function(model.program_of(module), [source, expected])
    for pass_ in (Tile(), Vectorize()):
        pass_.run(module, PassContext())
        verify(module)
    made = np.zeros(into, np.float32)
    run_function(model.program_of(module), [source, made])
    np.testing.assert_array_equal(made, expected)
    (native,) = model.build(module, target.host(), threads=1).run([source])
    written = expected != 0
    np.testing.assert_array_equal(native[written], expected[written])
    return expected


@pytest.mark.parametrize("size", ["%n", "%c11"])
@pytest.mark.parametrize("name", CASES)
def test_lanes_that_are_no_neighbours(name: str, size: str) -> None:
    source, into, maps, body = CASES[name]
    array = np.arange(1, 1 + np.prod(SHAPES[source]), dtype=np.float32).reshape(SHAPES[source])
    made = run_all(program(source, into, maps, body, size=size), array, SHAPES[into])
    assert sorted(made[made != 0].tolist()) == list(range(1, 12))


@pytest.mark.parametrize("source", ["memref<0xf32>", "memref<?xf32>"])
@pytest.mark.parametrize("place", ["%i", "%far", "%even"])
def test_an_empty_source_is_not_read(source: str, place: str) -> None:
    body = f"""%i = loop.index {{of = {ID}}}
      %c = arith.constant 5 : index
      %far = arith.addi %c, %c : index
      %even = arith.muli %i, %far : index
      %pad = arith.constant 7.0 : f32
      %r = buffer.read %x[{place}] else %pad : {source}
      loop.yield %r : f32"""
    text = program(source, "memref<11xf32>", ID, body, sources=1)
    if source == "memref<?xf32>":
        text = text.replace(
            'func.func @main(%a: memref<?xf32>',
            'func.func @main(%a: memref<?xf32> {sw.tensor = "tensor<?xf32, #graph.shape<[\\"m\\"]>>"}')  # fmt: skip
    assert run_all(text, np.zeros(0, np.float32), (11,)).tolist() == [7.0] * 11
