"""Objects in this process's memory: what they hold, how it is protected, and objects that do not link."""

from __future__ import annotations

import ctypes
import math
import platform
import random
import struct
from pathlib import Path

import pytest

from stepwell.backends.cpu import elf, jit, link, target

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="relocations of x86-64: elsewhere LLVM's linker loads objects"
)

HOST = target.host()


def linked(*texts: str, **externals: int) -> link.Linked:
    return link.link([jit.compile_object(text, HOST) for text in texts], externals)


def call(code: link.Linked, name: str = "f") -> int:
    return int(ctypes.CFUNCTYPE(ctypes.c_int64)(code.addresses[name])())


def access(address: int) -> str:
    """What may be done with the memory at an address: `r-xp`."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(number, 16) for number in line.split()[0].split("-"))
        if first <= address < last:
            return line.split()[1]
    raise AssertionError(f"nothing is mapped at {address:#x}")


def returns(value: str) -> str:
    return f"define i64 @f() {{\n{value}\n  ret i64 %r\n}}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("@n = global i64 7\n" + returns("%r = load i64, ptr @n"), 7, id="data"),
        pytest.param("@n = internal constant [3 x i64] [i64 1, i64 2, i64 3]\n"
                     "@p = internal global ptr getelementptr (i64, ptr @n, i64 2)\n"
                     + returns("%q = load ptr, ptr @p\n%r = load i64, ptr %q"), 3, id="the address of a constant"),
        pytest.param("@n = internal global [9 x i64] zeroinitializer\n"
                     + returns("%p = getelementptr i64, ptr @n, i64 8\n%r = load volatile i64, ptr %p"), 0, id="zeros"),
        pytest.param("define internal i64 @g() noinline { ret i64 5 }\n" + returns("%r = call i64 @g()"), 5, id="call"),
        pytest.param("declare double @floor(double)\n" + returns("%d = call double @floor(double 2.5)\n"
                     "%r = fptosi double %d to i64"), 2, id="a call far away"),
        pytest.param("declare extern_weak i64 @nobody_has_this()\n"
                     + returns("%r = ptrtoint ptr @nobody_has_this to i64"), 0, id="weak and nowhere"),
    ],
)  # fmt: skip
def test_what_code_refers_to(text: str, expected: int) -> None:
    assert call(linked(text)) == expected


def test_objects_refer_to_each_other_and_hidden_names_stay_inside() -> None:
    code = linked(
        "@n = external global i64\ndeclare i64 @g()\n" + returns("%a = load i64, ptr @n\n%b = call i64 @g()\n"
                                                                 "%r = mul i64 %a, %b"),
        "@n = hidden global i64 6\ndefine hidden i64 @g() { ret i64 7 }",
    )  # fmt: skip
    assert call(code) == 42
    assert set(code.addresses) == {"f"}


def test_externals_come_before_the_process() -> None:
    function = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: x + 40)
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    text = "declare double @floor(double)\n" + returns("%d = call double @floor(double 2.0)\n"
                                                       "%r = fptosi double %d to i64")  # fmt: skip
    assert call(linked(text, floor=address)) == 42


def test_a_weak_definition_gives_way() -> None:
    weak, strong = "define weak i64 @f() { ret i64 1 }", "define i64 @f() { ret i64 2 }"
    assert call(linked(weak)) == call(linked(weak, weak)) == 1
    assert call(linked(weak, strong)) == call(linked(strong, weak)) == 2


def test_alignment_is_kept() -> None:
    text = "".join(f"@n{align} = constant i8 {align}, align {align}\n" for align in (1, 4, 64, 1, 16))[:-1]
    code = linked("\n".join(dict.fromkeys(text.splitlines())), "@m = constant i8 1, align 64")
    assert all(code.addresses[f"n{align}"] % align == 0 for align in (1, 4, 16, 64))
    assert code.addresses["m"] % 64 == 0


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what memory is mapped how, Linux tells")
def test_nothing_is_writable_and_executable() -> None:
    code = linked("@data = global i64 1\n@zeros = global i64 0\n@constant = constant i64 2\n"
                  + returns("%r = load volatile i64, ptr @data"))  # fmt: skip
    found = {name: access(address) for name, address in code.addresses.items()}
    assert found == {"f": "r-xp", "constant": "r--p", "data": "rw-p", "zeros": "rw-p"}


def test_memory_goes_with_the_object() -> None:
    image = jit.compile_object("@room = global [4194304 x i8] zeroinitializer", HOST)
    for _ in range(3000):  # 12 GiB of addresses, touched in one place
        code = link.link([image], {})
        ctypes.c_int8.from_address(code.addresses["room"]).value = 1


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["define i64 @f() { ret i64 1 }"] * 2, "defined more than once: f"),
        (["declare i64 @sw_not_there()\n" + returns("%r = call i64 @sw_not_there()")], "defined nowhere: sw_not_there"),
        (["@t = thread_local global i64 1\n" + returns("%r = load i64, ptr @t")], "of kind 19 is not known"),
        (["@c = common global i64 0, align 8"], "c lies in no section that is loaded"),
        (["@a = global i8 0, align 8192"], "aligned to 8192 bytes"),
    ],
    ids=["twice", "nowhere", "thread-local", "common", "alignment"],
)
def test_objects_that_do_not_link(texts: list[str], message: str) -> None:
    with pytest.raises(link.NotLinked, match=message):
        linked(*texts)


def test_damaged_relocations_are_errors_or_harmless() -> None:
    text = "declare double @cos(double)\n@p = global ptr @f\n"
    image = jit.compile_object(text + returns("%d = call double @cos(double 0.5)\n%r = fptosi double %d to i64"), HOST)
    tables = [section for section in elf.sections_of(image) if section.kind == 4]
    rng = random.Random(0)
    outcomes = {"linked": 0, "refused": 0}
    for _ in range(400):
        changed = bytearray(image)
        table = rng.choice(tables)
        entry = table.offset + 24 * rng.randrange(table.size // 24)
        field = rng.choice([("<Q", 0, [0, 5, 1 << 20, 1 << 63, (1 << 64) - 4]), ("<I", 8, [0, 1, 2, 3, 4, 19, 42, 999]),
                            ("<I", 12, [0, 1, 2, 50, 1 << 31]), ("<q", 16, [-(1 << 40), -5, 0, 1 << 62])])  # fmt: skip
        struct.pack_into(field[0], changed, entry + field[1], rng.choice(field[2]))
        try:
            link.link([bytes(changed)], {})
            outcomes["linked"] += 1
        except (link.NotLinked, elf.DamagedObject):
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50, outcomes
    assert call(linked(returns("%r = add i64 40, 2"))) == 42


def test_damaged_bytes_anywhere_are_errors_or_harmless() -> None:
    image = jit.compile_object("@p = global ptr @f\n@c = constant double 0.5\n" + returns("%r = add i64 1, 2"), HOST)
    rng = random.Random(1)
    for _ in range(1500):
        changed = bytearray(image)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        try:
            link.link([bytes(changed)], {})
        except (link.NotLinked, elf.DamagedObject):
            continue
    for size in range(0, len(image), 5):
        with pytest.raises((link.NotLinked, elf.DamagedObject)):
            link.link([image[:size]], {})


def test_many_objects() -> None:
    texts = [f"declare i64 @f{n + 1}()\ndeclare double @cos(double)\ndefine i64 @f{n}() {{\n"
             f"%a = call i64 @f{n + 1}()\n%d = call double @cos(double 0.0)\n%c = fptosi double %d to i64\n"
             f"%r = add i64 %a, %c\nret i64 %r\n}}" for n in range(40)]  # fmt: skip
    code = linked(*texts, "define i64 @f40() { ret i64 2 }")
    assert call(code, "f0") == 40 * int(math.cos(0)) + 2


def test_elsewhere_llvm_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ARCHITECTURES", ())
    code = jit.load([jit.compile_object("declare i64 @g()\n" + returns("%r = call i64 @g()"), HOST),
                     jit.compile_object("define i64 @g() { ret i64 9 }", HOST)])  # fmt: skip
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(code.address("f"))() == 9
    with pytest.raises(jit.CodegenError, match="do not link"):
        jit.load([jit.compile_object("define i64 @g() { ret i64 9 }", HOST)] * 2)
