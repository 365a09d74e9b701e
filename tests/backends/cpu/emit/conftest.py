"""Programs written in the IR, run by the interpreter and as machine code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepwell.backends.cpu import model, target
from stepwell.backends.cpu.share import ShareOut
from stepwell.backends.cpu.signature import Signature
from stepwell.errors import TargetError
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from tests import emulation

Array = np.ndarray[Any, Any]
Run = Callable[[str, Sequence[Array]], list[Array]]


def target_or_skip(name: str) -> target.CpuTarget:
    chosen = target.named(name)
    try:
        target.check_runs_here(chosen)
    except TargetError as error:
        pytest.skip(str(error))
    return chosen


@pytest.fixture(params=["x86-64-v4", "x86-64-v3", "x86-64"])
def level(request: pytest.FixtureRequest) -> target.CpuTarget:
    """A target that this machine can run."""
    return target_or_skip(request.param)


def interpreted(module: Operation, arrays: Sequence[Array], outputs: Sequence[Array]) -> list[Array]:
    """What the interpreter makes of a program without an arena."""
    made = [np.zeros_like(array) for array in outputs]
    with np.errstate(all="ignore"):
        run_function(model.program_of(module), [*arrays, *made])
    return made


def run_both(text: str, arrays: Sequence[Array], level: target.CpuTarget) -> list[Array]:
    """Runs a program as machine code and in the interpreter, as it is written and as the team runs it, and holds the
    results against each other; of two zeros either will do."""
    module = parse_module(text)
    verify(module)
    compiled = model.build(module, level)
    outputs = compiled.run(arrays)
    shared = module.clone()
    ShareOut().run(shared, PassContext(level))
    verify(shared)
    for form in (module, shared):
        for name, native, expected in zip(compiled.outputs, outputs, interpreted(form, arrays, outputs), strict=True):
            assert native.dtype == expected.dtype
            np.testing.assert_array_equal(plain(native), plain(expected), err_msg=name.name, strict=True)
    return outputs


def plain(array: Array) -> Array:
    """An array whose element type NumPy's own comparisons know."""
    return array.astype(np.float64) if array.dtype.kind == "V" or array.dtype.name == "bfloat16" else array


@pytest.fixture
def aarch64(tmp_path: Path) -> Iterator[target.CpuTarget]:
    """A target that qemu runs."""
    if emulation.missing():
        pytest.skip(emulation.missing())
    with emulation.of(tmp_path):
        yield target.named("aarch64")


@pytest.fixture
def both_on_aarch64(aarch64: target.CpuTarget) -> Run:
    return lambda text, arrays: run_both(text, arrays, aarch64)


@pytest.fixture
def both(level: target.CpuTarget) -> Run:
    return lambda text, arrays: run_both(text, arrays, level)


def described(text: str) -> Signature:
    return Signature.of(model.program_of(parse_module(text)))
