"""Compiled models as callers meet them: shapes, conversions, errors, memory, threads."""

from __future__ import annotations

import threading
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from stepwell.backends.cpu import model, target
from stepwell.backends.cpu.team import Team
from stepwell.errors import InputError, TargetError
from stepwell.ir.attributes import DenseResourceAttr
from stepwell.ir.blobs import Blob
from stepwell.ir.dims import symbol
from stepwell.ir.parser import parse_module
from stepwell.ir.types import F32, TensorType

DOUBLE = """
builtin.module {
  func.func private @double(%x: memref<?x?xf32>, %w: memref<4xf32>, %y: memref<?x?xf32>, %n: index, %m: index)
      attributes {kernel} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c3 = arith.constant 3 : index
    loop.parallel %i = %c0 to %n step %c1 {
      loop.for %j = %c0 to %m step %c1 {
        %a = buffer.load %x[%i, %j] : memref<?x?xf32>
        %k = arith.andi %j, %c3 : index
        %b = buffer.load %w[%k] : memref<4xf32>
        %c = arith.mulf %a, %b : f32
        buffer.store %c, %y[%i, %j] : memref<?x?xf32>
        loop.yield
      }
      loop.yield
    }
    func.return
  }
  func.func @main(%x: memref<?x?xf32> {onnx.name = "pixels", sw.tensor = "tensor<?x?xf32, #graph.shape<[\\"n\\", \\"4*q\\"]>>"},
                  %z: memref<?xsi32> {onnx.name = "ids", sw.tensor = "tensor<?xui32, #graph.shape<[\\"n\\"]>>"},
                  %y: memref<?x?xf32> {onnx.name = "scaled", sw.out, sw.tensor = "tensor<?x?xf32, #graph.shape<[\\"n\\", \\"4*q\\"]>>"},
                  %arena: memref<?xi8>) attributes {sw.arena = "16*n*q"} {
    %n = buffer.dim %x {axis = 0} : memref<?x?xf32>
    %m = buffer.dim %x {axis = 1} : memref<?x?xf32>
    %c0 = arith.constant 0 : index
    %w = buffer.constant dense<[1.0, 2.0, 4.0, 8.0]> : tensor<4xf32> as memref<4xf32>
    %t = buffer.view %arena[%c0](%n, %m) : memref<?xi8> to memref<?x?xf32>
    kernel.launch @double(%x, %w, %t, %n, %m) : (memref<?x?xf32>, memref<4xf32>, memref<?x?xf32>, index, index) -> ()
    kernel.launch @double(%t, %w, %y, %n, %m) : (memref<?x?xf32>, memref<4xf32>, memref<?x?xf32>, index, index) -> ()
    func.return
  }
}
""".replace("memref<?xsi32>", "memref<?xi32>")  # fmt: skip  # noqa: E501


@pytest.fixture(scope="module")
def compiled() -> model.CpuModel:
    return model.build(parse_module(DOUBLE), target.host())


def ids(count: int) -> Any:
    return np.zeros(count, np.uint32)


def expected(x: Any) -> Any:
    return x * np.resize(np.float32([1, 4, 16, 64]), x.shape[1])


def test_ports_say_what_the_graph_says(compiled: model.CpuModel) -> None:
    n, q = symbol("n"), symbol("q")
    assert [(port.name, port.dtype, port.dims) for port in (*compiled.inputs, *compiled.outputs)] == [
        ("pixels", np.float32, (n, 4 * q)),
        ("ids", np.uint32, (n,)),
        ("scaled", np.float32, (n, 4 * q)),
    ]


@pytest.mark.parametrize("shape", [(3, 8), (0, 8), (1, 0), (100, 64), (2, 4), (100, 64)])
def test_one_compilation_serves_every_size(compiled: model.CpuModel, shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (y,) = compiled.run([x, ids(shape[0])])
    np.testing.assert_array_equal(y, expected(x), strict=True)
    assert compiled.arena_bytes(shape, shape[:1]) == 4 * shape[0] * shape[1]


BASE = np.arange(24, dtype=np.float32).reshape(3, 8)


@pytest.mark.parametrize(
    "x",
    [
        np.asfortranarray(BASE),
        np.repeat(BASE, 2, axis=1)[:, ::2],
        BASE.astype(">f4"),
        np.frombuffer(b"x" + BASE.tobytes(), np.uint8)[1:].view(np.float32).reshape(3, 8),
        np.frombuffer(BASE.tobytes(), np.float32).reshape(3, 8),
        BASE.view(type("Sub", (np.ndarray,), {})),
        [list(row) for row in BASE],
    ],
    ids=["fortran", "strided", "byte-swapped", "misaligned", "read-only", "subclass", "list of float32"],
)
def test_inputs_in_any_layout_are_taken(compiled: model.CpuModel, x: Any) -> None:
    for _ in range(2):
        assert compiled.run([x, ids(3)])[0].tolist() == expected(BASE).tolist()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([BASE], "the model has 2 inputs (pixels, ids), 1 were given"),
        ([BASE, ids(3), ids(3)], "2 inputs (pixels, ids), 3 were given"),
        ([BASE.astype(np.float64), ids(3)], "input 'pixels' must have element type float32, not float64"),
        ([BASE.astype(ml_dtypes.bfloat16), ids(3)], "element type float32, not bfloat16"),
        ([BASE, ids(3).astype(np.int32)], "input 'ids' must have element type uint32, not int32"),
        ([[[1.0, 2.0]], ids(1)], "element type float32, not float64"),
        ([BASE[0], ids(3)], "input 'pixels' must have shape [n, 4*q], not [8]"),
        ([BASE[:, :6], ids(3)], "input 'pixels' must have shape [n, 4*q], not [3, 6]"),
        ([BASE, ids(4)], "input 'ids' must have shape [n], not [4] (with n = 3)"),
        ([None, ids(4)], "element type float32, not object"),
        ([[[1], [2, 3]], ids(2)], "input 'pixels' cannot be made an array"),
    ],
)
def test_misfits_are_named(compiled: model.CpuModel, arrays: Any, message: str) -> None:
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            compiled.run(arrays)
        assert message in str(caught.value)


def test_sizes_that_no_input_gives() -> None:
    text = DOUBLE.replace(
        '[\\"n\\", \\"4*q\\"]>>"},\n                  %arena', '[\\"n\\", \\"k\\"]>>"},\n                  %arena'
    )
    with pytest.raises(Exception, match="'k' is not known here"):
        model.build(parse_module(text), target.host())


def test_results_do_not_depend_on_the_number_of_threads(compiled: model.CpuModel) -> None:
    x = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    results = []
    for threads in (1, 2, 3, 5):
        Team.get(threads=threads)
        results.append(compiled.run([x, ids(50)])[0].tobytes())
    assert len(set(results)) == 1


def test_calls_from_many_threads_share_nothing(compiled: model.CpuModel) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal((seed + 1, 16)).astype(np.float32)
        results = [compiled.run([x, ids(seed + 1)])[0] for _ in range(50)]
        wrong.extend(seed for result in results if not np.array_equal(result, expected(x)))

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_one_thread_alone() -> None:
    compiled = model.build(parse_module(DOUBLE), target.host(), threads=1)
    assert compiled.run([BASE, ids(3)])[0].tolist() == expected(BASE).tolist()


def test_constants_are_aligned_and_kept() -> None:
    weights = np.arange(5, dtype=np.float32)[1:]
    made = model.aligned_constant(DenseResourceAttr(Blob("w", weights), TensorType((4,), F32)))
    assert made.ctypes.data % 64 == 0
    assert made[:16].view(np.float32).tolist() == [1, 2, 3, 4]
    again = made[:16].view(np.float32)
    assert (
        model.aligned_constant(DenseResourceAttr(Blob("w", again), TensorType((4,), F32))).ctypes.data
        == made.ctypes.data
    )


def test_text_for_people() -> None:
    module = parse_module(DOUBLE)
    before = str(module)
    assert 'define hidden void @"double"' in model.llvm_ir(module, target.named("x86-64"))
    assert "double:" in model.assembly(module, target.named("aarch64"))
    assert str(module) == before


def test_a_target_that_cannot_run_here() -> None:
    other = "aarch64" if target.host().arch == "x86_64" else "x86-64"
    with pytest.raises(TargetError, match="cannot run on this machine"):
        model.build(parse_module(DOUBLE), target.named(other))
