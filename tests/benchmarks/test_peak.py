"""The IR that measures the machine computes what it claims to; how fast it does is not looked at."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peak

NARROW = peak.Isa(lanes=4, chains=3, fma=False)


@pytest.mark.parametrize(
    ("architecture", "features", "expected"),
    [
        ("x86_64-linux", {"avx512f": True, "avx": True, "fma": True}, peak.Isa(16, 24, True)),
        ("x86_64-linux", {"avx512f": False, "avx": True, "fma": True}, peak.Isa(8, 12, True)),
        ("x86_64-linux", {"avx": True, "fma": False}, peak.Isa(8, 12, False)),
        ("x86_64-linux", {}, peak.Isa(4, 12, False)),
        ("aarch64-linux", {"neon": True}, peak.Isa(4, 24, True)),
    ],
)
def test_the_widest_vectors_are_chosen(architecture: str, features: dict[str, bool], expected: peak.Isa) -> None:
    assert peak.host_isa(architecture, features) == expected


def test_chains_do_every_multiply_add() -> None:
    engine = peak.compile_ir(peak.fma_ir(NARROW))
    data = np.zeros(12, np.float32)
    data[:4], data[4:8] = 0.5, 3.0
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    prototype(engine.get_function_address("fma_chains"))(data.ctypes.data, 2)
    chain = (0.5 * 0.5 + 3.0) * 0.5 + 3.0
    np.testing.assert_array_equal(data[8:], np.full(4, 0.5 + 3 * chain, np.float32))


@pytest.mark.parametrize(("passes", "expected"), [(1, "folded"), (2, "zero")])
def test_reading_touches_every_byte_once_per_pass(passes: int, expected: str) -> None:
    engine = peak.compile_ir(peak.read_ir(NARROW))
    size = 3 * peak.READS * 16
    data, out = peak._aligned(size).view(np.uint32), peak._aligned(16).view(np.uint32)
    data[:] = np.random.default_rng(0).integers(0, 2**32, data.size, dtype=np.uint32)
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    prototype(engine.get_function_address("read_all"))(data.ctypes.data, size, passes, out.ctypes.data)
    folded = np.bitwise_xor.reduce(data.reshape(-1, 4), axis=0)
    np.testing.assert_array_equal(out, {"folded": folded, "zero": np.zeros(4, np.uint32)}[expected])


@pytest.mark.parametrize(("text", "size"), [("48K", 49152), ("32M", 32 << 20), ("1G", 1 << 30), ("512", 512)])
def test_cache_sizes_as_linux_writes_them(text: str, size: int) -> None:
    assert peak.parse_size(text) == size


def test_cache_sizes_fall_back_where_the_system_is_silent(tmp_path: Path) -> None:
    for number, (kind, level, size) in enumerate([("Instruction", 1, "64K"), ("Data", 1, "48K"), ("Unified", 2, "?")]):
        index = tmp_path / f"index{number}"
        index.mkdir()
        for name, text in (("type", kind), ("level", str(level)), ("size", size)):
            (index / name).write_text(f"{text}\n")
    assert peak.cache_sizes(tmp_path) == {**peak.DEFAULT_CACHES, 1: 48 << 10}


def test_a_reader_reads_whole_vectors_in_every_thread() -> None:
    reader = peak.Reader(1_000_000, 2)
    assert 900_000 < reader.size <= 1_000_000
    assert reader.size % (2 * 64) == 0
    assert reader.seconds(passes=1) > 0


def test_work_is_as_much_as_was_asked_for() -> None:
    work = peak.Work(3_000_000, 100_000, 7)
    assert work.flops == pytest.approx(3_000_000, rel=1e-3)
    assert work.bytes / 7 == pytest.approx(100_000, rel=0.05)
    work()
    assert np.isfinite(work._operands.view(np.float32)).all()
    nothing = peak.Work(0)
    assert (nothing.flops, nothing.bytes) == (0, 0)
