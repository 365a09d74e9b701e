"""Where x86-64 processors say which of LLVM's features they have: what `cpuid` answers, and which registers the
system saves.

    requirements(frozenset({"avx2", "bmi2"}))   # what to ask, for code that runs without LLVM

Numbers: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID, and volume 1, 13.3; AMD64
Architecture Programmer's Manual, volume 3, appendix E. Names, and which of them need registers saved, are those of
LLVM's getHostCPUFeatures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from stepwell.errors import TargetError

REGISTERS = ("eax", "ebx", "ecx", "edx")

UNASKED = frozenset({"64bit", "cmov", "cx8", "evex512", "fxsr", "mmx", "prefetchi", "sse", "sse2"})
"""Names that nobody needs to ask for: what every x86-64 processor has; evex512, which LLVM up to 21 gives beside
avx512f; and prefetchi, whose instructions others pass over."""


class Requirement(NamedTuple):
    """A processor has `feature` where leaf and subleaf exist, `register & mask` is at least `least`, and the system
    saves all of `state`, bits of the register XCR0."""

    feature: str
    leaf: int
    subleaf: int
    register: str
    mask: int
    least: int
    state: int


NONE, YMM, ZMM, TILES, APX = 0, 0x6, 0xE6, 0x60000, 0x80000

# (leaf, subleaf, register, state) -> name and bit
_BITS = {
    (0x1, 0, "ecx", NONE): "sse3 0 pclmul 1 ssse3 9 cx16 13 sse4.1 19 sse4.2 20 crc32 20 movbe 22 popcnt 23 aes 25 "
                            "rdrnd 30",
    (0x1, 0, "ecx", YMM): "fma 12 xsave 26 avx 28 f16c 29",
    (0x7, 0, "ebx", NONE): "fsgsbase 0 sgx 2 bmi 3 bmi2 8 invpcid 10 rtm 11 rdseed 18 adx 19 clflushopt 23 clwb 24 "
                            "sha 29",
    (0x7, 0, "ebx", YMM): "avx2 5",
    (0x7, 0, "ebx", ZMM): "avx512f 16 avx512dq 17 avx512ifma 21 avx512cd 28 avx512bw 30 avx512vl 31",
    (0x7, 0, "ecx", NONE): "pku 4 waitpkg 5 shstk 7 gfni 8 rdpid 22 kl 23 cldemote 25 movdiri 27 movdir64b 28 "
                            "enqcmd 29",
    (0x7, 0, "ecx", YMM): "vaes 9 vpclmulqdq 10",
    (0x7, 0, "ecx", ZMM): "avx512vbmi 1 avx512vbmi2 6 avx512vnni 11 avx512bitalg 12 avx512vpopcntdq 14",
    (0x7, 0, "edx", NONE): "uintr 5 serialize 14 tsxldtrk 16 pconfig 18",
    (0x7, 0, "edx", ZMM): "avx512vp2intersect 8 avx512fp16 23",
    (0x7, 0, "edx", TILES): "amx-bf16 22 amx-tile 24 amx-int8 25",
    (0x7, 1, "eax", NONE): "raoint 3 cmpccxadd 7 hreset 22 movrs 31",
    (0x7, 1, "eax", YMM): "sha512 0 sm3 1 sm4 2 avxvnni 4 avxifma 23",
    (0x7, 1, "eax", ZMM): "avx512bf16 5",
    (0x7, 1, "eax", TILES): "amx-fp16 21",
    (0x7, 1, "edx", NONE): "usermsr 15",
    (0x7, 1, "edx", YMM): "avxvnniint8 4 avxneconvert 5 avxvnniint16 10",
    (0x7, 1, "edx", TILES): "amx-complex 8",
    (0x7, 1, "edx", APX): "ccmp 21 cf 21 egpr 21 ndd 21 nf 21 ppx 21 push2pop2 21 zu 21",
    (0xD, 1, "eax", YMM): "xsaveopt 0 xsavec 1 xsaves 3",
    (0x14, 0, "ebx", NONE): "ptwrite 4",
    (0x19, 0, "ebx", NONE): "widekl 2",
    (0x1E, 1, "eax", TILES): "amx-fp8 4 amx-tf32 6 amx-avx512 7 amx-movrs 8",
    (0x80000001, 0, "ecx", NONE): "sahf 0 lzcnt 5 sse4a 6 prfchw 8 lwp 15 tbm 21 mwaitx 29",
    (0x80000001, 0, "ecx", YMM): "xop 11 fma4 16",
    (0x80000008, 0, "ebx", NONE): "clzero 0 rdpru 4 wbnoinvd 9",
}  # fmt: skip


def _table() -> dict[str, Requirement]:
    found = {f"avx10.{n}": Requirement(f"avx10.{n}", 0x24, 0, "ebx", 0xFF, n, ZMM) for n in (1, 2)}
    for (leaf, subleaf, register, state), text in _BITS.items():
        words = text.split()
        for name, bit in zip(words[::2], map(int, words[1::2]), strict=True):
            found[name] = Requirement(name, leaf, subleaf, register, 1 << bit, 1 << bit, state)
    return found


KNOWN = _table()
"""What each feature requires, but for those that are not asked for."""


def requirements(features: Iterable[str]) -> list[Requirement]:
    """What a processor must answer to have all of these features, in the order of their names.

    Raises TargetError that names the features of which it is not known where a processor tells them."""
    asked = sorted(set(features) - UNASKED)
    if unknown := [name for name in asked if name not in KNOWN]:
        raise TargetError(f"nobody knows how a processor tells that it has {', '.join(unknown)}: compile for a target "
                          "without that, such as x86-64-v3")  # fmt: skip
    return [KNOWN[name] for name in asked]
