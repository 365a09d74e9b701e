from __future__ import annotations

import ctypes
import gc
import math
import threading

import pytest

from stepwell.backends.cpu import jit, target
from stepwell.backends.cpu.jit import CodegenError

HOST = target.host()


def answer(number: int, name: str = "f") -> str:
    return f"define i64 @{name}() {{\n  ret i64 {number}\n}}\n"


def call(code: jit.Code, name: str = "f") -> int:
    return int(ctypes.CFUNCTYPE(ctypes.c_int64)(code.address(name))())


def test_objects_link_with_each_other_with_externals_and_with_libm() -> None:
    caller = """\
declare i64 @there()
declare double @cos(double)
@given = external global i64
define i64 @f() {
  %x = call i64 @there()
  %y = load i64, ptr @given
  %c = call double @cos(double 0.0)
  %z = fptosi double %c to i64
  %s = add i64 %x, %y
  %r = add i64 %s, %z
  ret i64 %r
}
"""
    given = ctypes.c_int64(300)
    objects = jit.compile_objects([caller, answer(20, "there")], HOST)
    code = jit.load(objects, {"given": ctypes.addressof(given)})
    assert call(code) == 321
    assert call(code, "there") == 20


def test_code_loaded_twice_is_two_codes() -> None:
    image = jit.compile_object("@n = global i64 1", HOST)
    first, second = jit.load([image]), jit.load([image])
    ctypes.c_int64.from_address(first.address("n")).value = 5
    assert ctypes.c_int64.from_address(second.address("n")).value == 1


def test_many_codes_come_and_go() -> None:
    kept = jit.load([jit.compile_object(answer(1), HOST)])
    image = jit.compile_object(answer(2), HOST)
    for _ in range(30):
        assert call(jit.load([image])) == 2
    gc.collect()
    assert call(kept) == 1


def test_compilations_on_several_threads_do_not_mix() -> None:
    found: dict[int, int] = {}

    def work(number: int) -> None:
        for step in range(5):
            found[number * 10 + step] = call(jit.load([jit.compile_object(answer(number * 10 + step), HOST)]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number * 10 + step: number * 10 + step for number in range(6) for step in range(5)}


def test_compile_objects_keeps_the_order_and_reports_an_error() -> None:
    objects = jit.compile_objects([answer(number) for number in range(8)], HOST, threads=3)
    assert [call(jit.load([image])) for image in objects] == list(range(8))
    with pytest.raises(CodegenError, match="does not parse"):
        jit.compile_objects([answer(1), "define"], HOST, threads=2)


@pytest.mark.parametrize("opt", [0, 1, 2, 3])
@pytest.mark.parametrize("passes", [(), ("sroa", "instcombine", "simplifycfg"), ("always-inline", "dce")])
def test_all_levels_give_the_same_answer(opt: int, passes: tuple[str, ...]) -> None:
    text = "define i64 @f() {\n  %p = alloca i64\n  store i64 7, ptr %p\n  %v = load i64, ptr %p\n  ret i64 %v\n}\n"
    assert call(jit.load([jit.compile_object(text, HOST, opt=opt, passes=passes)])) == 7


def test_passes_change_the_code() -> None:
    text = "define i64 @f(i64 %x) {\n  %a = mul i64 %x, 6\n  %b = sub i64 %a, %a\n  ret i64 %b\n}\n"
    plain = jit.emit_assembly(text, HOST, opt=0)
    assert len(jit.emit_assembly(text, HOST, opt=0, passes=("instcombine",))) < len(plain)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("define i32 @f() {\n  ret i32 %x\n}", r"line 2, column 11: use of undefined value '%x'\n  ret i32 %x\n +\^"),
        ("define i64 @f() {\n  ret i32 0\n}", r"line 2, column \d+: value doesn't match function result type"),
        ("define i64 @f() {", r"does not parse: line 1"),
        ("nonsense", r"line 1, column 1: expected top-level entity\nnonsense"),
        (
            "define i32 @f() {\n  %a = add i32 %b, 1\n  %b = add i32 1, 2\n  ret i32 %a\n}",
            r"not valid: line [23]: Instruction does not dominate all uses",
        ),
    ],
)
def test_bad_text_shows_the_line(text: str, message: str) -> None:
    with pytest.raises(CodegenError, match=message):
        jit.compile_object(text, HOST)


def test_unknown_pass() -> None:
    with pytest.raises(CodegenError, match="unknown LLVM pass 'polish'"):
        jit.compile_object(answer(1), HOST, passes=("polish",))


def test_symbols_that_are_not_there() -> None:
    needs = jit.compile_object("declare i64 @sw_not_there()\n" + answer(1) + CALLS_MISSING, HOST)
    with pytest.raises(CodegenError, match="defined nowhere: sw_not_there"):
        jit.load([needs])
    with pytest.raises(CodegenError, match="no symbol 'g'; it has f"):
        jit.load([jit.compile_object(answer(1), HOST)]).address("g")


CALLS_MISSING = "define i64 @g() {\n  %r = call i64 @sw_not_there()\n  ret i64 %r\n}\n"


def test_objects_that_cannot_be_loaded() -> None:
    image = jit.compile_object(answer(1), HOST)
    other = target.named("aarch64" if HOST.arch == "x86_64" else "x86-64")
    with pytest.raises(CodegenError, match="cannot load an object"):
        jit.load([image[: len(image) // 2]])
    with pytest.raises(CodegenError, match=f"made for {other.arch}"):
        jit.load([jit.compile_object(answer(1), other)])
    with pytest.raises(CodegenError, match="do not link"):
        jit.load([image, image])


def test_isolated_gives_the_same_code_and_the_same_errors() -> None:
    assert jit.compile_object(answer(3), HOST, isolated=True) == jit.compile_object(answer(3), HOST)
    assert jit.emit_assembly(answer(3), HOST, isolated=True) == jit.emit_assembly(answer(3), HOST)
    with pytest.raises(CodegenError, match="line 1, column 1"):
        jit.compile_object("nonsense", HOST, isolated=True)


def test_isolated_survives_the_death_of_llvm() -> None:
    needs_avx = """\
declare <4 x double> @llvm.x86.avx.round.pd.256(<4 x double>, i32 immarg)
define <4 x double> @f(<4 x double> %x) {
  %r = call <4 x double> @llvm.x86.avx.round.pd.256(<4 x double> %x, i32 1)
  ret <4 x double> %r
}
"""
    with pytest.raises(CodegenError, match=r"LLVM gave up on this module \(exit status -\d+\): LLVM ERROR"):
        jit.compile_object(needs_avx, target.named("x86-64"), isolated=True)


def test_floating_point_constants_survive() -> None:
    text = f"define double @f() {{\n  ret double {math.pi!r}\n}}\n"
    code = jit.load([jit.compile_object(text, HOST)])
    assert ctypes.CFUNCTYPE(ctypes.c_double)(code.address("f"))() == math.pi
