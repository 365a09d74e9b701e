"""The harness on engines that are no engines: turns, ratios, failures, threads. No test looks at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import report, worker
from benchmarks.contention import Watch, busy_ticks
from benchmarks.harness import Comparison, Outcome, Spread, measure, ratios, turns
from benchmarks.worker import Case, Engine, Rules, Worker, WorkerError, cores, time_block
from tests.benchmarks import fake_engines as fake

QUICK = Rules(rounds=2, seconds=0.0, calls=3, dropped=1, rest=0.0, load_timeout=60.0)
CASE = Case("case", fake.build)


def compared(*engines: Engine) -> Comparison:
    return measure({engine.__name__: engine for engine in engines}, CASE, 1, QUICK)


def test_turns_alternate_their_direction() -> None:
    assert turns("ab", 3) == [["a", "b"], ["b", "a"], ["a", "b"]]


@pytest.mark.parametrize(
    ("blocks", "reference", "expected"),
    [
        ([2.0, 6.0, 8.0], [1.0, 2.0, 2.0], Spread(3.0, 2.0, 4.0)),
        ([1.0], [2.0], Spread(0.5, 0.5, 0.5)),
        ([], [], None),
        ([1.0], [1.0, 1.0], None),
    ],
)
def test_ratios_pair_the_rounds(blocks: list[float], reference: list[float], expected: Spread | None) -> None:
    assert ratios(blocks, reference) == expected


def ticking(step: int) -> Callable[[], int]:
    """A clock that advances by `step` nanoseconds whenever it is read."""
    now = 0

    def clock() -> int:
        nonlocal now
        now += step
        return now

    return clock


@pytest.mark.parametrize(
    ("rules", "step", "calls", "timed"),
    [
        (Rules(seconds=0.0, calls=5, dropped=2), 10, 7, 5),
        (Rules(seconds=0.0, calls=0, dropped=2), 10, 2, 0),
        (Rules(seconds=1e-6, calls=1, dropped=0), 100, 4, 4),
    ],
)
def test_a_block_drops_calls_then_lasts_its_time(rules: Rules, step: int, calls: int, timed: int) -> None:
    made: list[None] = []
    times = time_block(lambda: made.append(None), rules, ticking(step))
    assert (len(made), times) == (calls, [step] * timed)


def test_engines_are_timed_and_compared_with_the_first() -> None:
    first, same, other = compared(fake.doubling, fake.doubling_slowly, fake.tripling).outcomes
    assert [len(outcome.blocks) for outcome in (first, same, other)] == [2, 2, 2]
    assert (first.ratio, first.differs, same.differs) == (None, None, None)
    assert same.ratio is not None and other.ratio is not None
    assert other.differs == "output 0: 2 of 3 values, by 2 at most"


def test_a_limit_takes_turns_and_is_compared_with_nothing() -> None:
    found = measure({"first": fake.doubling}, CASE, 1, QUICK, fake.tripling)
    assert [outcome.engine for outcome in found.outcomes] == ["first"]
    assert found.limit is not None
    assert (len(found.limit.blocks), found.limit.differs, found.limit.ratio) == (2, None, None)
    refused = measure({"first": fake.doubling}, CASE, 1, QUICK, fake.refusing)
    assert refused.limit is not None and not refused.limit.blocks
    assert report.faults([refused]) == ["case, threads 1: limit: NotImplementedError: no such operator: Frobnicate"]


@pytest.mark.parametrize(
    ("engine", "error"),
    [
        (fake.refusing, "NotImplementedError: no such operator: Frobnicate\n(second line)"),
        (fake.dying_at_load, "its process ended with code 3"),
    ],
)
def test_an_engine_that_cannot_load_leaves_the_others_running(engine: Engine, error: str) -> None:
    failed, running = compared(engine, fake.doubling).outcomes
    assert failed == Outcome(engine.__name__, error=error)
    assert (len(running.blocks), running.ratio, running.error) == (2, None, None)


def test_an_engine_that_dies_in_its_turn_leaves_the_others_running() -> None:
    running, failed = compared(fake.doubling, fake.dying_in_turn).outcomes
    assert (failed.error, failed.ratio, failed.latency) == ("its process ended with code 4", None, None)
    assert (len(running.blocks), running.error) == (2, None)


def test_an_engine_that_hangs_is_ended() -> None:
    with pytest.raises(WorkerError, match="not ready after 1 s"):
        Worker(fake.hanging, CASE, 1, load_timeout=1.0)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no CPU affinity on this system")
def test_an_engine_sees_as_many_cpus_as_threads() -> None:
    with Worker(fake.telling_threads, CASE, 1, load_timeout=60.0) as running:
        assert running.loaded.outputs[0].tolist() == [1, 1, 1]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc on this system")
def test_a_paused_worker_is_stopped_and_wakes_for_its_block() -> None:
    with Worker(fake.doubling, CASE, 1, load_timeout=60.0) as running:
        pid = running._process.pid
        running.pause()
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        with running.awake():
            assert len(running.block(QUICK).times) == 3
    assert not Path(f"/proc/{pid}").exists()
    assert running._process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, {0}), (2, {0, 1}), (3, {0, 1, 2}), (4, {0, 1, 2, 3})],
)
def test_cores_come_before_their_siblings(monkeypatch: pytest.MonkeyPatch, count: int, expected: set[int]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(worker, "_siblings", lambda cpu: frozenset({cpu % 2, cpu % 2 + 2}))
    assert cores(count) == expected


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no CPU affinity on this system")
def test_a_worker_says_that_there_are_too_few_cpus() -> None:
    with pytest.raises(WorkerError, match="ValueError: 100000 threads asked for"):
        Worker(fake.doubling, CASE, 100_000, load_timeout=60.0)


def test_more_threads_than_cpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    with pytest.raises(ValueError, match="2 threads asked for, 1 CPUs allowed"):
        cores(2)


def test_busy_ticks_count_our_cpus_and_neither_idle_nor_waiting() -> None:
    stat = "cpu  9 9 9 9 9 9 9 9\ncpu0 1 2 4 100 100 8 16 32 9 9\ncpu1 9 0 0 0 0 0 0 0\ncpu10 5 0 0 0 0 0 0 0\n"
    assert busy_ticks(stat, {0}) == 63
    assert busy_ticks(stat, {0, 10}) == 68


def test_children_that_have_ended_are_no_other_processes() -> None:
    before = Watch._own_seconds()
    work = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", work], check=True)
    assert Watch._own_seconds() - before >= 0.2
