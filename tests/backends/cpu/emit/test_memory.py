"""Buffers: element types, sizes known late, views, tiles, scratch memory, masks, gathers."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import stepwell
from stepwell.backends.cpu import model, target
from stepwell.errors import TargetError
from stepwell.ir.parser import parse_module
from stepwell.ir.verifier import verify


def program(arguments: str, kernel: str, given: str, types: str, *, before: str = "", sizes: str = "") -> str:
    """A program of one launch: `arguments` are the program's, `kernel` the kernel's signature and body."""
    return f"""
builtin.module {{
  func.func private @k{kernel}
  func.func @main({arguments}) {{
    {before}
    kernel.launch @k({given}) : ({types}) -> ()
    func.return
  }}
}}
"""


COPY = """
builtin.module {{
  func.func private @k(%a: memref<32x{t}>, %b: memref<32x{t}>, %c: memref<32x{t}>) attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %n = arith.constant 32 : index
    loop.for %i = %c0 to %n step %c1 {{
      %x = buffer.load %a[%i] : memref<32x{t}>
      buffer.store %x, %b[%i] : memref<32x{t}>
      loop.yield
    }}
    %v = vector.load %a[%c0] : memref<32x{t}>, vector<32x{t}>
    vector.store %v, %c[%c0] : memref<32x{t}>, vector<32x{t}>
    func.return
  }}
  func.func @main(%a: memref<32x{t}>, %b: memref<32x{t}> {{sw.out}}, %c: memref<32x{t}> {{sw.out}}) {{
    kernel.launch @k(%a, %b, %c) : (memref<32x{t}>, memref<32x{t}>, memref<32x{t}>) -> ()
    func.return
  }}
}}
"""


@pytest.mark.parametrize(
    ("element", "dtype"),
    [
        ("i1", np.bool_), ("i4", ml_dtypes.int4), ("i8", np.int8), ("i16", np.int16), ("i32", np.int32),
        ("i64", np.int64), ("f16", np.float16), ("bf16", ml_dtypes.bfloat16), ("f32", np.float32), ("f64", np.float64),
        ("f8E4M3FN", ml_dtypes.float8_e4m3fn),
    ],
)  # fmt: skip
def test_every_element_type_is_moved_whole(level: target.CpuTarget, element: str, dtype: Any) -> None:
    x = (np.arange(32) % 7 - 3).astype(dtype)
    for y in model.build(parse_module(COPY.format(t=element)), level).run([x]):
        assert y.view(np.uint8).tolist() == x.view(np.uint8).tolist()


def test_bools_are_stored_as_zero_and_one(both: Any) -> None:
    text = """
builtin.module {
  func.func private @k(%a: memref<32xi32>, %b: memref<32xi1>, %c: memref<32xi32>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %v = vector.load %a[%c0] : memref<32xi32>, vector<32xi32>
    %z = arith.constant dense<0> : vector<32xi32>
    %p = arith.cmpi sgt, %v, %z : vector<32xi32>
    vector.store %p, %b[%c0] : memref<32xi1>, vector<32xi1>
    %q = vector.load %b[%c0] : memref<32xi1>, vector<32xi1>
    %r = arith.select %q, %v, %z : vector<32xi32>
    vector.store %r, %c[%c0] : memref<32xi32>, vector<32xi32>
    func.return
  }
  func.func @main(%a: memref<32xi32>, %b: memref<32xi1> {sw.out}, %c: memref<32xi32> {sw.out}) {
    kernel.launch @k(%a, %b, %c) : (memref<32xi32>, memref<32xi1>, memref<32xi32>) -> ()
    func.return
  }
}
"""
    x = np.arange(-16, 16, dtype=np.int32)
    flags, kept = both(text, [x])
    assert flags.view(np.uint8).tolist() == [0] * 17 + [1] * 15
    assert kept.tolist() == np.maximum(x, 0).tolist()


MASKED = """
builtin.module {{
  func.func private @k(%a: memref<?x{t}>, %b: memref<?x{t}>, %n: index) attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %step = arith.constant {lanes} : index
    %pass = arith.constant dense<3{dot}> : vector<{lanes}x{t}>
    loop.parallel %i = %c0 to %n step %step {{
      %rest = arith.subi %n, %i : index
      %m = vector.create_mask %rest : vector<{lanes}xi1>
      %x = vector.maskedload %a[%i], %m, %pass : memref<?x{t}>, vector<{lanes}xi1>, vector<{lanes}x{t}> into vector<{lanes}x{t}>
      vector.maskedstore %b[%i], %m, %x : memref<?x{t}>, vector<{lanes}xi1>, vector<{lanes}x{t}>
      loop.yield
    }}
    func.return
  }}
  func.func @main(%a: memref<?x{t}> {{sw.tensor = "tensor<?x{t}, #graph.shape<[\\"n\\"]>>"}},
                  %b: memref<?x{t}> {{sw.out, sw.tensor = "tensor<?x{t}, #graph.shape<[\\"n\\"]>>"}}) {{
    %n = buffer.dim %a {{axis = 0}} : memref<?x{t}>
    kernel.launch @k(%a, %b, %n) : (memref<?x{t}>, memref<?x{t}>, index) -> ()
    func.return
  }}
}}
"""  # noqa: E501


@pytest.mark.parametrize("element", ["i8", "i16", "i64", "f32", "f64"])
@pytest.mark.parametrize("lanes", [4, 16])
def test_masked_tails_touch_nothing_behind_the_end(level: target.CpuTarget, element: str, lanes: int) -> None:
    dtype = {"i8": np.int8, "i16": np.int16, "i64": np.int64, "f32": np.float32, "f64": np.float64}[element]
    text = MASKED.format(t=element, lanes=lanes, dot=".0" if element[0] == "f" else "")
    compiled = model.build(parse_module(text), level)
    for size in (0, 1, lanes - 1, lanes, lanes + 1, 2 * lanes + 3):
        x = np.arange(size).astype(dtype)
        assert compiled.run([x])[0].tolist() == x.tolist()


@pytest.mark.parametrize("set_lanes", [0, 1, 5, 8, 11, 16])
def test_constant_masks(both: Any, set_lanes: int) -> None:
    mask = ", ".join(str(lane < set_lanes).lower() for lane in range(16))
    text = f"""
builtin.module {{
  func.func private @k(%a: memref<16xf32>, %b: memref<16xf32>, %c: memref<16xf32>) attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %count = arith.constant {set_lanes} : index
    %pass = arith.constant dense<7.0> : vector<16xf32>
    %m = arith.constant dense<[{mask}]> : vector<16xi1>
    %k = vector.create_mask %count : vector<16xi1>
    vector.store %pass, %c[%c0] : memref<16xf32>, vector<16xf32>
    %x = vector.maskedload %a[%c0], %m, %pass : memref<16xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
    vector.store %x, %b[%c0] : memref<16xf32>, vector<16xf32>
    %y = vector.maskedload %a[%c0], %k, %pass : memref<16xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
    vector.maskedstore %c[%c0], %k, %y : memref<16xf32>, vector<16xi1>, vector<16xf32>
    func.return
  }}
  func.func @main(%a: memref<16xf32>, %b: memref<16xf32> {{sw.out}}, %c: memref<16xf32> {{sw.out}}) {{
    kernel.launch @k(%a, %b, %c) : (memref<16xf32>, memref<16xf32>, memref<16xf32>) -> ()
    func.return
  }}
}}
"""
    first, second = both(text, [np.arange(16, dtype=np.float32) + 100])
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize("element", ["i1", "i16", "f32", "f64"])
@pytest.mark.parametrize("index", ["index", "i32"])
def test_gather(both: Any, element: str, index: str) -> None:
    fill = {"i1": "false", "i16": "9", "f32": "9.0", "f64": "9.0"}[element]
    text = f"""
builtin.module {{
  func.func private @k(%a: memref<4x16x{element}>, %i: memref<16x{index}>, %m: memref<16xi1>, %b: memref<16x{element}>)
      attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %c2 = arith.constant 2 : index
    %p = arith.constant dense<{fill}> : vector<16x{element}>
    %at = vector.load %i[%c0] : memref<16x{index}>, vector<16x{index}>
    %k = vector.load %m[%c0] : memref<16xi1>, vector<16xi1>
    %x = vector.gather %a[%c2, %c0] [%at], %k, %p : memref<4x16x{element}>, vector<16x{index}>, vector<16xi1>, vector<16x{element}> into vector<16x{element}>
    vector.store %x, %b[%c0] : memref<16x{element}>, vector<16x{element}>
    func.return
  }}
  func.func @main(%a: memref<4x16x{element}>, %i: memref<16x{index}>, %m: memref<16xi1>, %b: memref<16x{element}> {{sw.out}}) {{
    kernel.launch @k(%a, %i, %m, %b) : (memref<4x16x{element}>, memref<16x{index}>, memref<16xi1>, memref<16x{element}>) -> ()
    func.return
  }}
}}
"""  # noqa: E501
    dtype = {"i1": np.bool_, "i16": np.int16, "f32": np.float32, "f64": np.float64}[element]
    table = (np.arange(64).reshape(4, 16) % 5).astype(dtype)
    at = np.array([3, 0, 15, 7, 7, 1, 2, 14, 13, 5, 6, 8, 9, 10, 11, 12], np.int64 if index == "index" else np.int32)
    both(text, [table, at, np.arange(16) % 3 != 0])


def test_vectors_are_taken_apart_and_put_together(both: Any) -> None:
    text = """
builtin.module {
  func.func private @k(%a: memref<8xf32>, %b: memref<4xf32>, %c: memref<8xf32>, %d: memref<8xindex>)
      attributes {kernel} {
    %c0 = arith.constant 0 : index
    %x = vector.load %a[%c0] : memref<8xf32>, vector<8xf32>
    %y = vector.load %a[%c0] : memref<8xf32>, vector<2xf32>
    %s = vector.shuffle %x, %y {mask = [7, 0, 8, 9]} : vector<8xf32>, vector<2xf32> -> vector<4xf32>
    vector.store %s, %b[%c0] : memref<4xf32>, vector<4xf32>
    %e = vector.extract %x {static_position = array<i64: 5>} : f32 from vector<8xf32>
    %f = vector.from_elements %e, %e : vector<2xf32>
    %g = vector.shuffle %f, %x {mask = [0, 1, 9, 2, 3, 4, 5, 6]} : vector<2xf32>, vector<8xf32> -> vector<8xf32>
    %h = vector.broadcast %e : f32 to vector<8xf32>
    %i = arith.addf %g, %h : vector<8xf32>
    vector.store %i, %c[%c0] : memref<8xf32>, vector<8xf32>
    %k = vector.step : vector<8xindex>
    vector.store %k, %d[%c0] : memref<8xindex>, vector<8xindex>
    func.return
  }
  func.func @main(%a: memref<8xf32>, %b: memref<4xf32> {sw.out}, %c: memref<8xf32> {sw.out}, %d: memref<8xindex> {sw.out}) {
    kernel.launch @k(%a, %b, %c, %d) : (memref<8xf32>, memref<4xf32>, memref<8xf32>, memref<8xindex>) -> ()
    func.return
  }
}
"""  # noqa: E501
    shuffled, _, steps = both(text, [np.arange(8, dtype=np.float32) + 1])
    assert shuffled.tolist() == [8, 1, 1, 2]
    assert steps.tolist() == list(range(8))


TILES = """
builtin.module {
  func.func private @k(%a: memref<?x?xf32>, %b: memref<?x?xf32>, %n: index, %m: index) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c4 = arith.constant 4 : index
    loop.parallel %i = %c0 to %n step %c4 {
      %left = arith.subi %n, %i : index
      %rows = arith.minsi %left, %c4 : index
      %end = arith.addi %i, %rows : index
      %tile = buffer.local(%rows, %m) : memref<?x?xf32>
      %whole = buffer.rebase %tile[%i, %c0] : memref<?x?xf32>
      loop.for %r = %i to %end step %c1 {
        loop.for %c = %c0 to %m step %c1 {
          %x = buffer.load %a[%r, %c] : memref<?x?xf32>
          %y = arith.addf %x, %x : f32
          buffer.store %y, %whole[%r, %c] : memref<?x?xf32>
          loop.yield
        }
        loop.yield
      }
      %other = buffer.local() : memref<4xf32>
      buffer.store %one, %other[%c1] : memref<4xf32>
      loop.for %r = %i to %end step %c1 {
        %back = arith.subi %end, %c1 : index
        %fromend = arith.subi %back, %r : index
        %row = arith.addi %i, %fromend : index
        loop.for %c = %c0 to %m step %c1 {
          %x = buffer.load %whole[%r, %c] : memref<?x?xf32>
          %o = buffer.load %other[%c1] : memref<4xf32>
          %y = arith.addf %x, %o : f32
          buffer.store %y, %b[%row, %c] : memref<?x?xf32>
          loop.yield
        }
        loop.yield
      }
      loop.yield
    }
    func.return
  }
  func.func @main(%a: memref<?x?xf32> {sw.tensor = "tensor<?x?xf32, #graph.shape<[\\"n\\", \\"2*h\\"]>>"},
                  %b: memref<?x?xf32> {sw.out, sw.tensor = "tensor<?x?xf32, #graph.shape<[\\"n\\", \\"2*h\\"]>>"}) {
    %n = buffer.dim %a {axis = 0} : memref<?x?xf32>
    %m = buffer.dim %a {axis = 1} : memref<?x?xf32>
    kernel.launch @k(%a, %b, %n, %m) : (memref<?x?xf32>, memref<?x?xf32>, index, index) -> ()
    func.return
  }
}
""".replace("    %c4 = arith", "    %one = arith.constant 1.0 : f32\n    %c4 = arith", 1)


@pytest.mark.parametrize("shape", [(0, 4), (1, 2), (3, 6), (4, 2), (9, 10), (5, 0)])
def test_tiles_of_open_sizes_in_scratch_memory(both: Any, shape: tuple[int, int]) -> None:
    both(TILES, [np.random.default_rng(1).standard_normal(shape).astype(np.float32)])


def test_scratch_memory_follows_the_sizes() -> None:
    compiled = model.build(parse_module(TILES), target.host())
    assert compiled.scratch_bytes((9, 10)) == 4 * 10 * 4 + 32 + 64


def test_scratch_memory_of_sizes_with_terms_below_0() -> None:
    """(n - 1) * (m - 1) elements, multiplied out as shape arithmetic has it."""
    less = """
      %minus = arith.constant -1 : index
      %nm = arith.muli %n, %m : index
      %ln = arith.muli %n, %minus : index
      %lm = arith.muli %minus, %m : index
      %s0 = arith.addi %nm, %ln : index
      %s1 = arith.addi %s0, %lm : index
      %s2 = arith.addi %s1, %c1 : index
      %other = buffer.local(%s2) : memref<?xf32>
      buffer.store %one, %other[%c1] : memref<?xf32>
"""
    text = TILES.replace("      %other = buffer.local() : memref<4xf32>\n", less)
    text = text.replace("      buffer.store %one, %other[%c1] : memref<4xf32>\n", "")
    text = text.replace("%other[%c1] : memref<4xf32>", "%other[%c1] : memref<?xf32>")
    assert model.build(parse_module(text), target.host()).scratch_bytes((9, 10)) == 4 * 10 * 4 + 32 + 8 * 9 * 4 + 32


def test_strided_buffers(both: Any) -> None:
    strided = "memref<3x4xf32, strided<[16, 2], offset: 5>>"
    text = f"""
builtin.module {{
  func.func private @k(%a: memref<64xf32>, %s: {strided}, %b: memref<3x4xf32>) attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c3 = arith.constant 3 : index
    %c4 = arith.constant 4 : index
    loop.for %i = %c0 to %c3 step %c1 {{
      loop.for %j = %c0 to %c4 step %c1 {{
        %x = buffer.load %s[%i, %j] : {strided}
        buffer.store %x, %b[%i, %j] : memref<3x4xf32>
        loop.yield
      }}
      loop.yield
    }}
    func.return
  }}
  func.func @main(%a: memref<64xf32>, %b: memref<3x4xf32> {{sw.out}}) {{
    kernel.launch @k(%a, %a, %b) : (memref<64xf32>, memref<64xf32>, memref<3x4xf32>) -> ()
    func.return
  }}
}}
"""
    compiled = model.build(parse_module(text), target.host())
    x = np.arange(64, dtype=np.float32)
    assert compiled.run([x])[0].tolist() == x[5:53].reshape(3, 16)[:, :8:2].tolist()


@pytest.mark.parametrize(
    ("type_", "why"),
    [
        ("memref<4x4xf32, affine_map<(d0, d1) -> (d1, d0)>>", "only dense and strided layouts"),
        ("memref<4x4xcomplex<f32>>", "has no register on a CPU"),
    ],
)
def test_buffers_that_cannot_be_compiled_are_named(type_: str, why: str) -> None:
    result = type_[:-1].split("x")[-1].split(",")[0] if "complex" not in type_ else "complex<f32>"
    text = f"""
builtin.module {{
  func.func private @k(%a: {type_}) attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %x = "buffer.load"(%a, %c0, %c0) : ({type_}, index, index) -> {result}
    func.return
  }}
  func.func @main(%a: {type_}) {{
    kernel.launch @k(%a) : ({type_}) -> ()
    func.return
  }}
}}
"""
    with pytest.raises(TargetError, match=why):
        model.llvm_ir(parse_module(text), target.named("x86-64"))


def register_tile(rows: int, vectors: int) -> str:
    """C[m, n] = A[m, k] B[n / 64, k, 64]: a tile of `rows` x `vectors` vectors per grain."""
    width, count = 16 * vectors, rows * vectors
    names = [f"%a{n}" for n in range(count)]
    body = [f"%b{v} = vector.load %B[%p, %k, %v{v}] : memref<?x?x{width}xf32>, vector<16xf32>" for v in range(vectors)]
    for row in range(rows):
        body.append(f"%x{row} = buffer.load %A[%i{row}, %k] : memref<?x?xf32>")
        body.append(f"%s{row} = vector.broadcast %x{row} : f32 to vector<16xf32>")
        body += [f"%f{row * vectors + v} = vector.fma %s{row}, %b{v}, %a{row * vectors + v} : vector<16xf32>"
                 for v in range(vectors)]  # fmt: skip
    results = ", ".join(f"%r{n}" for n in range(count))
    stores = []
    for n in range(count):
        row, v = divmod(n, vectors)
        at = f"%C2[%i{row}, %p, %v{v}] : memref<?x?x{width}xf32>"
        stores.append(f"vector.store %r{n}, {at}, vector<16xf32>")
    types = ", ".join(["vector<16xf32>"] * count)
    lines = "\n        "
    return f"""
builtin.module {{
  func.func private @k(%A: memref<?x?xf32>, %B: memref<?x?x{width}xf32>, %C: memref<?x?xf32>, %m: index, %K: index, %n: index)
      attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %rows = arith.constant {rows} : index
    {lines.join(f"%v{v} = arith.constant {16 * v} : index" for v in range(vectors))}
    {lines.join(f"%o{r} = arith.constant {r} : index" for r in range(rows))}
    %z = arith.constant dense<0.0> : vector<16xf32>
    %C2 = buffer.reshape %C(%m, %n) : memref<?x?xf32> to memref<?x?x{width}xf32>
    loop.parallel %i = %c0 to %m step %rows {{
      loop.parallel %p = %c0 to %n step %c1 {{
        {lines.join(f"%i{r} = arith.addi %i, %o{r} : index" for r in range(rows))}
        {results} = loop.for %k = %c0 to %K step %c1 iter({", ".join(f"{name} = %z" for name in names)}) -> ({types}) {{
        {lines.join(body)}
          loop.yield {", ".join(f"%f{n}" for n in range(count))} : {types}
        }}
        {lines.join(stores)}
        loop.yield
      }}
      loop.yield
    }}
    func.return
  }}
  func.func @main(%A: memref<?x?xf32> {{sw.tensor = "tensor<?x?xf32, #graph.shape<[\\"6*m\\", \\"k\\"]>>"}},
                  %B: memref<?x?x{width}xf32> {{sw.tensor = "tensor<?x?x{width}xf32, #graph.shape<[\\"n\\", \\"k\\"]>>"}},
                  %C: memref<?x?xf32> {{sw.out, sw.tensor = "tensor<?x?xf32, #graph.shape<[\\"6*m\\", \\"{width}*n\\"]>>"}}) {{
    %m = buffer.dim %A {{axis = 0}} : memref<?x?xf32>
    %k = buffer.dim %A {{axis = 1}} : memref<?x?xf32>
    %n = buffer.dim %B {{axis = 0}} : memref<?x?x{width}xf32>
    kernel.launch @k(%A, %B, %C, %m, %k, %n) : (memref<?x?xf32>, memref<?x?x{width}xf32>, memref<?x?xf32>, index, index, index) -> ()
    func.return
  }}
}}
"""  # noqa: E501


@pytest.mark.parametrize(("m", "k", "n"), [(6, 1, 1), (12, 5, 2), (6, 0, 3)])
def test_a_register_tile(both: Any, m: int, k: int, n: int) -> None:
    a = np.arange(m * k).reshape(m, k).astype(np.float32) % 5 - 2
    b = np.arange(n * k * 64).reshape(n, k, 64).astype(np.float32) % 7 - 3
    (c,) = both(register_tile(6, 4), [a, b])
    assert c.tolist() == (a @ b.transpose(1, 0, 2).reshape(k, n * 64)).tolist()


def test_the_inner_loop_of_a_register_tile_is_tight() -> None:
    text = model.assembly(parse_module(register_tile(6, 4)), target.named("x86-64-v4"))
    inner = max(text.split(".LBB"), key=lambda part: part.count("vfmadd"))
    instructions = [
        line.split()[0] for line in inner.splitlines()[1:] if line.startswith("\t") and line.split()[0][0] != "."
    ]
    assert instructions.count("vfmadd231ps") == 24
    assert sum(name.startswith("vmov") for name in instructions) <= 4
    assert len(instructions) <= 24 + 4 + 6 + 8


def test_rows_of_rows() -> None:
    text = """
builtin.module {
  func.func private @k(%a: memref<?x4x?xf32>, %b: memref<4x?xf32>, %n: index) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c4 = arith.constant 4 : index
    %m = buffer.dim %a {axis = 2} : memref<?x4x?xf32>
    %last = arith.subi %n, %c1 : index
    %row = buffer.slice %a[%last] : memref<?x4x?xf32>
    loop.for %i = %c0 to %c4 step %c1 {
      %from = buffer.slice %row[%i] : memref<4x?xf32>
      %to = buffer.slice %b[%i] : memref<4x?xf32>
      loop.for %j = %c0 to %m step %c1 {
        %x = buffer.load %from[%j] : memref<?xf32>
        %one = buffer.slice %to[%j] : memref<?xf32>
        buffer.store %x, %one[] : memref<f32>
        loop.yield
      }
      loop.yield
    }
    func.return
  }
  func.func @main(%a: memref<?x4x?xf32> {sw.tensor = "tensor<?x4x?xf32, #graph.shape<[\\"n\\", \\"m\\"]>>"},
                  %b: memref<4x?xf32> {sw.out, sw.tensor = "tensor<4x?xf32, #graph.shape<[\\"m\\"]>>"}) {
    %n = buffer.dim %a {axis = 0} : memref<?x4x?xf32>
    kernel.launch @k(%a, %b, %n) : (memref<?x4x?xf32>, memref<4x?xf32>, index) -> ()
    func.return
  }
}
"""
    a = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    module = parse_module(text)
    verify(module)
    np.testing.assert_array_equal(model.build(module, target.host()).run([a])[0], a[2])


PARTS = """
builtin.module {
  func.func private @k(%a: memref<3x4xf32>, %b: memref<2x3x4xf32>) attributes {kernel} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c3 = arith.constant 3 : index
    %front = buffer.part %b {offset = 0} : memref<2x3x4xf32> to memref<3x4xf32>
    %back = buffer.part %b {offset = 12} : memref<2x3x4xf32> to memref<3x4xf32>
    loop.for %r = %c0 to %c3 step %c1 {
      %x = vector.load %a[%r, %c0] : memref<3x4xf32>, vector<4xf32>
      vector.store %x, %front[%r, %c0] : memref<3x4xf32>, vector<4xf32>
      %y = arith.addf %x, %x : vector<4xf32>
      vector.store %y, %back[%r, %c0] : memref<3x4xf32>, vector<4xf32>
      loop.yield
    }
    func.return
  }
  func.func @main(%a: memref<3x4xf32> {sw.tensor = "tensor<3x4xf32>"},
                  %b: memref<2x3x4xf32> {sw.out, sw.tensor = "tensor<2x3x4xf32>"}) {
    kernel.launch @k(%a, %b) : (memref<3x4xf32>, memref<2x3x4xf32>) -> ()
    func.return
  }
}
"""


def test_parts_of_a_buffer(both: Any) -> None:
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    (b,) = both(PARTS, [a])
    assert b.tolist() == np.stack([a, 2 * a]).tolist()


def test_room_is_the_memory_behind_an_argument() -> None:
    strided, dense = "memref<2x?x4xf32, strided<[12, 4, 1]>>", "memref<2x3x4xf32>"
    state = (
        r'sw.tensor = "tensor<2x?x4xf32, #graph.shape<[\"n\"]>>", sw.state = {axis = 1, capacity = 3, name = "next", '
        r'result = 1, type = "tensor<2x?x4xf32, #graph.shape<[\"n + 2\"]>>"}'
    )
    text = program(
        f"%m: {strided} {{{state}}}, %o: memref<4xf32> {{sw.out}}",
        f"""(%r: {dense}, %o: memref<4xf32>) attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c2 = arith.constant 2 : index
    %v = vector.load %r[%c1, %c2, %c0] : {dense}, vector<4xf32>
    vector.store %v, %o[%c0] : memref<4xf32>, vector<4xf32>
    func.return
  }}""",
        "%r, %o", f"{dense}, memref<4xf32>", before=f"%r = buffer.room %m() : {strided} to {dense}",
    )  # fmt: skip
    module = parse_module(text)
    verify(module)
    rows = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    (out,) = model.build(module, target.host()).run([rows[:, :1]])
    np.testing.assert_array_equal(out, rows[1, 2])


@pytest.mark.parametrize(("element", "dtype"), [("si8", np.int8), ("si16", np.int16), ("bf16", ml_dtypes.bfloat16)])
@pytest.mark.parametrize("columns", [17, 18, 33])
def test_a_tail_of_narrow_elements_leaves_the_next_row_alone(element: str, dtype: Any, columns: int) -> None:
    """Rows that end in one lane of a vector, whose elements were computed wider than they are stored."""
    wide = "f32" if element == "bf16" else "si32"
    x = np.arange(3 * columns, dtype=np.float32 if wide == "f32" else np.int32).reshape(3, columns)
    add = np.array([[1], [2], [3]], x.dtype)
    text = f"""builtin.module {{ func.func @main(%x: tensor<3x{columns}x{wide}>, %c: tensor<3x1x{wide}>)
      -> tensor<3x{columns}x{element}> {{
        %s = graph.add %x, %c : (tensor<3x{columns}x{wide}>, tensor<3x1x{wide}>) -> tensor<3x{columns}x{wide}>
        %y = graph.cast %s {{to = {element}}} : (tensor<3x{columns}x{wide}>) -> tensor<3x{columns}x{element}>
        func.return %y : tensor<3x{columns}x{element}> }} }}"""
    np.testing.assert_array_equal(stepwell.compile(text)(x, add), (x + add).astype(dtype))
