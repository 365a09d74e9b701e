from __future__ import annotations

import pytest

from stepwell.backends.cpu import elf, jit, target

MODULE = """\
@table = global [4 x i64] zeroinitializer
@secret = hidden global i64 1
declare double @cos(double)
declare extern_weak void @maybe()
define internal i64 @inner() noinline { ret i64 1 }
define double @outer(double %x) {
  %i = call i64 @inner()
  %c = call double @cos(double %x)
  ret double %c
}
define ptr @weak_address() { ret ptr @maybe }
"""


@pytest.fixture(scope="module")
def image() -> bytes:
    return jit.compile_object(MODULE, target.host())


def test_symbols(image: bytes) -> None:
    symbols = elf.symbols_of(image)
    assert symbols.arch == target.host().arch
    assert symbols.defined == {"table", "secret", "outer", "weak_address"}
    assert symbols.exported == {"table", "outer", "weak_address"}
    assert "cos" in symbols.undefined
    assert "maybe" not in symbols.undefined


def test_any_truncation_is_an_error_or_harmless(image: bytes) -> None:
    for size in range(0, len(image), 7):
        with pytest.raises(elf.DamagedObject):
            elf.symbols_of(image[:size])


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x7fELF" + b"\0" * 100, b"\xff" * 4096])
def test_junk(junk: bytes) -> None:
    with pytest.raises(elf.DamagedObject):
        elf.symbols_of(junk)
