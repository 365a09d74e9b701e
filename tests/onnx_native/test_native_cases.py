"""A sample of ONNX's node tests as machine code; `python -m tests.onnx_native.sweep` runs them all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests import emulation
from tests.onnx_native.cases import OK, REFUSED, node_cases, outcome

SAMPLE = 10  # every tenth case, chosen by the hash of its name, and every tenth of the others with bounds checked


EMULATED = 60  # every so many of them under qemu


def sampled(remainder: int, of: int = SAMPLE) -> list[str]:
    return [name for name in node_cases() if hashlib.sha256(name.encode()).digest()[0] % of == remainder]


@pytest.mark.parametrize(
    ("name", "sanitize"),
    [*((name, False) for name in sampled(0)), *((name, True) for name in sampled(1))],
)
def test_case(name: str, sanitize: bool) -> None:
    made = outcome(node_cases()[name], sanitize)
    if made.kind == REFUSED:
        pytest.skip(made.reason)
    assert made.kind == OK, made.reason


@pytest.mark.skipif(bool(emulation.missing()), reason=emulation.missing())
@pytest.mark.parametrize("name", sampled(2, EMULATED))
def test_case_on_aarch64(name: str, tmp_path: Path) -> None:
    with emulation.of(tmp_path):
        made = outcome(node_cases()[name], target="aarch64")
    if made.kind == REFUSED:
        pytest.skip(made.reason)
    assert made.kind == OK, made.reason
