"""Reads at places that lanes compute are one gather where the target has one, and never leave the memory."""

from __future__ import annotations

import numpy as np
import pytest

from tests.lowering.loop.test_near_lanes import vectorised
from tests.lowering.loop.test_vectorize import ID, program, run_all

# Places of lane i, and what is read of a memory of 1, 2, 3, ..; -1 outside.
ALONG = """%i = loop.index {{of = {id}}}
      %7 = arith.constant 7 : index
      %p = arith.muli %i, %7 : index
      %20 = arith.constant 20 : index
      %q = arith.subi %p, %20 : index
      %pad = arith.constant -1.0 : f32
      %r = buffer.read %x[{places}] else %pad : {source}
      loop.yield %r : f32"""


def body(places: str, source: str) -> str:
    return ALONG.format(id=ID, places=places, source=source)


@pytest.mark.parametrize("size", ["%n", "%c11"])
@pytest.mark.parametrize(
    ("source", "shape", "places", "at"),
    [
        ("memref<40xf32>", (40,), "%q", lambda i: (7 * i - 20,)),
        ("memref<4x40xf32>", (4, 40), "%7, %q", lambda i: (7, 7 * i - 20)),
        ("memref<8x40xf32>", (8, 40), "%7, %q", lambda i: (7, 7 * i - 20)),
        ("memref<9x10xf32>", (9, 10), "%q, %i", lambda i: (7 * i - 20, i)),
        ("memref<30x10x3xf32>", (30, 10, 3), "%q, %7, %i", lambda i: (7 * i - 20, 7, i)),
    ],
)
def test_places_inside_and_outside(
    source: str, shape: tuple[int, ...], places: str, at: object, size: str
) -> None:
    text = program(source, "memref<11xf32>", ID, body(places, source), sources=1, size=size)
    x = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    found = [at(i) for i in range(11)]  # type: ignore[operator]
    inside = [all(0 <= k < n for k, n in zip(place, shape, strict=True)) for place in found]
    expected = [x[place] if is_in else -1 for place, is_in in zip(found, inside, strict=True)]
    np.testing.assert_array_equal(run_all(text, x, (11,)), expected)
    assert "vector.gather" in vectorised(text)


def test_memory_of_open_sizes_is_one_row() -> None:
    source = "memref<?x?xf32>"
    text = program(source, "memref<11xf32>", ID, body("%q, %i", source), sources=1)
    text = text.replace("func.func @main(%a: memref<?x?xf32>",
                        'func.func @main(%a: memref<?x?xf32> '
                        '{sw.tensor = "tensor<?x?xf32, #graph.shape<[\\"m\\", \\"k\\"]>>"}')  # fmt: skip
    x = np.arange(1, 91, dtype=np.float32).reshape(9, 10)
    expected = [x[7 * i - 20, i] if 0 <= 7 * i - 20 < 9 and i < 10 else -1 for i in range(11)]
    np.testing.assert_array_equal(run_all(text, x, (11,)), expected)
    assert "vector.gather" in vectorised(text)


@pytest.mark.parametrize("element", ["f16", "i8"])
def test_narrow_elements_are_loaded_lane_by_lane(element: str) -> None:
    """No instruction gathers them."""
    source = f"memref<40x{element}>"
    pad = "-1.0 : f16" if element == "f16" else "-1 : i8"
    text = program(source, f"memref<11x{element}>", ID, body("%q", source), sources=1)
    text = text.replace("-1.0 : f32", pad).replace("loop.yield %r : f32", f"loop.yield %r : {element}")
    assert "vector.gather" not in vectorised(text)
