"""One engine in one child process, which is stopped whenever another engine is timed.

Engines keep worker threads that go on spinning after a call returns, so two engines in one process, or in two running
processes, slow each other down. Between its blocks a worker's process therefore gets SIGSTOP.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import attrs
import numpy as np
import numpy.typing as npt

from benchmarks.contention import Watch

P = ParamSpec("P")
T = TypeVar("T")
Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
Run = Callable[[Feeds], Sequence[Array]]
# An engine: takes a ModelProto and a number of threads, gives what runs the model on arrays by input name.
Engine = Callable[[Any, int], Run]

PR_SET_PDEATHSIG = 1


@attrs.frozen
class Case:
    """A model and its inputs. `build` is called in the child, so it must pickle; large weights never cross a pipe."""

    name: str
    build: Callable[[], tuple[Any, Feeds]]


@attrs.frozen
class Rules:
    """How blocks alternate (`rounds`, `rest` in seconds) and how long one lasts.

    A block is `dropped` untimed calls, then calls for `seconds`, of which there are at least `calls`.
    """

    rounds: int = 7
    seconds: float = 0.5
    calls: int = 5
    dropped: int = 2
    rest: float = 0.1
    load_timeout: float = 900.0


@attrs.frozen
class Loaded:
    """What a worker says once: seconds that its engine took to compile the model, and the model's outputs."""

    seconds: float
    outputs: tuple[Array, ...]


@attrs.frozen
class Block:
    """The nanoseconds of each timed call of a block, and how many CPUs other processes took of ours meanwhile."""

    times: tuple[int, ...]
    foreign: float


class WorkerError(RuntimeError):
    """An engine failed in its child process; the text is the engine's own error, or how the process ended."""


def _siblings(cpu: int) -> frozenset[int]:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        text = path.read_text()
    except OSError:
        return frozenset({cpu})
    ranges = [part.partition("-") for part in text.strip().split(",")]
    return frozenset(n for first, _, last in ranges for n in range(int(first), int(last or first) + 1))


def cores(count: int) -> frozenset[int] | None:
    """`count` CPUs of those this process may use, on cores of their own while there are any; None: no such control.

    Raises ValueError when there are fewer than `count`.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    if count > len(allowed):
        raise ValueError(f"{count} threads asked for, {len(allowed)} CPUs allowed")
    chosen: list[int] = []
    for cpu in allowed:
        if not _siblings(cpu) & set(chosen):
            chosen.append(cpu)
    chosen += [cpu for cpu in allowed if cpu not in chosen]
    return frozenset(chosen[:count])


def time_block(call: Callable[[], object], rules: Rules, clock: Callable[[], int] = time.perf_counter_ns) -> list[int]:
    """Nanoseconds of each timed call of one block."""
    for _ in range(rules.dropped):
        call()
    times: list[int] = []
    end = clock() + int(rules.seconds * 1e9)
    while len(times) < rules.calls or clock() < end:
        start = clock()
        call()
        times.append(clock() - start)
    return times


def _prepare_process(threads: int) -> None:
    """Die with the parent even while stopped, and see no more CPUs than `threads`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    use_cores(threads)


def use_cores(threads: int) -> None:
    """Let this process see no more CPUs than `threads`, for engines that count them."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if cpus := cores(threads):
        os.sched_setaffinity(0, cpus)


def in_child(part: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `part` gives in a fresh process that does nothing else."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(part, *args, **kwargs).result()


def _serve(connection: Connection, engine: Engine, case: Case, threads: int) -> None:
    """The child: load once and send `Loaded` or the error's text, then time a block for each `Rules` received."""
    try:
        _prepare_process(threads)
        model, feeds = case.build()
        start = time.perf_counter()
        run = engine(model, threads)
        seconds = time.perf_counter() - start
        del model
        outputs = tuple(np.array(array) for array in run(feeds))
    except Exception as error:
        text = str(error).strip()
        connection.send(f"{type(error).__name__}: {text}" if text else type(error).__name__)
        return
    connection.send(Loaded(seconds, outputs))
    while (rules := connection.recv()) is not None:
        watch = Watch()
        times = time_block(lambda: run(feeds), rules)
        connection.send(Block(tuple(times), watch.foreign()))


class Worker:
    """A running child. A context manager: the child is gone at its end."""

    def __init__(self, engine: Engine, case: Case, threads: int, load_timeout: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, engine, case, threads), daemon=True)
        self._process.start()
        far_end.close()
        try:
            self.loaded = self._load(load_timeout)
        except BaseException:
            self.close()
            raise

    def _load(self, timeout: float) -> Loaded:
        if not self._connection.poll(timeout):
            raise WorkerError(f"not ready after {timeout:.0f} s")
        answer = self._receive()
        if not isinstance(answer, Loaded):
            raise WorkerError(str(answer))
        return answer

    def _receive(self) -> object:
        try:
            return self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join(5)
            raise WorkerError(f"its process ended with code {self._process.exitcode}") from error

    def pause(self) -> None:
        """Stop the process with all its threads."""
        self._signal(signal.SIGSTOP)

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Let the process run for the length of the block."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.pause()

    def block(self, rules: Rules) -> Block:
        """Time one block; the process must be awake. Raises WorkerError when it dies."""
        with contextlib.suppress(ConnectionError):  # the process is gone; _receive says how it ended
            self._connection.send(rules)
        block = self._receive()
        if not isinstance(block, Block):
            raise WorkerError(f"unexpected answer: {block!r}")
        return block

    def close(self) -> None:
        """End the process, stopped or not."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _signal(self, number: int) -> None:
        if self._process.pid is not None and self._process.exitcode is None:
            os.kill(self._process.pid, number)
