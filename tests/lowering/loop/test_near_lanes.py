"""Vectors of lanes that lie near each other are shuffled out of the vectors between them, and never reach beyond."""

from __future__ import annotations

import re

import numpy as np
import pytest

from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.printer import print_op
from stepwell.lowering.loop.tile import Tile
from stepwell.lowering.loop.vectorize import Vectorize
from tests.lowering.loop.test_vectorize import COPY, ID, program, run_all

CASES = {  # elements of the source, of which the last is read, where lane d0 reads, vectors and shuffles for 8 lanes
    "every second": (21, "d0 * 2", 2, 1),
    "every second, from the second": (22, "d0 * 2 + 1", 2, 1),
    "every third": (31, "d0 * 3", 3, 2),
    "every fourth": (41, "d0 * 4", 4, 3),
    "backwards": (11, "-d0 + 10", 1, 1),
    "every second, backwards": (21, "d0 * -2 + 20", 2, 1),
    "each twice": (6, "d0 floordiv 2", 1, 1),
    "two of four": (21, "d0 * 2 - d0 mod 2", 2, 1),
}


def vectorised(text: str) -> str:
    """The program behind the passes down to vectors."""
    module = parse_module(text)
    for pass_ in (Tile(), Vectorize()):
        pass_.run(module, PassContext())
    return print_op(module)


def one_vector(text: str) -> str:
    """The program for 8 elements in place of 11."""
    return text.replace("%c11 = arith.constant 11", "%c11 = arith.constant 8").replace("%n,", "%c11,")


def count(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text))


@pytest.mark.parametrize("size", ["%n", "%c11"])
@pytest.mark.parametrize("name", CASES)
def test_lanes_near_each_other(name: str, size: str) -> None:
    elements, place, vectors, shuffles = CASES[name]
    maps = f"affine_map<(d0) -> ({place})>, {ID}"
    text = program(f"memref<{elements}xf32>", "memref<11xf32>", maps, COPY, size=size)
    run_all(text, np.arange(1, 1 + elements, dtype=np.float32), (11,))
    whole = vectorised(one_vector(text))
    assert "buffer.load" not in whole
    assert (count(r"vector\.(masked)?load", whole), count(r"vector\.shuffle", whole)) == (vectors, shuffles)


@pytest.mark.parametrize("place", ["d0 * 5", "d0 * -5 + 50"])
def test_lanes_too_far_from_each_other_are_loaded_alone(place: str) -> None:
    text = program("memref<51xf32>", "memref<11xf32>", f"affine_map<(d0) -> ({place})>, {ID}", COPY, size="%c11")
    run_all(text, np.arange(1, 52, dtype=np.float32), (11,))
    assert "vector.shuffle" not in vectorised(one_vector(text))


def test_places_between_two_lanes_share_their_vectors() -> None:
    """x[2 * i] and x[2 * i + 1] of 16 elements are both made of x[0 .. 8] and x[8 .. 16]."""
    text = """builtin.module {
  func.func private @k(%a: memref<16xf32>, %b: memref<8xf32>) attributes {kernel, schedule =
      #tensor.schedule<loops = [], register = {d0: 8}, vector = d0 by 8>} {
    %z = arith.constant 0 : index
    %n = arith.constant 8 : index
    loop.stage %z, %n, %a, %a, %b {identities = [], iterators = ["parallel"], maps = [
        affine_map<(d0) -> (d0 * 2)>, affine_map<(d0) -> (d0 * 2 + 1)>, affine_map<(d0) -> (d0)>],
        names = ["d0"], operandSegmentSizes = array<i32: 1, 1, 2, 0, 1, 0, 0>}
        : (index, index, memref<16xf32>, memref<16xf32>, memref<8xf32>) -> () {
    ^bb0(%x: f32, %y: f32):
      %s = arith.subf %y, %x : f32
      loop.yield %s : f32
    }
    func.return
  }
  func.func @main(%a: memref<16xf32>, %b: memref<8xf32> {sw.out}) {
    kernel.launch @k(%a, %b) : (memref<16xf32>, memref<8xf32>) -> ()
    func.return
  }
}
"""
    squares = np.arange(16, dtype=np.float32) ** 2
    np.testing.assert_array_equal(run_all(text, squares, (8,)), squares[1::2] - squares[::2])
    made = vectorised(text)
    assert (count(r"vector\.load", made), count(r"vector\.shuffle", made)) == (2, 2)
