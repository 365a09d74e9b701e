"""How the memory of a team of threads is laid out: the team block.

A block is `BLOCK_BYTES` long. Fields that different threads write lie on different pairs of cache lines, because
processors prefetch lines in pairs.
"""

from __future__ import annotations

from .abi import JOBS

MAX_THREADS = 1024
LINE = 128
PARTS = 16  # parts of an interval's grains, at most
JOB = 32  # bytes: task, arguments, and the number of grains up to the end of this job

# Settings: written from Python, kept across a fork. All else in the block is the threads' own.
WANTED = 0  # i64: the size that the team is to have from the next call on
SPIN_NS = 8  # i64: how long a waiting thread spins before it sleeps
MAIN_THREAD = 16  # i64: pthread_self() of Python's main thread, the one that runs signal handlers

STATE = 1 * LINE
OFFSETS = {
    "WANTED": WANTED,
    "SPIN_NS": SPIN_NS,
    "MAIN_THREAD": MAIN_THREAD,
    "SIZE": STATE + 0,  # i64: threads of this team, thread 0 included; 0 before the first call
    "FORMED": STATE + 8,  # i64: the value of WANTED for which the team was formed
    "TSTATE": STATE + 16,  # ptr: saved thread state of a caller who must look for signals, else null
    "CHECKED": STATE + 24,  # i64: when thread 0 last looked for signals, in ns
    "STOP": STATE + 32,  # i32: 1 tells the workers to end
    # The interval. Thread 0 writes it while no grain is held.
    "SCRATCH": STATE + 40,  # ptr: thread 0's scratch memory
    "STRIDE": STATE + 48,  # i64: bytes from one thread's scratch memory to the next one's
    "COUNT": STATE + 56,  # i64: jobs
    "TOTAL": STATE + 64,  # i64: grains of all jobs
    "CODE": 2 * LINE + 0,  # i64: the status: 0, or the code of the first report
    "OP": 2 * LINE + 8,  # i64
    "VALUE": 2 * LINE + 16,  # i64
    "START": 3 * LINE,  # gate: opens when an interval is published
    "DONE": 4 * LINE,  # gate: opens when a worker finishes the last grain
    "PENDING": 5 * LINE,  # i64: grains that are not finished, and 1 until thread 0 has found nothing more to take
    "LOCK": 6 * LINE,  # i32
    "REMAINING": 7 * LINE,  # i64 for each part, LINE apart
    "TASKS": (7 + PARTS) * LINE,  # the jobs
}
BLOCK_BYTES = (7 + PARTS) * LINE + JOBS * JOB
