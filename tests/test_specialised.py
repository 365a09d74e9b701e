"""Models that calls decide: what is put in, what stays open, what is kept, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import stepwell
from stepwell import specialised
from stepwell.errors import EngineError, InputError, ModelError
from stepwell.frontends.onnx.importer import import_model
from stepwell.frontends.onnx.needs import Needs
from stepwell.frontends.onnx.report import ImportFailed
from stepwell.specialised import SpecialisedModel

F, L = TensorProto.FLOAT, TensorProto.INT64


def model(nodes: Sequence[Any], inputs: dict[str, tuple[int, Sequence[int | str]]], outputs: Sequence[str]) -> Any:
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    results = [helper.make_tensor_value_info(name, F, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", infos, results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def reshape_by(more: Sequence[Any] = ()) -> Any:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["r"], name="the_reshape"),
             helper.make_node("Neg", ["r"], ["y"]), *more]  # fmt: skip
    return model(nodes, {"x": (F, ["n", "m"]), "shape": (L, ["k"])}, ["y"])


def waiting(made: Any, **options: Any) -> SpecialisedModel:
    compiled = stepwell.compile(made, **options)
    assert isinstance(compiled, SpecialisedModel) and compiled.is_specialised
    return compiled


def test_a_rank_that_is_the_length_of_an_input() -> None:
    """The length is put in, the contents stay open: one model for all targets of a rank."""
    compiled = waiting(reshape_by())
    assert compiled.needs == Needs(frozenset({"k"}))
    assert [port.name for port in compiled.inputs] == ["x", "shape"]
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for target in ([2, 6], [6, 2], [12], [2, 3, 2], [4, -1], [0, 4]):
        assert np.array_equal(compiled(x, np.array(target)), -x.reshape(*([3, 4] if target == [0, 4] else target)))
    assert len(compiled._made) == 3
    assert compiled.run({"x": x, "shape": np.array([12])})["y"].shape == (12,)
    assert [port.name for port in compiled.outputs] == ["y"]
    with pytest.raises(stepwell.RuntimeError, match="the_reshape"):
        compiled(x, np.array([5, 5]))


def test_contents_are_put_in_where_they_decide_a_rank() -> None:
    nodes = [helper.make_node("Gather", ["lengths", "one"], ["k"], axis=0),
             helper.make_node("ConstantOfShape", ["k"], ["ones"]),
             helper.make_node("Cast", ["ones"], ["target"], to=L),
             helper.make_node("Expand", ["x", "target"], ["y"])]  # fmt: skip
    made = model(nodes, {"x": (F, []), "lengths": (L, [2]), "one": (L, [1])}, ["y"])
    compiled = waiting(made)
    assert compiled.needs.values == {"lengths", "one"}
    x = np.float32(1)
    for index in (0, 1):
        assert compiled(x, np.array([2, 3]), np.array([index])).shape == (0,) * (2 + index)


def test_inputs_without_a_shape_get_their_rank_from_the_call() -> None:
    nodes = [helper.make_node("Softmax", ["x"], ["s"], axis=-1), helper.make_node("Mul", ["s", "w"], ["y"])]
    made = model(nodes, {"x": (F, None), "w": (F, ["n"])}, ["y"])  # type: ignore[dict-item]
    compiled = waiting(made)
    assert compiled.needs == Needs(ranks=frozenset({"x"}))
    assert str(compiled.inputs[0]) == "x: float32[...]" and compiled.inputs[0].shape == ()
    assert "the rank of 'x'" in repr(compiled) and compiled.host_calls == []
    for shape in ((3,), (2, 3), (5, 3), (1, 2, 3)):
        arrays = {"x": np.arange(np.prod(shape), dtype=np.float32).reshape(shape), "w": np.float32([1, 2, 3])}
        (expected,) = ReferenceEvaluator(made).run(None, arrays)
        np.testing.assert_allclose(compiled(*arrays.values()), expected, rtol=1e-6)
    assert len(compiled._made) == 3
    with pytest.raises(InputError, match="element type float64"):
        compiled(np.ones(3), np.ones(3, np.float32))
    fixed = stepwell.compile(made, shapes={"x": ("a", 3)})
    assert not fixed.is_specialised and fixed.inputs[0].shape == ("a", 3)


def test_a_rank_may_show_what_else_is_needed() -> None:
    """Reshape(x, shape) of an x without a shape, by a list of unknown length: both are put in."""
    made = model([helper.make_node("Reshape", ["x", "shape"], ["y"])], {"x": (F, None), "shape": (L, ["k"])}, ["y"])  # type: ignore[dict-item]
    compiled = waiting(made)
    assert compiled(np.ones((2, 3), np.float32), np.array([3, -1])).shape == (3, 2)
    assert compiled.needs == Needs(frozenset({"k"}), ranks=frozenset({"x"}))
    assert compiled(np.ones(4, np.float32), np.array([1, 2, 2])).shape == (1, 2, 2)


def of_sequence(*nodes: Any) -> Any:
    """A model of a sequence q without a shape, and of a matrix x."""
    made = model(nodes, {"x": (F, ["n", "m"])}, ["y"])
    made.graph.input.insert(0, helper.make_tensor_sequence_value_info("q", F, None))
    return made


@pytest.mark.parametrize("nodes", [
    [helper.make_node("ConcatFromSequence", ["q"], ["y"], axis=0)],
    [helper.make_node("SequenceInsert", ["q", "x"], ["r"]),
     helper.make_node("ConcatFromSequence", ["r"], ["y"], axis=0)],
])  # fmt: skip
def test_sequences_without_a_shape_get_their_rank_from_the_call(nodes: Sequence[Any]) -> None:
    made = of_sequence(*nodes, helper.make_node("Identity", ["x"], ["z"]))
    compiled = waiting(made)
    assert compiled.needs == Needs(ranks=frozenset({"q"}))
    x = np.float32([[7, 8, 9]])
    for arrays in ([np.ones((2, 3), np.float32), np.zeros((1, 3), np.float32)], [x, x, x]):
        (expected,) = ReferenceEvaluator(made).run(["y"], {"q": arrays, "x": x})
        np.testing.assert_array_equal(compiled.run({"q": arrays, "x": x})["y"], expected)
    for wrong, why in (([], "no array"), ([x, x[0]], r"arrays of \[1, 2\] dims"), (x, "list of arrays")):
        with pytest.raises(InputError, match=why):
            compiled(wrong, x)


def test_what_was_made_is_kept_for_so_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specialised, "MOST", 2)
    compiled = waiting(reshape_by())
    x = np.ones((2, 2), np.float32)
    for target in ([4], [2, 2], [1, 2, 2], [4]):
        assert compiled(x, np.array(target)).shape == tuple(target)
        assert len(compiled._made) <= 2
    first = compiled.specialised([x, np.array([4])])[0]
    assert first is compiled.specialised([x, np.array([-1])])[0]


def test_what_does_not_fit_is_refused_as_by_any_model() -> None:
    compiled = waiting(reshape_by())
    x = np.ones((2, 2), np.float32)
    for arrays in ((x,), (x[0], np.array([4])), (x.astype(np.float64), np.array([4])), (x, np.array([[4]]))):
        with pytest.raises(InputError):
            compiled(*arrays)
    with pytest.raises(InputError, match="no array for input 'shape'"):
        compiled.run({"x": x})


def test_nothing_can_be_saved(tmp_path: Path) -> None:
    for name in ("model.well", "model.so"):
        with pytest.raises(EngineError, match=r"no one model to save: .* the size k"):
            waiting(reshape_by()).save(tmp_path / name)


def test_it_says_what_it_waits_for() -> None:
    compiled = waiting(reshape_by())
    assert "made at each call for the size k" in repr(compiled)
    assert [remark.message for remark in compiled.context.remarks] == ["specialised at each call for the size k"]


def test_fixed_sizes_need_no_call() -> None:
    compiled = stepwell.compile(reshape_by(), shapes={"k": 2})
    assert not compiled.is_specialised
    assert compiled(np.ones((2, 3), np.float32), np.array([6, 1])).shape == (6, 1)


def test_another_fault_is_reported_at_once() -> None:
    """What no call can mend is no matter for a call."""
    with pytest.raises(ModelError, match="NoSuchOperator"):
        stepwell.compile(reshape_by([helper.make_node("NoSuchOperator", ["x"], ["z"])]))


def test_a_list_made_by_the_run_is_no_matter_for_a_call() -> None:
    """It would take the contents of x."""
    nodes = [helper.make_node("NonZero", ["x"], ["at"]), helper.make_node("Flatten", ["at"], ["flat"], axis=0),
             helper.make_node("Squeeze", ["flat", "zero"], ["target"]),
             helper.make_node("Reshape", ["x", "target"], ["y"])]  # fmt: skip
    made = model(nodes, {"x": (F, ["n", "m"])}, ["y"])
    made.graph.initializer.append(helper.make_tensor("zero", L, [1], [0]))
    with pytest.raises(ModelError, match="ranks must be known"):
        stepwell.compile(made)


def test_states_are_not_shared_by_models_of_their_own() -> None:
    with pytest.raises(ModelError, match="ranks must be known"):
        stepwell.compile(reshape_by(), state={"x": "y"})


def test_axes_of_size_1_that_a_call_tells() -> None:
    made = model([helper.make_node("Squeeze", ["x"], ["y"])], {"x": (F, ["n", 3, "m"])}, ["y"])
    compiled = waiting(made)
    assert compiled.needs.sizes == {"n", "m"}
    for shape, left in (((1, 3, 1), (3,)), ((2, 3, 1), (2, 3)), ((2, 3, 4), (2, 3, 4)), ((0, 3, 1), (0, 3))):
        assert compiled(np.ones(shape, np.float32)).shape == left


def test_branches_of_different_ranks() -> None:
    """The condition decides; it is put in where it is an input, or made of small ones."""
    branches = {}
    for name, op in (("then_branch", "Identity"), ("else_branch", "Flatten")):
        result = helper.make_tensor_value_info("r", F, None)
        branches[name] = helper.make_graph([helper.make_node(op, ["x"], ["r"])], name, [], [result])
    nodes = [helper.make_node("Greater", ["a", "b"], ["c"]), helper.make_node("If", ["c"], ["y"], **branches)]
    compiled = waiting(model(nodes, {"x": (F, ["n", 2, 3]), "a": (L, []), "b": (L, [])}, ["y"]))
    assert compiled.needs.values == {"a", "b"}
    x = np.ones((4, 2, 3), np.float32)
    assert compiled(x, np.array(2), np.array(1)).shape == (4, 2, 3)
    assert compiled(x, np.array(1), np.array(1)).shape == (4, 6)


def test_a_branch_that_is_known_lets_its_contents_through() -> None:
    """The number of sizes tells the branch, what leaves it is still known as sizes, of which some are 1."""
    both = [helper.make_tensor_value_info(name, L, None) for name in ("n", "w")]
    pair = helper.make_graph([helper.make_node("Split", ["size"], ["n", "w"], num_outputs=2)], "pair", [], both)
    one = helper.make_graph([helper.make_node("Identity", ["size"], [name]) for name in ("n", "w")], "one", [], both)
    nodes = [helper.make_node("Size", ["size"], ["count"]), helper.make_node("Equal", ["count", "two"], ["is_two"]),
             helper.make_node("If", ["is_two"], ["n", "w"], then_branch=pair, else_branch=one),
             helper.make_node("Concat", ["n", "three", "w"], ["shape"], axis=0),
             helper.make_node("Expand", ["x", "shape"], ["e"]), helper.make_node("Squeeze", ["e"], ["y"])]  # fmt: skip
    made = model(nodes, {"x": (F, []), "size": (L, [2])}, ["y"])
    made.graph.initializer.extend([helper.make_tensor("two", L, [], [2]), helper.make_tensor("three", L, [1], [3])])
    compiled = waiting(made)
    assert compiled.needs.values == {"size"}
    for size, shape in (([2, 4], (2, 3, 4)), ([1, 4], (3, 4)), ([1, 1], (3,))):
        assert compiled(np.float32(1), np.array(size)).shape == shape


def test_a_few_integers_of_rank_2() -> None:
    """Pairs of borders decide as lists do, floats of rank 2 do not."""
    rows = helper.make_node("Flatten", ["pairs"], ["rows"], axis=0)
    nodes = [rows, helper.make_node("Squeeze", ["rows"], ["list"]),
             helper.make_node("ConstantOfShape", ["list"], ["e"]),
             helper.make_node("Squeeze", ["e"], ["y"])]  # fmt: skip
    compiled = waiting(model(nodes, {"pairs": (L, [2, 2])}, ["y"]))
    assert compiled.needs.values == {"pairs"}
    assert compiled(np.array([[1, 2], [3, 1]])).shape == (2, 3)
    to_integers = [helper.make_node("Cast", ["rows"], ["integers"], to=L),
                   helper.make_node("Squeeze", ["integers"], ["list"])]  # fmt: skip
    with pytest.raises(ModelError, match="rank of the result"):
        stepwell.compile(model([rows, *to_integers, *nodes[2:]], {"pairs": (F, [2, 2])}, ["y"]))


def test_without_a_call_the_report_says_what_to_fix() -> None:
    made = model([helper.make_node("Squeeze", ["x"], ["y"])], {"x": (F, ["n", 3])}, ["y"])
    with pytest.raises(ImportFailed, match=r"(?s)with axes.*; or fix the size n, in shapes= and as initializers"):
        import_model(made)


@pytest.mark.parametrize("rank", [2, 3])
def test_the_length_of_the_size_of_an_affine_grid(rank: int) -> None:
    theta = np.random.default_rng(0).standard_normal((2, rank, rank + 1)).astype(np.float32)
    inputs = {"x": (F, ["a", "b", "c"]), "size": (L, ["k"])}
    made = model([helper.make_node("AffineGrid", ["x", "size"], ["y"])], inputs, ["y"])
    compiled = waiting(made)
    assert compiled.needs.sizes == {"k"}
    size = np.array([2, 3, 4, 5, 6][: rank + 2])
    (expected,) = ReferenceEvaluator(made).run(None, {"x": theta, "size": size})
    np.testing.assert_allclose(compiled(theta, size), expected, rtol=1e-5, atol=1e-6)
