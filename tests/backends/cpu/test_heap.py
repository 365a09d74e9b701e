"""Programs that find out sizes while they run: memory from the heap, results known by descriptors."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.backends.cpu import model, target
from stepwell.backends.cpu.heap import Heap
from stepwell.dialects.descriptors import read_descriptor
from stepwell.ir.parser import parse_module
from stepwell.ir.verifier import verify

PROGRAM = """
builtin.module {
  func.func private @fill(%y: memref<?x2xf32>, %n: index) attributes {kernel} {
    %0 = arith.constant 0 : index
    %1 = arith.constant 1 : index
    loop.parallel %i = %0 to %n step %1 {
      %w = arith.index_cast %i : index to i32
      %f = arith.sitofp %w : i32 to f32
      buffer.store %f, %y[%i, %0] : memref<?x2xf32>
      buffer.store %f, %y[%i, %1] : memref<?x2xf32>
      loop.yield
    }
    func.return
  }
  func.func @main(%x: memref<1xi64>,
                  %out: memref<3xi64> {sw.descriptor, sw.out, sw.tensor = "tensor<?x2xf32, #graph.shape<[\\"k\\"]>>"},
                  %heap: memref<2x2xi64> {sw.heap}, %arena: memref<?xi8> {sw.arena}) attributes {sw.arena = "64"} {
    %0 = arith.constant 0 : index
    %1 = arith.constant 1 : index
    %8 = arith.constant 8 : index
    %most = arith.constant 1000 : index
    %raw = buffer.load %x[%0] : memref<1xi64>
    %number = arith.index_cast %raw : i64 to index
    %k = heap.size %number upto %most {of = "k"} : index
    %bytes = arith.muli %k, %8 : index
    heap.reserve %heap[%1], %bytes : memref<2x2xi64>
    %segment = heap.segment %heap[%1](%bytes) : memref<2x2xi64> to memref<?xi8>
    %y = buffer.view %segment[%0](%k) : memref<?xi8> to memref<?x2xf32>
    kernel.launch @fill(%y, %k) : (memref<?x2xf32>, index) -> ()
    heap.publish %y, %out : memref<?x2xf32>, memref<3xi64>
    func.return
  }
}
"""


@pytest.fixture(scope="module")
def compiled() -> model.CpuModel:
    module = parse_module(PROGRAM)
    verify(module)
    return model.build(module, target.host())


def rows(count: int) -> Any:
    return np.repeat(np.arange(count, dtype=np.float32)[:, None], 2, 1)


@pytest.mark.parametrize("count", [3, 0, 1000, 1, 999])
def test_results_are_as_large_as_data_say(compiled: model.CpuModel, count: int) -> None:
    for _ in range(3):
        np.testing.assert_array_equal(compiled.run([np.array([count])])[0], rows(count))


@pytest.mark.parametrize("count", [-1, 1001, 1 << 62, -(1 << 63)])
def test_what_is_no_size_ends_the_call_with_words(compiled: model.CpuModel, count: int) -> None:
    with pytest.raises(stepwell.RuntimeError, match=f"'k', which is decided by data.*{count}"):
        compiled.run([np.array([count])])
    np.testing.assert_array_equal(compiled.run([np.array([2])])[0], rows(2))


def test_results_stay_when_the_heap_is_used_again(compiled: model.CpuModel) -> None:
    first = compiled.run([np.array([5])])[0]
    compiled.run([np.array([6])])
    np.testing.assert_array_equal(first, rows(5))


def test_calls_from_several_threads_have_heaps_of_their_own(compiled: model.CpuModel) -> None:
    wrong: list[int] = []

    def call(count: int) -> None:
        results = [compiled.run([np.array([count])])[0] for _ in range(20)]
        wrong.extend(count for result in results if not np.array_equal(result, rows(count)))

    threads = [threading.Thread(target=call, args=(100 * number + 7,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_interpreter_agrees(compiled: model.CpuModel) -> None:
    from stepwell.check import interpret

    (result,) = interpret(parse_module(PROGRAM), [np.array([4])]).results
    np.testing.assert_array_equal(result, rows(4))


def test_a_heap_that_is_dropped_frees_its_segments() -> None:
    table = Heap.of(3)
    assert table.shape == (3, 2) and not table.any()
    del table
    gc.collect()


def test_a_descriptor_without_elements_has_no_memory_to_read() -> None:
    assert read_descriptor([0, 3, 0], np.dtype(np.float32)).shape == (3, 0)


@pytest.mark.parametrize(("old", "new", "words"), [
    ("memref<2x2xi64>", "memref<2x3xi64>", "a heap is"), ("memref<3xi64>", "memref<4xi64>", "descriptor"),
])  # fmt: skip
def test_wrong_types_are_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(stepwell.StepwellError, match=words):
        verify(parse_module(PROGRAM.replace(old, new)))
