from __future__ import annotations

import os
from pathlib import Path

import pytest

from stepwell.backends.cpu import machine


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/cpu.max": "250000 100000"}, 2.5),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/b/cpu.max": "800000 100000",
                "sys/fs/cgroup/a/cpu.max": "150000 100000",
            },
            1.5,
        ),
        ({"proc/self/cgroup": "0::/../elsewhere", "sys/fs/cgroup/cpu.max": "300000 100000"}, 3.0),
        (
            {
                "proc/self/cgroup": "4:cpuacct,cpu:/c\n0::/",
                "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu/c/cpu.cfs_period_us": "100000",
            },
            4.0,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
        ),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "garbage"}, None),
    ],
)
def test_the_quota_is_the_tightest_of_all_groups_above(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    assert machine.cpu_quota(lay_out(tmp_path, files)) == quota


def test_hardware_threads_of_one_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    cores = {0: "0", 1: "0", 2: "1", 3: "1"}
    files = {f"sys/devices/system/cpu/cpu{cpu}/topology/core_id": core for cpu, core in cores.items()}
    files |= {f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id": "0" for cpu in cores}
    assert machine.usable_cores(lay_out(tmp_path, files)) == 2


@pytest.mark.parametrize(("quota", "cores"), [("50000", 1), ("150000", 1), ("290000", 2), ("900000", 4)])
def test_the_quota_limits_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    lay_out(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": f"{quota} 100000"})
    assert machine.usable_cores(tmp_path) == cores


def test_cache_sizes_skip_instruction_caches(tmp_path: Path) -> None:
    base = "sys/devices/system/cpu/cpu0/cache"
    caches = [("1", "Instruction", "32K"), ("1", "Data", "48K"), ("2", "Unified", "2M"), ("3", "Unified", "odd")]
    for index, (level, kind, size) in enumerate(caches):
        folder = f"{base}/index{index}"
        lay_out(tmp_path, {f"{folder}/level": level, f"{folder}/type": kind, f"{folder}/size": size})
    assert [machine.cache_bytes(level, tmp_path) for level in (1, 2, 3, 4)] == [48 << 10, 2 << 20, None, None]


MEMINFO = "MemTotal: 64 kB\nMemAvailable:      40 kB\nSwapFree:   8 kB\nHugePages_Free: 0"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": MEMINFO}, 48 << 10),
        ({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/memory.max": "max",
          "sys/fs/cgroup/a/b/memory.current": "5", "sys/fs/cgroup/a/memory.max": "1000",
          "sys/fs/cgroup/a/memory.current": "900", "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 50"}, 150),
        ({"proc/meminfo": MEMINFO, "proc/self/cgroup": "4:memory:/", "sys/fs/cgroup/memory/memory.limit_in_bytes": "70",
          "sys/fs/cgroup/memory/memory.usage_in_bytes": "80"}, 0),
    ],
)  # fmt: skip
def test_the_memory_that_is_left(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    assert machine.available_bytes(lay_out(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (1 << 52, "4.0 PiB")]
)
def test_sizes_for_people(count: int, expected: str) -> None:
    assert machine.shown_bytes(count) == expected
