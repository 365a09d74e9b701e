"""What one core of this machine can do at most: f32 multiply-adds per second, and bytes read per second by level.

    python -m benchmarks.peak

Both are measured with LLVM IR written here and compiled by llvmlite. The arithmetic loop keeps so many independent
chains of fused multiply-adds in registers that neither latency nor memory limits it; the reading loop folds a buffer
into sixteen vector registers, over a buffer that fits half of a cache level, or is far larger than the last one.
"""

from __future__ import annotations

import ctypes
import functools
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import llvmlite.binding as llvm
import numpy as np

READS = 16
DEFAULT_CACHES = {1: 32 << 10, 2: 1 << 20, 3: 32 << 20}


@attrs.frozen
class Isa:
    """The vectors to measure with: f32 lanes, chains that fit the registers beside two operands, and whether FMA is."""

    lanes: int
    chains: int
    fma: bool


@attrs.frozen
class Peak:
    """One core: GFLOP/s of f32 (a multiply-add counts as two), GB/s read from each level, the vectors used, and the
    bytes that each cache holds."""

    gflops: float
    read_gbs: dict[str, float]
    isa: Isa
    caches: dict[str, int] = attrs.Factory(dict)


def host_isa(architecture: str, features: dict[str, bool]) -> Isa:
    """The widest f32 vectors among the CPU `features`, in LLVM's names, of an LLVM `architecture`."""
    if architecture.startswith("aarch64"):
        return Isa(lanes=4, chains=24, fma=True)
    if features.get("avx512f"):
        return Isa(lanes=16, chains=24, fma=True)
    if features.get("avx"):
        return Isa(lanes=8, chains=12, fma=bool(features.get("fma")))
    return Isa(lanes=4, chains=12, fma=False)


def fma_ir(isa: Isa) -> str:
    """IR of `void @fma_chains(ptr %data, i64 %rounds)`: `rounds` multiply-adds on each chain.

    `data` holds the two operands and receives the sum of the chains, one vector each.
    """
    vector = f"<{isa.lanes} x float>"
    bytes_ = 4 * isa.lanes
    phis, steps, sums = [], [], []
    for c in range(isa.chains):
        phis.append(f"  %acc{c} = phi {vector} [ %a, %entry ], [ %next{c}, %loop ]")
        if isa.fma:
            steps.append(f"  %next{c} = call {vector} @llvm.fma({vector} %acc{c}, {vector} %a, {vector} %b)")
        else:
            steps.append(f"  %product{c} = fmul {vector} %acc{c}, %a")
            steps.append(f"  %next{c} = fadd {vector} %product{c}, %b")
        previous = f"%sum{c - 1}" if c else "%a"
        sums.append(f"  %sum{c} = fadd {vector} {previous}, %next{c}")
    intrinsic = f"@llvm.fma.v{isa.lanes}f32"
    body = "\n".join(steps).replace("@llvm.fma", intrinsic)
    nl = "\n"
    return f"""
declare {vector} {intrinsic}({vector}, {vector}, {vector})
define void @fma_chains(ptr %data, i64 %rounds) {{
entry:
  %second = getelementptr i8, ptr %data, i64 {bytes_}
  %third = getelementptr i8, ptr %data, i64 {2 * bytes_}
  %a = load {vector}, ptr %data
  %b = load {vector}, ptr %second
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
{nl.join(phis)}
{body}
  %j = add i64 %i, 1
  %more = icmp ult i64 %j, %rounds
  br i1 %more, label %loop, label %exit
exit:
{nl.join(sums)}
  store {vector} %sum{isa.chains - 1}, ptr %third
  ret void
}}
"""


def read_ir(isa: Isa) -> str:
    """IR of `void @read_all(ptr %data, i64 %bytes, i64 %passes, ptr %out)`: read all of `data`, `passes` times.

    `bytes` is a multiple of the bytes of sixteen vectors; `out` receives one vector.
    """
    vector = f"<{isa.lanes} x i32>"
    bytes_ = 4 * isa.lanes
    nl = "\n"
    outer = nl.join(f"  %o{r} = phi {vector} [ zeroinitializer, %entry ], [ %n{r}, %next ]" for r in range(READS))
    inner = nl.join(f"  %x{r} = phi {vector} [ %o{r}, %pass ], [ %n{r}, %loop ]" for r in range(READS))
    steps = nl.join(
        f"  %p{r} = getelementptr i8, ptr %data, i64 %i{r}\n"
        f"  %v{r} = load {vector}, ptr %p{r}, align {bytes_}\n"
        f"  %n{r} = xor {vector} %x{r}, %v{r}"
        for r in range(READS)
    )
    offsets = nl.join(f"  %i{r} = add i64 %i, {r * bytes_}" for r in range(READS))
    folds = nl.join(f"  %f{r} = xor {vector} {f'%f{r - 1}' if r else 'zeroinitializer'}, %n{r}" for r in range(READS))
    return f"""
define void @read_all(ptr %data, i64 %bytes, i64 %passes, ptr %out) {{
entry:
  br label %pass
pass:
  %t = phi i64 [ 0, %entry ], [ %u, %next ]
{outer}
  br label %loop
loop:
  %i = phi i64 [ 0, %pass ], [ %j, %loop ]
{inner}
{offsets}
{steps}
  %j = add i64 %i, {READS * bytes_}
  %more = icmp ult i64 %j, %bytes
  br i1 %more, label %loop, label %next
next:
  %u = add i64 %t, 1
  %again = icmp ult i64 %u, %passes
  br i1 %again, label %pass, label %exit
exit:
{folds}
  store {vector} %f{READS - 1}, ptr %out
  ret void
}}
"""


def compile_ir(text: str) -> llvm.ExecutionEngine:
    """Machine code of the IR `text` for this CPU, without IR passes: the loops are wanted as they are written."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = f"{llvm.get_host_cpu_features().flatten()},-prefer-256-bit"
    triple = llvm.get_process_triple()
    machine = llvm.Target.from_triple(triple).create_target_machine(llvm.get_host_cpu_name(), features, opt=3)
    module = llvm.parse_assembly(text)
    module.triple = triple
    module.verify()
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


def _aligned(size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """`size` bytes that start at a multiple of 64, all touched."""
    raw = np.ones(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def best_rate(work: float, call: Callable[[], object], seconds: float = 0.3) -> float:
    """The highest `work` per second of a call, over as many calls as fit into `seconds` (three at least)."""
    best, end, calls = float("inf"), time.perf_counter() + seconds, 0
    while calls < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        calls += 1
    return work / best


def parse_size(text: str) -> int:
    """Bytes of a cache size as Linux writes it: `48K`, `2048K`, `32M`."""
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    return int(text.rstrip("KMG")) * factor


def cache_sizes(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[int, int]:
    """Bytes of the data caches by level, as far as the system tells; usual sizes for the others."""
    sizes = dict(DEFAULT_CACHES)
    for index in root.glob("index*"):
        try:
            kind = (index / "type").read_text().strip()
            level, size = int((index / "level").read_text()), parse_size((index / "size").read_text().strip())
        except (OSError, ValueError):
            continue
        if kind != "Instruction":
            sizes[level] = size
    return sizes


def _isa() -> Isa:
    return host_isa(llvm.get_process_triple(), dict(llvm.get_host_cpu_features()))


def fma_peak() -> float:
    """Measured GFLOP/s of f32 multiply-adds of one core."""
    work = Work(300_000_000)
    return best_rate(work.flops, work) / 1e9


def clock() -> float:
    """Cycles per second, as far as the multiply-add peak tells: a core does what its target's description says."""
    from stepwell.backends.cpu.target import host

    isa = _isa()
    return fma_peak() * 1e9 / (2 * isa.lanes * host().fma_per_cycle)


def read_rates() -> dict[str, float]:
    """Measured GB/s that one core reads from `L1`, `L2`, `L3` and `memory`."""
    caches = cache_sizes()
    sizes = {"L1": caches[1] // 2, "L2": caches[2] // 2, "L3": caches[3] // 2, "memory": max(4 * caches[3], 256 << 20)}
    rates = {}
    for level, size in sizes.items():
        work = Work(0, size, max(1, (16 << 20) // size))
        rates[level] = best_rate(work.bytes, work) / 1e9
    return rates


class Work:
    """So many `flops` of f32 multiply-adds in registers, and about `size` bytes read from front to back in each of
    `passes`, by one thread."""

    def __init__(self, flops: int, size: int = 0, passes: int = 0) -> None:
        isa = _isa()
        self._fma, self._read = _fma_chains(), _read_all()
        self._operands = _aligned(12 * isa.lanes)
        self._operands.view(np.float32)[:] = 0.5
        self._rounds = round(flops / (2 * isa.lanes * isa.chains))
        step = 4 * isa.lanes * READS
        self._data, self._out, self._passes = _aligned(max(step, size // step * step)), _aligned(4 * isa.lanes), passes
        self.flops = 2 * isa.lanes * isa.chains * self._rounds
        self.bytes = len(self._data) * passes

    def __call__(self) -> None:
        if self._rounds:
            self._fma(self._operands.ctypes.data, self._rounds)
        if self._passes:
            self._read(self._data.ctypes.data, len(self._data), self._passes, self._out.ctypes.data)


@functools.cache
def _engine() -> llvm.ExecutionEngine:
    """`fma_chains` and `read_all` for this CPU, compiled once in a process."""
    return compile_ir(fma_ir(_isa()) + read_ir(_isa()))


def _fma_chains() -> Callable[[int, int], None]:
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    return prototype(_engine().get_function_address("fma_chains"))


def _read_all() -> Callable[[int, int, int, int], None]:
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    return prototype(_engine().get_function_address("read_all"))


class Reader:
    """A buffer of so many bytes that so many threads read, each a part of its own, as fast as the machine lets them."""

    def __init__(self, size: int, threads: int) -> None:
        isa = _isa()
        step = 4 * isa.lanes * READS * threads
        self._read = _read_all()
        self._data = _aligned(max(step, size // step * step))
        self._outs = [_aligned(4 * isa.lanes) for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read")

    @property
    def size(self) -> int:
        """The bytes that are read in a pass."""
        return len(self._data)

    def seconds(self, passes: int = 5) -> float:
        """The median time of a pass of all threads."""
        part = self.size // len(self._outs)
        times = []
        for _ in range(passes):
            start = time.perf_counter()
            jobs = [self._pool.submit(self._read, self._data.ctypes.data + n * part, part, 1, out.ctypes.data)
                    for n, out in enumerate(self._outs)]  # fmt: skip
            for job in jobs:
                job.result()
            times.append(time.perf_counter() - start)
        return statistics.median(times)


def measure() -> Peak:
    """Measure this machine; takes about two seconds."""
    caches = {f"L{level}": size for level, size in sorted(cache_sizes().items())}
    return Peak(fma_peak(), read_rates(), _isa(), caches)


def main() -> None:
    print(json.dumps(attrs.asdict(measure()), indent=1))


if __name__ == "__main__":
    main()
