"""A sample of ONNX's suite; `python -m tests.onnx_conformance` runs all of it, in each of its modes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests import emulation
from tests.onnx_conformance.cases import HOST
from tests.onnx_conformance.expected import EXEMPTIONS, surprise
from tests.onnx_conformance.operators import calls_host
from tests.onnx_conformance.suite import MODES, WAYS, items, networks, outcome

SAMPLE = 30  # every so many cases, chosen by the hash of its name, and half as many others with bounds checked
IN_MODES = 90  # every so many in each of the harder modes
EMULATED = 180  # every so many of them under qemu


def sampled(remainder: int, of: int = SAMPLE) -> list[str]:
    return [name for name in items() if hashlib.sha256(name.encode()).digest()[0] % of == remainder]


def check(name: str, mode: str, **options: object) -> None:
    """Fails where the outcome is not the expected one."""
    made = outcome(name, mode, **options)
    if unexpected := surprise(made, mode, emulated=options.get("target") == "aarch64"):
        pytest.fail(unexpected)
    assert made.kind != HOST or calls_host(made.operators), "no rule says that it calls the host"


@pytest.mark.parametrize("name", sampled(0))
def test_case(name: str) -> None:
    check(name, "given")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", EXEMPTIONS)
def test_exempt_case(name: str, mode: str) -> None:
    """It does not pass as the list says, and passes in the modes that the list does not name."""
    check(name, mode)


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
