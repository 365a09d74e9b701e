"""Models with sequences and optional values of which data decide the contents, beside ONNX's reference evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, TypeProto, ValueInfoProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import stepwell
from stepwell.check import CheckEach
from stepwell.compiler import Options, context_of, machine_of
from stepwell.errors import InputError, ModelError
from stepwell.errors import RuntimeError as RunError
from stepwell.frontends.onnx.exporter import export_model
from stepwell.frontends.onnx.importer import import_model
from stepwell.ir.passes import PassManager
from stepwell.lowering.pipeline import phases
from stepwell.sources import load_source

F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL  # noqa: E741


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(op, ["" if name == "-" else name for name in inputs.split()], outputs.split(), **attributes)


def tensor(name: str, element: int = F, shape: Any = None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def sequence(name: str, element: int = F, shape: Any = None) -> ValueInfoProto:
    return helper.make_tensor_sequence_value_info(name, element, shape)


def optional(of: ValueInfoProto) -> ValueInfoProto:
    return helper.make_value_info(of.name, helper.make_optional_type_proto(of.type))


CONSTANTS = {"zero": np.array(0), "one": np.array(1), "yes": np.array(True)}


def model(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    tensors = [numpy_helper.from_array(array, name) for name, array in CONSTANTS.items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def same(found: Any, wanted: Any) -> None:
    assert (found is None, isinstance(found, list)) == (wanted is None, isinstance(wanted, list))
    if isinstance(found, list):
        for a, b in zip(found, wanted, strict=True):
            same(a, b)
    elif found is not None:
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def compare(proto: Any, *feeds: dict[str, Any]) -> None:
    """One compilation, called with each of the feeds."""
    compiled = stepwell.compile(proto)
    oracle = ReferenceEvaluator(proto)
    for feed in feeds:
        found = compiled(*feed.values())
        for a, b in zip(found if isinstance(found, tuple) else (found,), oracle.run(None, feed), strict=True):
            same(a, b)


def arrays(*shapes: tuple[int, ...], dtype: Any = np.float32) -> list[Any]:
    random = np.random.default_rng(len(shapes))
    return [random.integers(0, 100, shape).astype(dtype) for shape in shapes]


def body(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    return helper.make_graph(list(nodes), "body", list(inputs), list(outputs))


ROWS = arrays((2, 3), (1, 3), (0, 3), (4, 3))
S = sequence("s", F, [None, 3])
I64 = tensor("i", I, [])

PLACES: dict[str, tuple[Any, list[Any]]] = {
    "at": (tensor("y"), [node("SequenceAt", "s i", "y")]),
    "erase": (sequence("y"), [node("SequenceErase", "s i", "y")]),
    "insert": (sequence("y"), [node("SequenceAt", "s zero", "x"), node("SequenceInsert", "s x i", "y")]),
    "an element computed with": (
        tensor("y"), [node("SequenceAt", "s i", "x"), node("ReduceSum", "x", "z", keepdims=0), node("Mul", "x z", "y")]
    ),
    "length behind an erasure": (tensor("y", I), [node("SequenceErase", "s i", "t"), node("SequenceLength", "t", "y")]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), [*((name, np.int64) for name in PLACES), ("at", np.int32)])
def test_places_that_data_decide(name: str, dtype: Any) -> None:
    output, nodes = PLACES[name]
    number = tensor("i", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [])
    feeds = [{"s": ROWS, "i": np.array(i, dtype)} for i in (0, 1, 2, 3, -1, -2, -3, -4)]
    compare(model(nodes, [S, number], [output]), *feeds)


@pytest.mark.parametrize(("name", "place"), [
    ("at", 4), ("at", -5), ("erase", 4), ("erase", -5), ("insert", 5), ("insert", -5),
])  # fmt: skip
def test_places_outside_end_the_run(name: str, place: int) -> None:
    output, nodes = PLACES[name]
    compiled = stepwell.compile(model(nodes, [S, I64], [output]))
    with pytest.raises(RunError, match="a place outside of the sequence"):
        compiled(ROWS, np.array(place))
    compiled(ROWS, np.array(2))


def test_tensors_without_elements() -> None:
    """The slices of their elements are known to be whole; what is behind keeps the symbols of their sizes."""
    nodes = [
        node("Shape", "zero", "none"), node("SequenceConstruct", "none none", "s"), node("SequenceErase", "s", "t"),
        node("SequenceAt", "t i", "y"),
    ]  # fmt: skip
    compare(model(nodes, [I64], [tensor("y", I, [0])]), {"i": np.array(0)})


def test_insert_at_the_end_and_behind_it() -> None:
    nodes = [node("SequenceInsert", "s x", "t"), node("SequenceInsert", "t x i", "y")]
    proto = model(nodes, [S, tensor("x", F, ["n", 3]), I64], [sequence("y")])
    compiled = stepwell.compile(proto)
    x = X[:2, :3]
    for given in (ROWS, [], ROWS[:1]):
        same(compiled(given, x, np.array(len(given) + 1)), [*given, x, x])


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.bool_, np.int64])
def test_element_types(dtype: Any) -> None:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [node("SequenceAt", "s i", "x"), node("SequenceInsert", "s x zero", "y")]
    values = arrays((2,), (3, 1)[:1], dtype=dtype)
    compare(model(nodes, [sequence("s", element, [None]), I64], [sequence("y", element), tensor("x", element)]),
            {"s": values, "i": np.array(1)})  # fmt: skip


CONCATENATED = {
    "rows": ([None, 3], {"axis": 0}, arrays((2, 3), (1, 3), (0, 3))),
    "columns": ([2, None], {"axis": 1}, arrays((2, 3), (2, 1), (2, 0), (2, 5))),
    "in the middle": ([None, None, None], {"axis": -2}, arrays((2, 3, 4), (2, 1, 4))),
    "stacked": ([None, None], {"axis": 0, "new_axis": 1}, arrays((2, 3), (2, 3), (2, 3))),
    "stacked behind": ([None, None], {"axis": -1, "new_axis": 1}, arrays((2, 3), (2, 3), (2, 3))),
    "numbers": ([], {"axis": 0, "new_axis": 1}, arrays((), (), ())),
}


@pytest.mark.parametrize("name", CONCATENATED)
def test_concatenated(name: str) -> None:
    shape, attributes, values = CONCATENATED[name]
    proto = model([node("ConcatFromSequence", "s", "y", **attributes)], [sequence("s", F, shape)], [tensor("y")])
    compare(proto, {"s": values}, {"s": values[:1]})


@pytest.mark.parametrize(("attributes", "values", "words"), [
    ({"axis": 0}, arrays((2, 3), (2, 4)), "differ in size"), ({"axis": 1}, arrays((2, 3), (3, 3)), "differ in size"),
    ({"axis": 0}, [], "an empty sequence"), ({"axis": 0, "new_axis": 1}, arrays((2, 3), (3, 2)), "differ in size"),
])  # fmt: skip
def test_what_does_not_fit_is_not_concatenated(attributes: Any, values: Any, words: str) -> None:
    proto = model([node("ConcatFromSequence", "s", "y", **attributes)], [sequence("s", F, [None, None])], [tensor("y")])
    with pytest.raises(RunError, match=words):
        stepwell.compile(proto)(values)


X = np.arange(30, dtype=np.float32).reshape(5, 6)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("rank", [0, 1])
def test_split(axis: int, rank: int) -> None:
    proto = model([node("SplitToSequence", "x k", "y", axis=axis)],
                  [tensor("x", F, ["m", "n"]), tensor("k", I, ["p"] * rank)], [sequence("y")])  # fmt: skip
    size = X.shape[axis]
    sizes = [[1, 0, size - 1], [size]] if rank else [1, 2, 5, 7]
    compare(proto, *({"x": X, "k": np.array(k)} for k in sizes))


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_split_into_slices(keepdims: int, axis: int) -> None:
    proto = model([node("SplitToSequence", "x", "y", axis=axis, keepdims=keepdims)],
                  [tensor("x", F, ["m", "n"])], [sequence("y")])  # fmt: skip
    compare(proto, {"x": X}, {"x": X[:1]}, {"x": X[:, :2]})


@pytest.mark.parametrize("sizes", [[1, 2], [6], [-1, 6], 0, -2])
def test_parts_that_are_not_the_whole(sizes: Any) -> None:
    proto = model([node("SplitToSequence", "x k", "y", axis=0)],
                  [tensor("x", F, ["m", "n"]), tensor("k", I, ["p"] * np.ndim(sizes))], [sequence("y")])  # fmt: skip
    with pytest.raises(RunError, match="parts"):
        stepwell.compile(proto)(X, np.array(sizes))


GROW = body(
    [node("Add", "i one", "k"), node("Unsqueeze", "k none", "d"), node("Slice", "x start d", "part"),
     node("SequenceInsert", "s part", "t"), node("Identity", "go", "on")],
    [tensor("i", I, []), tensor("go", B, []), sequence("s")], [tensor("on", B, []), sequence("t")],
)  # fmt: skip
LISTS = {"none": np.array([0]), "start": np.array([0])}


def growing(nodes: Sequence[Any], outputs: Sequence[Any]) -> Any:
    made = [*(node("Constant", "", name, value=numpy_helper.from_array(array)) for name, array in LISTS.items()),
            node("SequenceEmpty", "", "e"), node("Loop", "n yes e", "s", body=GROW), *nodes]  # fmt: skip
    return model(made, [tensor("n", I, []), tensor("x", F, ["m"])], outputs)


@pytest.mark.parametrize(("nodes", "output"), [
    ([node("Identity", "s", "y")], sequence("y")),
    ([node("SequenceLength", "s", "y")], tensor("y", I)),
    ([node("ConcatFromSequence", "s", "y", axis=0)], tensor("y")),
    ([node("SequenceAt", "s one", "a"), node("SequenceErase", "s one", "t"), node("SequenceInsert", "t a zero", "y")],
     sequence("y")),
])  # fmt: skip
def test_a_sequence_that_a_loop_grows(nodes: Sequence[Any], output: Any) -> None:
    feeds = [{"n": np.array(n), "x": np.arange(4, dtype=np.float32)} for n in (2, 4, 7)]
    compare(growing(nodes, [output]), *feeds)


def test_no_round() -> None:
    assert stepwell.compile(growing([], [sequence("s")]))(np.array(0), X[0]) == []


def test_branches_that_yield_lists() -> None:
    first = body([node("SequenceInsert", "s x", "t")], [], [sequence("t")])
    second = body([node("SequenceErase", "s zero", "u")], [], [sequence("u")])
    nodes = [node("If", "c", "y", then_branch=first, else_branch=second), node("SequenceLength", "y", "n")]
    proto = model(nodes, [tensor("c", B, []), S, tensor("x", F, ["k"])], [sequence("y"), tensor("n", I)])
    compare(proto, *({"c": np.array(c), "s": ROWS, "x": X[0]} for c in (True, False)))


MAPPED = body([node("Mul", "a b", "p"), node("ReduceSum", "a", "q", keepdims=0)],
              [tensor("a", F, [None, 3]), tensor("b", F, [3])], [tensor("p"), tensor("q")])  # fmt: skip


def test_mapped() -> None:
    proto = model([node("SequenceMap", "s b", "y z", body=MAPPED)], [S, tensor("b", F, [3])],
                  [sequence("y"), sequence("z")])  # fmt: skip
    compare(proto, {"s": ROWS, "b": X[0, :3]}, {"s": ROWS[:1], "b": X[1, :3]})
    assert stepwell.compile(proto)([], X[0, :3]) == ([], [])


def test_an_optional_tensor() -> None:
    there = body([node("OptionalGetElement", "o", "v"), node("Neg", "v", "p")], [], [tensor("p", F, [4])])
    absent = body([node("Identity", "x", "q")], [], [tensor("q", F, [4])])
    nodes = [node("OptionalHasElement", "o", "h"), node("If", "h", "y", then_branch=there, else_branch=absent)]
    proto = model(nodes, [optional(tensor("o", F, [4])), tensor("x", F, [4])], [tensor("y"), tensor("h", B)])
    compiled = stepwell.compile(proto)
    value, x = X[0, :4], X[1, :4]
    same(list(compiled(value, x)), [-value, np.array(True)])
    same(list(compiled(None, x)), [x, np.array(False)])


def test_an_absent_value_is_not_there() -> None:
    proto = model([node("OptionalGetElement", "o", "y")], [optional(sequence("o"))], [sequence("y")])
    compiled = stepwell.compile(proto)
    same(compiled(ROWS), ROWS)
    with pytest.raises(RunError, match="absent"):
        compiled(None)


@pytest.mark.parametrize(("value", "words"), [
    (np.zeros((2, 3), np.float32), "input 's' is a list of arrays, not ndarray"),
    (None, "input 's' is a list of arrays, not NoneType"),
    ([np.zeros((2, 4), np.float32)], r"input 's'\[0\] has shape \[2, 4\], and that of every array is \[-1, 3\]"),
    ([ROWS[0], ROWS[0].astype(np.float64)], r"input 's'\[1\] has element type float64, expected float32"),
    ([ROWS[0], "text"], r"input 's'\[1\] cannot be made an array"),
    ([ROWS[0], None], r"input 's'\[1\] cannot be made an array of float32: it is None"),
])  # fmt: skip
def test_lists_that_do_not_fit(value: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        stepwell.compile(model([node("SequenceLength", "s", "y")], [S], [tensor("y", I)]))(value)


def test_ports_say_what_they_are() -> None:
    compiled = stepwell.compile(model([node("Identity", "s", "y")], [S, optional(tensor("o", F, [4]))],
                                      [sequence("y", F, [None, 3])]))  # fmt: skip
    assert [str(port) for port in compiled.inputs] == ["s: list of float32[?, 3]", "o: float32[4] or None"]
    assert [str(port) for port in compiled.outputs] == ["y: list of float32[?, 3]"]


def test_fetched_by_name() -> None:
    compiled = stepwell.compile(model([node("SequenceErase", "s zero", "t"), node("SequenceLength", "t", "y")], [S],
                                      [tensor("y", I)]))  # fmt: skip
    found = compiled.run({"s": ROWS}, fetch=["t", "y"])
    same([found["t"], found["y"]], [ROWS[1:], np.array(3)])


@pytest.mark.parametrize(("nodes", "inputs", "words"), [
    ([node("OptionalGetElement", "o", "y")], [optional(tensor("o"))], "does not say how many dimensions"),
    ([node("SequenceLength", "s", "y")], [ValueInfoProto(name="s", type=TypeProto(sequence_type=TypeProto.Sequence(
        elem_type=sequence("s").type)))], "a sequence of what is no tensor"),
])  # fmt: skip
def test_refused_by_name(nodes: Sequence[Any], inputs: Sequence[Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        stepwell.compile(model(nodes, inputs, [tensor("y")]))


def test_a_rank_that_the_caller_gives() -> None:
    proto = model([node("SequenceAt", "s i", "y")], [sequence("s"), I64], [tensor("y")])
    same(stepwell.compile(proto, shapes={"s": ["h", 3]})(ROWS, np.array(3)), ROWS[3])
    proto = model([node("OptionalGetElement", "o", "y")], [optional(tensor("o"))], [tensor("y")])
    same(stepwell.compile(proto, shapes={"o": ["h", 6]})(X), X)


def test_written_as_onnx_and_read_back() -> None:
    proto = model([node("SequenceErase", "s i", "y"), node("ConcatFromSequence", "y", "z", axis=0)],
                  [S, I64, optional(sequence("o"))], [sequence("y"), tensor("z"), optional(sequence("o"))])  # fmt: skip
    again = export_model(import_model(proto))
    feed = [ROWS, np.array(1), None]
    same(list(stepwell.compile(again)(*feed)), list(stepwell.compile(proto)(*feed)))


@pytest.mark.parametrize("inputs", [
    (PLACES["erase"][1], [S, I64], sequence("y"), [ROWS, np.array(1)]),
    ([node("ConcatFromSequence", "s", "y", axis=1)], [sequence("s", F, [2, None])], tensor("y"),
     [arrays((2, 3), (2, 1))]),
    ([node("OptionalHasElement", "o", "y")], [optional(sequence("o"))], tensor("y", B), [None]),
])  # fmt: skip
def test_no_pass_changes_a_result(inputs: Any) -> None:
    nodes, ports, output, feed = inputs
    module, _ = load_source(model(nodes, ports, [output]), None)
    options = Options()
    context = context_of(options, machine_of(options))
    check = CheckEach(feed, context=context)
    PassManager(phases("graph", "loop"), [check]).run(module, context)
    assert check.failure is None


def test_the_bounds_of_every_access_hold() -> None:
    proto = model([node("SequenceInsert", "s x i", "y")], [S, tensor("x", F, ["n", 3]), I64], [sequence("y")])
    compiled = stepwell.compile(proto, sanitize=True)
    same(compiled(ROWS, X[:2, :3], np.array(-1)), [*ROWS[:3], X[:2, :3], ROWS[3]])
