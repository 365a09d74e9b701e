"""A sample of ONNX's node tests as machine code; `python -m tests.onnx_native.sweep` runs them all."""

from __future__ import annotations

import hashlib

import pytest

from tests.onnx_native.cases import OK, REFUSED, node_cases, outcome

SAMPLE = 10  # every tenth case, chosen by the hash of its name, and every tenth of the others with bounds checked


def sampled(remainder: int) -> list[str]:
    return [name for name in node_cases() if hashlib.sha256(name.encode()).digest()[0] % SAMPLE == remainder]


@pytest.mark.parametrize(
    ("name", "sanitize"),
    [*((name, False) for name in sampled(0)), *((name, True) for name in sampled(1))],
)
def test_case(name: str, sanitize: bool) -> None:
    made = outcome(node_cases()[name], sanitize)
    if made.kind == REFUSED:
        pytest.skip(made.reason)
    assert made.kind == OK, made.reason
