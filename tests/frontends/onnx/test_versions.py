"""What an opset has: operators, their attributes, the words these may be, and the types of inputs and results.

The onnx package is the referee: its checker for operators, its schemas' prose for words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import defs, helper

from stepwell.errors import ModelError
from stepwell.frontends.onnx.attribute_values import _DOMAINS, allowed_words, first_with
from stepwell.frontends.onnx.failures import check_importable
from stepwell.frontends.onnx.importer import unsupported_report
from stepwell.frontends.onnx.registry import RULES, Unsupported
from stepwell.frontends.onnx.structure import NodeInfo
from stepwell.frontends.onnx.versions import STANDING, TAKEN_EARLIER, absence, history, is_deprecated, schema_of
from tests.frontends.onnx.rule_harness import given, imported, node_model, refused

NEWEST = {"": defs.onnx_opset_version(), "ai.onnx.ml": defs.onnx_ml_opset_version(), "ai.onnx.preview.training": 1}
X = np.arange(-3, 3, dtype=np.float32).reshape(2, 3)


def operators() -> list[tuple[str, str]]:
    known = {(s.domain, s.name) for s in defs.get_all_schemas_with_history()}
    return sorted(key for key in known if key[0] in NEWEST)


def info(domain: str, op_type: str) -> NodeInfo:
    proto = helper.make_node(op_type, ["x"], ["y"], domain=domain)
    return NodeInfo(proto, op_type, op_type, domain, ("x",), ("y",), {}, {}, frozenset())


def checker_lacks(domain: str, op_type: str, version: int) -> bool:
    """Whether onnx.checker says that an opset has no such operator, or no longer."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = 10, {domain: version}
    try:
        onnx.checker.check_node(helper.make_node(op_type, ["x"], ["y"], domain=domain), context)
    except onnx.checker.ValidationError as error:
        return bool(re.search("No Op registered|is deprecated", str(error)))
    return False


def taken(domain: str, op_type: str, version: int) -> bool:
    """Whether the importer takes what the checker does not."""
    if version >= TAKEN_EARLIER.get((domain, op_type), NEWEST[domain] + 1):
        return version < history(domain, op_type)[0].since_version
    schema = schema_of(domain, op_type, version)
    return schema is not None and (domain, op_type, schema.since_version) in STANDING


@pytest.mark.parametrize("key", operators(), ids=lambda key: ".".join(key).lstrip("."))
def test_an_opset_has_the_operators_that_the_checker_says(key: tuple[str, str]) -> None:
    domain, op_type = key
    for version in range(1, NEWEST[domain] + 1):
        lacks = checker_lacks(domain, op_type, version)
        assert (absence(domain, op_type, version) is not None) == (lacks and not taken(domain, op_type, version))
        if lacks and not taken(domain, op_type, version):
            with pytest.raises(Unsupported, match=f"opset {version}( of {domain})? has no {op_type}"):
                check_importable(info(domain, op_type), version, RULES)
        else:
            check_importable(info(domain, op_type), version, RULES)


def firsts() -> Iterator[tuple[str, int]]:
    """Operators of ai.onnx with the opset before the first one that has them."""
    for domain, op_type in operators():
        since = history(domain, op_type)[0].since_version
        if domain == "" and since > 1 and ("", op_type) not in TAKEN_EARLIER:
            yield op_type, since - 1


@pytest.mark.parametrize(("op_type", "version"), list(firsts()))
def test_a_node_before_its_operator_is_refused_by_name(op_type: str, version: int) -> None:
    least = max(history("", op_type)[0].min_input, 1)
    (problem,) = unsupported_report(node_model(op_type, [X] * least, version=version))
    assert problem.reason == f"opset {version} has no {op_type}, which came with opset {version + 1}"
    assert f"opset {version + 1} or newer" in problem.advice


@pytest.mark.parametrize(
    ("op_type", "domain", "version", "last"),
    [("Upsample", "", 10, 9), ("Scatter", "", 11, 10), ("TreeEnsembleRegressor", "ai.onnx.ml", 5, 4)],
)
def test_a_node_after_its_operator_is_refused_by_name(op_type: str, domain: str, version: int, last: int) -> None:
    with pytest.raises(Unsupported, match=rf"has no {op_type} any more: the last one that has it is {last}"):
        check_importable(info(domain, op_type), version, RULES)
    check_importable(info(domain, op_type), last, RULES)


def test_a_rule_for_an_operator_that_no_opset_has_stands() -> None:
    check_importable(info("", "SimplifiedLayerNormalization"), 13, RULES)


def test_layer_normalization_of_an_optimised_model_has_an_old_opset() -> None:
    scale = np.ones(3, np.float32)
    (now,) = imported(node_model("LayerNormalization", [X, scale], version=17)).run([X, scale])
    (early,) = imported(node_model("LayerNormalization", [X, scale], version=12)).run([X, scale])
    np.testing.assert_array_equal(early, now)
    with refused("has no attribute 'beta' in opset 12"):
        imported(node_model("LayerNormalization", [X, scale], version=12, beta=1.0))


@pytest.mark.parametrize(("inside", "outside"), [(24, 17), (17, 24)])
def test_a_function_is_read_in_its_own_opset(inside: int, outside: int) -> None:
    swish = helper.make_node("Swish", ["a"], ["b"])
    body = helper.make_function("own", "Gate", ["a"], ["b"], [swish], [helper.make_opsetid("", inside)])
    made = node_model("Gate", [X], version=outside, domain="own")
    made.functions.append(body)
    problems = unsupported_report(made)
    assert [p.reason for p in problems] == (
        [] if inside == 24 else ["opset 17 has no Swish, which came with opset 24"]
    )


# Attributes

FREE = {
    "equation", "pattern", "delimiter", "locale", "stopwords", "to", "y", "default_string", "value_string",
}  # fmt: skip
"""Strings that may be anything, or that rules read by themselves."""


def worded() -> Iterator[tuple[str, str, int, str, str]]:
    """Every version of a string attribute, with what its schema says of it."""
    for domain, op_type in operators():
        for schema in history(domain, op_type):
            for name, attribute in schema.attributes.items():
                if attribute.type == defs.OpSchema.AttrType.STRING and name not in FREE:
                    yield domain, op_type, schema.since_version, name, attribute.description + schema.doc


@pytest.mark.parametrize(("domain", "op_type", "version", "name", "prose"), list(worded()))
def test_the_words_are_those_of_the_schema(domain: str, op_type: str, version: int, name: str, prose: str) -> None:
    words = allowed_words(domain, op_type, version, name)
    assert words, "which words may it be?"
    other = set(_DOMAINS[domain][op_type, name][-1][1]) - set(words) - {"linear", "cubic"}  # parts of other words there
    default = schema_of(domain, op_type, version).attributes[name].default_value
    assert [word for word in words if word.lower() not in prose.lower() and word != default.s.decode()] == []
    assert [word for word in other if word in prose] == []
    assert not default.type or default.s.decode() in words


def test_there_are_no_words_of_what_there_is_not() -> None:
    known = {(domain, op_type, name) for domain, op_type, _, name, _ in worded()}
    assert {(domain, *key) for domain, table in _DOMAINS.items() for key in table} == known
    assert first_with("", "Pad", "mode", "wrap") == 19
    assert first_with("", "Pad", "mode", "mirror") is None


GRID = np.zeros((1, 2, 2, 2), np.float32)
IMAGE = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
PADS = np.array([0, 1, 0, 1])

STEPS: dict[str, tuple[str, list[Any], dict[str, Any], int, int | None, str]] = {
    # operator, inputs, attributes, an opset that lacks them, one that has them, why
    "GridSample's names until 16": ("GridSample", [IMAGE, GRID], {"mode": "linear"}, 16, 20,
                                    "'linear', which came with opset 20; in opset 16, GridSample has bilinear"),
    "GridSample's names from 20": ("GridSample", [IMAGE, GRID], {"mode": "bicubic"}, 20, 16,
                                   "'bicubic'; in opset 20, GridSample has linear, nearest, cubic"),
    "Pad around": ("Pad", [X, PADS], {"mode": "wrap"}, 18, 19, "'wrap', which came with opset 19"),
    "Pad in no way": ("Pad", [X, PADS], {"mode": "mirror"}, 19, None, "'mirror'; in opset 19"),
    "Scatter the largest": ("ScatterND", [X, np.array([[0]]), X[:1]], {"reduction": "max"}, 16, 18,
                            "'max', which came with opset 18"),
    "Cast with saturation": ("Cast", [X], {"to": 1, "saturate": 1}, 18, 19, "'saturate' in opset 18: it came with"),
    "Cast by rounding up": ("Cast", [X], {"to": 1, "round_mode": "up"}, 23, 24, "it came with opset 24"),
    "Cast by rounding sideways": ("Cast", [X], {"to": 1, "round_mode": "left"}, 24, None, "has up, down, nearest"),
    "ReduceMax by attribute": ("ReduceMax", [X], {"axes": [1]}, 18, 13,
                               "'axes' in opset 18: opset 17 is the last one in which it has it"),
    "ReduceMax of nothing": ("ReduceMax", [X], {"noop_with_empty_axes": 1}, 13, 18, "it came with opset 18"),
    "consumed inputs": ("Relu", [X], {"consumed_inputs": [0]}, 6, 5, "opset 5 is the last one"),
    "Gelu by another name": ("Gelu", [X], {"approximate": "fast"}, 20, None, "'approximate' is 'fast'; in opset 20"),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_attributes_are_those_of_the_opset(name: str) -> None:
    op_type, inputs, attributes, without, having, why = STEPS[name]
    with refused(re.escape(why), ModelError):
        imported(node_model(op_type, inputs, version=without, **attributes))
    if having is not None:
        model = node_model(op_type, inputs, version=having, **attributes)
        imported(model).run(given(inputs))


@pytest.mark.parametrize(
    ("attributes", "without", "having"),
    [
        ({"coordinate_transformation_mode": "half_pixel_symmetric"}, 18, 19),
        ({"coordinate_transformation_mode": "tf_half_pixel_for_nn"}, 13, 11),
        ({"antialias": 1, "mode": "linear"}, 13, 18),
        ({"keep_aspect_ratio_policy": "not_larger"}, 13, 18),
    ],
)
def test_resize_has_the_attributes_of_its_opset(attributes: dict[str, Any], without: int, having: int) -> None:
    inputs = [IMAGE, np.zeros(0, np.float32), np.zeros(0, np.float32), np.array([1, 1, 8, 8])]
    with refused(next(iter(attributes))):
        imported(node_model("Resize", inputs, version=without, constants=[1, 2, 3], **attributes))
    imported(node_model("Resize", inputs, version=having, constants=[1, 2, 3], **attributes)).run([IMAGE])


def test_a_default_is_the_one_of_the_version() -> None:
    below = np.float32(1.0507) * np.float32(1.6732) * np.expm1(X)
    (old,) = imported(node_model("Selu", [X], version=1)).run([X])
    np.testing.assert_allclose(old, np.where(X > 0, np.float32(1.0507) * X, below), rtol=1e-6)
    assert not is_deprecated(schema_of("", "Selu", 1))


# Types


@pytest.mark.parametrize(
    ("op_type", "inputs", "version", "why"),
    [
        ("Relu", [X > 0], 14, r"Relu does not allow bool as input 0 \(X\)"),
        ("Add", [X, X.astype(np.float64)], 14, r"input 0 and input 1 \(B\) of one type, not float and double"),
        ("Gather", [X, X[0]], 13, r"Gather does not allow float as input 1 \(indices\)"),
        ("Where", [X, X, X], 16, r"Where does not allow float as input 0 \(condition\)"),
        ("Concat", [X, X > 0], 13, r"input 0 and input 1 \(inputs\) of one type, not float and bool"),
        ("Sqrt", [np.arange(3)], 13, r"Sqrt does not allow int64 as input 0 \(X\)"),
        ("SequenceLength", [X], 11, r"SequenceLength does not allow float as input 0"),
    ],
)
def test_types_that_no_version_allows_are_refused(op_type: str, inputs: list[Any], version: int, why: str) -> None:
    attributes = {"axis": 0} if op_type == "Concat" else {}
    with refused(why):
        imported(node_model(op_type, inputs, version=version, **attributes))


@pytest.mark.parametrize(
    ("op_type", "arrays", "version", "expected"),
    [
        ("Relu", [np.array([-1, 2], np.int32)], 13, np.array([0, 2], np.int32)),  # since 14
        ("Add", [np.array([1], np.int8)] * 2, 7, np.array([2], np.int8)),  # since 14
        ("Equal", [X, X], 7, X == X),  # since 11
        ("Erf", [np.array([-9, -3, 0, 3, 9], np.int16)], 9, np.array([-1, 0, 0, 0, 1], np.int16)),  # not since 13
        ("Tile", [X, np.array(2), np.array(1)], 1, np.tile(X, (1, 2))),  # counts of the data's type, says version 1
        ("Tile", [X, np.float32(2), np.float32(0)], 1, np.tile(X, (2, 1))),  # as it says
    ],
)
def test_types_that_another_version_allows_are_taken(
    op_type: str, arrays: list[Any], version: int, expected: Any
) -> None:
    (made,) = imported(node_model(op_type, arrays, version=version)).run(arrays)
    np.testing.assert_array_equal(made, expected, strict=True)


def test_a_result_is_of_a_type_that_the_operator_has() -> None:
    with refused("QuantizeLinear"):
        imported(node_model("QuantizeLinear", [X, np.float32(1), np.array(0, np.int32)], version=13))
