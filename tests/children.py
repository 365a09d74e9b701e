"""Child processes that run case after case, so that a crash or a hang is a result: lines go in, lines come out."""

from __future__ import annotations

import contextlib
import queue
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs


@attrs.frozen
class Died:
    """What became of a process that did not answer: `hangs`, or ended with a status."""

    status: int
    hangs: bool


class Child:
    """`python -m MODULE --child OPTIONS`, which answers every line with a line; it is replaced when it dies."""

    def __init__(self, module: str, options: Sequence[str], seconds: float) -> None:
        self.seconds = seconds
        self._command = [sys.executable, "-m", module, "--child", *options]
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line: str) -> str | Died:
        """The answer, or what became of the process, of which there is a new one then."""
        process = self.process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], self.seconds)
        answer = process.stdout.readline() if ready else ""
        if answer:
            return answer
        process.kill()
        died = Died(self.close(), not ready)
        self._start()
        return died

    def close(self) -> int:
        """End the process; its exit status."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.process.wait()


def serve(answer: Callable[[str], str]) -> None:
    """The child's side."""
    for line in sys.stdin:
        sys.stdout.write(answer(line.strip()) + "\n")
        sys.stdout.flush()


def answers(
    module: str, lines: Iterable[str], jobs: int, options: Sequence[str], seconds: float
) -> Iterator[tuple[str, str | Died]]:
    """(line, answer) in the order in which they are ready; a line is taken when a child is free."""
    waiting, done = iter(lines), queue.SimpleQueue[tuple[str, str | Died] | None]()
    lock = threading.Lock()

    def work() -> None:
        child = Child(module, options, seconds)
        while True:
            with lock:
                line = next(waiting, None)
            if line is None:
                child.close()
                done.put(None)
                return
            done.put((line, child.ask(line)))

    for _ in range(jobs):
        threading.Thread(target=work, daemon=True).start()
    running = jobs
    while running:
        made = done.get()
        if made is None:
            running -= 1
        else:
            yield made
