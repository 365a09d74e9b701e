"""The team of threads that runs compiled models: one per process, shared by all of them.

The threads themselves live in native code (`team_ir`, `interval_ir`); this is the handle that sets their number and
follows the process through fork and exit.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time

from stepwell.errors import TargetError

from . import machine, native, team_block

_SPIN_NS = 200_000  # waking a sleeping thread takes some 50 us: spin for a few times that, then sleep
_EXIT_PATIENCE = 1.0  # seconds that interpreter exit waits for a call in another thread

_lock = threading.Lock()
_team: Team | None = None


class Team:
    """The process's team. `Team.get()` is the only way to it.

    The first call of a model makes the threads. Results never depend on their number.
    """

    def __init__(self) -> None:
        code = native.code()
        self._block = code.address("sw_team")
        self._disband = ctypes.CFUNCTYPE(ctypes.c_int64)(code.address("sw_disband"))
        self._set_main_thread(threading.main_thread().ident or 0)
        self._resize(machine.usable_cores())

    @staticmethod
    def get(threads: int | None = None) -> Team:
        """The team, made at the first use with one thread per usable core (affinity mask and cgroup quota).

        `threads` changes its size from the next call on; a call that is running is not disturbed. Raises `TargetError`
        unless 1 <= threads <= 1024.
        """
        global _team
        with _lock:
            if _team is None:
                _team = Team()
                atexit.register(_team._at_exit)
                os.register_at_fork(after_in_child=_team._after_fork)
        if threads is not None:
            _team._resize(threads)
        return _team

    @property
    def size(self) -> int:
        """The number of threads from the next call on, the calling thread included."""
        return self._word(team_block.WANTED).value

    def _resize(self, threads: int) -> None:
        if not 1 <= threads <= team_block.MAX_THREADS:
            raise TargetError(f"a team has 1 to {team_block.MAX_THREADS} threads, not {threads}")
        # More threads than CPUs: who waits must leave its CPU to who works.
        self._word(team_block.SPIN_NS).value = _SPIN_NS if threads <= machine.allowed_cpus() else 0
        self._word(team_block.WANTED).value = threads

    def _word(self, offset: int) -> ctypes.c_int64:
        return ctypes.c_int64.from_address(self._block + offset)

    def _set_main_thread(self, ident: int) -> None:
        self._word(team_block.MAIN_THREAD).value = ident

    def _after_fork(self) -> None:
        """The child has one thread, and no call: all but the settings goes back to the beginning."""
        ctypes.memset(self._block + team_block.STATE, 0, team_block.BLOCK_BYTES - team_block.STATE)
        self._set_main_thread(threading.get_ident())

    def _at_exit(self) -> None:
        """Joins the workers. A call that still runs in a daemon thread keeps them; the process's end stops those."""
        give_up = time.monotonic() + _EXIT_PATIENCE
        while not self._disband() and time.monotonic() < give_up:
            time.sleep(0.005)
