"""Tools are told where code is: perf's map covers every function, GDB finds kernels by name."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import stepwell
from stepwell.backends.cpu import announce, elf, jit, target
from stepwell.backends.cpu.llvm import CodegenError

MODEL = """builtin.module {
  func.func @main(%x: tensor<4x3xf32> {onnx.name = "x"}, %w: tensor<3x5xf32> {onnx.name = "w"}) -> tensor<4x5xf32> {
    %a = graph.matmul %x, %w : (tensor<4x3xf32>, tensor<3x5xf32>) -> tensor<4x5xf32> loc("NODE")
    func.return %a : tensor<4x5xf32>
  }
}
"""
FUNCTIONS = """\
define internal i64 @inner(i64 %x) noinline {
  %y = mul i64 %x, 3
  ret i64 %y
}
define hidden i64 @k_outer(i64 %x) {
  %y = call i64 @inner(i64 %x)
  ret i64 %y
}
define i64 @"stepwell.task.k_outer"() { ret i64 1 }
"""
LINE = re.compile(r"([0-9a-f]+) ([0-9a-f]+) (.+)")


@pytest.fixture
def map_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process's map goes instead."""
    monkeypatch.setenv(announce.PERF_VARIABLE, "1")
    monkeypatch.setattr(announce, "map_path", lambda pid: tmp_path / f"perf-{pid}.map")
    monkeypatch.setattr(announce, "_lines", [])
    monkeypatch.setattr(announce, "_written_by", 0)
    return tmp_path / f"perf-{os.getpid()}.map"


def entries(path: Path) -> list[tuple[int, int, str]]:
    found = []
    for line in path.read_text().splitlines():
        match = LINE.fullmatch(line)
        assert match is not None, line
        found.append((int(match[1], 16), int(match[2], 16), match[3]))
    return found


def test_the_map_has_every_function_where_it_is(map_file: Path) -> None:
    image = jit.compile_object(FUNCTIONS, target.host())
    code = jit.load([image], nodes={"k_outer": ["conv", "relu"]})
    functions = {function.name: function for function in elf.functions_of(image)}
    assert set(functions) == {"inner", "k_outer", "stepwell.task.k_outer"}
    assert functions["inner"].is_local and not functions["k_outer"].is_local
    found = {name: (start, size) for start, size, name in entries(map_file)}
    assert set(found) == {"inner", "k_outer [conv + relu]", "stepwell.task.k_outer [conv + relu]"}
    assert found["k_outer [conv + relu]"] == (code.address("k_outer"), functions["k_outer"].size)
    start, _ = found["inner"]
    assert start - code.address("k_outer") == functions["inner"].offset - functions["k_outer"].offset


def test_a_model_adds_its_kernels(map_file: Path) -> None:
    stepwell.compile(MODEL.replace("NODE", "layer/matmul"), threads=1, cache=False)
    first = entries(map_file)
    assert [name for _, _, name in first if name.startswith("k_") and name.endswith("[layer/matmul]")]
    assert "stepwell.main" in [name for _, _, name in first]
    assert all(start > 0 and size > 0 for start, size, _ in first)
    ranges = sorted((start, start + size) for start, size, _ in first)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    stepwell.compile(MODEL.replace("NODE", "other"), threads=1, cache=False)
    assert entries(map_file)[: len(first)] == first and len(entries(map_file)) > len(first)


def test_without_the_variable_nothing_is_written(map_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "0"):
        monkeypatch.setenv(announce.PERF_VARIABLE, value)
        code = jit.load([jit.compile_object(FUNCTIONS, target.host())])
        assert code.symbols == {"stepwell.task.k_outer"}
    assert not map_file.exists()


@pytest.mark.parametrize(
    ("symbol", "nodes", "expected"),
    [
        ("k_a", [], "k_a"),
        ("k_a", ["a"], "k_a [a]"),
        ("stepwell.task.k_a", ["a", "b"], "stepwell.task.k_a [a + b]"),
        ("k_a", ["a\nffff 10 forged\0\x1b[31m"], "k_a [a?ffff 10 forged??[31m]"),
        ("k_a", ["x" * 500], "k_a [" + "x" * (announce.MOST_NAME - 9) + "...]"),
    ],
)
def test_names_fit_on_a_line(symbol: str, nodes: list[str], expected: str) -> None:
    found = announce.shown(symbol, {"k_a": nodes} if nodes else {})
    assert found == expected and len(found) <= announce.MOST_NAME


def test_others_files_are_left_alone(map_file: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    map_file.symlink_to(precious)
    with pytest.warns(UserWarning, match="cannot be written"):
        announce.write_lines(["1 2 a\n"])
    assert precious.read_text() == "keep"
    map_file.unlink()
    map_file.mkdir()
    with pytest.warns(UserWarning, match="cannot be written"):
        announce.write_lines(["1 2 b\n"])


def test_the_map_of_a_process_that_had_the_same_number_goes(map_file: Path) -> None:
    map_file.write_text("1 2 of long ago\n")
    os.utime(map_file, (0, announce.process_start() - 10))
    announce.write_lines(["1 2 a\n"])
    assert map_file.read_text() == "1 2 a\n"
    os.utime(map_file, (0, 0))
    announce.write_lines(["3 4 b\n"])
    assert map_file.read_text() == "1 2 a\n3 4 b\n"


def test_what_others_wrote_in_this_process_stays(map_file: Path) -> None:
    map_file.write_text("1 2 of another compiler\n")
    announce.write_lines(["3 4 a\n"])
    assert map_file.read_text() == "1 2 of another compiler\n3 4 a\n"


def test_a_child_has_a_map_of_its_own(map_file: Path) -> None:
    announce.write_lines(["1 2 a\n"])
    child = os.fork()
    if child == 0:
        announce.write_lines(["3 4 b\n"])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert map_file.read_text() == "1 2 a\n"
    assert map_file.with_name(f"perf-{child}.map").read_text() == "1 2 a\n3 4 b\n"


def test_what_gdb_sees_gives_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = np.arange(12, dtype=np.float32).reshape(4, 3), np.ones((3, 5), np.float32)
    monkeypatch.setenv(announce.GDB_VARIABLE, "1")
    compiled = stepwell.compile(MODEL.replace("NODE", "a"), threads=2)
    np.testing.assert_array_equal(compiled(x, w), x @ w)
    image = jit.compile_object(FUNCTIONS, target.host())
    assert jit.load([image]).symbols == {"k_outer", "stepwell.task.k_outer"}
    with pytest.raises(CodegenError, match=r"do not link: defined more than once: k_outer, stepwell\.task\.k_outer"):
        jit.load([image, image])


IN_GDB = """
import os, signal
import numpy as np
import stepwell
compiled = stepwell.compile({model!r}, threads=1)
compiled(np.ones((4, 3), np.float32), np.ones((3, 5), np.float32))
os.kill(os.getpid(), signal.SIGTRAP)
"""


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_knows_kernels_by_name(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(IN_GDB.format(model=MODEL.replace("NODE", "layer/matmul")))
    command = ["gdb", "-nx", "-batch", "-ex", "set debuginfod enabled off", "-ex", "run",
               "-ex", "info functions ^k_layer_matmul", "-ex", "info symbol k_layer_matmul",
               "--args", sys.executable, str(script)]  # fmt: skip
    environment = {**os.environ, announce.GDB_VARIABLE: "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if "SIGTRAP" not in done.stdout:
        pytest.skip(f"gdb cannot run programs here: {done.stderr.strip()[-200:]}")
    assert re.search(r"0x[0-9a-f]+\s+k_layer_matmul$", done.stdout, re.M)
    assert "k_layer_matmul in section .text" in done.stdout
