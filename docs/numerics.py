"""Writes docs/numerics.md: the bounds of elementary functions, what sums promise, and what strict precision means."""

from __future__ import annotations

import math

from stepwell.backends.cpu import target
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering.loop.math.recipes import FUNCTIONS, NARROW_BOUND
from stepwell.lowering.pipeline import phases
from stepwell.lowering.precision import PRECISIONS
from stepwell.lowering.tensor.depth import additions

INTRODUCTION = """# Numbers: errors, sums, and strict precision

Floats are computed in their own type; narrower ones than f32 are computed in f32 and rounded once at the end of each
operation that is written to memory or cast. NaN and infinities go through as in NumPy, denormals are kept. Results are
the same bits with any number of threads and in every run.

An error of one ulp is the distance between two neighbouring floats at the exact result.

## Elementary functions

Addition, subtraction, multiplication, division, square root and rounding to integers are rounded correctly. The other
functions are polynomials and quotients (`lowering/loop/math/`), with at most these errors over all arguments; the two
numbers of a column are for targets with and without fused multiply-add. Strict precision has the second.
"""

MEASURED = f"""
Of f16 and bf16 the error is at most {NARROW_BOUND} ulp. f32 functions of one argument were run on all 2^32 arguments,
against NumPy's in f64, with fused multiply-add: `python -m tests.math.exhaustive FUNCTION`; `--means` tells it what
the target has. Without it, in f64, and for two arguments they were measured on every exponent, around every branch of
the algorithm and next to multiples of pi/2, f64 against mpmath with 50 digits (`tests/math/test_bounds.py`).
Exponentials by tables (AVX-512) keep the same bounds. Functions that ONNX has and the table lacks are made of these:
a sigmoid is 1 / (1 + e^-x), GELU is its formula. Softmax multiplies with 1 / sum(e), which adds one rounding to that
of a division. The sum is at least 1, so that neither it nor its inverse leaves the range of normal numbers. Attention
sums up e v and multiplies the result with 1 / sum(e): it overflows where the values of a row's keys are so large that
their sum does, although their mean does not. With many keys e is taken relative to the largest score so far, and what
has been summed up is multiplied with e^(old - new) whenever that grows: one more rounding for each part of 512 keys,
by a number that is exactly 1 while the largest score stays.

`erf` of f32 is the one above 4 ulp. 1 - 2^(x p(x)) has a third of its error, and takes 1.35 times as long, which is
the time of a GELU.
"""

SUMS = """
## Sums

A sum of n terms is cut by its kernel's `#tensor.schedule`: into as many sums as a vector has lanes where the lanes run
along it, times `unroll`; and where `partial` says so into parts, each started from zero and added to the sum before
([long sums are made of short ones](decisions/long-sums-are-cut.md)). The order follows from the shape and the target
alone. A term goes through at most h additions, which `lowering/tensor/depth.py` counts, and so

    |computed - exact| <= h u / (1 - h u) * (sum of the terms' magnitudes)

with u = 2^-24 in f32 and 2^-53 in f64 (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 4.2);
h + 1 for products on a target without fused multiply-add. This holds for every input; where terms cancel, the error
relative to the result has no bound, as with any sum that rounds. Left to right h would be n. On x86-64-v4:

| sum | n | h |
|---|---|---|
"""

STRICT = """
## Strict precision

`stepwell.compile(model, precision="strict")` and `lower --precision strict` keep the arithmetic of the operations as
they are written. The module says `sw.precision = "strict"`, at every landing and in every dump, and a compilation that
goes on from a dump goes on strictly. The results have the same bits on all targets, with any number of threads: those
of plain loops that do the following.

- **Sums** (matrix products, convolutions, pools, `Reduce*`, means, norms, softmax, cumulative sums) start from +0.0 and
  add one term after the other, in row-major order of the reduced dims. Matrix products: k. Convolutions: input channels
  of the group, then the window's rows, then its columns; terms of the padding are added as well. `Reduce*`, norms and
  softmax: the reduced axes in the order of the tensor. Einsum: the summed labels in order of their first appearance.
  Cumulative sums: from the first element; reversed ones from the last. Biases are added after the sum. Maxima have no
  order.
- **Every operation is rounded**: a product before it is added, a quotient as a division. No fused multiply-add, no sums
  across lanes, no partial sums, no multiplication by a reciprocal but of powers of two, which is exact.
- **Elementary functions** are those of the table, without fused multiply-add.
- **The graph stays**: batch norm, scales and biases are not folded into weights, and operations that an exporter took
  apart (GELU, norms, softmax, attention) are computed as they are written. Constants are folded where NumPy gives the
  bits that code would give.
- **Compositions**: mean = sum / n. Softmax: e = exp(x - max), e / sum(e). Layer norm: d = x - mean, then
  d * (1 / sqrt(sum(d * d) / n + epsilon)) * scale + bias. Sigmoid: 1 / (1 + exp(-x)). Powers with the constant
  exponents 1, 2, 3, -1, and 1/4, 1/2, 3/4 of either sign are products, quotients and roots. f16 and bf16 are summed in
  f32.

What it costs: convolutions without blocked channels, sums over rows without vectors, two instructions for one in sums
of products, and n^2 additions for cumulative sums of n. Measured with AVX-512, one thread, as multiples of the default:
a matrix product of 512 1.0 and a 3x3 convolution of 64 channels 1.1 (on a processor that adds and multiplies in
different units), GELU 1.3, softmax of rows of 128 1.9, layer norm of rows of 768 3.8.

The precisions, as `precision=` takes them:

"""


def page() -> str:
    """The text."""
    rows = ["| function | f32 | f64 | how |", "|---|---|---|---|"]
    for name, function in FUNCTIONS.items():
        pairs = " | ".join(_pair(function.bound(width), function.bound(width, False)) for width in (32, 64))
        rows.append(f"| `math.{name}` | {pairs} | {_cell(function.method)} |")
    sums = "".join(f"| {words} | {count} | {chain} |\n" for words, count, chain in _chains())
    choices = "\n".join(f"- `{name}`: {words}" for name, words in PRECISIONS.items())
    return INTRODUCTION + "\n" + "\n".join(rows) + "\n" + MEASURED + SUMS + sums + STRICT + choices + "\n"


def _cell(method: str) -> str:
    return method.replace("**", "^").replace("|", "\\|")


def _pair(fused: float, unfused: float) -> str:
    return f"{fused}" if fused == unfused else f"{fused}, {unfused}"


def _matmul(m: int, k: int, n: int) -> str:
    a, b, c = f"tensor<{m}x{k}xf32>", f"tensor<{k}x{n}xf32>", f"tensor<{m}x{n}xf32>"
    return f"(%a: {a}, %b: {b}) -> {c} {{ %c = graph.matmul %a, %b : ({a}, {b}) -> {c} func.return %c : {c} }}"


def _conv(channels: int, window: int) -> str:
    x, w = f"tensor<1x{channels}x56x56xf32>", f"tensor<64x{channels}x{window}x{window}xf32>"
    y, pads = "tensor<1x64x56x56xf32>", ", ".join([str(window // 2)] * 4)
    return (
        f"(%x: {x}, %w: {w}) -> {y} {{ %y = graph.conv %x, %w {{strides = array<i64: 1, 1>, "
        f"dilations = array<i64: 1, 1>, pads = array<i64: {pads}>, groups = 1}} : ({x}, {w}) -> {y} "
        f"func.return %y : {y} }}"
    )


def _sum(rows: int, columns: int, axis: int) -> str:
    x, y = f"tensor<{rows}x{columns}xf32>", f"tensor<{(rows, columns)[1 - axis]}xf32>"
    return (
        f'(%x: {x}) -> {y} {{ %y = graph.reduce %x {{axes = array<i64: {axis}>, kind = "sum", keepdims = false}} : '
        f"({x}) -> {y} func.return %y : {y} }}"
    )


def _chains() -> list[tuple[str, int, int]]:
    """(what is summed, how many terms, the most additions of a term)"""
    cases = [
        ("matrix product, depth 768", _matmul(128, 768, 768)), ("matrix product, depth 4096", _matmul(128, 4096, 4096)),
        ("convolution 3x3, 64 channels", _conv(64, 3)), ("convolution 1x1, 256 channels", _conv(256, 1)),
        ("rows of 768", _sum(128, 768, 1)), ("rows of 1,000,000", _sum(4, 1_000_000, 1)),
        ("columns of 4096", _sum(4096, 512, 0)),
    ]  # fmt: skip
    return [(words, *_chain(text)) for words, text in cases]


def _chain(function: str) -> tuple[int, int]:
    module = parse_module(f"builtin.module {{ func.func @main{function} }}")
    PassManager(phases("graph", "tensor")).run(module, PassContext(target.named("x86-64-v4")))
    for kernel in module.walk_of(KernelOp):
        for op in kernel.walk_of(GenericOp):
            if op.has_reduction and isinstance(kernel.schedule, ScheduleAttr):
                dims = [d for d, kind in enumerate(op.iterators) if kind == "reduction"]
                sizes = [n for d in dims if isinstance(n := op.sizes.dims[d], int)]
                return math.prod(sizes), additions(sizes, [op.names[d] for d in dims], kernel.schedule)
    raise ValueError("the module has no reduction")
