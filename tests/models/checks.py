"""What a model must hold to be accepted. Each check looks at one subject and says what it found."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import onnx

import stepwell
from benchmarks.memory import peak
from stepwell.backends.cpu.team import Team
from stepwell.backends.cpu.waits import count_waits
from stepwell.compiler import Options, context_of, lower, machine_of
from stepwell.dialects.kernel import LaunchOp
from stepwell.errors import StepwellError, TargetError
from stepwell.sources import load_source
from tests.models import double, light
from tests.models.subject import OTHERS, TIMES, Subject, difference, same_bits, size_grid

TARGETS = ("x86-64-v4", "x86-64-v3", "x86-64")
THREADS = (1, 2, 3, 7)
RUNS = 50
ROOM = 1.1  # times what lives at once, for the arena
FARTHER = 2.0  # times onnxruntime's distance to the f64 run
POISONS = (0xFF, 0x00, 0x7F, 0x80)  # NaN, zero, huge and tiny negative floats, in memory that a call must not read


@attrs.frozen
class Finding:
    """What a check found. `status` is pass, fail or skip; `values` go to the table."""

    status: str
    detail: str = ""
    values: dict[str, Any] = attrs.Factory(dict)

    @staticmethod
    def of(problems: list[str], said: str = "", **values: Any) -> Finding:
        """A failure if there are problems."""
        return Finding("fail", "; ".join(problems), values) if problems else Finding("pass", said, values)


def right(subject: Subject) -> Finding:
    """The same as onnxruntime: floats within rtol 1e-3 and atol 1e-4, NaN and Inf in place, integers exactly."""
    found = difference(subject.expected(), subject.results())
    return Finding.of([found] if found else [])


def precise(subject: Subject, target: str = "cpu") -> Finding:
    """No further from a run in 64 bits than twice onnxruntime's own error, with the typical inputs; where those say
    otherwise, with the farthest of several inputs."""
    try:
        subject.exact()
    except StepwellError as error:
        return Finding("skip", f"no form in 64 bits: {str(error).partition(chr(10))[0]}")
    finding = _judged(subject.distances(target))
    if finding.status == "pass":
        return finding
    many = _judged(subject.distances_of_many(target))
    return attrs.evolve(many, detail=f"{many.detail} over {OTHERS + 1} inputs; with the typical ones {finding.detail}")


def _judged(distances: list[double.Distance]) -> Finding:
    far = [f"output {n}: {d}" for n, d in enumerate(distances) if d.ratio > FARTHER]
    worst = max(distances, key=lambda d: d.ratio, default=double.Distance(0, 0, 0))
    return Finding.of(far, str(worst), ratio=worst.ratio)


def targets(subject: Subject) -> Finding:
    """Right and precise on every x86 level, whatever this machine is."""
    problems, said, ratios = [], [], {}
    for target in TARGETS:
        try:
            found = difference(subject.expected(), subject.results(target=target))
        except TargetError as error:
            said.append(f"{target} left out: {error}")
            continue
        except StepwellError as error:
            problems.append(f"{target}: {type(error).__name__}: {error}")
            continue
        problems += [f"{target}: {found}"] if found else []
        finding = precise(subject, target)
        problems += [f"{target}: {finding.detail}"] if finding.status == "fail" else []
        said.append(f"{target} {finding.detail if finding.status == 'skip' else finding.values['ratio']:.3}")
        ratios[target] = finding.values.get("ratio")
        subject.forget(target)
    return Finding.of(problems, ", ".join(said), ratios=ratios)


def threads(subject: Subject) -> Finding:
    """The same bits from teams of 1, 2, 3 and 7 threads."""
    usual = Team.get().size
    problems = []
    try:
        results = {}
        for count in THREADS:
            Team.get(threads=count)
            results[count] = subject.results()
            if found := same_bits(results[THREADS[0]], results[count]):
                problems.append(f"{count} threads: {found}")
    finally:
        Team.get(threads=usual)
    return Finding.of(problems)


def runs(subject: Subject) -> Finding:
    """The same bits in 50 runs, whatever lay in the arena before."""
    first = subject.results()
    for number in range(RUNS):
        _poison(subject.compiled(), POISONS[number % len(POISONS)])
        if found := same_bits(first, subject.results()):
            return Finding.of([f"run {number + 2}: {found}"])
    return Finding.of([])


def _poison(model: stepwell.Model, byte: int) -> None:
    for arena, scratch in model._program._memory:
        arena.fill(byte)
        scratch.fill(byte)


def sizes(subject: Subject) -> Finding:
    """One compilation right at all sizes of its symbols, and with the same bits from one thread and from seven."""
    if not subject.usual_sizes:
        return Finding("skip", "all sizes are fixed")
    usual = Team.get().size
    problems, said = [], []
    for case in size_grid(subject.usual_sizes):
        text = " ".join(f"{name}={size}" for name, size in case.items())
        feeds = subject.feeds(case)
        try:
            expected = subject.expected(feeds)
        except Exception as error:  # onnxruntime's errors share no class
            said.append(f"{text} left out, onnxruntime says: {str(error).splitlines()[0][:120]}")
            continue
        try:
            found = difference(expected, actual := subject.results(feeds))
            Team.get(threads=THREADS[-1])
            found = found or same_bits(actual, subject.results(feeds))
        except MemoryError:
            said.append(f"{text} left out: memory")
            continue
        except StepwellError as error:
            found = f"{type(error).__name__}: {error}"
        finally:
            Team.get(threads=usual)
        said.append(text)
        problems += [f"{text}: {found}"] if found else []
    return Finding.of(problems, ", ".join(said), count=len(said))


def expected(subject: Subject) -> Finding:
    """The model of the onnx package by this name gives that package's outputs, within its own tolerance."""
    case = light.case_of(subject.path.stem)
    if case is None:
        return Finding("skip", "not a model of the onnx package")
    found = case.difference(stepwell.compile(case.path))
    return Finding.of([found] if found else [], f"rtol {case.rtol}, atol {case.atol}")


def cost(subject: Subject) -> Finding:
    """What a compilation takes and gives; to be measured in a process that does nothing else."""
    start = time.perf_counter()
    model = subject.compiled()
    seconds = time.perf_counter() - start
    compiling = peak()
    subject.results()
    running = peak()
    lowered = model._way.lowered
    assert lowered is not None
    launches = list(lowered.walk_of(LaunchOp))
    barriers = count_waits(lowered).run.barriers
    return Finding.of(
        [], f"{seconds:.1f} s", seconds=seconds, rss_compiling=compiling, rss=running, launches=len(launches),
        kernels=len({op.callee for op in launches}), barriers=barriers, model_bytes=subject.path.stat().st_size,
    )  # fmt: skip


def memory(subject: Subject) -> Finding:
    """The arena is at most a tenth larger than what lives at once, at the least, the usual and the largest sizes,
    whether these are told or not."""
    problems, ratios = [], [1.0]
    told = {name: (1, size, TIMES * size) for name, size in subject.usual_sizes.items()}
    for hints in [{}, told] if told else [{}]:
        planned = _arenas(subject, hints)
        for words, (arena, bound) in planned.items():
            ratios.append(arena / max(1, bound))
            if arena > ROOM * bound:
                sizes = f"{'told' if hints else 'default'} sizes{words}"
                problems.append(f"{sizes}: {arena} bytes are {ratios[-1]:.2f} times the {bound} that live at once")
    arena, bound = planned[""]
    return Finding.of(problems, f"{max(ratios):.3f} times", arena=arena, bound=bound, ratio=max(ratios))


def _arenas(subject: Subject, hints: dict[str, tuple[int, int, int]]) -> dict[str, tuple[int, int]]:
    """(bytes of the arena, the most that live at once) at the usual, the least and the largest sizes."""
    module, known = load_source(subject.path, hints)
    options = Options(hints=known)
    context = context_of(options, machine_of(options))
    lower(module, "loop", context)
    counted = context.statistics
    return {
        words: (counted.get(f"arena bytes{words}", 0), counted.get(f"arena lower bound bytes{words}", 0))
        for words in ("", " at least sizes", " at largest sizes")
    }


def commands(subject: Subject) -> Finding:
    """`lower` can report, run, time, profile and probe it."""
    inputs = ["--inputs", str(subject.path.with_suffix(".npz"))]
    name = _intermediate(subject.proto)
    problems = []
    for options in (["--report", "--run", "--bench", "--profile"], ["--probe", name]):
        line = [sys.executable, "-m", "stepwell.cli", *options, *inputs, str(subject.path)]
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=dict(os.environ))
        if done.returncode or not done.stdout:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            problems.append(f"lower {' '.join(options)} exits with {done.returncode}: {said}")
    return Finding.of(problems, f"probed {name}")


def intermediates(subject: Subject) -> Finding:
    """Every value inside, fetched at once by its ONNX name, is what onnxruntime has there, to 1e-3 of its scale."""
    names = [
        name for node in subject.proto.graph.node if node.op_type != "Constant"
        for name in (node.output[:1] if node.op_type == "Dropout" else node.output)  # an unused mask is not made
        if name and name not in {value.name for value in subject.proto.graph.output}
    ]  # fmt: skip
    found = stepwell.compile(subject.path).run(subject.typical, fetch=names)
    problems = []
    for name, expected in subject.inside(names).items():
        scale = float(np.max(np.abs(expected), initial=1.0)) if expected.dtype.kind == "f" else 1.0
        if said := difference([expected / scale], [found[name] / scale]):
            problems.append(f"{name}: {said}")
    return Finding.of(problems, f"{len(names)} values", values=len(names))


def _intermediate(model: onnx.ModelProto) -> str:
    """The name of a value halfway through the graph that no later node of the same kind hides."""
    outputs = {value.name for value in model.graph.output}
    names = [n.output[0] for n in model.graph.node if n.op_type in ("Add", "Conv", "Gemm", "MatMul", "LSTM")]
    inner = [name for name in names if name not in outputs] or names
    return inner[len(inner) // 2]


CHECKS: dict[str, Callable[[Subject], Finding]] = {
    check.__name__: check
    for check in (right, precise, threads, runs, sizes, targets, expected, cost, memory, commands, intermediates)
}  # fmt: skip
