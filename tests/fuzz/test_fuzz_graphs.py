"""A short, seeded run of the graph fuzzer, and what its parts do; longer runs by its command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import ml_dtypes
import numpy as np
import onnx
import pytest

from stepwell.frontends.onnx.registry import RULES
from tests.fuzz import fuzz_graphs
from tests.fuzz.fuzz_graphs import main, report_of
from tests.fuzz.graphs import check
from tests.fuzz.graphs.cases import NEWEST, Case, draw
from tests.fuzz.graphs.check import OK, Finding, examine
from tests.fuzz.graphs.draft import port_of_any
from tests.fuzz.graphs.families import FAMILIES, LEFT_OUT
from tests.fuzz.graphs.known import KNOWN, REFERENCE, Use, flaws
from tests.fuzz.graphs.oracle import Expected, Oracle, difference
from tests.fuzz.graphs.reduction import reduced, text_of
from tests.onnx_conformance.cases import HOST, REFUSED, SPECIALISED, WRONG

# Seeds of small graphs: old and new opsets, sizes with and without symbols, some with all stages interpreted.
SEEDS = [seed for seed in range(50) if 1 < len(draw(seed).operators) < 4]
GOOD = (OK, HOST, SPECIALISED, REFUSED, check.DISPUTED)


@pytest.mark.parametrize("seed", SEEDS)
def test_drawn_graphs_give_what_is_expected(seed: int) -> None:
    found = examine(draw(seed), check_each=0.1)
    assert found.kind in GOOD, found


@pytest.mark.parametrize(
    ("scales", "mode", "attributes", "disputed"),
    [
        ([1, 1, 2, 4], "linear", {}, False), ([1, 1, 3, 1], "cubic", {}, True), ([1, 1, 1.5, 1], "linear", {}, True),
        ([1, 1, 0.5, 1], "linear", {}, False), ([1, 1, 3, 1], "nearest", {}, False),
        ([1, 1, 2, 1], "linear", {"coordinate_transformation_mode": b"align_corners"}, True),
    ],
)  # fmt: skip
def test_places_that_no_f32_has_are_disputed(
    scales: list[float], mode: str, attributes: dict[str, Any], disputed: bool
) -> None:
    """Those that are no multiples of a power of two."""
    arrays = [np.zeros((1, 1, 4, 4), np.float32), np.array(scales, np.float32)]
    use = Use("Resize", 10, {"mode": mode.encode(), **attributes}, arrays)
    assert ("rounds places to f32" in [flaw.reason for flaw in flaws(use, REFERENCE)]) == disputed


@pytest.mark.parametrize(
    ("size", "attributes", "expected"),
    [
        (1, {"kernel_shape": [2], "dilations": [2], "pads": [1, 1]}, True),
        (2, {"kernel_shape": [2], "dilations": [2], "pads": [1, 1]}, False),
        (4, {"kernel_shape": [2], "strides": [3], "pads": [1, 0]}, False),
        (4, {"kernel_shape": [2], "pads": [2, 0]}, True), (0, {"kernel_shape": [1]}, True),
    ],
)  # fmt: skip
def test_windows_of_padding_alone_are_found(size: int, attributes: dict[str, Any], expected: bool) -> None:
    use = Use("MaxPool", 12, attributes, [np.zeros((1, 1, size), np.float32)])
    assert any("nothing but padding" in flaw.reason for flaw in flaws(use, REFERENCE)) == expected


def test_a_seed_is_one_case() -> None:
    one, other = draw(7), draw(7)
    assert one.model == other.model and one.feeds.keys() == other.feeds.keys()
    assert one.model != draw(8).model


@pytest.mark.parametrize("first", range(0, 300, 100))
def test_drawn_models_are_valid(first: int) -> None:
    for seed in range(first, first + 100):
        onnx.checker.check_model(draw(seed).model, full_check=True)


def test_every_operator_has_a_family_or_a_reason() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()
             if not schema.domain and RULES.since("", schema.name)}  # fmt: skip
    assert known - {*FAMILIES, *LEFT_OUT} == set()
    assert not FAMILIES.keys() & LEFT_OUT.keys()


@pytest.mark.parametrize(("shapes", "declared"), [
    ([(5, 2), (5, 2)], [5, 2]), ([(0, 2), (5, 2)], [None, 2]), ([(2,), (2, 2)], None), ([()], []),
])  # fmt: skip
def test_an_input_for_many_arrays_declares_what_they_share(
    shapes: list[tuple[int, ...]], declared: list[int | None] | None
) -> None:
    port = port_of_any("x", [np.zeros(shape, np.float32) for shape in shapes])
    assert port == onnx.helper.make_tensor_value_info("x", 1, declared)


def case_of(text: str, **feeds: Any) -> Case:
    """A case from ONNX's own text form."""
    header = f'<ir_version: 10, opset_import: ["": {NEWEST - 8}]>'
    return Case(0, onnx.parser.parse_model(header + text), feeds)


ROUNDED = """g (float[3] x) => (float[3] y, int64[3] z) {
    a = Exp(x) c = Cos(x) y = Sub(a, c) b = Floor(a) z = Cast <to = 7> (b)
}"""


def test_what_a_rounding_decides_says_nothing() -> None:
    """exp(0) is 1, or just below it, of which the floor is 0; exp(0) - cos(0) may be a rounding."""
    oracle = Oracle(case_of(ROUNDED).model)
    y, z = oracle.expected({"x": np.array([0, 1, -1], np.float32)})
    assert z.undecided.tolist() == [True, False, False]
    off = [np.array([error, 0, 0], np.float32) + y.array for error in (1e-7, 1e-2)]
    assert difference(off[0], y) is None and difference(off[1], y) is not None
    assert difference(np.array([5, 2, 0]), z) is None and difference(np.array([1, 3, 0]), z) is not None


@pytest.mark.parametrize(("hidden", "value", "disputed"), [(1, np.nan, True), (1, 2.0, False), (2, np.nan, False)])
def test_what_numpy_makes_of_one_zero(hidden: int, value: float, disputed: bool) -> None:
    """np.dot([[nan], [0]], [[0]]) is 0; with two columns it is NaN, as it should be."""
    arrays = [np.full((3, 2, 3), value), np.zeros((1, hidden, 3)), np.zeros((1, hidden, hidden))]
    assert any("one 0" in flaw.reason for flaw in flaws(Use("RNN", 7, {}, arrays), REFERENCE)) == disputed


@pytest.mark.parametrize(("dtype", "size", "disputed"), [("bfloat16", 300, True), ("bfloat16", 200, False),
                                                         ("float16", 300, False)])  # fmt: skip
def test_what_sums_of_bf16_lose(dtype: str, size: int, disputed: bool) -> None:
    """256 + 1 is 256 in bf16."""
    x = np.ones(size, np.dtype(getattr(ml_dtypes, dtype, dtype)))
    assert any("sums in bf16" in flaw.reason for flaw in flaws(Use("ReduceSum", 13, {}, [x]), REFERENCE)) == disputed


@pytest.mark.parametrize(("x", "scale", "disputed"), [(2**31 - 1, 0.5, True), (2**31 - 1, 2.0, False), (3, 0.0, True)])
def test_quotients_that_no_i32_has(x: int, scale: float, disputed: bool) -> None:
    """4294967294 is 255 as ui8, and 0 where it wraps to -2 in between."""
    use = Use("QuantizeLinear", 10, {}, [np.array([x], np.int32), np.float32(scale)])
    assert any("before it cuts off" in flaw.reason for flaw in flaws(use, REFERENCE)) == disputed


@pytest.mark.parametrize(("start", "end", "step", "expected"), [
    (-5, -6, -1, [0]), (-5, 2, -1, []), (-4, -6, -1, None), (-5, 2, 1, None), (3, -9, -2, None),
])  # fmt: skip
def test_slices_from_before_the_axis(start: int, end: int, step: int, expected: list[int] | None) -> None:
    """Backwards, the start is brought to the first element (Slice 13); x[-5:-6:-1] of four elements has none."""
    use = Use("Slice", 13, {}, [np.arange(4), *(np.array([number]) for number in (start, end, 0, step))])
    right = [flaw.instead(use)[0].tolist() for flaw in flaws(use, REFERENCE) if flaw.instead is not None]
    assert right == ([] if expected is None else [expected])


@pytest.mark.parametrize(("numbers", "exact"), [([3.0, -5.0, 0.25], True), ([0.1, 0.7, 1.3], False)])
def test_products_in_f64_may_be_rounded(numbers: list[float], exact: bool) -> None:
    oracle = Oracle(case_of("g (double[3] x) => (double[1] y) { y = ReduceProd(x) }").model)
    (y,) = oracle.expected({"x": np.array(numbers)})
    assert bool(y.allowed.any()) != exact


def test_how_many_are_equal_may_hang_on_roundings() -> None:
    """The two halves of a window are equal but for roundings."""
    text = """<ir_version: 10, opset_import: ["": 22]> g () => (float[n] y) <int64 c = {16}>
      { w = HammingWindow <periodic = 0> (c) y, a, b, d = Unique <sorted = 0> (w) }"""
    (y,) = Oracle(onnx.parser.parse_model(text)).expected({})
    assert y.undecided.all()


def test_another_engine_may_give_another_shape() -> None:
    expected = Expected(np.zeros(3), np.ones(3), np.array([True, False, False]))
    assert difference(np.array([5, 1.5, 0]), expected.of(np.full(3, 0.5))) is None
    assert difference(np.array([1.5, 1, 1, 1]), expected.of(np.ones(4))) is not None
    assert difference(np.ones(4), expected.of(np.ones(4))) is None


def test_nothing_and_a_rounding_may_be_equal() -> None:
    """The ends of a window are 0; the second is the square of sin(pi), 1e-32."""
    case = case_of("g (int64 n) => (float[u] y) { w = HannWindow <periodic = 0> (n) y = Unique (w) }")
    (y,) = Oracle(case.model).expected({"n": np.array(2)})
    assert len(y.array) == 2 and y.undecided.all()


def test_moves_that_could_cancel_are_added_up() -> None:
    """Atanh multiplies by 116,000 what Erf(3.25), or the reading of it, is off by: every time, whatever is drawn."""
    case = case_of("g (float[64] x) => (float[64] y) { a = Erf(x) y = Atanh(a) }")
    (y,) = Oracle(case.model).expected({"x": np.full(64, 3.25, np.float32)})
    assert np.all(y.undecided | (y.allowed > 0.02))


def test_exact_arithmetic_is_held_to_the_bit() -> None:
    case = case_of("g (float[2] x) => (float[2] y) { y = Mul(x, x) }")
    (y,) = Oracle(case.model).expected({"x": np.array([1.5, -2], np.float32)})
    assert not y.allowed.any()


def test_a_failing_case_is_shrunk_to_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(
        "g (float[4,6] x, float[6] w) => (float[6,4] y, float[4,6] z) "
        "{ a = Relu(x) b = Add(a, w) z = Tanh(b) y = Transpose <perm = [1, 0]> (z) }",
        x=np.ones((4, 6), np.float32), w=np.ones(6, np.float32),
    )  # fmt: skip
    least = reduced(case, lambda one: "Tanh" in one.operators, seconds=20)
    assert least.operators == ["Tanh"] and "Tanh" in text_of(least)
    assert sum(array.size for array in [*least.feeds.values(), *Oracle(least.model).constants.values()]) == 1


def test_a_wrong_result_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_graphs, "draw", lambda seed, only=(): case_of(
        "g (float[2] x) => (float[2] y) { a = Neg(x) y = Abs(a) }", x=np.array([1, 2], np.float32)))  # fmt: skip
    wrong = Finding(WRONG, "plain", "as the test says")
    monkeypatch.setattr(fuzz_graphs, "examine", lambda case, often: wrong if "Abs" in case.operators else Finding(OK))
    report = report_of(3, 0.0, (), tmp_path)
    assert report.is_bad and report.operators == ("Abs",) and "as the test says" in (tmp_path / "3.txt").read_text()
    assert onnx.load(tmp_path / "3.onnx").graph.node[0].op_type == "Abs"


def test_other_results_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of("g (float[2] x) => (float[2] y) { y = Abs(x) }", x=np.array([1, -2], np.float32))
    assert examine(case, 0.0).kind == OK
    expected = Oracle.expected
    monkeypatch.setattr(check, "onnxruntime_results", lambda model, feeds: None)
    monkeypatch.setattr(Oracle, "expected", lambda self, feeds: [
        attrs.evolve(one, array=one.array + 1) for one in expected(self, feeds)])  # fmt: skip
    assert examine(case, 0.0).kind == WRONG


def test_the_command_reports(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--seconds", "0.1", "--only", "Abs,Neg", "--check-each", "0", "--findings", str(tmp_path / "findings")]
    assert main(arguments) == 0
    assert "0 findings of 0 kinds" in capfd.readouterr().out and not (tmp_path / "findings").exists()


def test_flaws_of_the_judges_have_reasons() -> None:
    assert all(known.reason and known.operators for known in KNOWN)


def test_cubic_grids_differ_outside_of_the_image_alone() -> None:
    numbers = np.random.default_rng(0)
    x, grid = numbers.normal(size=(2, 3, 4, 5)).astype("f"), numbers.uniform(-1, 1, (2, 2, 3, 2)).astype("f")
    port = [onnx.helper.make_tensor_value_info(name, 1, None) for name in "xgy"]
    for corners in (0, 1):
        attributes = {"mode": b"cubic", "padding_mode": b"border", "align_corners": corners}
        node = onnx.helper.make_node("GridSample", ["x", "g"], ["y"], **attributes)
        graph = onnx.helper.make_graph([node], "g", port[:2], port[2:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
        (inside,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x, "g": grid})
        assert not flaws(Use("GridSample", 20, attributes, [x, grid]), REFERENCE)
        (known,) = flaws(Use("GridSample", 20, attributes, [x, grid * 1.5]), REFERENCE)
        assert known.instead is not None
        (made,) = known.instead(Use("GridSample", 20, attributes, [x, grid]))
        np.testing.assert_allclose(made, inside, rtol=1e-4, atol=1e-5)


def test_attention_without_the_flaws_of_the_evaluator() -> None:
    """Two causal queries, the second of which sees both keys; scaled by what has no root in f32."""
    q, k, v = (np.array(column).reshape(1, 1, 2, 1) for column in ([1.5, 1.5], [0, 0.5], [0, -2.25]))
    use = Use("Attention", 24, {"is_causal": 1, "scale": 0.5}, [q, k, v, np.zeros((1, 2))])
    found = flaws(use, REFERENCE)
    assert len(found) == 2
    second = -2.25 / (1 + np.exp(-0.375))
    for known in found:
        assert known.instead is not None
        np.testing.assert_allclose(known.instead(use)[0].reshape(-1), [0, second], rtol=1e-15)
    assert not flaws(attrs.evolve(use, attributes={}, arrays=[q, k, v]), REFERENCE)
