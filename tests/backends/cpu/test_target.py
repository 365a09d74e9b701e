from __future__ import annotations

import pytest

from stepwell.backends.cpu import jit, target
from stepwell.errors import TargetError

SQUARE = "define <4 x float> @square(<4 x float> %x) {\n  %y = fmul <4 x float> %x, %x\n  ret <4 x float> %y\n}\n"


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("x86-64", {"vector_bytes": 16, "vector_registers": 16, "has_fma": False, "has_masks": False}),
        ("x86-64-v3", {"vector_bytes": 32, "vector_registers": 16, "has_fma": True, "has_masks": False}),
        ("x86-64-v4", {"vector_bytes": 64, "vector_registers": 32, "has_fma": True, "has_masks": True}),
        ("aarch64", {"vector_bytes": 16, "vector_registers": 32, "has_fma": True, "has_masks": False}),
    ],
)
def test_named_targets(name: str, facts: dict[str, object]) -> None:
    made = target.named(name)
    assert {key: getattr(made, key) for key in facts} == facts
    assert made == target.named(name)
    assert hash(made) == hash(target.named(name))


@pytest.mark.parametrize(
    ("name", "mnemonic"), [("x86-64", "mulps"), ("x86-64-v3", "vmulps"), ("x86-64-v4", "vmulps"), ("aarch64", "fmul")]
)
def test_every_target_makes_assembly(name: str, mnemonic: str) -> None:
    assert mnemonic in jit.emit_assembly(SQUARE, target.named(name)).split()


def test_lanes() -> None:
    assert [target.named("x86-64-v4").lanes(bits) for bits in (8, 16, 32, 64)] == [64, 32, 16, 8]


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(TargetError, match=r"unknown CPU target 'pentium'.*x86-64-v3.*aarch64"):
        target.named("pentium")


def test_the_host_runs_its_own_code() -> None:
    target.check_runs_here(target.host())
    assert target.named("cpu") is target.host()


def test_another_architecture_does_not_run_here() -> None:
    other = "aarch64" if target.host().arch == "x86_64" else "x86-64"
    with pytest.raises(TargetError, match="cannot run on this machine"):
        target.check_runs_here(target.named(other))


@pytest.mark.skipif(target.host().arch != "x86_64", reason="x86 features")
def test_a_missing_feature_is_named() -> None:
    base = target.named("x86-64")
    with pytest.raises(TargetError, match="lacks tbm9"):
        target.check_runs_here(base._replace(features=base.features + ",+tbm9"))


@pytest.mark.parametrize("name", ["cpu", "aarch64"])
def test_describe(name: str) -> None:
    text = target.describe(target.named(name))
    assert {"target", "vectors", "caches", "features"} <= {line.partition(":")[0] for line in text.splitlines()}
    assert ("threads:" in text) == (name == "cpu")
