"""The file as sections: what is written is read back, and nothing else is."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stepwell.engine.container import MAGIC, PAGE, VERSION, Container, Section, digest, write
from stepwell.errors import EngineError

WEIGHTS = np.arange(3000, dtype=np.float32).reshape(30, 100)
SECTIONS = [Section("meta", b"{}"), Section("constant", WEIGHTS), Section("constant", b""), Section("object", b"code")]
COUNT_AT, LENGTH_AT, ZERO_AT, TABLE_AT, ENTRY = 12, 16, 24, 64, 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.well"
    write(path, SECTIONS)
    return path


def resealed(data: bytes) -> bytes:
    """The file with the checksum of its header and table made right again."""
    count = struct.unpack_from("<I", data, COUNT_AT)[0]
    table = data[TABLE_AT : TABLE_AT + ENTRY * min(count, 1000)]
    return data[:32] + digest(data[:32] + table) + data[64:]


def patched(data: bytes, at: int, format: str, value: object) -> bytes:
    changed = bytearray(data)
    struct.pack_into(format, changed, at, value)
    return bytes(changed)


def test_sections_come_back_in_their_order(path: Path) -> None:
    file = Container.open(path)
    assert [section.kind for section in file.sections] == ["meta", "constant", "constant", "object"]
    assert file.only("meta").data.tobytes() == b"{}"
    first, second = file.intact("constant")
    assert (first.data.tobytes(), second.data.size) == (WEIGHTS.tobytes(), 0)
    assert file.all("runtime") == ()


def test_sections_are_mapped_aligned_and_read_only(path: Path) -> None:
    meta, weights, _, _ = Container.open(path).sections
    assert (weights.data.ctypes.data % PAGE, meta.data.ctypes.data % 64) == (0, 0)
    assert not weights.data.flags.writeable and not weights.data.flags.owndata


def test_equal_sections_give_equal_files(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "again.well", SECTIONS)
    assert path.read_bytes() == (tmp_path / "again.well").read_bytes()


def test_every_truncation_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for size in [*range(0, 400, 7), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(EngineError, match="no engine file" if size == 0 else "damaged"):
            Container.open(path)


def test_every_bit_of_header_and_table_counts(path: Path) -> None:
    data = path.read_bytes()
    for at in range(TABLE_AT + ENTRY * len(SECTIONS)):
        path.write_bytes(patched(data, at, "B", data[at] ^ (1 << at % 8)))
        with pytest.raises(EngineError):
            Container.open(path)


@pytest.mark.parametrize(
    ("at", "format", "value", "why"),
    [
        (8, "<I", VERSION + 1, f"has version {VERSION + 1} of the format, and this Stepwell reads up to {VERSION}"),
        (8, "<I", 0, "the checksum of its header"),
        (COUNT_AT, "<I", 0xFFFFFFFF, "a table of 4294967295 sections does not fit"),
        (LENGTH_AT, "<Q", 1 << 60, "bytes of 1152921504606846976"),
        (ZERO_AT, "<Q", 1, "the checksum of its header"),
        (TABLE_AT, "8s", b"m\xe9ta", "section 0 lies at"),
        (TABLE_AT + 8, "<Q", 65, "section 0 lies at 65"),
        (TABLE_AT + 8, "<Q", 64, "section 0 lies at 64"),
        (TABLE_AT + 8, "<Q", 1 << 63, "section 0 lies at"),
        (TABLE_AT + 16, "<Q", 0xFFFFFFFFFFFFFFFF, "has 18446744073709551615 bytes"),
        (TABLE_AT + 16, "<Q", 1 << 40, "has 1099511627776 bytes"),
        (TABLE_AT + ENTRY + 8, "<Q", 128, "section 1 lies at 128"),
        (TABLE_AT + 24, "<Q", 1, "section 0 lies at"),
    ],
)
def test_numbers_that_cannot_be_are_refused_even_with_a_right_checksum(
    path: Path, at: int, format: str, value: object, why: str
) -> None:
    path.write_bytes(resealed(patched(path.read_bytes(), at, format, value)))
    with pytest.raises(EngineError, match=why):
        Container.open(path)


def test_swapped_sections_are_refused(path: Path) -> None:
    data = path.read_bytes()
    first, second = data[TABLE_AT : TABLE_AT + ENTRY], data[TABLE_AT + ENTRY : TABLE_AT + 2 * ENTRY]
    path.write_bytes(resealed(data[:TABLE_AT] + second + first + data[TABLE_AT + 2 * ENTRY :]))
    with pytest.raises(EngineError, match="section 1 lies at"):
        Container.open(path)


def test_a_damaged_section_is_found_when_it_is_checked(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"code", b"CODE"))
    file = Container.open(path)
    assert file.only("meta").data.tobytes() == b"{}"
    with pytest.raises(EngineError, match=r"damaged .section 'object' 0 is not what was written"):
        file.intact("object")
    with pytest.raises(EngineError, match="it has 2 sections 'constant', not 1"):
        file.only("constant")


@pytest.mark.parametrize("data", [b"", b"\x7fELF" * 100, b"\x08\x07\x12\x04onnx", MAGIC[:-1] + b"\r", b"\x89WELL\n"])
def test_foreign_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "other").write_bytes(data)
    with pytest.raises(EngineError, match="is no engine file"):
        Container.open(tmp_path / "other")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, why in [("none", "No such file"), (".", "no ordinary file"), ("pipe", "no ordinary"), ("a\0b", "null")]:
        with pytest.raises(EngineError, match=why):
            Container.open(str(tmp_path / name))


def test_a_symbolic_link_is_followed_and_kept(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.well"
    link.symlink_to(path)
    write(link, [Section("meta", b"new")])
    assert link.is_symlink() and Container.open(path).only("meta").data.tobytes() == b"new"


def test_a_new_file_has_the_permissions_of_new_files(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write(tmp_path / "model.well", SECTIONS)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "model.well")}
    assert len(modes) == 1


def test_a_mapped_file_outlives_its_replacement(path: Path) -> None:
    before = Container.open(path)
    write(path, [Section("meta", b"new")])
    assert before.all("constant")[0].is_intact()
    assert Container.open(path).only("meta").data.tobytes() == b"new"


FULL_DISK = """
import resource, signal, sys
import numpy as np
from stepwell.engine.container import Section, write
from stepwell.errors import EngineError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write(sys.argv[1], [Section("constant", np.ones(1 << 20, np.uint8))])
except EngineError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=False)
    assert "model.well cannot be written: " in done.stdout, done.stderr
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    for place, why in [(tmp_path, "no ordinary file"), (tmp_path / "no" / "folder", "No such file")]:
        with pytest.raises(EngineError, match=f"cannot be written: .*{why}"):
            write(place, SECTIONS)
