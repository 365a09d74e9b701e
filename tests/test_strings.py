"""Models with strings, end to end: moved and compared by machine code, looked into on the host, at any size."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.check import CheckEach
from stepwell.cli import main
from stepwell.dialects import host_functions as functions
from stepwell.errors import EngineError, InputError, ModelError, PassError, RuntimeError, StateError
from stepwell.frontends.onnx.exporter import save_model
from stepwell.ir import origins
from stepwell.ir.passes import PassManager
from stepwell.lowering import pipeline
from stepwell.sources import load_source

S, F, I, B = TensorProto.STRING, TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL  # noqa: E741


def texts(*items: Any) -> Any:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def model(nodes: Sequence[Any], inputs: Any, outputs: Any, **constants: Any) -> Any:
    """A model of opset 21; inputs are (name, type, shape), outputs names with a type, or ports as they are."""
    ports = [helper.make_tensor_value_info(*port) for port in inputs]
    made = [helper.make_tensor_value_info(*port, None) if isinstance(port, tuple) else port for port in outputs]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(list(nodes), "g", ports, made, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(op_type, inputs.split(), outputs.split(), f"{op_type}_node", **attributes)


def words() -> Any:
    """Split into words; which of them are "stop"; the words with a suffix; what they match; twice their number."""
    nodes = [
        node("StringSplit", "x", "parts count", delimiter=" "),
        node("Equal", "parts word", "is_stop"),
        node("StringConcat", "parts suffix", "longer"),
        node("RegexFullMatch", "longer", "matched", pattern="[a-s]+!"),
        node("Mul", "count two", "double"),
    ]
    outputs = [("longer", S), ("is_stop", B), ("matched", B), ("double", I)]
    return model(nodes, [("x", S, ["n"])], outputs, word=np.array("stop", object), suffix=np.array("!", object),
                 two=np.array(2))  # fmt: skip


GIVEN = texts("stop it", "a stop stop", "")
EXPECTED = [
    [["stop!", "it!", "!"], ["a!", "stop!", "stop!"], ["!", "!", "!"]],
    [[True, False, False], [False, True, True], [False, False, False]],
    [[False, False, False], [True, False, False], [False, False, False]],
    [4, 6, 0],
]


def listed(results: Any) -> list[Any]:
    return [array.tolist() for array in results]


def test_one_compilation_serves_every_size() -> None:
    compiled = stepwell.compile(words())
    assert listed(compiled(GIVEN)) == EXPECTED
    assert listed(compiled(GIVEN.astype(str))) == EXPECTED
    assert listed(compiled(texts("stop")))[1:] == [[[True]], [[False]], [2]]
    assert listed(compiled(texts())) == [[], [], [], []]
    assert [str(port) for port in compiled.inputs] == ["x: object[n]"]
    assert [array.dtype for array in compiled(GIVEN)] == [object, np.bool_, np.bool_, np.int64]


def test_an_engine_file_and_the_cache_hold_the_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stepwell.compile(words()).save(tmp_path / "words.well")
    assert listed(stepwell.load(tmp_path / "words.well")(GIVEN)) == EXPECTED
    monkeypatch.setattr(origins, "_others", set())  # what other tests have brought keeps models out of the cache
    monkeypatch.setenv("STEPWELL_CACHE", str(tmp_path / "cache"))
    assert not stepwell.compile(words()).is_from_cache
    again = stepwell.compile(words())
    assert again.is_from_cache and listed(again(GIVEN)) == EXPECTED
    assert again.host_calls == ["@string_split for StringSplit_node", "@string_concat for StringConcat_node",
                                "@regex_full_match for RegexFullMatch_node"]  # fmt: skip


def test_calls_from_many_threads_have_strings_of_their_own() -> None:
    compiled = stepwell.compile(words())
    wrong: list[Any] = []

    def call(number: int) -> None:
        for turn in range(20):
            longer, *_ = compiled(texts(f"t{number} n{turn}", f"n{turn}"))
            if longer.tolist() != [[f"t{number}!", f"n{turn}!"], [f"n{turn}!", "!"]]:
                wrong.append(longer)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_every_pass_leaves_the_results() -> None:
    module, _ = load_source(words(), None)
    check = CheckEach([GIVEN])
    PassManager(pipeline.phases("graph", "loop"), [check]).run(module, check._shrunk.context)
    assert check.report().endswith("no pass changed a result\n")
    assert "to-tensor: checked (graph -> tensor; interpreted)" in check.report()


def test_the_calls_are_seen_in_the_ir_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words.onnx").write_bytes(words().SerializeToString())
    shown = {}
    for landing in ("graph", "tensor", "loop"):
        assert main(["--to", landing, str(tmp_path / "words.onnx")]) == 0
        shown[landing] = capsys.readouterr().out
    assert 'graph.host_call @string_split(%x) {config = {delimiter = " "}' in shown["graph"]
    assert 'sw.strings = ["", "stop", "!"]' in shown["tensor"] and "tensor.host_call @string_concat" in shown["tensor"]
    assert "host.call @regex_full_match" in shown["loop"]
    assert main(["--report", str(tmp_path / "words.onnx")]) == 0
    assert "host calls: 3 (@string_split for StringSplit_node, @string_concat" in capsys.readouterr().out


def test_calls_of_the_host_are_refused_where_they_are_not_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = r"Python for what is no arithmetic:\n  @string_split for StringSplit_node\n  @string_concat for"
    with pytest.raises(PassError, match=listing):
        stepwell.compile(words(), host=False)
    (tmp_path / "words.onnx").write_bytes(words().SerializeToString())
    for options in (["--no-host"], ["--to", "so", "-o", str(tmp_path / "words.so")]):
        assert main([*options, str(tmp_path / "words.onnx")]) == 1
        assert "@regex_full_match for RegexFullMatch_node" in capsys.readouterr().err
    with pytest.raises(EngineError, match="has no Python, which the model needs: @string_split for"):
        stepwell.compile(words()).save(tmp_path / "words.so")
    moved = model([node("Transpose", "x", "y")], [("x", S, ["n", "m"])], [("y", S)])
    assert stepwell.compile(moved, host=False)(texts("a", "b").reshape(1, 2)).tolist() == [["a"], ["b"]]
    with pytest.raises(EngineError, match="it holds strings"):
        stepwell.compile(moved).save(tmp_path / "moved.so")


def test_a_constant_call_is_made_when_the_model_is_compiled() -> None:
    constants = {"a": texts("1", "2"), "b": np.array("0", object)}
    nodes = [node("StringConcat", "a b", "c"), node("Cast", "c", "n", to=F), node("Add", "x n", "y")]
    compiled = stepwell.compile(model(nodes, [("x", F, [2])], [("y", F)], **constants), host=False)
    assert compiled(np.float32([1, 2])).tolist() == [11, 22]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (np.array([1.0]), "input 'x' holds float as element 0, expected strings"),
        (texts("a", None), "input 'x' holds NoneType as element 1"),
        (texts("\ud800"), "input 'x': string 0 is not UTF-8"),
        (texts("a").reshape(1, 1), r"input 'x' must have shape \[n\]"),
    ],
)
def test_what_is_no_text_is_refused(given: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        stepwell.compile(words())(given)


def test_odd_text_passes_through() -> None:
    compiled = stepwell.compile(model([node("StringConcat", "x x", "y")], [("x", S, ["n"])], [("y", S)]))
    odd = ["\0", "a\0b", "日本\U0001f600", 'q"\\\n', "x" * (1 << 20)]
    assert compiled(texts(*odd)).tolist() == [text * 2 for text in odd]


def test_constants_that_are_not_utf_8_are_refused() -> None:
    made = model([node("StringConcat", "x c", "y")], [("x", S, ["n"])], [("y", S)], c=texts("a"))
    made.graph.initializer[0].string_data[0] = b"\xff"
    with pytest.raises(ModelError, match="a string that is not UTF-8"):
        stepwell.compile(made)


def test_an_error_on_the_host_names_the_node_and_leaves_the_model_usable() -> None:
    compiled = stepwell.compile(model([node("Cast", "x", "y", to=F)], [("x", S, ["n"])], [("y", F)]))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="Cast_node: string_cast: the string 'two' is no number"):
            compiled(texts("1", "two"))
        assert compiled(texts("1", "2")).tolist() == [1, 2]


def test_interrupts_pass_through_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = stepwell.compile(model([node("StringConcat", "x x", "y")], [("x", S, ["n"])], [("y", S)]))

    def interrupted(config: Any, *arrays: Any) -> Any:
        raise KeyboardInterrupt

    found = functions.find("string_concat")
    monkeypatch.setitem(functions._FUNCTIONS, "string_concat",
                        functions.HostFunction("string_concat", found.infer, interrupted))  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        compiled(texts("a"))
    monkeypatch.undo()
    assert compiled(texts("a")).tolist() == ["aa"]


# What moves and compares strings


def body(nodes: Sequence[Any], inputs: Any, outputs: Any) -> Any:
    ports = [[helper.make_tensor_value_info(*port) for port in side] for side in (inputs, outputs)]
    return helper.make_graph(list(nodes), "body", *ports)


ABC = texts("b", "a", "", "b", "c", "é")
ROWS = ABC.reshape(2, 3)
MOVES: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any], Any]] = {
    "Gather": ([node("Gather", "x i", "y")], {"x": ABC, "i": np.array([2, 0, -1])}, {}, ["", "b", "é"]),
    "Concat": ([node("Concat", "x z", "y", axis=0)], {"x": ABC[:2], "z": texts("q")}, {}, ["b", "a", "q"]),
    "Where": ([node("Where", "c x z", "y")], {"c": np.array([True, False]), "x": ABC[:2], "z": texts("q")}, {},
              ["b", "q"]),
    "Slice": ([node("Slice", "x a e", "y")], {"x": ABC}, {"a": [4], "e": [0]}, []),
    "Pad": ([node("Pad", "x p", "y")], {"x": ABC[:1]}, {"p": [1, 2]}, ["", "b", "", ""]),
    "Pad with a value": ([node("Pad", "x p v", "y")], {"x": ABC[:1]}, {"p": [1, 0], "v": np.array("-", object)},
                         ["-", "b"]),
    "Trilu": ([node("Trilu", "x", "y", upper=0)], {"x": ABC[:4].reshape(2, 2)}, {}, [["b", ""], ["", "b"]]),
    "Tile": ([node("Tile", "x r", "y")], {"x": ABC[:2], "r": np.array([2])}, {}, ["b", "a", "b", "a"]),
    "Expand": ([node("Expand", "x r", "y")], {"x": ABC[:1], "r": np.array([2, 2])}, {}, [["b", "b"], ["b", "b"]]),
    "Compress": ([node("Compress", "x c", "y", axis=0)], {"x": ABC[:3], "c": np.array([True, False, True])}, {},
                 ["b", ""]),
    "ScatterElements": ([node("ScatterElements", "x i u", "y")], {"x": ABC[:3], "i": np.array([2]), "u": texts("q")},
                        {}, ["b", "a", "q"]),
    "OneHot": ([node("OneHot", "x d v", "y")], {"x": np.array([1, 0])}, {"d": np.array(2), "v": texts("off", "on")},
               [["off", "on"], ["on", "off"]]),
    "Equal": ([node("Equal", "x z", "y")], {"x": ROWS, "z": texts("b", "a", "c")}, {},
              [[True, True, False], [True, False, False]]),
    "NonZero": ([node("NonZero", "x", "y")], {"x": ABC[:3]}, {}, [[0, 1]]),
    "Unique, sorted": ([node("Unique", "x", "y")], {"x": ABC}, {},
                       ["", "a", "b", "c", "é"]),
    "Unique, as they come": ([node("Unique", "x", "y", sorted=0)], {"x": ABC}, {}, ["b", "a", "", "c", "é"]),
    "Unique, rows": ([node("Unique", "x", "y", axis=0)], {"x": texts("b", "a", "b", "a", "a", "z").reshape(3, 2)}, {},
                     [["a", "z"], ["b", "a"]]),
    "Unique, counts": ([node("Unique", "x", "a b c y")], {"x": ABC}, {}, [1, 1, 2, 1, 1]),
    "ReverseSequence": ([node("ReverseSequence", "x l", "y", batch_axis=0, time_axis=1)],
                        {"x": ROWS, "l": np.array([2, 3])}, {}, [["a", "b", ""], ["é", "c", "b"]]),
    "If": ([node("If", "c", "y", then_branch=body([node("StringConcat", "x x", "t")], [], [("t", S, None)]),
                 else_branch=body([node("Identity", "x", "e")], [], [("e", S, None)]))],
           {"c": np.array(True), "x": ABC[:2]}, {}, ["bb", "aa"]),
    "Loop": ([node("Loop", "m _ s", "last y", body=body(
        [node("StringConcat", "s_in x", "s_out"), node("Identity", "c_in", "c_out"), node("Identity", "s_out", "all")],
        [("turn", I, []), ("c_in", B, []), ("s_in", S, [1])], [("c_out", B, []), ("s_out", S, [1]), ("all", S, [1])]))],
        {"m": np.array(3), "s": texts("s"), "x": texts("-")}, {"_": np.array(True)}, [["s-"], ["s--"], ["s---"]]),
    "Scan": ([node("Scan", "s x", "last y", num_scan_inputs=1, body=body(
        [node("StringConcat", "a e", "b"), node("Identity", "b", "o")], [("a", S, []), ("e", S, [])],
        [("b", S, []), ("o", S, [])]))], {"s": np.array("", object), "x": ABC[:2]}, {}, ["b", "ba"]),
    "SequenceAt": ([node("SequenceConstruct", "x z", "q"), node("SequenceAt", "q i", "y")],
                   {"x": ABC, "z": texts("p"), "i": np.array(-1)}, {}, ["p"]),
    "ConcatFromSequence": ([node("SplitToSequence", "x", "q", keepdims=1),
                            node("ConcatFromSequence", "q", "y", axis=0)], {"x": ABC[:3]}, {}, ["b", "a", ""]),
    "sizes from a call": ([node("StringSplit", "x", "p n", delimiter="b"), node("Concat", "p p", "y", axis=1)],
                          {"x": texts("abc", "bb")}, {}, [["a", "c", "", "a", "c", ""], ["", "", "", "", "", ""]]),
}  # fmt: skip


def free(port: str, rank: int) -> list[str]:
    """A symbol for each dim; integers keep their sizes, which may be ranks."""
    return [f"{port}{axis}" for axis in range(rank)]


@pytest.mark.parametrize("name", MOVES)
def test_strings_are_moved_and_compared(name: str) -> None:
    nodes, feeds, constants, expected = MOVES[name]
    kinds = {"O": S, "i": I, "b": B}
    inputs = [(port, kinds[array.dtype.kind], array.shape if array.dtype.kind == "i" else free(port, array.ndim))
              for port, array in feeds.items()]  # fmt: skip
    result = I if name in ("NonZero", "Unique, counts") else B if name == "Equal" else S
    made = model(nodes, inputs, [("y", result)], **constants)
    assert stepwell.compile(made).run(feeds)["y"].tolist() == expected


def test_lists_and_absent_values_of_strings() -> None:
    lists = helper.make_tensor_sequence_value_info("q", S, None)
    made = stepwell.compile(model([node("SequenceConstruct", "x z", "q")], [("x", S, ["n"]), ("z", S, ["k"])], [lists]))
    assert [array.tolist() for array in made(texts("a", "b"), texts())] == [["a", "b"], []]
    back = model([node("SequenceAt", "q i", "y")], [("i", I, [])], [("y", S)])
    back.graph.input.append(helper.make_tensor_sequence_value_info("q", S, ["?"]))
    back.graph.input[-1].type.sequence_type.elem_type.tensor_type.shape.dim[0].Clear()
    compiled = stepwell.compile(back)
    assert compiled(np.array(1), [texts("a"), texts("b", "c")]).tolist() == ["b", "c"]
    with pytest.raises(InputError, match=r"input 'q'\[1\] holds int"):
        compiled(np.array(1), [texts("a"), np.array([1])])


def test_no_state_keeps_strings() -> None:
    made = model([node("Concat", "past x", "present", axis=0)], [("past", S, ["p"]), ("x", S, ["n"])], [("present", S)])
    with pytest.raises(StateError, match="'past' holds strings"):
        stepwell.compile(made, state={"past": "present"})


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("RegexFullMatch", "x", "y", pattern="(?=a)")], "invalid perl operator"),
        ([node("StringNormalizer", "x", "y", case_change_action="TITLE")], "'case_change_action' is 'TITLE'"),
        ([node("ScatterElements", "x i x", "y", reduction="add")], "cannot scatter !graph.string"),
        ([node("Relu", "x", "y")], "Relu does not allow string as input 0"),
        ([node("Less", "x x", "y")], "Less does not allow string as input 0"),
    ],
)
def test_what_strings_cannot_do_is_reported_before_compiling(nodes: list[Any], reason: str) -> None:
    inputs = [("x", S, ["n"]), ("i", I, ["n"])]
    with pytest.raises(ModelError, match=reason.replace("(", r"\(")):
        stepwell.compile(model(nodes, inputs, [helper.make_tensor_value_info("y", S, None)]))


def test_a_function_of_one_s_own_is_called_from_ir_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def same(op: Any) -> Any:
        return [op.types[0]]

    def reverse(config: Any, x: Any) -> Any:
        return texts(*(text[::-1] * config["times"] for text in x))

    monkeypatch.setitem(functions._FUNCTIONS, "reverse", functions.HostFunction("reverse", same, reverse))
    compiled = stepwell.compile("""builtin.module {
      func.func @main(%x: tensor<?x!graph.string, #graph.shape<["n"]>>)
          -> tensor<?x!graph.string, #graph.shape<["n"]>> {
        %y = graph.host_call @reverse(%x) {config = {times = 2 : i64}}
          : (tensor<?x!graph.string, #graph.shape<["n"]>>) -> tensor<?x!graph.string, #graph.shape<["n"]>>
        func.return %y : tensor<?x!graph.string, #graph.shape<["n"]>>
      }
    }""")
    assert compiled(texts("ab", "")).tolist() == ["baba", ""]


def test_calls_of_the_host_are_written_back_as_operators(tmp_path: Path) -> None:
    module, _ = load_source(words(), None)
    save_model(module, tmp_path / "again.onnx")
    assert listed(stepwell.compile(tmp_path / "again.onnx")(GIVEN)) == EXPECTED
