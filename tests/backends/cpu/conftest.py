"""Small programs written by hand in LLVM IR, compiled once for all tests of the run time."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stepwell.backends.cpu import abi, jit, native, target
from stepwell.backends.cpu.team import Team

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs.ll"


@functools.cache
def compiled_programs() -> jit.Code:
    text = abi.RUNTIME_DECLARATIONS + PROGRAMS.read_text()
    return jit.load([jit.compile_object(text, target.host())], native.externals())


@pytest.fixture
def programs() -> jit.Code:
    return compiled_programs()


@pytest.fixture(autouse=True)
def usual_team() -> Iterator[None]:
    """Gives the team its size back after a test that changed it."""
    size = Team.get().size
    yield
    Team.get(threads=size)


@pytest.fixture
def run_script() -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs Python code in a process of its own that can import the test programs as `conftest`."""

    def run(code: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(HERE), *(entry or os.getcwd() for entry in sys.path)])
        return subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", code],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
