"""Loops whose rounds decide sizes: what is carried grows, and rows are collected until a condition fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.check import CheckEach
from stepwell.compiler import lower
from stepwell.ir.interpreter import run_function
from stepwell.ir.passes import PassContext
from stepwell.sources import load_source
from tests.teams import results_of

F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL  # noqa: E741


def ports(*given: Any) -> list[Any]:
    return [helper.make_tensor_value_info(*port) for port in given]


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def looping(
    nodes: Sequence[Any], arguments: Any, ends: Any, initial: str, inputs: Any, outputs: Any, constants: Any = None
) -> Any:
    """A model of one Loop, `count` and `go` deciding when it ends; empty names are left out."""
    body = helper.make_graph(list(nodes), "body", ports(("i", I, []), ("c", B, []), *arguments), ports(*ends))
    names = [name for name, *_ in inputs]
    given = ["count" if "count" in names else "", "go" if "go" in names else "", *initial.split()]
    loop = helper.make_node("Loop", given, [name for name, *_ in outputs], body=body)
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    graph = helper.make_graph([loop], "g", ports(*inputs), ports(*outputs), tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


COUNT, GO = ("count", I, []), ("go", B, [])
KEEPS = node("Identity", "c", "d")


def tokens() -> Any:
    """Each round adds a token, made of all before it."""
    return looping(
        [KEEPS, node("ReduceSum", "t one_axis", "s", keepdims=1), node("Mod", "s seven", "n"),
         node("Concat", "t n", "u", axis=1)],
        [("t", I, [2, None])], [("d", B, []), ("u", I, [2, None])], "start",
        [COUNT, ("start", I, [2, "n"])], [("all", I, [2, "m"])],
        {"one_axis": np.array([1]), "seven": np.array(7)},
    )  # fmt: skip


def delayed() -> Any:
    """What grows is handed on through two more rounds, and swapped with what another has grown to."""
    return looping(
        [KEEPS, node("Concat", "p q", "r", axis=0), node("Mul", "r half", "s"), node("Identity", "p", "q1"),
         node("Identity", "q", "o1")],
        [("p", F, [None]), ("q", F, [None]), ("o", F, [None])],
        [("d", B, []), ("s", F, [None]), ("q1", F, [None]), ("o1", F, [None])], "x y y",
        [COUNT, ("x", F, ["n"]), ("y", F, [2])],
        [("a", F, ["a_n"]), ("b", F, ["b_n"]), ("e", F, ["e_n"])], {"half": np.float32(0.5)},
    )  # fmt: skip


def until() -> Any:
    """Rows until their sum is above a limit; each row is carried as well."""
    return looping(
        [node("Mul", "v two", "w"), node("ReduceSum", "w", "s", keepdims=0), node("Less", "s limit", "d"),
         node("Identity", "w", "row"), node("Cast", "i", "j", to=I)],
        [("v", F, ["n"])], [("d", B, []), ("w", F, ["n"]), ("row", F, ["n"]), ("j", I, [])], "x",
        [COUNT, GO, ("x", F, ["n"])], [("last", F, ["n"]), ("rows", F, ["k", "n"]), ("rounds", I, ["k"])],
        {"two": np.float32(2), "limit": np.float32(1000)},
    )  # fmt: skip


def sized_by_rounds() -> Any:
    """Rows of a size that data in the body tell, and it is the same in all rounds."""
    return looping(
        [KEEPS, node("Greater", "x zero", "m"), node("Compress", "x m", "row", axis=0), node("Add", "v one", "w")],
        [("v", F, [])], [("d", B, []), ("w", F, []), ("row", F, [None])], "one",
        [COUNT, GO, ("x", F, ["n"])], [("last", F, []), ("rows", F, ["k", "m"])],
        {"zero": np.float32(0), "one": np.float32(1)},
    )  # fmt: skip


def known_rounds() -> Any:
    """A constant number of rounds, what is carried grows, and rows are collected."""
    made = looping(
        [KEEPS, node("Concat", "t x", "u", axis=0), node("ReduceSum", "u", "row", keepdims=0)],
        [("t", F, [None])], [("d", B, []), ("u", F, [None]), ("row", F, [])], "x",
        [("x", F, ["n"])], [("all", F, ["m"]), ("sums", F, [4])],
        {"four": np.array(4)},
    )  # fmt: skip
    made.graph.node[0].input[0] = "four"
    return made


def nested() -> Any:
    """A loop in a loop: the inner one grows anew in every round of the outer one."""
    inner = helper.make_graph(
        [node("Identity", "ic", "id"), node("Concat", "t x", "u", axis=0)], "inner",
        ports(("k", I, []), ("ic", B, []), ("t", F, [None])), ports(("id", B, []), ("u", F, [None])),
    )  # fmt: skip
    return looping(
        [KEEPS, helper.make_node("Loop", ["i", "", "o"], ["grown"], body=inner), node("Add", "grown one", "w"),
         node("ReduceSum", "grown", "row", keepdims=0)],
        [("o", F, [None])], [("d", B, []), ("w", F, [None]), ("row", F, [])], "x",
        [COUNT, ("x", F, ["n"])], [("all", F, ["m"]), ("sums", F, ["r"])], {"one": np.float32(1)},
    )  # fmt: skip


def floats(*shape: int) -> Any:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


CASES: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "tokens": (tokens, [{"count": np.array(count), "start": np.arange(2 * n).reshape(2, n)}
                        for count, n in ((0, 1), (1, 1), (5, 2), (100, 0), (40, 3))]),
    "delayed": (delayed, [{"count": np.array(count), "x": floats(n), "y": floats(2)}
                          for count, n in ((0, 3), (1, 3), (2, 0), (9, 1), (12, 4))]),
    "until": (until, [{"count": np.array(count), "go": np.array(go), "x": np.abs(floats(n)) + np.float32(0.01)}
                      for count, go, n in ((50, True, 4), (3, True, 4), (50, False, 4), (0, True, 2),
                                           (1 << 62, True, 9))]),
    "sized by rounds": (sized_by_rounds, [{"count": np.array(count), "go": np.array(True), "x": floats(n)}
                                          for count, n in ((1, 5), (7, 30), (300, 11))]),
    "known rounds": (known_rounds, [{"x": floats(n)} for n in (0, 1, 33)]),
    "nested": (nested, [{"count": np.array(count), "x": floats(n)} for count, n in ((0, 1), (1, 2), (5, 3))]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_as_its_meaning_and_as_another_runtime(name: str) -> None:
    session_of = pytest.importorskip("onnxruntime").InferenceSession
    build, feeds = CASES[name]
    session = session_of(build().SerializeToString(), providers=["CPUExecutionProvider"])
    module, _ = load_source(build(), None)
    entry = next(iter(module.body.block))
    for given, found in zip(feeds, results_of(build(), feeds, (1, 3)), strict=True):
        meaning = run_function(entry, list(given.values()))
        for mine, meant, theirs in zip(found, meaning, session.run(None, given), strict=True):
            np.testing.assert_allclose(mine, meant, rtol=1e-5, atol=1e-6, strict=True)
            if mine.size or theirs.size:  # of no rows at all, the other runtime does not know the other sizes
                np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6, strict=True)


@pytest.mark.parametrize("name", CASES)
def test_every_pass_keeps_it(name: str) -> None:
    build, feeds = CASES[name]
    module, _ = load_source(build(), None)
    given = feeds[{"until": 0, "sized by rounds": 1}.get(name, -1)]  # few rounds: the program is interpreted for all
    checks = CheckEach(list(given.values()), 4_000_000)
    lower(module, "loop", PassContext(), [checks])
    assert not [outcome for outcome in checks.outcomes if outcome.skipped]


def test_results_outlive_the_next_call() -> None:
    compiled = stepwell.compile(tokens())
    first = compiled.run({"count": np.array(30), "start": np.ones((2, 2), np.int64)})["all"]
    kept = first.copy()
    compiled.run({"count": np.array(60), "start": np.zeros((2, 1), np.int64)})
    np.testing.assert_array_equal(first, kept)


def test_rows_that_differ_are_an_error() -> None:
    made = looping(
        [KEEPS, node("Concat", "t x", "u", axis=0), node("Identity", "u", "row")],
        [("t", F, [None])], [("d", B, []), ("u", F, [None]), ("row", F, [None])], "x",
        [COUNT, ("x", F, ["n"])], [("all", F, ["m"]), ("rows", F, ["k", "m"])],
    )  # fmt: skip
    compiled = stepwell.compile(made)
    for count, rows in ((0, (0, 0)), (1, (1, 6))):
        assert compiled.run({"count": np.array(count), "x": floats(3)})["rows"].shape == rows
    with pytest.raises(stepwell.RuntimeError, match="collect differs in its sizes"):
        compiled.run({"count": np.array(2), "x": floats(3)})
