"""CPU targets as data: what the cost model, the emitter and LLVM need to know about a processor.

The LLVM feature string decides everything that generated code may use (vector width, FMA, masks, VNNI, AMX). The CPU
name only tunes instruction scheduling; in a virtual machine it is often wrong.
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import NamedTuple

from stepwell.errors import TargetError

from . import cpuid, facts, machine

_V1 = ("cmov", "cx8", "fxsr", "mmx", "sse", "sse2")
_V2 = (*_V1, "crc32", "cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3")
_V3 = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave")
_AVX512 = ("avx512bw", "avx512dq", "avx512f", "avx512vl")
_V4 = (*_V3, *_AVX512, "avx512cd", "evex512")

_NAMES = ("cpu", "x86-64-v4", "x86-64-v3", "x86-64", "aarch64")


class Processor(NamedTuple):
    """What code needs of a machine: the target it was made for, by name, triple and LLVM feature string."""

    name: str
    triple: str
    features: str

    @property
    def arch(self) -> str:
        """The triple's first part: `x86_64` or `aarch64`."""
        return self.triple.partition("-")[0]

    @property
    def enabled_features(self) -> frozenset[str]:
        """The names that the feature string turns on."""
        return frozenset(flag[1:] for flag in self.features.split(",") if flag.startswith("+"))


class CpuTarget(NamedTuple):
    """A processor to compile for. Equal targets give equal code, so a target is part of every cache key.

    Sizes are in bytes. `*_bandwidth` are assumed sustained bytes per cycle and core, from L1 into the register file and
    from the other levels into the one above; they rank schedules and promise nothing. `grain_threads` is the largest
    team that schedules make grains for: a constant of the target and never the team's real size, so that results have
    the same bits at any thread count.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    vector_registers: int
    has_fma: bool
    has_masks: bool
    has_tables: bool
    has_vnni: bool
    has_avx512_vnni: bool
    has_bf16: bool
    has_fp16: bool
    has_amx_int8: bool
    has_amx_bf16: bool
    l1d_bytes: int
    l2_bytes: int
    l3_bytes: int
    l1_bandwidth: float
    l2_bandwidth: float
    l3_bandwidth: float
    memory_bandwidth: float
    fma_per_cycle: int
    grain_threads: int = 32
    alignment: int = 64

    @property
    def processor(self) -> Processor:
        """What code for it needs."""
        return Processor(self.name, self.triple, self.features)

    @property
    def arch(self) -> str:
        """The triple's first part: `x86_64` or `aarch64`."""
        return self.processor.arch

    @property
    def enabled_features(self) -> frozenset[str]:
        """The names that the feature string turns on."""
        return self.processor.enabled_features

    def lanes(self, bits: int) -> int:
        """Elements of `bits` bits in one vector register."""
        return self.vector_bytes * 8 // bits


def named(name: str) -> CpuTarget:
    """The target of that name: `cpu` (this machine), an x86-64 level, or `aarch64`. Raises `TargetError`."""
    if name == "cpu":
        return host()
    if name == "x86-64-v4":
        return _x86(name, "x86-64-v4", _flags(_V4) + ",-prefer-256-bit", l1d=48 << 10, l2=1 << 20, l3=32 << 20)
    if name == "x86-64-v3":
        return _x86(name, "x86-64-v3", _flags(_V3), l1d=32 << 10, l2=512 << 10, l3=16 << 20)
    if name == "x86-64":
        return _x86(name, "x86-64", _flags(_V1), l1d=32 << 10, l2=256 << 10, l3=8 << 20)
    if name == "aarch64":
        return _aarch64(name, "generic", "+neon,+fp-armv8,+v8a", l1d=64 << 10, l2=1 << 20, l3=32 << 20)
    raise TargetError(f"unknown CPU target {name!r}; known: {', '.join(_NAMES)}")


@functools.cache
def host() -> CpuTarget:
    """This machine, as LLVM and sysfs see it. Raises `TargetError` on anything but x86-64 and AArch64."""
    known = facts.facts()
    triple, cpu, features = known.triple, known.cpu, known.features
    caches = {
        "l1d": machine.cache_bytes(1) or 32 << 10,
        "l2": machine.cache_bytes(2) or 1 << 20,
        "l3": machine.cache_bytes(3) or 16 << 20,
    }
    if triple.startswith("x86_64"):
        return _x86("cpu", cpu, features + ",-prefer-256-bit", triple=triple, **caches)
    if triple.startswith("aarch64"):
        return _aarch64("cpu", cpu, features, triple=triple, **caches)
    raise TargetError(f"no CPU backend for {triple}: Stepwell makes code for x86-64 and AArch64")


def check_runs_here(target: CpuTarget | Processor) -> None:
    """Raises `TargetError`, naming what is missing, unless this machine can execute code made for `target`."""
    this = host()
    if target.arch != this.arch:
        raise TargetError(f"code for {target.name} ({target.arch}) cannot run on this machine ({this.arch})")
    missing = target.enabled_features - this.enabled_features - cpuid.UNASKED
    if this.arch == "x86_64" and missing:
        raise TargetError(f"this CPU ({this.cpu}) lacks {', '.join(sorted(missing))}, which {target.name} code uses")


@functools.cache
def enable_amx() -> bool:
    """Asks Linux for this process's right to AMX tile registers, without which the first tile instruction is fatal.

    Covers all threads, those running and those to come. Answers whether it was granted. Call it before running code
    for a target with AMX (Linux, Documentation/arch/x86/xstate.rst).
    """
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    if os.uname().sysname != "Linux" or os.uname().machine != "x86_64":
        return False
    return bool(ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0)


def describe(target: CpuTarget) -> str:
    """The target for people, one `key: value` line each."""
    extras = {
        "fma": target.has_fma,
        "masks": target.has_masks,
        "vnni": target.has_vnni,
        "bf16": target.has_bf16,
        "fp16": target.has_fp16,
        "amx-int8": target.has_amx_int8,
        "amx-bf16": target.has_amx_bf16,
    }
    lines = {
        "target": f"{target.name} ({target.triple}, tuned for {target.cpu})",
        "vectors": f"{target.vector_registers} registers of {target.vector_bytes} bytes",
        "has": ", ".join(name for name, present in extras.items() if present) or "scalar extras only",
        "caches": f"L1d {target.l1d_bytes >> 10} KiB, L2 {target.l2_bytes >> 10} KiB, L3 {target.l3_bytes >> 10} KiB",
        "features": " ".join(sorted(target.enabled_features)),
    }
    if target.name == "cpu":
        quota = machine.cpu_quota()
        limit = "no cgroup quota" if quota is None else f"cgroup quota {quota:g} CPUs"
        lines["threads"] = f"{machine.usable_cores()} ({machine.allowed_cpus()} CPUs in the affinity mask, {limit})"
    return "\n".join(f"{key}: {value}" for key, value in lines.items())


def _flags(names: tuple[str, ...]) -> str:
    return ",".join(f"+{name}" for name in names)


def _x86(
    name: str, cpu: str, features: str, *, l1d: int, l2: int, l3: int, triple: str = "x86_64-unknown-linux-gnu"
) -> CpuTarget:
    on = {flag[1:] for flag in features.split(",") if flag.startswith("+")}
    avx512 = on.issuperset(_AVX512)
    vector_bytes = 64 if avx512 else 32 if "avx2" in on else 16
    return CpuTarget(
        name=name,
        triple=triple,
        cpu=cpu,
        features=features,
        vector_bytes=vector_bytes,
        vector_registers=32 if avx512 else 16,
        has_fma="fma" in on or avx512,
        has_masks=avx512,
        has_tables=avx512,
        has_vnni="avxvnni" in on or (avx512 and "avx512vnni" in on),
        has_avx512_vnni=avx512 and "avx512vnni" in on,
        has_bf16=avx512 and "avx512bf16" in on,
        has_fp16=avx512 and "avx512fp16" in on,
        has_amx_int8={"amx-tile", "amx-int8"} <= on,
        has_amx_bf16={"amx-tile", "amx-bf16"} <= on,
        l1d_bytes=l1d,
        l2_bytes=l2,
        l3_bytes=l3,
        l1_bandwidth=2.0 * vector_bytes,
        l2_bandwidth=0.875 * vector_bytes,
        l3_bandwidth=20.0,
        memory_bandwidth=6.0,
        fma_per_cycle=2,
    )


def _aarch64(
    name: str, cpu: str, features: str, *, l1d: int, l2: int, l3: int, triple: str = "aarch64-unknown-linux-gnu"
) -> CpuTarget:
    on = {flag[1:] for flag in features.split(",") if flag.startswith("+")}
    return CpuTarget(
        name=name,
        triple=triple,
        cpu=cpu,
        features=features,
        vector_bytes=16,
        vector_registers=32,
        has_fma=True,
        has_masks=False,
        has_tables=False,
        has_vnni="dotprod" in on,
        has_avx512_vnni=False,
        has_bf16="bf16" in on,
        has_fp16="fullfp16" in on,
        has_amx_int8=False,
        has_amx_bf16=False,
        l1d_bytes=l1d,
        l2_bytes=l2,
        l3_bytes=l3,
        l1_bandwidth=48.0,
        l2_bandwidth=24.0,
        l3_bandwidth=12.0,
        memory_bandwidth=4.0,
        fma_per_cycle=4,
    )
