"""Instruments around passes: printing, dumping, timing, verifying, saving what a failing pass was given."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TextIO

import attrs

from stepwell.errors import OutputError
from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass
from stepwell.ir.printer import PrintOptions, print_op
from stepwell.ir.resources import WeightsFile, module_text
from stepwell.ir.verifier import verify
from stepwell.outputs import Outputs, naming, write


class Quiet:
    """An instrument that does nothing; others override what they need."""

    def before(self, pass_: Pass, module: Operation) -> None:
        """Called before a pass."""

    def after(self, pass_: Pass, module: Operation) -> None:
        """Called after a pass that worked."""

    def failed(self, pass_: Pass, module: Operation, error: Exception) -> None:
        """Called when a pass raised."""


@attrs.define
class PrintIR(Quiet):
    """Prints the IR before and after passes of given names (None: all), and where a pass failed, what it left.

    With `changed`, a pass prints the unified diff of what it changed instead."""

    stream: TextIO
    options: PrintOptions = attrs.field(factory=PrintOptions)
    names_before: Collection[str] | None = ()
    names_after: Collection[str] | None = ()
    changed: bool = False
    _last: str = attrs.field(default="", init=False)

    def before(self, pass_: Pass, module: Operation) -> None:
        if self.changed:
            self._last = print_op(module, self.options)
        if self.names_before is None or pass_.name in self.names_before:
            self._print(f"before {pass_}", print_op(module, self.options))

    def after(self, pass_: Pass, module: Operation) -> None:
        if self.changed:
            text = print_op(module, self.options)
            if text == self._last:
                self._print(f"{pass_} changed nothing", "")
            else:
                self._print(f"{pass_} changed", _diff(self._last, text))
        if self.names_after is None or pass_.name in self.names_after:
            self._print(f"after {pass_}", print_op(module, self.options))

    def failed(self, pass_: Pass, module: Operation, error: Exception) -> None:
        if self.changed or self.names_after is None or pass_.name in self.names_after:
            self._print(f"{pass_} failed and left", print_op(module, self.options))

    def _print(self, title: str, text: str) -> None:
        self.stream.write(f"// ----- {title} -----\n" + (f"{text.rstrip()}\n" if text else ""))
        self.stream.flush()


def _diff(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="", n=2)
    return "\n".join(lines)


class DumpFolder(Quiet):
    """Writes the module after every pass to `NN.landing.pass.mlir`, and before the first to `00.landing.input.mlir`.

    Each file is complete: the constants lie in one `weights.bin` beside them. `landing_of` names a module's landing."""

    def __init__(self, folder: Path, landing_of: Callable[[Operation], str]) -> None:
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.landing_of = landing_of
        self.weights = WeightsFile(folder / "weights.bin")
        self.written: list[Path] = []

    def before(self, pass_: Pass, module: Operation) -> None:
        if not self.written:
            self._write("input", module)

    def after(self, pass_: Pass, module: Operation) -> None:
        self._write(pass_.name, module)

    def _write(self, what: str, module: Operation) -> None:
        path = self.folder / f"{len(self.written):02}.{self.landing_of(module)}.{what}.mlir"
        write(path, module_text(module, self.weights))
        self.written.append(path)


class Timing(Quiet):
    """Measures passes; `table()` shows them."""

    def __init__(self) -> None:
        self.seconds: list[tuple[str, float]] = []
        self._start = 0.0

    def before(self, pass_: Pass, module: Operation) -> None:
        self._start = time.perf_counter()

    def after(self, pass_: Pass, module: Operation) -> None:
        self.add(str(pass_), time.perf_counter() - self._start)

    def add(self, name: str, seconds: float) -> None:
        """Record something that is no pass, such as the backend."""
        self.seconds.append((name, seconds))

    def table(self) -> str:
        """One line per pass, in the order in which they ran: milliseconds, share, name."""
        total = sum(seconds for _, seconds in self.seconds)
        rows = [f"{1e3 * s:10.2f} ms {100 * s / (total or 1):5.1f} %  {name}" for name, s in self.seconds]
        return "\n".join([*rows, f"{1e3 * total:10.2f} ms  in all"])


class VerifyEach(Quiet):
    """Verifies the module after every pass; the error says which pass broke it."""

    def after(self, pass_: Pass, module: Operation) -> None:
        try:
            verify(module)
        except Exception as error:
            error.add_note(f"the pass {pass_} left the IR so")
            raise


class CrashReproducer(Quiet):
    """Keeps what each pass is given; when one fails, writes it to a folder, with the command that repeats it."""

    def __init__(self, folder: Path, command: str = "lower") -> None:
        self.folder = folder
        self.command = command
        self._given: Operation | None = None

    def before(self, pass_: Pass, module: Operation) -> None:
        self._given = module.clone()

    def failed(self, pass_: Pass, module: Operation, error: Exception) -> None:
        if self._given is None:
            return
        path = self.folder / f"{pass_.name}.mlir"
        rerun = f"{self.command} --pipeline '{pass_}' {path}"
        said = str(error).partition("\n")[0]
        try:
            self._write(path, f"// {type(error).__name__}: {said}\n// {rerun}\n", self._given)
        except OutputError as problem:
            error.add_note(f"what the pass {pass_} was given could not be kept: {problem}")
            return
        error.add_note(f"what the pass {pass_} was given is in {path}; repeat it with:\n  {rerun}")

    def _write(self, path: Path, head: str, module: Operation) -> None:
        with naming(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with Outputs() as files:
            text = module_text(module, WeightsFile(path.with_name(f"{path.stem}.weights.bin"), files))
            files.new(path).write((head + text).encode())


class Progress(Quiet):
    """Shows the running pass on one line of a terminal, once a compilation takes longer than a moment."""

    def __init__(self, stream: TextIO, patience: float = 1.0) -> None:
        self.stream = stream
        self._due = time.perf_counter() + patience
        self._shown = False

    def before(self, pass_: Pass, module: Operation) -> None:
        if time.perf_counter() > self._due:
            self.show(str(pass_))

    def show(self, what: str) -> None:
        """Say what is being done."""
        self.stream.write(f"\r\x1b[K{what} ...")
        self.stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self._shown = False

    def failed(self, pass_: Pass, module: Operation, error: Exception) -> None:
        self.clear()
