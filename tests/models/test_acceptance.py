"""The tools of acceptance can tell right from wrong, and remember what they found."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import materialize
from stepwell.errors import ModelError
from tests.models import accept, checks, child, double, light
from tests.models.checks import Finding
from tests.models.subject import difference, same_bits, size_grid
from tests.models.table import table

F32 = np.float32


def array(*values: float, dtype: Any = F32) -> np.ndarray[Any, Any]:
    return np.array(values, dtype)


# Runs in 64 bits


def test_the_double_run_is_the_one_of_onnx() -> None:
    from onnx.reference import ReferenceEvaluator

    model = materialize.load(materialize.MODELS / "digits_cnn.onnx")
    feeds = materialize.inputs(model)
    wide = {name: value.astype(np.float64) for name, value in feeds.items()}
    expected = ReferenceEvaluator(double.widened(model)).run(None, wide)
    for left, right in zip(expected, double.DoubleModel(model).run(feeds), strict=True):
        assert right.dtype == np.float64
        np.testing.assert_allclose(right, left, rtol=1e-12)


def node_model(node: onnx.NodeProto, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    x, y = helper.make_tensor_value_info("x", kind, [2]), helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph([node], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(array(1, 2))),
        helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0]),
        helper.make_node("ConstantOfShape", ["x"], ["y"]),
        helper.make_node("ConstantOfShape", ["x"], ["y"], value=numpy_helper.from_array(array(3))),
    ],
)
def test_types_inside_nodes_are_widened(node: onnx.NodeProto) -> None:
    kind = TensorProto.INT64 if node.op_type == "ConstantOfShape" else TensorProto.FLOAT
    model = node_model(node, kind)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    inferred = onnx.shape_inference.infer_shapes(double.widened(model), check_type=True, strict_mode=True)
    assert inferred.graph.output[0].type.tensor_type.elem_type == TensorProto.DOUBLE


def test_bodies_are_widened() -> None:
    scalar = helper.make_tensor_value_info("o", TensorProto.FLOAT, [])
    node = helper.make_node("Constant", [], ["o"], value_float=1.0)
    branch = helper.make_graph([node], "b", [], [scalar])
    model = node_model(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))
    wide = double.widened(model).graph.node[0].attribute[0].g
    assert wide.output[0].type.tensor_type.elem_type == TensorProto.DOUBLE
    assert numpy_helper.to_array(wide.node[0].attribute[0].t).dtype == np.float64


def test_what_has_no_wide_form_is_an_error() -> None:
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])
    model = node_model(node)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    with pytest.raises(ModelError):
        double.DoubleModel(model).run({"x": array(1, 2)})


@pytest.mark.parametrize(
    ("ours", "theirs", "ratio"),
    [
        (array(1.0, 8.0), array(1.0, 8.0), 0.0),
        (array(1.0, 8.5), array(1.0, 8.25), 2.0),
        (array(1.0, 8.0), array(1.0, 8.25), 0.0),
        (array(1.0, 8 + 2**-20), array(1.0, 8.0), 2.0),  # theirs exact: by half a unit in the last place of 8
    ],
)
def test_distances(ours: Any, theirs: Any, ratio: float) -> None:
    (found,) = double.distances([array(1, 8, dtype=np.float64)], [ours], [theirs])
    assert found.ratio == ratio
    assert found.scale == 8


def test_the_farthest_of_several_runs() -> None:
    runs = [double.Distance(3e-6, 1e-6, 1.0), double.Distance(1e-6, 2e-6, 0.5)]
    assert double.Distance.farthest(runs) == double.Distance(3e-6, 2e-6, 1.0)


def test_distances_leave_out_what_is_not_finite_and_no_float() -> None:
    exact = [array(np.nan, np.inf, 2, dtype=np.float64), array(3, dtype=np.int64)]
    run = [array(np.nan, np.inf, 2.5), array(3, dtype=np.int64)]
    (found,) = double.distances(exact, run, run)
    assert (found.ours, found.scale) == (0.5, 2.0)


# Comparisons


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        (array(1, 2), array(1, 2 + 1e-4), None),
        (array(1, 2), array(1, 2.1), "1 of 2 values"),
        (array(1, np.nan), array(1, 2), "NaN"),
        (array(1, np.inf), array(1, -np.inf), "Inf"),
        (array(100_000, dtype=np.int64), array(100_001, dtype=np.int64), "1 of 1 values differ"),
        (array(1, dtype=np.int32), array(1, dtype=np.int64), "int64"),
    ],
)
def test_difference(left: Any, right: Any, said: str | None) -> None:
    found = difference([left], [right])
    assert found is None if said is None else said in str(found)


# Memory


@pytest.mark.parametrize("hints", [{}, {"n": (1, 32, 128)}])
def test_an_arena_with_room_to_spare_is_not_accepted(hints: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"n": 32} if hints else {}
    subject = SimpleNamespace(usual_sizes=sizes)
    arenas = {"": (1100, 1000), " at least sizes": (0, 0), " at largest sizes": (5600, 5000)}
    monkeypatch.setattr(checks, "_arenas", lambda subject, given: arenas if given == hints else {"": (100, 100)})
    finding = checks.memory(subject)  # type: ignore[arg-type]
    where = "told" if hints else "default"
    said = f"{where} sizes at largest sizes: 5600 bytes are 1.12 times the 5000 that live at once"
    assert (finding.status, finding.detail) == ("fail", said)
    assert finding.values == {"arena": 1100, "bound": 1000, "ratio": 1.12}


def test_a_missing_output_is_a_difference() -> None:
    assert difference([array(1), array(2)], [array(1)]) == "1 outputs instead of 2"


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        (array(1, np.nan), array(1, np.nan), None),
        (array(0.0, 1), array(-0.0, 1), "output 0: 1 elements"),
        (array(1, 2), array(1), "output 0: 1 elements"),
        (array(), array(), None),
    ],
)
def test_same_bits(left: Any, right: Any, said: str | None) -> None:
    found = same_bits([left], [right])
    assert found is None if said is None else said in str(found)


def test_sizes_are_small_odd_typical_and_four_times_that() -> None:
    assert size_grid({"past": 128}) == [{"past": n} for n in (1, 7, 15, 37, 128, 512)]
    assert size_grid({"batch": 4}) == [{"batch": n} for n in (1, 7, 15, 37, 4, 16)]
    grid = size_grid({"batch": 2, "seq": 128})
    assert grid[:2] == [{"batch": 1, "seq": 1}, {"batch": 2, "seq": 7}]
    assert grid[4:] == [{"batch": 2, "seq": 128}, {"batch": 8, "seq": 128}, {"batch": 2, "seq": 512}]


# The light models


def test_all_nine_light_models_are_in_the_package() -> None:
    cases = [light.case_of(f"light_{name}") for name in light.NAMES]
    assert len(cases) == 9
    assert all(case is not None and case.path.exists() and case.rtol > 0 for case in cases)
    assert light.case_of("resnet50") is None
    assert light.case_of("light_other") is None


def test_other_outputs_than_a_light_model_expects_are_told() -> None:
    case = light.case_of("light_squeezenet")
    assert case is not None
    (expected,) = case.outputs()
    answers: list[tuple[np.ndarray[Any, Any], str | None]] = [
        (expected, None),
        (expected.astype(np.float64), "float64"),
        (expected + F32(0.1), f"{expected.size} of {expected.size} values"),
    ]
    for answer, said in answers:
        found = case.difference(lambda *_, answer=answer: answer)  # type: ignore[arg-type,misc]
        assert found is None if said is None else said in str(found)


# The command


def test_what_passed_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def examine(model: Path, results: Path, wanted: list[str], memory: float) -> None:
        ran.append(list(wanted))
        assert model.exists()
        assert model.with_suffix(".npz").exists()
        for check in wanted:
            child.record(results, check, Finding("fail" if check == "runs" else "pass"))

    monkeypatch.setattr(accept, "_examine", examine)
    command = ["digits_cnn", "--checks", "right,runs,cost", "--results", str(tmp_path)]
    assert accept.main(command) == 1
    assert accept.main(command) == 1
    assert accept.main([*command, "--again"]) == 1
    assert accept.main([*command, "--table"]) == 1
    assert ran == [["right", "runs"], ["cost"], ["runs"], ["right", "runs"], ["cost"]]
    assert [path.name for path in tmp_path.iterdir()] == ["digits_cnn.json"]
    child.record(tmp_path / "digits_cnn.json", "runs", Finding("pass"))
    assert accept.main(command) == 0


def test_a_check_whose_process_dies_has_failed(tmp_path: Path) -> None:
    model, results = tmp_path / "absent.onnx", tmp_path / "absent.json"
    accept._examine(model, results, ["right", "runs"], 4.0)
    assert {check: one["status"] for check, one in child.recorded(results).items()} == {"right": "fail", "runs": "fail"}
    assert "status 1" in child.recorded(results)["right"]["detail"]


def test_names_that_nobody_knows_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["no_such_model"], ["--checks", "no_such_check"]):
        with pytest.raises(SystemExit):
            accept.main(arguments)
        assert "no_such" in capsys.readouterr().err


def test_an_error_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(subject: object) -> Finding:
        raise ModelError("no such thing")

    monkeypatch.setitem(checks.CHECKS, "right", broken)  # type: ignore[arg-type]
    assert child.examine(None, "right") == Finding("fail", "ModelError: no such thing")  # type: ignore[arg-type]


def test_the_table_shows_numbers_and_failures() -> None:
    found = {
        "a": {
            "right": {"status": "pass", "detail": "", "values": {}},
            "runs": {"status": "fail", "detail": "run 3: output 0: 1 elements have other bits", "values": {}},
            "precise": {"status": "pass", "detail": "", "values": {"ratio": 0.512}},
            "cost": {"status": "pass", "detail": "", "values": {"seconds": 1.25}},
            "memory": {"status": "fail", "detail": "", "values": {"arena": 3 << 20, "bound": 2 << 20}},
        }
    }
    text = table(found)
    row = text.splitlines()[2]
    assert row.startswith("| a | yes | 0.51 |")
    assert "| NO |" in row
    assert "| 1.2 | 3.00 (1.500) | NO |" in row
    assert "- a, runs: run 3" in text
