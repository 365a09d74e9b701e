"""What LLVM says of the machine is kept, and asked again where what is kept does not serve."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stepwell.backends.cpu import facts, llvm
from stepwell.engine.folder import PrivateFolder, Usual


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, which is the usual one here."""
    found = Usual(PrivateFolder.at(tmp_path / "cache"), 1 << 20)
    monkeypatch.setattr(facts, "usual", lambda: found)
    return tmp_path / "cache" / facts.SHELF


def asked() -> facts.Facts:
    return facts.facts.__wrapped__()  # type: ignore[no-any-return]


def test_they_are_what_llvm_says() -> None:
    binding, found = llvm.binding(), facts.facts()
    flags = binding.get_host_cpu_features()
    assert (found.triple, found.cpu) == (binding.get_process_triple(), binding.get_host_cpu_name())
    assert {flag[1:]: flag[0] == "+" for flag in found.features.split(",")} == flags
    assert found.version == llvm.version()


def test_they_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = asked()
    (record,) = folder.iterdir()
    assert json.loads(record.read_text()) == first._asdict()
    monkeypatch.setattr(facts, "_asked", lambda: pytest.fail("LLVM is asked although the facts are known"))
    assert asked() == first


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 5000, "{}", '{"triple": 1, "cpu": "c", "features": "f", "version": "v"}',
             '{"triple": "t", "cpu": "", "features": "f", "version": "v"}'],
)  # fmt: skip
def test_a_damaged_record_is_replaced(folder: Path, text: str) -> None:
    first = asked()
    (record,) = folder.iterdir()
    record.write_text(text)
    assert asked() == first
    assert json.loads(record.read_text()) == first._asdict()


def test_another_processor_or_library_has_another_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked()
    monkeypatch.setattr(facts, "_TELLING", ("vendor_id",))
    asked()
    assert len(list(folder.iterdir())) == 2


def test_without_a_folder_llvm_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "usual", lambda: None)
    assert asked() == facts.facts()


def test_a_model_from_the_cache_runs_without_llvm(tmp_path: Path) -> None:
    program = """
import sys, numpy as np, stepwell
model = stepwell.compile(sys.argv[1])
y = model(np.arange(4, dtype=np.float32))
print(model.is_from_cache, y.tolist(), sorted({name.partition(".")[0] for name in sys.modules} & {"llvmlite", "onnx"}))
"""
    text = """builtin.module {
  func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
    %y = graph.tanh %x : (tensor<4xf32>) -> tensor<4xf32>
    func.return %y : tensor<4xf32>
  }
}
"""
    source = tmp_path / "model.mlir"
    source.write_text(text)
    environment = {"STEPWELL_CACHE": str(tmp_path / "cache"), "PYTHONPATH": ":".join(sys.path)}
    said = [
        subprocess.run([sys.executable, "-c", program, str(source)], env=environment, capture_output=True, text=True)
        for _ in range(2)
    ]
    first, second = (done.stdout.split(" ", 1) for done in said)
    assert first[0] == "False" and second[0] == "True", said
    assert first[1].split("]")[0] == second[1].split("]")[0]
    assert second[1].endswith("[]\n")
