"""What processors are asked for: as LLVM asks them."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from stepwell.backends.cpu import aot, aot_c, cpuid, llvm, target
from stepwell.errors import EngineError, TargetError

HOST = target.host()
on_x86 = pytest.mark.skipif(HOST.arch != "x86_64", reason="x86 features")


def are_here(features: Sequence[str], folder: Path) -> list[bool]:
    """What the C that is made for processors with these features says on this machine."""
    text = ""
    for number, flags in enumerate(features):
        check = aot_c.processor_check(target.Processor("made up", HOST.triple, flags))
        check = re.sub(r"\b(wanted|saved|fits)\b", rf"\1_{number}", check)
        text += check + f"int answer_{number}(void) {{ return fits_{number}(); }}\n"
    (folder / "fits.c").write_text(text)
    try:
        command = [*aot.compiler_for(HOST.arch), "-Wall", "-Werror", "-shared", "-fPIC", "-o", "fits.so", "fits.c"]
    except EngineError:
        pytest.skip("there is no C compiler (cc, gcc or clang)")
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "fits.so"))
    return [bool(library[f"answer_{number}"]()) for number in range(len(features))]


@on_x86
def test_every_name_of_llvms_is_known() -> None:
    names = set(llvm.binding().get_host_cpu_features())
    assert names - cpuid.UNASKED - cpuid.KNOWN.keys() == set()


@pytest.mark.parametrize("name", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_every_name_of_the_targets_is_known(name: str) -> None:
    asked = cpuid.requirements(target.named(name).enabled_features)
    assert {need.feature for need in asked} == target.named(name).enabled_features - cpuid.UNASKED


@on_x86
def test_processors_are_asked_as_llvm_asks_them(tmp_path: Path) -> None:
    known = llvm.binding().get_host_cpu_features()
    names = sorted(cpuid.KNOWN.keys() & known.keys())
    found = are_here([f"+{name}" for name in names], tmp_path)
    assert dict(zip(names, found, strict=True)) == {name: known[name] for name in names}
    assert True in found and False in found


@on_x86
def test_all_features_must_be_there(tmp_path: Path) -> None:
    lacking = next(name for name, on in llvm.binding().get_host_cpu_features().items() if not on)
    assert are_here(["", HOST.features, f"{HOST.features},+{lacking}"], tmp_path) == [True, True, False]


@on_x86
def test_registers_that_the_system_does_not_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit 30 of XCR0 stands for no registers."""
    monkeypatch.setitem(cpuid.KNOWN, "sse3", cpuid.KNOWN["sse3"]._replace(state=1 << 30))
    monkeypatch.setitem(cpuid.KNOWN, "cx16", cpuid.KNOWN["cx16"]._replace(state=1))
    assert are_here(["+sse3", "+cx16"], tmp_path) == [False, True]


@pytest.mark.parametrize(
    ("features", "unknown"), [({"avx2", "warp9"}, "warp9"), ({"tbm9", "avx2", "sse9"}, "sse9, tbm9")]
)
def test_features_of_which_nothing_is_known(features: set[str], unknown: str) -> None:
    with pytest.raises(TargetError, match=f"tells that it has {unknown}: compile for a target"):
        cpuid.requirements(features)


def test_other_processors_are_not_asked() -> None:
    processor = target.Processor("aarch64", "aarch64-unknown-linux-gnu", "+neon,+warp9")
    assert "cpuid" not in aot_c.processor_check(processor)
