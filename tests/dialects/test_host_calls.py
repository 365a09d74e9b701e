"""Calls of the host as records and ops: what a head keeps of them, and how a function that misbehaves is reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects import host_functions
from stepwell.dialects.func import FuncOp
from stepwell.dialects.host_calls import CALLS, HostCall, HostProgram, current, plain, refuse_host_calls
from stepwell.dialects.host_functions import HostFunction
from stepwell.dialects.host_strings import StringPool, StringTable
from stepwell.errors import IRError, PassError, RuntimeError, VerifyError
from stepwell.ir.attributes import ArrayAttr, Attribute, DictAttr, StringAttr, UnitAttr
from stepwell.ir.attrkinds import BOOL, FLOAT, INT, INTS, STRINGS, TYPE
from stepwell.ir.parser import parse_module
from stepwell.ir.types import F32, SI64, FunctionType, StringType, TensorType
from stepwell.ir.verifier import verify

TEXTS = TensorType((2,), StringType())
NOTHING = DictAttr.of({})


def call(results: Any, callee: str = "odd") -> HostCall:
    return HostCall(callee, NOTHING, FunctionType((TEXTS,), (results,)), "node 7")


def run(monkeypatch: pytest.MonkeyPatch, made: Any, results: Any = TEXTS) -> list[Any]:
    """A call of a function that gives `made`, or raises it, on two strings."""

    def odd(config: Any, *arrays: Any) -> Any:
        if isinstance(made, Exception):
            raise made
        return made

    monkeypatch.setitem(host_functions._FUNCTIONS, "odd", HostFunction("odd", lambda op: [], odd))
    table = StringTable(StringPool.of_texts([]))
    handles = table.handles(np.array(["a", "b"], object))
    return [array.tolist() for array in call(results).run([handles], table)]


def test_results_are_as_the_program_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, np.array(["b", ""], object)) == [[2, 0]]
    assert run(monkeypatch, np.array([1.5, 2], np.float32), TensorType((2,), F32)) == [[1.5, 2.0]]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (np.array(["a"], object), r"it gave object\[1\] for a tensor<2x!graph.string>"),
        (np.array([[1], [2]]), r"it gave int64\[2, 1\]"),
        ((np.array(["a", "b"], object), 1), "ValueError"),
        (ZeroDivisionError("no"), "odd failed: ZeroDivisionError: no"),
        (KeyError("k"), "odd failed: KeyError"),
        (AttributeError("none"), "odd failed: AttributeError"),
        (RecursionError("deep"), "odd failed: RecursionError"),
        (np.array(["a", None], object), "its result holds NoneType as element 1"),
        (np.array(["a", "\ud800"], object), "its result: string 1 is not UTF-8"),
        (IRError("not like this"), "odd: not like this"),
        (RuntimeError("too large", 7), r"odd: too large \(value 7\)"),
    ],
)
def test_a_function_that_misbehaves_is_named_with_its_node(
    monkeypatch: pytest.MonkeyPatch, made: Any, reason: str
) -> None:
    with pytest.raises(RuntimeError, match=f"node 7: .*{reason}"):
        run(monkeypatch, made)


def test_a_number_that_is_no_string_is_reported() -> None:
    with pytest.raises(RuntimeError, match=r"node 7: .*no string"):
        call(TEXTS, "string_rank").run([np.array([0, 9])], StringTable(StringPool.of_texts([])))


def test_a_record_survives_its_attribute() -> None:
    made = HostCall("f", DictAttr.of({"a": INT.encode(3)}), FunctionType((TEXTS,), (TensorType((), SI64),)), "n")
    again = HostCall.of(made.attribute())
    assert again.attribute() == made.attribute() and again.results == made.results


@pytest.mark.parametrize("damaged", [UnitAttr(), NOTHING, DictAttr.of({"callee": StringAttr("f")})])
def test_a_damaged_record_is_refused(damaged: Attribute) -> None:
    function = FuncOp.declare("main", [])
    function.attributes[CALLS] = ArrayAttr((damaged,))
    with pytest.raises(IRError, match="is no call of a function on the host"):
        HostProgram.of(function)


def test_a_config_becomes_python_values() -> None:
    config = {"i": INT.encode(-1), "b": BOOL.encode(True), "f": FLOAT.encode(0.5), "l": INTS.encode([1, 2]),
              "s": STRINGS.encode(["x", ""]), "t": TYPE.encode(F32)}  # fmt: skip
    expected = {"i": -1, "b": True, "f": 0.5, "l": [1, 2], "s": ["x", ""], "t": F32}
    assert plain(DictAttr.of(config)) == expected
    assert plain(config["b"]) is True
    with pytest.raises(IRError, match="cannot be told"):
        plain(UnitAttr())


def test_outside_a_call_there_are_no_strings() -> None:
    with pytest.raises(IRError, match="while a program is called only"):
        current()


CALL = "%s = tensor.host_call @f(%x) {{config = {{}}, signature = {} -> tensor<1xi1>}} : tensor<1xi64>\n"
BAD = {
    "another number of operands": CALL.format("()"),
    "no such result": CALL.format("(tensor<1xsi64>)")
    + "%y = tensor.host_result %s {number = 1 : i64} : (tensor<1xi64>) -> tensor<1xi1>",
    "another rank": CALL.format("(tensor<1xsi64>)")
    + "%y = tensor.host_result %s {number = 0 : i64} : (tensor<1xi64>) -> tensor<i1>",
    "sizes of no call": "%y = tensor.host_result %x {number = 0 : i64} : (tensor<1xi64>) -> tensor<1xi1>",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_ops_that_do_not_fit_are_refused(text: str) -> None:
    module = parse_module(f"builtin.module {{ func.func @main(%x: tensor<1xi64>) {{ {text}\nfunc.return }} }}")
    with pytest.raises(VerifyError):
        verify(module)


@pytest.mark.parametrize(
    "text",
    [
        "graph.host_call @string_rank(%x) {config = {}} : (tensor<2x!graph.string>) -> tensor<2xsi64>",
        '"tensor.host_call"(%x) {callee = @string_rank} : (tensor<2x!graph.string>) -> tensor<1xi64>',
    ],
)
def test_calls_are_refused_by_name_where_they_are_not_allowed(text: str) -> None:
    main = f"func.func @main(%x: tensor<2x!graph.string>) {{ %y = {text}\nfunc.return }}"
    module = parse_module(f"builtin.module {{ {main} }}")
    refuse_host_calls(module, {})
    with pytest.raises(PassError, match=r"told so.*\n  @string_rank for"):
        refuse_host_calls(module, {"no host": "told so"})
