"""What the tests of the public API and the command share: a backend that interprets, so that they need no code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stepwell.check import interpret
from stepwell.ir.core import Operation

os.environ["STEPWELL_CACHE"] = "off"  # the tests see what the code makes, not what an earlier one made


class InterpretingProgram:
    """Runs the loop landing in the interpreter, as a compiled program would be run."""

    def __init__(self, module: Operation) -> None:
        self.module = module

    def run(self, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        from stepwell.ports import main_function, ports_of

        ports, _ = ports_of(main_function(self.module))
        seen = [port.restore(array) for port, array in zip(ports, arrays, strict=True)]
        return interpret(self.module, seen, budget=10**9).results


class InterpretingBackend:
    """Stands in for the CPU backend's model builder; `builds` counts what was built."""

    def __init__(self) -> None:
        self.builds = 0

    def build(
        self, module: Operation, target: Any, *, threads: int | None = None, sanitize: bool = False,
        cached: bool = False, executable: Any = None,
    ) -> InterpretingProgram:
        self.builds += 1
        return InterpretingProgram(module)

    def llvm_ir(self, module: Operation, target: Any) -> str:
        return "define void @main() {\n}\n"

    def objects(self, module: Operation, target: Any) -> list[bytes]:
        return [b"\x7fELF", b"odd"]


@pytest.fixture
def interpreting_backend(monkeypatch: pytest.MonkeyPatch) -> InterpretingBackend:
    made = InterpretingBackend()
    for module in ("stepwell.commands", "stepwell.compiler"):  # in this order: the first has a name for it
        monkeypatch.setattr(f"{module}.backend", lambda: made)
    return made
