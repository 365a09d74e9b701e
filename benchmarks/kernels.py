"""Time single operators, side by side as whole models are, and set them against what the machine can do at most.

    python -m benchmarks.kernels                          # all of them, one and two threads
    python -m benchmarks.kernels matmul_1024 lstm_256

Per cent are of a loop that takes turns with the engines and does as many multiply-adds in registers, as many as one of
the threads has. Row-wise kernels are bound by memory or by their polynomials; for them the bytes that must be read and
written at least are given per second instead, and their loop reads so many bytes, again and again the same ones, hence
from the cache or memory that holds them. For an LSTM both are given: its steps have to read the recurrent weights
one after the other, and so does the loop that it is compared with.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks import materialize, options, peak, report
from benchmarks.harness import Comparison, Outcome, measure, ratios
from benchmarks.worker import Array, Case, Engine, Feeds, Rules, Run

OPSET = 21


@attrs.frozen
class Kernel:
    """A model of one operator, with its multiply-adds as two `flops` each (0: not bound by them) and least `bytes`.

    `steps` follow one after the other, each of which reads the same `streamed` bytes of f32 weights, once."""

    model: onnx.ModelProto
    flops: int
    bytes: int
    steps: int = 0
    streamed: int = 0
    plugin: Path | None = None  # what knows the model's operators, where ONNX does not


def _weights(shapes: Mapping[str, tuple[int, ...]]) -> list[onnx.TensorProto]:
    rng = np.random.default_rng(0)
    tensors = []
    for name, shape in shapes.items():
        scale = 1 / np.sqrt(np.prod(shape[1:]) or 1)
        tensors.append(numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), name))
    return tensors


def _kernel(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, ...]],
    output: tuple[int, ...],
    constants: Sequence[onnx.TensorProto] = (),
    flops: int = 0,
) -> Kernel:
    """The kernel `inputs -> y` of f32 arrays that `nodes` compute with `constants`."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, output)
    graph = helper.make_graph(nodes, "kernel", infos, [result], list(constants))
    domains = {node.domain for node in nodes} - {""}
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    moved = sum(int(np.prod(shape)) for shape in [*inputs.values(), output])
    moved += sum(int(np.prod(tensor.dims)) for tensor in constants)
    return Kernel(model, flops, 4 * moved)


def matmul(n: int, *, constant: bool) -> Kernel:
    """`[n, n] @ [n, n]`, the right operand a weight or an input."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs = {"x": (n, n)} if constant else {"x": (n, n), "w": (n, n)}
    return _kernel([node], inputs, (n, n), _weights({"w": (n, n)}) if constant else (), 2 * n**3)


def conv(channels: int, filters: int, extent: int, window: int, groups: int = 1) -> Kernel:
    """A `window` x `window` convolution with bias, stride 1 and padding that keeps `extent` x `extent` pixels."""
    weights = _weights({"w": (filters, channels // groups, window, window), "b": (filters,)})
    pads = [window // 2] * 4
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=pads, group=groups)
    flops = 2 * extent**2 * filters * (channels // groups) * window**2
    return _kernel([node], {"x": (1, channels, extent, extent)}, (1, filters, extent, extent), weights, flops)


def transposed(channels: int, filters: int, extent: int, window: int, groups: int = 1) -> Kernel:
    """A `window` x `window` transposed convolution with bias by 2, of `extent` x `extent` pixels to twice as many."""
    weights = _weights({"w": (channels, filters // groups, window, window), "b": (filters,)})
    pad, more = (window - 1) // 2, window % 2
    node = helper.make_node(
        "ConvTranspose", ["x", "w", "b"], ["y"], strides=[2, 2], pads=[pad] * 4, output_padding=[more] * 2, group=groups
    )
    flops = 2 * extent**2 * channels * (filters // groups) * window**2
    return _kernel([node], {"x": (1, channels, extent, extent)}, (1, filters, 2 * extent, 2 * extent), weights, flops)


def row_wise(op: str, shape: tuple[int, ...], **attributes: Any) -> Kernel:
    """One operator that keeps the shape of its input."""
    return _kernel([helper.make_node(op, ["x"], ["y"], **attributes)], {"x": shape}, shape)


def layer_norm(rows: int, columns: int) -> Kernel:
    """LayerNormalization of the last axis of `[rows, columns]` with scale and bias."""
    node = helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y"], axis=-1)
    weights = _weights({"scale": (columns,), "bias": (columns,)})
    return _kernel([node], {"x": (rows, columns)}, (rows, columns), weights)


def attention(tokens: int, heads: int, depth: int) -> Kernel:
    """Self-attention with its four projections over `[1, tokens, heads * depth]`, as exporters write it."""
    width = heads * depth
    weights = _weights({f"w{name}": (width, width) for name in "qkvo"})
    weights.append(numpy_helper.from_array(np.array([1, tokens, heads, depth]), "split"))
    weights.append(numpy_helper.from_array(np.array([1, tokens, width]), "join"))
    weights.append(numpy_helper.from_array(np.float32(depth**-0.5), "scale"))
    nodes = []
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes.append(helper.make_node("MatMul", ["x", f"w{name}"], [f"{name}_rows"]))
        nodes.append(helper.make_node("Reshape", [f"{name}_rows", "split"], [f"{name}_split"]))
        nodes.append(helper.make_node("Transpose", [f"{name}_split"], [name], perm=order))
    nodes += [
        helper.make_node("MatMul", ["q", "k"], ["scores"]),
        helper.make_node("Mul", ["scores", "scale"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "v"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["mixed_rows"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["mixed_rows", "join"], ["joined"]),
        helper.make_node("MatMul", ["joined", "wo"], ["y"]),
    ]
    flops = 2 * (4 * tokens * width**2 + 2 * tokens**2 * width)
    return _kernel(nodes, {"x": (1, tokens, width)}, (1, tokens, width), weights, flops)


def lstm(steps: int, width: int) -> Kernel:
    """One forward LSTM layer of `width` units over `[steps, 1, width]`; all hidden states come out. Each step reads the
    recurrent weights, since what it multiplies them with is the result of the step before."""
    weights = _weights({"w": (1, 4 * width, width), "r": (1, 4 * width, width), "b": (1, 8 * width)})
    node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=width)
    flops = 2 * steps * 4 * width * 2 * width
    once = _kernel([node], {"x": (steps, 1, width)}, (steps, 1, 1, width), weights, flops)
    recurrent = 4 * 4 * width * width
    return attrs.evolve(once, bytes=once.bytes + (steps - 1) * recurrent, steps=steps, streamed=recurrent)


def cost_volume(channels: int, height: int, width: int, disparities: int) -> Kernel:
    """The correlation of two feature maps `[1, channels, height, width]` at so many displacements along the rows: an
    operator of a plug-in, which other engines do not have."""
    node = helper.make_node("CostVolume", ["x", "z"], ["y"], domain="org.stereo", disparities=disparities)
    shape = (1, channels, height, width)
    flops = 2 * channels * height * width * disparities
    kernel = _kernel([node], {"x": shape, "z": shape}, (1, disparities, height, width), flops=flops)
    return attrs.evolve(kernel, plugin=Path(__file__).parents[1] / "tests" / "plugin" / "cost_volume.py")


KERNELS: dict[str, Callable[[], Kernel]] = {
    "matmul_256": functools.partial(matmul, 256, constant=True),
    "matmul_512": functools.partial(matmul, 512, constant=True),
    "matmul_1024": functools.partial(matmul, 1024, constant=True),
    "matmul_2048": functools.partial(matmul, 2048, constant=True),
    "matmul_512_inputs": functools.partial(matmul, 512, constant=False),
    "matmul_1024_inputs": functools.partial(matmul, 1024, constant=False),
    "matmul_2048_inputs": functools.partial(matmul, 2048, constant=False),
    **{f"conv3x3_{c}_{n}": functools.partial(conv, c, c, n, 3) for c, n in ((64, 56), (128, 28), (256, 14), (512, 7))},
    **{
        f"conv1x1_{c}_{k}_{n}": functools.partial(conv, c, k, n, 1)
        for c, k, n in (
            (64, 256, 56), (256, 64, 56), (128, 512, 28), (512, 128, 28), (256, 1024, 14), (1024, 256, 14),
            (512, 2048, 7), (2048, 512, 7),
        )
    },
    "depthwise_144_56": functools.partial(conv, 144, 144, 56, 3, groups=144),
    "transposed2x2_64_56": functools.partial(transposed, 64, 32, 56, 2),
    "transposed3x3_64_56": functools.partial(transposed, 64, 32, 56, 3),
    "transposed4x4_64_56": functools.partial(transposed, 64, 32, 56, 4),
    "transposed_depthwise_64_56": functools.partial(transposed, 64, 64, 56, 3, groups=64),
    "softmax_1536x128": functools.partial(row_wise, "Softmax", (1536, 128), axis=-1),
    "layernorm_128x768": functools.partial(layer_norm, 128, 768),
    "gelu_128x3072": functools.partial(row_wise, "Gelu", (128, 3072)),
    "attention_128x12x64": functools.partial(attention, 128, 12, 64),
    "cost_volume_64x32x128": functools.partial(cost_volume, 64, 32, 128, 64),
    "cost_volume_128x30x160": functools.partial(cost_volume, 128, 30, 160, 128),
    "lstm_256": functools.partial(lstm, 64, 256),
}


def _build(name: str) -> tuple[Any, Feeds]:
    kernel = KERNELS[name]()
    if kernel.plugin is not None:
        import stepwell

        stepwell.load_plugin(kernel.plugin)
    return kernel.model, materialize.inputs(kernel.model)


def _measured(name: str, engines: Mapping[str, Engine], threads: int, rules: Rules) -> Comparison:
    """All engines on one kernel; of a plug-in's kernel, the first engine alone, which the plug-in is for."""
    case, kernel = Case(name, functools.partial(_build, name)), KERNELS[name]()
    limit = functools.partial(limited, name)
    if kernel.plugin is None:
        return measure(engines, case, threads, rules, limit)
    first, *others = engines
    alone = measure({first: engines[first]}, case, threads, rules, limit)
    return attrs.evolve(alone, outcomes=(*alone.outcomes, *map(Outcome, others)))


def limited(name: str, _model: Any, threads: int) -> Run:
    """An engine that shows what the machine can do: as many multiply-adds in registers as one of so many threads has,
    and the weights of all steps read, whose multiply-adds are hidden behind that; for a kernel without multiply-adds as
    many bytes read as it reads and writes. It has no outputs."""
    kernel = KERNELS[name]()
    if kernel.flops:
        weights = kernel.steps * kernel.streamed
        flops = kernel.flops - weights // 2  # two for each four bytes
        work = peak.Work(flops // threads, kernel.streamed // threads, kernel.steps)
    else:
        work = peak.Work(0, kernel.bytes // threads, 1)

    def run(_feeds: Feeds) -> Sequence[Array]:
        work()
        return ()

    return run


def speed(outcome: Outcome, kernel: Kernel, limit: Outcome | None = None) -> str:
    """GFLOP/s of the outcome's median, GB/s of a kernel in steps or without flops, and how near it comes to the limit,
    round by round."""
    if outcome.latency is None:
        return "-"
    seconds = outcome.latency.median
    rates = [f"{kernel.flops / seconds / 1e9:.0f} GFLOP/s"] if kernel.flops else []
    if kernel.steps or not kernel.flops:
        rates.append(f"{kernel.bytes / seconds / 1e9:.1f} GB/s")
    share = ratios(limit.blocks, outcome.blocks) if limit else None
    return ", ".join(rates) + (f" ({share.median:.0%})" if share else "")


def kernels_table(comparisons: Sequence[Comparison]) -> str:
    """One line per kernel and number of threads: latency and speed of each engine, then ratios to the first one."""
    engines = [outcome.engine for outcome in comparisons[0].outcomes]
    header = ["kernel", "threads"]
    for engine in engines:
        header += [engine, f"{engine} speed"]
    rows = []
    for c in comparisons:
        kernel, row = KERNELS[c.case](), [c.case, str(c.threads)]
        for outcome in c.outcomes:
            row += [report.milliseconds(outcome), speed(outcome, kernel, c.limit)]
        rows.append([*row, *map(report.ratio, c.outcomes[1:])])
    return report.table([*header, *(f"{peer} / {engines[0]}" for peer in engines[1:])], rows)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=f"of {', '.join(KERNELS)} (default: all)")
    options.add(parser)
    args = parser.parse_args(argv)
    engines, rules = options.engines(parser, args), options.rules(args)
    threads = options.threads(parser, args)
    if unknown := [name for name in args.kernels if name not in KERNELS]:
        parser.error(f"no such kernel: {', '.join(unknown)}; there are {', '.join(KERNELS)}")

    machine = peak.measure()
    comparisons = []
    for name in args.kernels or KERNELS:
        for count in threads:
            comparisons.append(_measured(name, engines, count, rules))
            print(kernels_table(comparisons[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    reads = ", ".join(f"{level} {rate:.0f}" for level, rate in machine.read_gbs.items())
    print(f"One core: {machine.gflops:.0f} GFLOP/s f32; reads in GB/s: {reads}.\n")
    print(kernels_table(comparisons))
    if remarks := report.remarks(comparisons):
        print("", *(f"- {remark}" for remark in remarks), sep="\n")
    if args.json:
        context = {"environment": report.environment(engines), "peak": attrs.asdict(machine)}
        report.write_json(args.json, comparisons, context)
    return 1 if report.faults(comparisons) else 0


if __name__ == "__main__":
    sys.exit(main())
