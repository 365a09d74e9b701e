"""What this machine lets the process use: cores (affinity mask, cgroup quota) and the sizes of the caches.

Linux publishes all of it as small text files; every reader takes the root folder, so that a test can lay out another
machine. Where a file is missing (a container without sysfs, another system) the reader answers None.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from os.path import join

_ROOT = "/"


def usable_cores(root: str | os.PathLike[str] = _ROOT) -> int:
    """The number of threads worth running: physical cores in the affinity mask, at most the cgroup's CPU quota.

    Two hardware threads of one core share its FMA units and its L1 and L2 caches, so a core counts once. A quota of
    2.5 CPUs counts as 2: a team that overdraws its quota is stopped as a whole for the rest of each period.
    """
    cores = len({_core_of(cpu, root) for cpu in _affinity()})
    quota = cpu_quota(root)
    return max(1, cores if quota is None else min(cores, int(quota)))


def allowed_cpus() -> int:
    """How many logical CPUs the affinity mask holds."""
    return len(_affinity())


def cpu_quota(root: str | os.PathLike[str] = _ROOT) -> float | None:
    """The CPUs that the process's cgroup and all its parents grant (cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us`), or
    None where nothing limits it."""
    grants = [*_quotas_v2(root), *_quotas_v1(root)]
    return min(grants, default=None)


def cache_bytes(level: int, root: str | os.PathLike[str] = _ROOT) -> int | None:
    """Size in bytes of CPU 0's data or unified cache of `level` (1, 2 or 3)."""
    caches = join(root, "sys/devices/system/cpu/cpu0/cache")
    for index in sorted(name for name in _names(caches) if name.startswith("index")):
        if _read(caches, index, "level") == str(level) and _read(caches, index, "type") in ("Data", "Unified"):
            return _size(_read(caches, index, "size"))
    return None


def has_sha256(root: str | os.PathLike[str] = _ROOT) -> bool:
    """Whether the processor has instructions for SHA-256 (x86 SHA extensions, ARMv8 SHA2), which make it the fastest
    of the hashes that nobody can forge."""
    for line in (_read(root, "proc/cpuinfo") or "").splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return not {"sha_ni", "sha2"}.isdisjoint(flags.split())
    return False


def available_bytes(root: str | os.PathLike[str] = _ROOT) -> int | None:
    """The memory that the process may still take without being killed: what the kernel calls available, with free swap,
    and at most what the memory limits of the process's cgroup and all its parents leave. None where it is not told."""
    fields = dict(line.split(":", 1) for line in (_read(root, "proc/meminfo") or "").splitlines() if ":" in line)
    free = [_kilobytes(fields.get(name, "")) for name in ("MemAvailable", "SwapFree")]
    found = [] if free[0] is None else [free[0] + (free[1] or 0)]
    return min([*found, *_left_by_cgroups(root)], default=None)


def _kilobytes(text: str) -> int | None:
    number = text.strip().removesuffix(" kB")
    return int(number) << 10 if number.isdecimal() else None


# (controller, mount, limit, usage, name of the page cache in memory.stat, which is given back when needed)
_MEMORY_FILES = (
    ("", "", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _left_by_cgroups(root: str | os.PathLike[str]) -> Iterator[int]:
    for controllers, path in _cgroups(root):
        for controller, mount, limit, usage, cache in _MEMORY_FILES:
            if controller in controllers.split(","):
                for folder in _upwards(join(root, "sys/fs/cgroup", mount), path):
                    most, used = _read(folder, limit) or "", _read(folder, usage) or ""
                    if most.isdecimal() and used.isdecimal():
                        stat = dict(line.split(" ", 1) for line in (_read(folder, "memory.stat") or "").splitlines())
                        yield max(0, int(most) - int(used) + int(stat.get(cache, "0")))


def shown_bytes(count: int) -> str:
    """`1.5 GiB`: a number of bytes for people."""
    size, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{count} bytes" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def _affinity() -> Collection[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def _core_of(cpu: int, root: str | os.PathLike[str]) -> tuple[str, ...]:
    topology = join(root, f"sys/devices/system/cpu/cpu{cpu}/topology")
    package, core = _read(topology, "physical_package_id"), _read(topology, "core_id")
    return (str(cpu),) if package is None or core is None else (package, core)


def _quotas_v2(root: str | os.PathLike[str]) -> Iterator[float]:
    for controllers, path in _cgroups(root):
        if controllers == "":
            for folder in _upwards(join(root, "sys/fs/cgroup"), path):
                quota, _, period = (_read(folder, "cpu.max") or "max").partition(" ")
                yield from _ratio(quota, period)


def _quotas_v1(root: str | os.PathLike[str]) -> Iterator[float]:
    for controllers, path in _cgroups(root):
        if "cpu" in controllers.split(","):
            for mount in ("cpu", "cpu,cpuacct"):
                for folder in _upwards(join(root, "sys/fs/cgroup", mount), path):
                    yield from _ratio(_read(folder, "cpu.cfs_quota_us"), _read(folder, "cpu.cfs_period_us"))


def _cgroups(root: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """(controllers, path) of each line of /proc/self/cgroup; v2's line has no controllers."""
    for line in (_read(root, "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        yield controllers, path


def _upwards(mount: str, path: str) -> Iterator[str]:
    """The cgroup's folder and all above it, up to the mount point. In a container the path may name folders outside
    of what is mounted: those do not exist here and the mount point itself is the group."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield join(mount, *parts[:count])


def _ratio(quota: str | None, period: str | None) -> Iterator[float]:
    try:
        limit, length = int(quota or -1), int(period or 0)
    except ValueError:
        return
    if limit > 0 and length > 0:
        yield limit / length


def _size(text: str | None) -> int | None:
    """`48K` -> 49152."""
    if not text:
        return None
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1], 1)
    digits = text[:-1] if scale > 1 else text
    return int(digits) * scale if digits.isdigit() else None


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(*path: str | os.PathLike[str]) -> str | None:
    try:
        with open(join(*path)) as file:
            return file.read().strip()
    except OSError:
        return None
