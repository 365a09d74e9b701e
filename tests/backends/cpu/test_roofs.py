"""The measuring kernels do what they claim; how fast they do it is not looked at."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from stepwell.backends.cpu import model, roofs, target
from stepwell.backends.cpu.limits import LEVELS
from stepwell.backends.cpu.roofs import Probe
from stepwell.ir.parser import parse_module

READS = ((16, 2, 16), (32, 3, 16), (64, 1, 16), (8, 1, 1))
SMALL = Probe(threads=2, lanes=4, chains=3, has_fma=True, folds=2, reads=READS)


@pytest.mark.parametrize("name", ["cpu", "x86-64", "x86-64-v3", "x86-64-v4", "aarch64"])
@pytest.mark.parametrize("threads", [1, 3])
def test_probes_are_programs_for_every_target(name: str, threads: int) -> None:
    probe = Probe.of(target.named(name), threads)
    assert len(probe.reads) == len(LEVELS)
    assert all(size % (probe.lanes * probe.folds) == 0 and size > 0 for size, _, _ in probe.reads)
    assert "define" in model.llvm_ir(parse_module(roofs.probe_module(probe)), target.named(name))


@pytest.mark.parametrize("has_fma", [True, False])
def test_what_is_computed(has_fma: bool) -> None:
    probe = attrs.evolve(SMALL, has_fma=has_fma)
    compiled = model.build(parse_module(roofs.probe_module(probe)), target.host(), profile=True)
    x = np.random.default_rng(0).integers(-(2**31), 2**31, probe.elements, dtype=np.int64).astype(np.int32)
    y, times = compiled.run([x, np.full(8, 0.5, np.float32)])
    assert times.shape == (len(roofs.launch_names()), 3) and (times[:, 1] == 1).all()
    rows = y.reshape(probe.grains, probe.chains * probe.lanes)
    last = x[: 8 * probe.grains].reshape(probe.grains, 2, 4)  # the last launch reads 8 elements a grain, once
    assert (rows[:, :8].reshape(probe.grains, 2, 4) == last).all()
    chain = np.float32(0.5)
    for _ in range(50):
        chain = chain * np.float32(0.5) + np.float32(0.5)
    assert (rows[:, 8:].view(np.float32) == chain).all()  # it has come to its fixed point long before


def test_seconds_become_roofs() -> None:
    names = roofs.launch_names()
    seconds = np.full((3, len(names)), 1e-3)
    seconds[:, names.index("nothing")] = [9e-6, 2e-6, 1e-6]
    seconds[1, names.index("fma")] = 1e-4
    seconds[:, names.index("memory")] = 1e-9
    found = roofs.roofs_of(SMALL, target.named("x86-64-v3"), seconds)
    assert (found.threads, found.launch) == (2, pytest.approx(2e-6))
    assert found.flops == pytest.approx(2 * 32 * 3 * 4 * roofs.FMA_STEPS / 1e-4)
    assert found.bandwidth["L1"] == pytest.approx(4 * 32 * 16 * 2 / 1e-3)
    assert found.bandwidth["memory"] <= found.bandwidth["L3"]  # nothing is faster than what it passes through
    assert found.capacity == {"L1": 64 << 10, "L2": 1 << 20, "L3": 16 << 20}


def test_a_team_has_at_least_the_caches_of_its_cores() -> None:
    names = roofs.launch_names()
    found = roofs.roofs_of(SMALL, target.named("x86-64-v3"), np.full((1, len(names)), 1e-3))
    faster = attrs.evolve(found, flops=0.8 * found.flops, bandwidth=dict.fromkeys(LEVELS, 9000000000.0))
    both = roofs.together(found, faster, 2)
    assert both.flops == pytest.approx(1.6 * found.flops)
    assert both.bandwidth == {**found.bandwidth, "L1": 1.8e10, "L2": 1.8e10}


@pytest.mark.parametrize(
    ("last_cache", "available", "expected"),
    [
        (32 << 20, None, 128 << 20),
        (1 << 20, None, 64 << 20),
        (1 << 30, None, 512 << 20),
        (32 << 20, 160 << 20, 20 << 20),
        (32 << 20, 0, 1 << 20),
    ],
)
def test_how_much_is_read_from_memory(last_cache: int, available: int | None, expected: int) -> None:
    assert roofs.memory_bytes(last_cache, available) == expected


def test_this_machine_is_measured_once() -> None:
    found = roofs.measured(1)
    assert found is roofs.measured(1)
    assert found.flops > 0 and found.launch > 0
    rates = [found.bandwidth[level] for level in LEVELS]
    assert rates == sorted(rates, reverse=True)
