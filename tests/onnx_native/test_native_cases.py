"""A sample of ONNX's node tests as machine code; `python -m tests.onnx_native.sweep` runs them all."""

from __future__ import annotations

import hashlib

import pytest

from tests.onnx_native.cases import OK, REFUSED, node_cases, outcome

SAMPLE = 10  # every tenth case, chosen by the hash of its name


def sampled() -> list[str]:
    return [name for name in node_cases() if hashlib.sha256(name.encode()).digest()[0] % SAMPLE == 0]


@pytest.mark.parametrize("name", sampled())
def test_case(name: str) -> None:
    made = outcome(node_cases()[name])
    if made.kind == REFUSED:
        pytest.skip(made.reason)
    assert made.kind == OK, made.reason
