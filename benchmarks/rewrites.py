"""Rewrites that might pay, each as a pair of models that compute the same, timed in turns on one thread.

    python -m benchmarks.rewrites [WORDS]        # those whose names contain the words

Those of graphs are two graphs; for passes, one graph is compiled without and with a pass.

Attention and MLPs have their second form where the compiler chooses it, the others in any case. The ratio is the time
of the first form through that of the second: above 1 the rewrite pays. Time is the process's CPU time, so that other
work on the machine disturbs it little."""

from __future__ import annotations

import functools
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.compare import difference

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
ROUNDS, SECONDS = 12, 0.08  # of each form
PIXELS = 28


def normal(*shape: int) -> Array:
    """Random f32 numbers."""
    return RANDOM.standard_normal(shape).astype(np.float32)


def model(nodes: Sequence[Any], x: Sequence[int], outputs: Mapping[str, Sequence[int]], **weights: Array) -> Any:
    """An ONNX model with one input `x`."""
    from onnx import TensorProto, helper, numpy_helper

    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    constants = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(list(nodes), "pair", infos, results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def sibling_products(rows: int, depth: int, sizes: Sequence[int]) -> tuple[Any, Any, Array]:
    """Products of one x with several weights, split into heads; and one wide product whose columns are split."""
    from onnx.helper import make_node

    weights = [normal(depth, size) / 30 for size in sizes]
    shapes = {f"s{n}": np.array([1, rows, size // 64, 64]) for n, size in enumerate(sizes)}
    outputs = {f"o{n}": [1, size // 64, rows, 64] for n, size in enumerate(sizes)}
    heads = [
        node
        for n in range(len(sizes))
        for node in (
            make_node("Reshape", [f"y{n}", f"s{n}"], [f"r{n}"]),
            make_node("Transpose", [f"r{n}"], [f"o{n}"], perm=[0, 2, 1, 3]),
        )
    ]
    products = [make_node("MatMul", ["x", f"w{n}"], [f"y{n}"]) for n in range(len(sizes))]
    split = make_node("Split", ["y", "sizes"], [f"y{n}" for n in range(len(sizes))], axis=2)
    named = {f"w{n}": w for n, w in enumerate(weights)}
    apart = model([*products, *heads], [1, rows, depth], outputs, **named, **shapes)
    wide = model(
        [make_node("MatMul", ["x", "w"], ["y"]), split, *heads], [1, rows, depth], outputs,
        w=np.concatenate(weights, axis=1), sizes=np.array(sizes), **shapes,
    )  # fmt: skip
    return apart, wide, normal(1, rows, depth)


def sibling_convolutions(channels: int, sizes: Sequence[int]) -> tuple[Any, Any, Array]:
    """1x1 convolutions with ReLU of one x; and one of them all, whose channels are split."""
    from onnx.helper import make_node

    weights = [normal(size, channels, 1, 1) / 20 for size in sizes]
    outputs = {f"o{n}": [1, size, PIXELS, PIXELS] for n, size in enumerate(sizes)}
    nodes = [
        node
        for n in range(len(sizes))
        for node in (make_node("Conv", ["x", f"w{n}"], [f"c{n}"]), make_node("Relu", [f"c{n}"], [f"o{n}"]))
    ]
    merged = [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node("Relu", ["c"], ["r"]),
        make_node("Split", ["r", "sizes"], list(outputs), axis=1),
    ]
    shape = [1, channels, PIXELS, PIXELS]
    apart = model(nodes, shape, outputs, **{f"w{n}": w for n, w in enumerate(weights)})
    wide = model(merged, shape, outputs, w=np.concatenate(weights), sizes=np.array(sizes))
    return apart, wide, normal(*shape)


def space_to_depth(kernel: int, pad: int) -> tuple[Any, Any, Array]:
    """A convolution of a 224x224 image by steps of 2; and one by steps of 1 over blocks of 2x2 pixels."""
    from onnx.helper import make_node

    weights, size = normal(64, 3, kernel, kernel) / 10, (224 + 2 * pad - kernel) // 2 + 1
    shift = pad % 2  # the padding in front becomes a whole number of blocks
    edge = kernel + shift + (kernel + shift) % 2
    wide = np.zeros((64, 3, edge, edge), np.float32)
    wide[:, :, shift : shift + kernel, shift : shift + kernel] = weights
    blocks = wide.reshape(64, 3, edge // 2, 2, edge // 2, 2).transpose(0, 3, 5, 1, 2, 4)
    before = (pad + shift) // 2
    behind = max(size - 1 - (112 + before - edge // 2), 0)
    outputs = {"y": [1, 64, size, size]}
    plain = model([make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[pad] * 4)], [1, 3, 224, 224], outputs,
                  w=weights)  # fmt: skip
    nodes = [
        make_node("SpaceToDepth", ["x"], ["d"], blocksize=2),
        make_node("Conv", ["d", "w"], ["y"], pads=[before, before, behind, behind]),
    ]
    blocked = model(nodes, [1, 3, 224, 224], outputs, w=blocks.reshape(64, 12, edge // 2, edge // 2))
    return plain, blocked, normal(1, 3, 224, 224)


def convolution(channels: int, outputs: int, size: int) -> tuple[Any, Any, Array]:
    """A 3x3 convolution between a 1x1 convolution and a pool, without and with fewer products."""
    from onnx.helper import make_node

    weights = {"v": normal(channels, 16, 1, 1) / 4, "w": normal(outputs, channels, 3, 3) / math.sqrt(9 * channels)}
    nodes = [
        make_node("Conv", ["x", "v"], ["a"]),
        make_node("Relu", ["a"], ["b"]),
        make_node("Conv", ["b", "w"], ["c"], pads=[1] * 4),
        make_node("Relu", ["c"], ["d"]),
        make_node("MaxPool", ["d"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    shape = [1, 16, size, size]
    graph = model(nodes, shape, {"y": [1, outputs, (size - 1) // 2, (size - 1) // 2]}, **weights)
    return with_products(graph, fewer=False), with_products(graph, fewer=True), normal(*shape)


def inverted_bottleneck(
    batch: int, channels: int, middle: int, outputs: int, size: int, stride: int
) -> tuple[Any, Any, Array]:
    """A 1x1, a depthwise 3x3 and a 1x1 convolution, without and with the first in the rows of the second."""
    from onnx.helper import make_node

    weights: dict[str, Any] = {
        "a": normal(middle, channels, 1, 1) / math.sqrt(channels), "b": normal(middle, 1, 3, 3) / 3,
        "c": normal(outputs, middle, 1, 1) / math.sqrt(middle), "low": np.float32(0), "high": np.float32(6),
    }  # fmt: skip
    nodes = [
        make_node("Conv", ["x", "a"], ["d"]),
        make_node("Clip", ["d", "low", "high"], ["e"]),
        make_node("Conv", ["e", "b"], ["f"], pads=[1] * 4, strides=[stride] * 2, group=middle),
        make_node("Clip", ["f", "low", "high"], ["g"]),
        make_node("Conv", ["g", "c"], ["y"]),
    ]
    shape, result = [batch, channels, size, size], -(-size // stride)
    graph = model(nodes, shape, {"y": [batch, outputs, result, result]}, **weights)
    return with_windows(graph, joined=False), with_windows(graph, joined=True), normal(*shape)


def pooled(channels: int, outputs: int, size: int, kernel: int) -> tuple[Any, Any, Array]:
    """A convolution by steps of 2 and a 3x3 maximum by steps of 2, without and with the first in the second's rows."""
    from onnx.helper import make_node

    weights = {"w": normal(outputs, channels, kernel, kernel) / kernel / math.sqrt(channels)}
    nodes = [
        make_node("Conv", ["x", "w"], ["c"], pads=[kernel // 2] * 4, strides=[2, 2]),
        make_node("Relu", ["c"], ["d"]),
        make_node("MaxPool", ["d"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    ]
    shape = [1, channels, size, size]
    graph = model(nodes, shape, {"y": [1, outputs, size // 4, size // 4]}, **weights)
    return with_windows(graph, joined=False), with_windows(graph, joined=True), normal(*shape)


def with_products(graph: Any, *, fewer: bool) -> Any:
    """A model at the end of the tensor landing."""
    from stepwell.lowering.tensor.winograd import Winograd

    return lowered(graph, Winograd(enabled=fewer, always=True))


def with_windows(graph: Any, *, joined: bool) -> Any:
    """A model at the end of the tensor landing, with what is read through windows in the rows of its readers, or in
    kernels of its own."""
    from stepwell.lowering.tensor.fuse import Fuse
    from stepwell.lowering.tensor.rows import ALWAYS, NEVER

    return lowered(graph, Fuse(windows=ALWAYS if joined else NEVER))


def lowered(graph: Any, *forced: Any, until: str | None = None) -> Any:
    """A model at the end of the tensor landing, or before the pass of that name, with passes in place of those of
    their classes."""
    from stepwell.backends.cpu.target import host
    from stepwell.ir.passes import PassContext, PassManager
    from stepwell.lowering import pipeline
    from stepwell.sources import load_source

    module, _ = load_source(graph)
    passes = [each for phase in pipeline.phases("graph", "tensor") for each in phase.flat()]
    stop = len(passes) if until is None else [each.name for each in passes].index(until)
    instead = {type(each): each for each in forced}
    PassManager([instead.get(type(each), each) for each in passes[:stop]]).run(module, PassContext(host()))
    return module


HEADS, DEPTH = 4, 64


def attention(queries: int, keys: int) -> tuple[Any, Array]:
    """Attention of HEADS heads over keys and values that are weights."""
    from onnx.helper import make_node

    nodes = [
        make_node("MatMul", ["x", "k"], ["s"]),
        make_node("Softmax", ["s"], ["p"], axis=-1),
        make_node("MatMul", ["p", "v"], ["y"]),
    ]
    shape = [1, HEADS, queries, DEPTH]
    weights = {"k": normal(1, HEADS, DEPTH, keys) / 8, "v": normal(1, HEADS, keys, DEPTH)}
    return model(nodes, shape, {"y": shape}, **weights), normal(*shape)


def attention_joined(queries: int, keys: int) -> tuple[Any, Any, Array]:
    """As kernels one after the other, whose scores go through memory; and as one kernel."""
    graph, x = attention(queries, keys)
    return with_rows(graph, joined=False), with_rows(graph, joined=True), x


def attention_in_parts(queries: int, keys: int) -> tuple[Any, Any, Array]:
    """One kernel that keeps whole rows of scores; and one that keeps those of 512 keys."""
    graph, x = attention(queries, keys)
    return with_parts(graph, None), with_parts(graph, 512), x


def layers_joined(rows: int, widths: Sequence[int]) -> tuple[Any, Any, Array]:
    """The layers of an MLP, products with a bias and ReLU behind, as kernels one after the other; and as one kernel, a
    block of rows of which goes through all of them."""
    from onnx.helper import make_node

    weights: dict[str, Array] = {}
    nodes = []
    for n, (depth, width) in enumerate(itertools.pairwise(widths)):
        weights |= {f"w{n}": normal(depth, width) / math.sqrt(depth), f"b{n}": normal(width)}
        given, made = f"r{n - 1}" if n else "x", f"r{n}" if n < len(widths) - 2 else "y"
        nodes += [make_node("Gemm", [given, f"w{n}", f"b{n}"], [f"g{n}"]), make_node("Relu", [f"g{n}"], [made])]
    graph = model(nodes, [rows, widths[0]], {"y": [rows, widths[-1]]}, **weights)
    return with_rows(graph, joined=False), with_rows(graph, joined=True), normal(rows, widths[0])


def with_rows(graph: Any, *, joined: bool) -> Any:
    """A model at the end of the tensor landing, with kernels of the same rows made one where that pays, or none."""
    from stepwell.lowering.tensor.fuse import Fuse

    return lowered(graph, Fuse(rows=joined))


def with_parts(graph: Any, steps: int | None) -> Any:
    """A model whose softmax is computed in parts of so many keys, or of whole rows."""
    from stepwell.backends.cpu.target import host
    from stepwell.dialects.tensor import KernelOp
    from stepwell.lowering.tensor.common_rows import Rows
    from stepwell.lowering.tensor.machine import Machine
    from stepwell.lowering.tensor.row_schedule import Parts, row_schedule
    from stepwell.lowering.tensor.running import running
    from stepwell.lowering.tensor.stages import stages_of

    module = lowered(graph, until="schedule")
    machine = Machine.of(host())
    for kernel in module.walk_of(KernelOp):
        rows = Rows.of(stages_of(kernel))
        found = running(rows) if rows is not None else None
        if rows is not None and found is not None:
            parts = None if steps is None else Parts(found, steps)
            kernel.schedule = row_schedule(rows, machine, parts=parts)
    return module


SHAPES = (
    (64, 64, 56), (128, 128, 28), (256, 256, 14), (512, 512, 7), (32, 32, 256), (64, 32, 256), (64, 64, 128),
    (128, 64, 128), (64, 64, 224), (128, 128, 112), (256, 256, 56), (512, 512, 28), (512, 512, 14), (128, 32, 56),
    (128, 32, 28), (128, 32, 14), (128, 32, 7), (64, 192, 56), (16, 64, 55), (3, 64, 128),
)  # fmt: skip

BOTTLENECKS = (
    (1, 16, 96, 24, 112, 2), (1, 24, 144, 24, 56, 1), (1, 24, 144, 32, 56, 2), (1, 32, 192, 32, 28, 1),
    (1, 32, 192, 64, 28, 2), (1, 64, 384, 64, 14, 1), (1, 96, 576, 96, 14, 1), (1, 96, 576, 160, 14, 2),
    (16, 16, 96, 24, 112, 2), (16, 24, 144, 24, 56, 1), (32, 32, 192, 32, 28, 1), (1, 16, 96, 24, 448, 2),
)  # fmt: skip
WIDTHS = (
    (64, 64, 64), (256, 256, 256), (784, 256, 128, 10), (768, 3072, 768), (1024, 1024, 1024), (3072, 3072, 3072)
)  # fmt: skip
BATCHES = (1, 16, 64, 256, 1024)
POOLED = ((3, 64, 224, 7), (3, 64, 224, 3), (3, 32, 448, 3))

CASES: Mapping[str, Callable[[], tuple[Any, Any, Array]]] = {
    "QKV products merged, 128 rows, 768 -> 3 x 768": lambda: sibling_products(128, 768, (768, 768, 768)),
    "QKV products merged, 1 row, 768 -> 3 x 768": lambda: sibling_products(1, 768, (768, 768, 768)),
    "QKV products merged, 128 rows, 512 -> 512 + 2 x 256": lambda: sibling_products(128, 512, (512, 256, 256)),
    "1x1 convolutions merged, 192 -> 64 + 96 + 16": lambda: sibling_convolutions(192, (64, 96, 16)),
    "7x7 by 2 -> 4x4 on blocks": lambda: space_to_depth(7, 3),
    "3x3 by 2 -> 2x2 on blocks": lambda: space_to_depth(3, 0),
    **{
        f"attention joined, {s} queries, {t} keys": functools.partial(attention_joined, s, t)
        for s, t in ((64, 64), (128, 128), (256, 256), (512, 512), (1024, 1024), (1024, 4096), (256, 16384))
    },
    **{
        f"attention in parts, {s} queries, {t} keys": functools.partial(attention_in_parts, s, t)
        for s, t in ((1024, 1024), (1024, 4096), (256, 16384))
    },
    **{
        f"MLP joined, {' -> '.join(map(str, widths))}, {rows} rows": functools.partial(layers_joined, rows, widths)
        for widths in WIDTHS for rows in BATCHES
    },
    **{
        f"fewer products, 3x3, {c} -> {k} channels, {n} x {n}": functools.partial(convolution, c, k, n)
        for c, k, n in SHAPES
    },
    **{
        f"inverted bottleneck, {c} -> {m} -> {k}, {n} x {n} by {s}, batch {b}":
        functools.partial(inverted_bottleneck, b, c, m, k, n, s) for b, c, m, k, n, s in BOTTLENECKS
    },
    **{
        f"{f} x {f} convolution in the rows of a pool, {c} -> {k}, {n} x {n}": functools.partial(pooled, c, k, n, f)
        for c, k, n, f in POOLED
    },
}


def _per_call(call: Callable[[], object]) -> float:
    """CPU seconds of one call, over SECONDS of them."""
    call()
    start, calls = time.process_time(), 0
    while time.process_time() - start < SECONDS:
        call()
        calls += 1
    return (time.process_time() - start) / calls


def measure(first: Any, second: Any, x: Array) -> tuple[float, float]:
    """The median CPU times of two models, in turns. Raises ValueError where they do not agree."""
    import stepwell

    compiled = [stepwell.compile(source, threads=1) for source in (first, second)]
    made = [out if isinstance(out, tuple) else (out,) for out in (each(x) for each in compiled)]
    if (found := difference(made[0], made[1], rtol=1e-3, atol=1e-3)) is not None:
        raise ValueError(f"the two forms do not compute the same: {found}")
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for each, taken in zip(compiled, times, strict=True):
            taken.append(_per_call(lambda each=each: each(x)))  # type: ignore[misc]
    return float(np.median(times[0])), float(np.median(times[1]))


def table(words: str = "") -> Iterator[str]:
    """A line for each rewrite."""
    for name, build in CASES.items():
        if words not in name:
            continue
        pair = build()
        if str(pair[0]) == str(pair[1]):
            yield f"{name:<56} not chosen: the same program"
            continue
        first, second = measure(*pair)
        yield f"{name:<56} {first * 1e6:9.1f} us {second * 1e6:9.1f} us  {first / second:5.2f}"


if __name__ == "__main__":
    for line in table(" ".join(sys.argv[1:])):
        sys.stdout.write(line + "\n")
