"""Measures what a team of threads reaches on this machine: arithmetic, reading from each level, starting a kernel.

    measured(threads=2).flops

The measuring kernels are IR like any other, and go the way of any other: the arithmetic keeps so many independent
chains of multiply-adds in registers that neither latency nor memory limits it; reading folds a part of a buffer into
registers, again and again, each thread a part of its own that fits half of its share of a cache, or one that is far
larger than the last cache. The best of many rounds counts: a roof is what can be reached, and whatever else the
machine does only makes it look lower.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.ir.parser import parse_module

from . import machine
from .entry import aligned_bytes
from .limits import CACHES, LEVELS, MEMORY, Roofs
from .model import build
from .target import CpuTarget, host
from .team import Team

Array = np.ndarray[Any, Any]

LEAST_ROUNDS, MOST_SECONDS = 5, 0.15
GRAINS = 16
"""For each thread: so many that threads which sleep are woken at once."""
FMA_STEPS = 3_000
"""Multiply-adds of each chain in one grain: some 10 us."""
READ_BYTES = 1 << 20
"""What a grain reads from a cache, or more where that is less than its thread's part."""
MEMORY_BYTES = (64 << 20, 512 << 20)
"""The least and the most that is read in one round from memory; four times the last cache if that lies between."""


@attrs.frozen
class Probe:
    """The sizes of a measurement: f32 lanes, chains of multiply-adds, vectors that a read folds into, and for each
    level the elements (4 bytes) that each grain reads, how often, and how many grains read the same ones."""

    threads: int
    lanes: int
    chains: int
    has_fma: bool
    folds: int
    reads: tuple[tuple[int, int, int], ...]

    @staticmethod
    def of(target: CpuTarget, threads: int) -> Probe:
        """For a team of so many threads on a target."""
        folds = target.vector_registers // 2
        lanes = target.lanes(32)
        step = lanes * folds
        in_l3 = min(target.l3_bytes // 2, 8 * target.l2_bytes * threads) // threads
        in_memory = memory_bytes(target.l3_bytes, machine.available_bytes()) // (GRAINS * threads)
        reads = []
        for size in (target.l1d_bytes // 2, target.l2_bytes // 2, in_l3, in_memory):
            elements = max(1, size // 4 // step) * step
            reads.append((elements, max(1, READ_BYTES // (4 * elements)), GRAINS))
        reads[-1] = (reads[-1][0], 1, 1)
        return Probe(threads, lanes, target.vector_registers * 3 // 4, target.has_fma, folds, tuple(reads))

    @property
    def elements(self) -> int:
        """Elements of the buffer that all threads read."""
        return self.grains * max(size // repeats for size, _, repeats in self.reads)

    @property
    def grains(self) -> int:
        """Grains of each launch, but of the empty one."""
        return self.threads * GRAINS

    @property
    def flops(self) -> int:
        """Operations of the arithmetic of all threads."""
        return 2 * self.grains * self.chains * self.lanes * FMA_STEPS

    def bytes(self, level: str) -> int:
        """What all threads read from a level."""
        size, passes, _ = self.reads[LEVELS.index(level)]
        return 4 * self.grains * size * passes


def memory_bytes(last_cache: int, available: int | None) -> int:
    """How much is read to measure memory: at most an eighth of what there is."""
    least, most = MEMORY_BYTES
    wanted = min(max(least, 4 * last_cache), most)
    return wanted if available is None else max(1 << 20, min(wanted, available // 8))


def measured(threads: int | None = None) -> Roofs:
    """The roofs of a team of so many threads (None: as many as the process's team has), measured once per process in
    some tenths of a second. Raises TargetError where this machine has no backend."""
    return _measured(threads or Team.get().size)


@functools.cache
def _measured(threads: int) -> Roofs:
    alone = _timed(1)
    return alone if threads == 1 else together(_timed(threads), alone, min(threads, machine.usable_cores()))


def together(team: Roofs, alone: Roofs, cores: int) -> Roofs:
    """A team's roofs where the arithmetic and the caches that each core has for itself are at least what so many cores
    alone reach: other programs slow a team down that waits for its slowest thread."""
    own = {level: max(team.bandwidth[level], cores * alone.bandwidth[level]) for level in CACHES[:2]}
    flops = max(team.flops, cores * alone.flops)
    return attrs.evolve(team, flops=flops, bandwidth={**team.bandwidth, **own}, alone=alone)


def _timed(threads: int) -> Roofs:
    target = host()
    probe = Probe.of(target, threads)
    program = build(parse_module(probe_module(probe)), target, threads=threads, profile=True, cached=True)
    data = aligned_bytes(4 * probe.elements)[: 4 * probe.elements].view(np.int32)
    data.fill(1)
    operands = np.full(2 * probe.lanes, 0.5, np.float32)
    rounds: list[Array] = []
    end = time.perf_counter() + MOST_SECONDS
    while len(rounds) < LEAST_ROUNDS or time.perf_counter() < end:
        rounds.append(program.run([data, operands])[-1][:, 0])
    return roofs_of(probe, target, np.array(rounds) * 1e-9)


def roofs_of(probe: Probe, target: CpuTarget, seconds: Array) -> Roofs:
    """`seconds` has the axes round, launch; the launches are those of `probe_module`. Starting a kernel takes what it
    usually does, all else what it took at best."""
    best = np.maximum(seconds.min(axis=0), 1e-9)
    launches = dict(zip(launch_names(), best, strict=True))
    bandwidth = {level: probe.bytes(level) / float(launches[level]) for level in LEVELS}
    for nearer, level in itertools.pairwise(LEVELS):
        bandwidth[level] = min(bandwidth[level], bandwidth[nearer])
    capacity = {"L1": target.l1d_bytes * probe.threads, "L2": target.l2_bytes * probe.threads, "L3": target.l3_bytes}
    start = float(np.median(seconds[:, launch_names().index("nothing")]))
    return Roofs(probe.threads, probe.flops / float(launches["fma"]), bandwidth, capacity, start)


def launch_names() -> list[str]:
    """What each launch of `probe_module` measures; the first read of a cache brings the data there."""
    return ["nothing", "fma", *(name for level in CACHES for name in (f"warm {level}", level)), MEMORY]


# The IR


def probe_module(probe: Probe) -> str:
    """A module at the end of the loop landing that launches what is measured."""
    launches = ["kernel.launch @nothing(%y) : (!Y) -> ()", "kernel.launch @fma(%a, %y) : (!A, !Y) -> ()"]
    constants = {0, 1}
    for level, (size, passes, repeats) in zip(LEVELS, probe.reads, strict=True):
        constants |= {size, passes, repeats}
        for times in (1, passes) if level in CACHES else (passes,):
            given = f"%x, %y, %c{size}, %c{times}, %c{repeats}"
            launches.append(f"kernel.launch @read({given}) : (!X, !Y, index, index, index) -> ()")
    main = f"""
  func.func @main(%x: !X, %a: !A, %y: !Y {{sw.out}}) {{
    {_lines(_constants(constants))}
    {_lines(launches)}
    func.return
  }}"""
    types = {"X": f"memref<{probe.elements}xi32>", "A": f"memref<{2 * probe.lanes}xf32>",
             "Y": f"memref<{probe.grains * _sink(probe)}xi32>", "F": f"vector<{probe.lanes}xf32>",
             "I": f"vector<{probe.lanes}xi32>"}  # fmt: skip
    aliases = _lines([f"!{name} = {type_}" for name, type_ in types.items()])
    return f"{aliases}\nbuiltin.module {{{_nothing(probe)}{_fma(probe)}{_read(probe)}{main}\n}}\n"


def _sink(probe: Probe) -> int:
    """Elements of the output that a grain writes, so that what was computed counts as used."""
    return probe.lanes * max(probe.chains, probe.folds)


def _nothing(probe: Probe) -> str:
    return f"""
  func.func private @nothing(%y: !Y) attributes {{kernel}} {{
    {_lines(_constants({0, 1, probe.threads, _sink(probe)}))}
    %one = arith.constant 1 : i32
    loop.parallel %t = %c0 to %c{probe.threads} step %c1 {{
      %at = arith.muli %t, %c{_sink(probe)} : index
      buffer.store %one, %y[%at] : !Y
      loop.yield
    }}
    func.return
  }}"""


def _fma(probe: Probe) -> str:
    """Chains `x = x * a + b`, which stay near 1."""
    names = [f"%f{n}" for n in range(probe.chains)]
    steps = []
    for n in range(probe.chains):
        if probe.has_fma:
            steps.append(f"%g{n} = vector.fma %i{n}, %a0, %b0 : !F")
        else:
            steps += [f"%p{n} = arith.mulf %i{n}, %a0 : !F", f"%g{n} = arith.addf %p{n}, %b0 : !F"]
    stores = [line for n in range(probe.chains) for line in (
        f"%s{n} = arith.bitcast %f{n} : !F to !I",
        f"%o{n} = arith.addi %at, %c{n * probe.lanes} : index",
        f"vector.store %s{n}, %y[%o{n}] : !Y, !I",
    )]  # fmt: skip
    constants = {0, 1, probe.grains, _sink(probe), FMA_STEPS, *(n * probe.lanes for n in range(probe.chains))}
    return f"""
  func.func private @fma(%a: !A, %y: !Y) attributes {{kernel}} {{
    {_lines(_constants(constants))}
    loop.parallel %t = %c0 to %c{probe.grains} step %c1 {{
      %a0 = vector.load %a[%c0] : !A, !F
      %b0 = vector.load %a[%c{probe.lanes}] : !A, !F
      {", ".join(names)} = loop.for %k = %c0 to %c{FMA_STEPS} step %c1 iter({_carried("i", ["%a0"] * probe.chains)})
        -> ({", ".join(["!F"] * probe.chains)}) {{
        {_lines(steps)}
        loop.yield {", ".join(f"%g{n}" for n in range(probe.chains))} : {", ".join(["!F"] * probe.chains)}
      }}
      %at = arith.muli %t, %c{_sink(probe)} : index
      {_lines(stores)}
      loop.yield
    }}
    func.return
  }}"""


def _read(probe: Probe) -> str:
    """Fold a part of %x, %passes times; %repeats grains after each other read the same part."""
    count = range(probe.folds)
    steps = [line for n in count for line in (
        f"%q{n} = arith.addi %i, %c{n * probe.lanes} : index",
        f"%v{n} = vector.load %x[%q{n}] : !X, !I",
        f"%g{n} = arith.xori %n{n}, %v{n} : !I",
    )]  # fmt: skip
    stores = [line for n in count for line in (
        f"%o{n} = arith.addi %at, %c{n * probe.lanes} : index",
        f"vector.store %f{n}, %y[%o{n}] : !Y, !I",
    )]  # fmt: skip
    types, step = ", ".join(["!I"] * probe.folds), probe.folds * probe.lanes
    constants = {0, 1, step, probe.grains, _sink(probe), *(n * probe.lanes for n in count)}
    return f"""
  func.func private @read(%x: !X, %y: !Y, %size: index, %passes: index, %repeats: index) attributes {{kernel}} {{
    {_lines(_constants(constants))}
    %zero = arith.constant dense<0> : !I
    loop.parallel %t = %c0 to %c{probe.grains} step %c1 {{
      %part = arith.divui %t, %repeats : index
      %low = arith.muli %part, %size : index
      %high = arith.addi %low, %size : index
      {_names("f", count)} = loop.for %p = %c0 to %passes step %c1 iter({_carried("m", ["%zero"] * probe.folds)})
        -> ({types}) {{
        {_names("h", count)} = loop.for %i = %low to %high step %c{step} iter({_carried("n", _list("m", count))})
          -> ({types}) {{
          {_lines(steps)}
          loop.yield {_names("g", count)} : {types}
        }}
        loop.yield {_names("h", count)} : {types}
      }}
      %at = arith.muli %t, %c{_sink(probe)} : index
      {_lines(stores)}
      loop.yield
    }}
    func.return
  }}"""


def _constants(values: set[int]) -> list[str]:
    return [f"%c{value} = arith.constant {value} : index" for value in sorted(values)]


def _carried(prefix: str, inits: Sequence[str]) -> str:
    return ", ".join(f"%{prefix}{n} = {init}" for n, init in enumerate(inits))


def _list(prefix: str, count: range) -> list[str]:
    return [f"%{prefix}{n}" for n in count]


def _names(prefix: str, count: range) -> str:
    return ", ".join(_list(prefix, count))


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(lines)
