from __future__ import annotations

import ctypes
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepwell.backends.cpu import jit, native, target
from stepwell.backends.cpu.entry import Argument, NativeEntry, aligned_bytes, new_scratch
from stepwell.backends.cpu.team import Team
from stepwell.errors import TargetError

VECTOR = Argument(np.int64, ("n",))
Array = np.ndarray[Any, Any]
Script = Callable[[str], subprocess.CompletedProcess[str]]


def expected_rounds(x: Array) -> Array:
    arena, indices = x.copy(), (7 * np.arange(len(x)) + 1) % len(x)
    for step in range(40):
        out = 3 * arena[indices] + arena
        arena = out[::-1] + step
    return out


def run_rounds(entry: NativeEntry, x: Array) -> Array:
    out = np.zeros_like(x)
    assert entry.call(x, out, aligned_bytes(x.nbytes), new_scratch(0)) is None
    return out


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [1, 2, 97])
def test_barrier_intervals_see_each_others_results(programs: jit.Code, threads: int, size: int) -> None:
    Team.get(threads=threads)
    entry = NativeEntry(programs, "rounds", [VECTOR], [VECTOR])
    for seed in range(5):
        x = np.random.default_rng(seed).integers(-(2**62), 2**62, size)
        assert run_rounds(entry, x).tolist() == expected_rounds(x).tolist()


def test_calls_from_many_python_threads(programs: jit.Code) -> None:
    Team.get(threads=2)
    entry = NativeEntry(programs, "rounds", [VECTOR], [VECTOR])
    wrong: list[int] = []
    start = threading.Barrier(10)

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).integers(-1000, 1000, 50 + seed)
        expected = expected_rounds(x)
        start.wait()
        wrong.extend(seed for _ in range(20) if not np.array_equal(run_rounds(entry, x), expected))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_launches_of_one_interval(programs: jit.Code, threads: int) -> None:
    Team.get(threads=threads)
    entry = NativeEntry(programs, "halves", [VECTOR], [VECTOR])
    for size in (0, 1, 2, 3, 50, 1001):
        x, out = np.arange(size) + 1, np.zeros(size, np.int64)
        assert entry.call(x, out, aligned_bytes(0), new_scratch(0)) is None
        assert out.tolist() == [v if i < size // 2 else -v for i, v in enumerate(x.tolist())]


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_late_workers_take_nothing_that_is_over(programs: jit.Code, threads: int) -> None:
    """Many short intervals of calls that have their arguments, results and sizes in turn in the same memory."""
    Team.get(threads=threads)
    entry = NativeEntry(programs, "rounds", [VECTOR], [VECTOR])
    cases = [np.random.default_rng(size).integers(-1000, 1000, size) for size in (2, 3, 17, 40)]
    expected = [expected_rounds(x).tolist() for x in cases]
    arena, scratch, memory = aligned_bytes(8 * 40), new_scratch(0), np.zeros(40, np.int64)
    for call in range(400):
        x, out = cases[call % 4], memory[: len(cases[call % 4])]
        assert entry.call(x, out, arena, scratch) is None
        assert out.tolist() == expected[call % 4]


def test_an_error_ends_a_call_whose_other_grains_have_not_begun(programs: jit.Code) -> None:
    entry = NativeEntry(programs, "check", [VECTOR], [VECTOR])
    for threads in (1, 2, 3, 7):
        Team.get(threads=threads)
        for size in (1, 5, 100_000):
            x, out = np.full(size, -1), np.zeros(size, np.int64)
            code, op, value = entry.call(x, out, aligned_bytes(0), new_scratch(0))
            assert (code, op, 0 <= value < size, out.any()) == (7, 42, True, False)
            assert entry.call(-x, out, aligned_bytes(0), new_scratch(0)) is None
            assert out.all()


def test_the_size_changes_between_calls(programs: jit.Code) -> None:
    entry = NativeEntry(programs, "rounds", [VECTOR], [VECTOR])
    x = np.arange(30)
    for threads in (1, 4, 2, 2, 5, 1, 3):
        assert Team.get(threads=threads).size == threads
        assert Team.get().size == threads
        assert np.array_equal(run_rounds(entry, x), expected_rounds(x))


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_sizes_out_of_range(threads: int) -> None:
    with pytest.raises(TargetError, match="1 to 1024 threads"):
        Team.get(threads=threads)


def worker_states() -> dict[str, str]:
    """The scheduler's state letter of each worker of this process: S is asleep, R runs or spins.

    Libraries that a test has loaded have teams of their own, whose workers are among them."""
    states = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            if (task / "comm").read_text().strip() == "stepwell":
                states[task.name] = (task / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since the listing
    return states


@pytest.fixture
def others(programs: jit.Code) -> set[str]:
    """The workers that are not this process's own team's."""
    entry = NativeEntry(programs, "copy", [VECTOR], [VECTOR])
    Team.get(threads=1)
    assert entry.call(np.zeros(1, np.int64), np.zeros(1, np.int64), aligned_bytes(0), new_scratch(0)) is None
    found, give_up = worker_states(), time.monotonic() + 0.2
    while time.monotonic() < give_up:  # those of the team that was there end
        time.sleep(0.01)
        found = worker_states()
    return set(found)


def test_an_idle_team_sleeps_and_wakes_up(programs: jit.Code, others: set[str]) -> None:
    def own_states() -> list[str]:
        return [state for name, state in worker_states().items() if name not in others]

    Team.get(threads=3)
    entry = NativeEntry(programs, "rounds", [VECTOR], [VECTOR])
    x = np.arange(20)
    for _ in range(3):
        assert np.array_equal(run_rounds(entry, x), expected_rounds(x))
        give_up = time.monotonic() + 30
        while own_states() != ["S", "S"] and time.monotonic() < give_up:
            time.sleep(0.002)
        assert own_states() == ["S", "S"]


def test_a_smaller_team_ends_its_workers(programs: jit.Code, others: set[str]) -> None:
    entry = NativeEntry(programs, "copy", [VECTOR], [VECTOR])
    for threads in (4, 2, 1):
        Team.get(threads=threads)
        assert entry.call(np.zeros(1, np.int64), np.zeros(1, np.int64), aligned_bytes(0), new_scratch(0)) is None
        give_up = time.monotonic() + 30
        while len(worker_states().keys() - others) != threads - 1 and time.monotonic() < give_up:
            time.sleep(0.002)
        assert len(worker_states().keys() - others) == threads - 1


MXCSR = """\
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define i32 @get() {
  %p = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %p)
  %v = load i32, ptr %p
  ret i32 %v
}
define void @set(i32 %v) {
  %p = alloca i32
  store i32 %v, ptr %p
  call void @llvm.x86.sse.ldmxcsr(ptr %p)
  ret void
}
"""


@pytest.mark.skipif(target.host().arch != "x86_64", reason="MXCSR is x86's")
def test_programs_run_in_the_default_floating_point_mode(programs: jit.Code) -> None:
    code = jit.load([jit.compile_object(MXCSR, target.host())])
    get = ctypes.CFUNCTYPE(ctypes.c_uint32)(code.address("get"))
    put = ctypes.CFUNCTYPE(None, ctypes.c_uint32)(code.address("set"))
    flush_and_round_up = 0x1F80 | 0x8040 | 0x4000
    usual = get()
    entry = NativeEntry(programs, "halve", [VECTOR], [VECTOR])
    x, out = np.array([3, 0, 0]), np.zeros(3, np.int64)
    Team.get(threads=3)
    arena, scratch = aligned_bytes(0), new_scratch(0)
    put(flush_and_round_up)
    try:
        answer = entry.call(x, out, arena, scratch)
        left = get()
    finally:
        put(usual)
    assert answer is None
    assert out.tolist() == [2, 2, 2]  # half of 3 least denormals, to even; 0 if flushed
    assert left & ~0x3F == flush_and_round_up


def test_the_run_time_compiles_for_the_other_architecture() -> None:
    for name in ("x86-64", "aarch64"):
        made = target.named(name)
        assert "sw_join:" in jit.emit_assembly(native.runtime_ir(made.arch), made)
    with pytest.raises(TargetError, match="no code for riscv64"):
        native.runtime_ir("riscv64")


PREAMBLE = """
import os, signal, sys, threading, time
import numpy as np
from conftest import compiled_programs
from stepwell.backends.cpu.entry import Argument, NativeEntry, aligned_bytes, new_scratch
from stepwell.backends.cpu.team import Team
VECTOR = Argument(np.int64, ("n",))
Team.get(threads=3)
copy = NativeEntry(compiled_programs(), "copy", [VECTOR], [VECTOR])
def good():
    x, out = np.arange(500), np.zeros(500, np.int64)
    return copy.call(x, out, aligned_bytes(0), new_scratch(0)) is None and np.array_equal(x, out)
def endless(program="endless", **kw):
    entry = NativeEntry(compiled_programs(), program, [VECTOR], [VECTOR], **kw)
    return entry.call(np.arange(1), np.zeros(1, np.int64), aligned_bytes(0), new_scratch(0))
"""


def test_fork_between_calls(run_script: Script) -> None:
    done = run_script(
        PREAMBLE
        + """
assert good()
for _ in range(3):
    child = os.fork()
    if child == 0:
        ok = good() and good()
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if good() else 4)
        ok = ok and os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
        os._exit(0 if ok and good() else 3)
    assert good()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("both work")
"""
    )
    assert (done.stdout, done.returncode) == ("both work\n", 0), done.stderr


def test_fork_while_another_thread_is_in_a_call(run_script: Script) -> None:
    done = run_script(
        PREAMBLE
        + """
threading.Thread(target=endless, daemon=True).start()
while not any("stepwell" in open(f"/proc/self/task/{t}/comm").read() for t in os.listdir("/proc/self/task")):
    time.sleep(0.01)
child = os.fork()
if child == 0:
    os._exit(0 if good() else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), good(), flush=True)
os._exit(0)
"""
    )
    assert done.stdout == "0 True\n", done.stderr


@pytest.mark.parametrize("parallel", [True, False])
def test_ctrl_c_ends_a_long_call(run_script: Script, parallel: bool) -> None:
    done = run_script(
        PREAMBLE
        + f"""
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    endless(parallel={parallel})
except KeyboardInterrupt:
    print("interrupted", good())
"""
    )
    assert (done.stdout, done.returncode) == ("interrupted True\n", 0), done.stderr


def test_a_signal_handler_may_run_a_model_and_the_call_goes_on(run_script: Script) -> None:
    done = run_script(
        PREAMBLE
        + """
seen = []
def handler(*_):
    seen.append(good())
    if len(seen) == 2:
        raise ValueError("enough")
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
signal.signal(signal.SIGUSR1, handler)
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
try:
    endless()
except ValueError as error:
    print(error, seen, good())
"""
    )
    assert (done.stdout, done.returncode) == ("enough [True, True] True\n", 0), done.stderr


def test_exit_with_a_call_in_a_daemon_thread(run_script: Script) -> None:
    done = run_script(
        PREAMBLE
        + """
threading.Thread(target=endless, daemon=True).start()
time.sleep(0.2)
print("leaving", good(), flush=True)
"""
    )
    assert (done.stdout, done.returncode) == ("leaving True\n", 0), done.stderr


def test_exit_joins_the_workers(run_script: Script) -> None:
    done = run_script(
        PREAMBLE
        + """
import atexit
assert good()
def workers():
    return sum("stepwell" in open(f"/proc/self/task/{t}/comm").read() for t in os.listdir("/proc/self/task"))
while workers() < 2:  # a worker gives itself its name
    time.sleep(0.001)
before = workers()
team = Team.get()
team._at_exit()
print(before, workers(), team.size)
"""
    )
    assert (done.stdout, done.returncode) == ("2 0 1\n", 0), done.stderr


def test_importing_the_backend_does_not_import_llvmlite(run_script: Script) -> None:
    done = run_script(
        "import sys\n"
        "from stepwell.backends.cpu import abi, entry, jit, native, target, team\n"
        "print('llvmlite' in sys.modules, 'onnx' in sys.modules)\n"
    )
    assert done.stdout == "False False\n", done.stderr
