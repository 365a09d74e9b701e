"""Files that are written whole or not at all, and what is said where they cannot be."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stepwell import cli, outputs
from stepwell.errors import EngineError, OutputError
from stepwell.outputs import Outputs, refusal, write

FULL = OSError(errno.ENOSPC, "No space left on device")


class FullDisk(io.FileIO):
    """A file of a disk that has room for ten bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 10:
            raise OSError(*FULL.args)
        return super().write(data)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs.os, "fdopen", lambda descriptor, mode: io.BufferedWriter(FullDisk(descriptor, mode)))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weights = numpy_helper.from_array(np.arange(64, dtype=np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [64]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("given", "expected"), [("größe\n", "größe\n".encode()), (b"\0\xff", b"\0\xff"), ("", b"")])
def test_one_file(tmp_path: Path, given: str | bytes, expected: bytes) -> None:
    write(tmp_path / "new", given)
    write(tmp_path / "new", given)
    assert content(tmp_path) == {"new": expected}


def test_files_appear_together(tmp_path: Path) -> None:
    with Outputs() as files:
        files.new(tmp_path / "a").write(b"1")
        files.new(tmp_path / "b").write(b"2")
        assert not (tmp_path / "a").exists()
    assert content(tmp_path) == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize("problem", [ValueError("no"), FULL, KeyboardInterrupt()])
def test_a_block_that_fails_leaves_the_old_files(tmp_path: Path, problem: BaseException) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError if problem is FULL else type(problem)), Outputs() as files:
        files.new(tmp_path / "a").write(b"1")
        files.new(tmp_path / "b")
        raise problem
    assert content(tmp_path) == {"a": b"old"}


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("length", [11, 100_000])
def test_a_full_disk_leaves_the_old_files(tmp_path: Path, length: int) -> None:
    """Before the end, and at the end, when what is left is written."""
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").write_bytes(b"old")
    why = r"b cannot be written: No space left on device; make room there"
    with pytest.raises(EngineError, match=why), Outputs(EngineError, sync=True) as files:
        files.new(tmp_path / "a").write(b"1")
        files.new(tmp_path / "b").write(bytes(length))
    assert content(tmp_path) == {"a": b"old", "b": b"old"}


def test_a_place_that_is_taken_at_the_end(tmp_path: Path) -> None:
    why = r"a cannot be written: Is a directory; name a file in it"
    with pytest.raises(OutputError, match=why), Outputs() as files:
        files.new(tmp_path / "a").write(b"1")
        (tmp_path / "a").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("name", "why"),
    [(".", "Is a directory; name a file in it"), ("no/file", "No such file or directory; make the folder first"),
     ("file/file", "Not a directory; make the folder first"), ("n" * 300, "File name too long")],
)  # fmt: skip
def test_places_that_cannot_be_written(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=f"cannot be written: {why}"):
        write(tmp_path / name, "text")
    assert content(tmp_path) == {"file": b""}


def test_long_names(tmp_path: Path) -> None:
    write(tmp_path / ("ß" * 127), "text")
    assert content(tmp_path) == {"ß" * 127: b"text"}


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.EACCES, "; write to a folder that may be written to"), (errno.EROFS, "; write to a"),
                           (errno.EDQUOT, "; make room there"), (errno.EIO, "")],
)  # fmt: skip
def test_what_to_do(number: int, advice: str) -> None:
    said = refusal("out", OSError(number, "why"))
    assert said.startswith(f"out cannot be written: why{advice}") and (advice or said.endswith("why"))


def test_devices_are_written_in_place(tmp_path: Path) -> None:
    write("/dev/null", "text")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OutputError, match="/dev/full cannot be written: No space left on device"):
        write("/dev/full", "text")
    with pytest.raises(EngineError, match="/dev/null cannot be written: it is no ordinary file"):
        Outputs(EngineError, in_place=False).new("/dev/null")


def test_links_are_followed_and_modes_are_those_of_new_files(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    (tmp_path / "link").symlink_to("file")
    with Outputs() as files:
        files.new(tmp_path / "link").write(b"1")
        files.new(tmp_path / "program", 0o777).write(b"2")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"1"
    mode = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "file", "program")}
    assert mode["file"] == mode["plain"] and mode["program"] & 0o100


# Every output of the command

COMMANDS = {
    "graph": ["--to", "graph", "-o", "OUT"], "llvm": ["--to", "llvm", "-o", "OUT"], "obj": ["--to", "obj", "-o", "OUT"],
    "onnx": ["--to", "onnx", "-o", "OUT"], "engine": ["--to", "engine", "-o", "OUT"], "so": ["--to", "so", "-o", "OUT"],
    "page": ["--html", "OUT"], "trace": ["--trace", "OUT"], "arrays": ["--run", "--outputs", "OUT"],
    "schedules": ["--tune", "60", "--tune-file", "OUT"],
}  # fmt: skip


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("what", COMMANDS)
def test_a_full_disk(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("stepwell.show.BENCH_SECONDS", 0.0)
    out = tmp_path / "out.npz"
    if what != "schedules":
        out.write_bytes(b"old")
    before = content(tmp_path)
    assert cli.main([str(out) if word == "OUT" else word for word in COMMANDS[what]] + ["--no-cache", str(model)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"lower: {tmp_path}/out") and "cannot be written: No space left on device; make room" in said
    assert content(tmp_path) == before


@pytest.mark.usefixtures("full_disk")
def test_dumps_on_a_full_disk(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--to", "tensor", "--dump-dir", str(tmp_path / "dump"), str(model)]) == 1
    assert "00.graph.input.mlir cannot be written: No space left on device" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "dump").iterdir()] in ([], ["weights.bin"])
