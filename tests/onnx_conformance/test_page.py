"""The page about ONNX's operators: every version has its row, and outcomes are told where they belong."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from stepwell.frontends.onnx.registry import RuleTable
from stepwell.frontends.onnx.versions import is_deprecated
from tests.onnx_conformance.cases import HOST, INTERNAL, OK, SPECIALISED, WRONG, Outcome, operators_of
from tests.onnx_conformance.kept import keep, kept
from tests.onnx_conformance.operators import BY_DEFINITION, COMPILED, REFUSED, calls_host, taken
from tests.onnx_conformance.page import page

TWO = "(several nodes)"
FOUND = {
    "given": [
        Outcome("test_a", "Add", OK, "", ("Add 14",)),
        Outcome("test_b", TWO, WRONG, "not | equal", ("Add 7", "Reshape 25")),
        Outcome("test_c", TWO, HOST, "@string_cast", ("Cast 13", "Add 13", "Add 14")),
    ],
    "symbolic": [
        Outcome("test_a", "Add", OK, "", ("Add 14",)),
        Outcome("test_b", TWO, SPECIALISED, "the size i1_0", ("Add 7", "Reshape 25")),
        Outcome("test_c", TWO, INTERNAL, "KeyError", ("Cast 13", "Add 13", "Add 14")),
    ],
}


def row(text: str, label: str, version: int) -> list[str]:
    """The cells behind the operator and its versions."""
    for line in text.split("\n"):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == label and str(version) in cells[1].split(", "):
            return cells[2:]
    raise AssertionError(f"no row for {label} {version}")


def test_every_version_has_one_row() -> None:
    members = [member for entry in taken() for member in entry.members]
    standing = [schema for schema in onnx.defs.get_all_schemas_with_history() if not is_deprecated(schema)]
    assert len(members) == len(set(members)) == len(standing)
    text = page(FOUND)
    for schema in standing:
        label = f"{schema.domain}.{schema.name}".lstrip(".")
        assert row(text, label, schema.since_version)[0], label


@pytest.mark.parametrize(
    ("operator", "versions", "how"),
    [
        ("Add", (1, 6), COMPILED),
        ("Add", (7, 13, 14), COMPILED),
        ("Softmax", (1, 11), COMPILED),
        ("Softmax", (13,), COMPILED),
        ("ai.onnx.ml.Normalizer", (1,), COMPILED),
        ("NegativeLogLikelihoodLoss", (12, 13, 22), BY_DEFINITION),
        ("ai.onnx.preview.FlexAttention", (1,), BY_DEFINITION),
    ],
)
def test_how_versions_are_taken(operator: str, versions: tuple[int, ...], how: str) -> None:
    (entry,) = [entry for entry in taken() if entry.label == operator and entry.versions[0] == versions[0]]
    assert (entry.versions[: len(versions)], entry.how) == (versions, how)


def test_an_operator_without_a_rule_is_told_to_be_refused() -> None:
    without = {entry.how for entry in taken(table=RuleTable()) if entry.name == "Conv"}
    assert without == {REFUSED}
    assert not [entry.label for entry in taken() if entry.how == REFUSED]


def test_why_the_host_is_called() -> None:
    text = page(FOUND)
    assert row(text, "ImageDecoder", 20)[0] == "on the host (`image_decoder`): Pillow decodes images"
    assert row(text, "Unique", 11)[0].startswith("compiled; for strings that are sorted on the host (`string_rank`): ")
    assert calls_host(("Add 14", "Cast 13")) and not calls_host(("Add 14",))


def test_operators_stop_at_the_opsets_of_the_run() -> None:
    assert {version for entry in taken({"": 13}) for version in entry.versions if entry.name == "Relu"} == {1, 6, 13}
    assert {entry.domain for entry in taken({"": 13})} == {""}


def test_cells_count_every_case_with_the_operator_once() -> None:
    text = page(FOUND)
    assert row(text, "Add", 7)[1:] == [
        "2 of 3 (1 host; 1 wrong)", "2 of 3 (1 internal; 1 specialised for the size i1_0)",
    ]  # fmt: skip
    assert row(text, "Reshape", 25)[1:] == ["0 of 1 (1 wrong)", "1 of 1 (1 specialised for the size i1_0)"]
    assert row(text, "Add", 6)[1:] == ["no case", "no case"]


def test_reasons_are_told_case_by_case() -> None:
    text = page(FOUND)
    assert "## Why not, given\n\n- `test_b`, wrong: not , equal\n" in text
    assert "## Specialised for, symbolic\n\n- the size i1_0: `test_b`\n" in text
    assert "## Specialised for, given\n\nNothing.\n" in text


def test_a_run_that_is_kept_makes_the_same_page(tmp_path: Path) -> None:
    keep(FOUND, tmp_path / "kept.json")
    opsets, found = kept(tmp_path / "kept.json")
    assert found == FOUND
    assert page(found, opsets) == page(FOUND)


def test_a_run_that_lacks_a_case_in_a_mode_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="test_c"):
        keep({"given": FOUND["given"], "symbolic": FOUND["symbolic"][:2]}, tmp_path / "kept.json")


def test_the_operators_of_a_model() -> None:
    """Those of subgraphs and of functions count, under the opsets that these are written in."""
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, [])
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["v"])], "b", [], [value])
    function = helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
                                    [helper.make_opsetid("", 9)])  # fmt: skip
    nodes = [helper.make_node("If", ["c"], ["i"], then_branch=branch, else_branch=branch),
             helper.make_node("F", ["i"], ["f"], domain="own"),
             helper.make_node("Binarizer", ["f"], ["y"], domain="ai.onnx.ml")]  # fmt: skip
    opsets = [helper.make_opsetid(*pair) for pair in (("ai.onnx", 18), ("ai.onnx.ml", 3), ("own", 1))]
    model = helper.make_model(helper.make_graph(nodes, "g", [], []), functions=[function], opset_imports=opsets)
    assert operators_of(model) == ["If 16", "Neg 13", "Relu 6", "ai.onnx.ml.Binarizer 1"]
