"""A sample of ONNX's suite; `python -m tests.onnx_conformance` runs all of it, in each of its modes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests import emulation
from tests.onnx_conformance.cases import REFUSED, RIGHT, WRONG
from tests.onnx_conformance.suite import UNREACHABLE, WAYS, items, networks, outcome

SAMPLE = 30  # every so many cases, chosen by the hash of its name, and half as many others with bounds checked
IN_MODES = 90  # every so many in each of the harder modes
EMULATED = 180  # every so many of them under qemu


def sampled(remainder: int, of: int = SAMPLE) -> list[str]:
    names = [name for name in items() if hashlib.sha256(name.encode()).digest()[0] % of == remainder]
    return [name for name in names if name not in UNREACHABLE]


# What is right but not what the suite expects, by mode: it rounds f16 after every step of a definition whose keys are
# folded or whose scale is a symbol here, and its zeros are sums that it rounds.
EXPANDED = "test_attention_4d_causal_fp16_expanded"
ROUNDED_OTHERWISE = {
    "symbolic": (EXPANDED, "test_dft_inverse", "test_dft_inverse_opset19"), "constant": (EXPANDED,),
}  # fmt: skip


def check(name: str, mode: str, **options: object) -> None:
    made = outcome(name, mode, **options)
    if made.kind == WRONG and name in ROUNDED_OTHERWISE.get(mode, ()):
        pytest.xfail(made.reason)
    if made.kind == REFUSED:
        pytest.skip(made.reason)
    assert made.kind in RIGHT, made.reason


@pytest.mark.parametrize("name", sampled(0))
def test_case(name: str) -> None:
    check(name, "given")


@pytest.mark.parametrize("name", [name for name in sampled(1, 2 * SAMPLE) if name not in networks()])
def test_case_with_bounds_checked(name: str) -> None:
    check(name, "given", sanitize=True)


@pytest.mark.parametrize("mode", [mode for mode in WAYS if mode != "given"])
@pytest.mark.parametrize("name", [name for name in sampled(2, IN_MODES) if name not in networks()])
def test_case_in_mode(name: str, mode: str) -> None:
    check(name, mode)


@pytest.mark.skipif(bool(emulation.missing()), reason=emulation.missing())
@pytest.mark.parametrize("name", sampled(3, EMULATED))
def test_case_on_aarch64(name: str, tmp_path: Path) -> None:
    with emulation.of(tmp_path):
        check(name, "given", target="aarch64")
