"""IR texts that several tests share: every kind of attribute, type, location and region structure."""

from __future__ import annotations

import re

from stepwell.ir.registry import BUILTIN_DIALECTS, REGISTRY

_EXAMPLE = re.compile(r"```mlir\n(.*?)```", re.DOTALL)


def all_ops() -> list[str]:
    """The names of all declared ops."""
    for name in BUILTIN_DIALECTS:
        REGISTRY.load(name)
    return sorted(name for name in REGISTRY.ops if name.partition(".")[0] in BUILTIN_DIALECTS)


def example_of(name: str) -> str:
    """The example in an op's doc string."""
    match = _EXAMPLE.search(REGISTRY.ops[name].spec.doc)
    assert match is not None, f"{name} has no example in its doc string"
    return match[1]


ATTRIBUTES = r"""
#map = affine_map<(d0, d1) -> (d1, d0 floordiv 4, d0 mod 4)>
!row = tensor<4xf32>
"test.op"() {
  aliases = [#map, !row], "quoted key" = 1, array = array<i64: 1, -2>, empty_array = array<f32>,
  bools = array<i1: true, false>, dict = {a = 1 : i8, b = {c}}, f = 0.5 : f32,
  double = 1.0e-300, hex = 0x7FC00000 : f32,
  index = 3 : index, neg = -1, si = -5 : si16, ui = 255 : ui8, yes = true, no = false, flag, explicit = unit,
  string = "a\"\\\n\t\C3\A9", symbol = @f, odd_symbol = @"a b", type = tensor<?x4x!tensor.f4E2M1FN>,
  function = (i32, f32) -> (i1), unknown = #foreign.attr<"x", [1, 2], {y = <3>}>, plain = #foreign.unit,
  foreign_type = !foreign.type<i32>, memref = memref<4x?xf32, strided<[?, 1], offset: ?>, "local">,
  layout = memref<4x4xf32, affine_map<(d0, d1) -> (d1, d0)>>, strided = strided<[4, 1]>, none = none,
  complex = complex<f32>, shape = tensor<?x?xf32, #graph.shape<["batch", "8*h8"]>>,
  kind = #vector.kind<add>, map = affine_map<(d0)[s0] -> (d0 + s0 * 2 - 1)>
} : () -> ()
"""

DENSE = """
"test.op"() {
  a = dense<[[1, 2], [3, -4]]> : tensor<2x2xsi64>, splat = dense<0.1> : tensor<3x5xf32>,
  scalar = dense<7> : tensor<ui8>,
  empty = dense<> : tensor<0x3xf32>, bools = dense<[true, false]> : tensor<2xi1>,
  f16 = dense<[1.5, -0.0]> : tensor<2xf16>,
  bf16 = dense<[0x7FC0, 0x7F80, 0.1]> : tensor<3xbf16>,
  f64 = dense<[0x7FF8000000000001, 0xFFF0000000000000]> : tensor<2xf64>,
  f8a = dense<[0x7F, 1.0]> : tensor<2xf8E4M3FN>, f8b = dense<[0x7C, 0x7E]> : tensor<2xf8E5M2>,
  f8c = dense<[0x80, 2.0]> : tensor<2xf8E4M3FNUZ>, f8d = dense<0x80> : tensor<1xf8E5M2FNUZ>,
  snan = dense<0x7F800001> : tensor<2xf32>, complex = dense<[(1.0, -2.0), (0.0, 0x7FC00000)]> : tensor<2xcomplex<f32>>,
  vector = dense<[1.0, 2.0]> : vector<2xf32>, index = dense<[1, 2]> : tensor<2xindex>,
  i4 = dense<[-8, 7]> : tensor<2xsi4>, u4 = dense<[15, 0]> : tensor<2xui4>
} : () -> ()
"""

OWN_DENSE = """
"test.op"() {
  strings = dense<["a", "\\22", "\\C3\\A9"]> : tensor<3x!graph.string>,
  f4 = dense<[0.5, -6.0]> : tensor<2x!tensor.f4E2M1FN>,
  e8 = dense<[1.0, 0xFF]> : tensor<2x!tensor.f8E8M0FNU>, f6 = dense<0.5> : tensor<2x!tensor.f6E3M2FN>
} : () -> ()
"""

BLOCKS = """
func.func @f(%c: i1, %x: f32) -> f32 {
  "test.branch"(%c)[^left, ^right] : (i1) -> ()
^left:
  %a = arith.addf %x, %x : f32
  "test.jump"(%a)[^end] : (f32) -> ()
^right:
  "test.jump"(%x)[^end] : (f32) -> ()
^end(%r: f32):
  func.return %r : f32
}
func.func private @declared(tensor<4xf32> {sw.name = "x"}, i32) -> (f32 {sw.a}, f32)
"""

NESTED = """
builtin.module @outer attributes {test.version = 3} {
  func.func @f(%x: tensor<4xf32>) attributes {kernel} {
    %a:2, %b = "test.many"(%x) <{p = 1 : i32}> ({
      "test.inner"(%x) : (tensor<4xf32>) -> ()
    }, {
    ^bb0(%y: i32, %z: f32):
      "test.use"(%y, %z) ({ }) {flag} : (i32, f32) -> ()
    }) {k = "v"} : (tensor<4xf32>) -> (i32, i32, f32)
    "test.use"(%a#1, %a#0, %b) : (i32, i32, f32) -> ()
    func.return
  }
  builtin.module @inner {
  }
}
"""

LOOPS = """
func.func @f(%m: memref<?xf32>, %n: index) attributes {kernel} {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  loop.parallel %i = %zero to %n step %one attributes {label = "rows"} {
    %init = arith.constant dense<0.0> : vector<8xf32>
    %sum = loop.for %j = %zero to %n step %one iter(%acc = %init) -> (vector<8xf32>) {
      %v = vector.load %m[%j] : memref<?xf32>, vector<8xf32>
      %next = vector.fma %v, %v, %acc : vector<8xf32>
      loop.yield %next : vector<8xf32>
    }
    %total = vector.reduction<add>, %sum : vector<8xf32> into f32
    buffer.store %total, %m[%i] : memref<?xf32>
    loop.yield
  }
  func.return
}
"""

QUANTISED = """
func.func @f(%x: tensor<?x2xf32, #graph.shape<["n"]>>) -> tensor<?x2xi8, #graph.shape<["n"]>> {
  %q = quant.qcast %x : tensor<?x2xf32, #graph.shape<["n"]>>
    to tensor<?x2x!quant.uniform<u8<0:254>:f32:1, {0.1, 0.25:128}>, #graph.shape<["n"]>>
  %s = quant.scast %q : tensor<?x2x!quant.uniform<u8<0:254>:f32:1, {0.1, 0.25:128}>, #graph.shape<["n"]>>
    to tensor<?x2xi8, #graph.shape<["n"]>>
  "test.op"() {type = !quant.uniform<i4:f16, 1.0e-3:-8>} : () -> ()
  func.return %s : tensor<?x2xi8, #graph.shape<["n"]>>
}
"""

LOCATIONS = """
func.func @f() {
  "a"() : () -> () loc("node")
  "b"() : () -> () loc("model.mlir":3:5)
  "c"() : () -> () loc(fused["node", "model.mlir":3:5, unknown])
  "d"() : () -> () loc(unknown)
  func.return loc("/layer/Mul \\22x\\22")
} loc("f")
"""

RESOURCES = """
builtin.module {
  %c = graph.constant dense_resource<w0> : tensor<2x2xf32>
  "test.use"(%c) {again = dense_resource<w0> : tensor<2x2xf32>} : (tensor<2x2xf32>) -> ()
}
{-#
  external_resources: {
    stepwell: {
      w0: "weights.bin:0:16:00112233445566778899aabbccddeeff"
    },
    other: {
      x: "ignored"
    }
  }
#-}
"""

SAMPLES = {
    "attributes": ATTRIBUTES, "dense": DENSE, "own-dense": OWN_DENSE, "blocks": BLOCKS, "nested": NESTED,
    "loops": LOOPS, "quantised": QUANTISED, "locations": LOCATIONS, "resources": RESOURCES,
}  # fmt: skip
