"""Which rules call the host is said beside them: it is what they insert."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from stepwell.dialects.graph.host import HostCallOp
from stepwell.dialects.host_functions import find
from stepwell.frontends.onnx.registry import RULES, HostUse, host_use
from tests.frontends.onnx.rule_harness import imported, node_model

TEXT = np.array(["1", "2"], object)
NUMBERS = np.array([1, 2], np.int64)
CALLING: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    ("StringConcat", 20, [TEXT, TEXT], {}),
    ("StringSplit", 20, [TEXT], {"outputs": 2}),
    ("StringNormalizer", 10, [TEXT], {}),
    ("RegexFullMatch", 20, [TEXT], {"pattern": "a"}),
    ("ImageDecoder", 20, [np.zeros(3, np.uint8)], {}),
    ("Cast", 9, [TEXT], {"to": TensorProto.FLOAT}),
    ("CastLike", 15, [NUMBERS, TEXT], {}),
    ("Unique", 11, [TEXT], {}),
]
NOT_CALLING: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    ("Cast", 9, [NUMBERS], {"to": TensorProto.FLOAT}),
    ("CastLike", 15, [NUMBERS, NUMBERS], {}),
    ("Unique", 11, [NUMBERS], {}),
    ("Unique", 11, [TEXT], {"sorted": 0}),
]


def use(operator: str, version: int) -> HostUse:
    rule = RULES.find("", operator, version)
    assert rule is not None
    found = host_use(rule)
    assert found is not None
    return found


def called(operator: str, version: int, inputs: list[Any], told: dict[str, Any]) -> set[str]:
    ops = imported(node_model(operator, inputs, version=version, **told)).ops
    return {op.callee for op in ops if isinstance(op, HostCallOp)}


@pytest.mark.parametrize(("operator", "version", "inputs", "told"), CALLING, ids=[case[0] for case in CALLING])
def test_what_a_rule_calls(operator: str, version: int, inputs: list[Any], told: dict[str, Any]) -> None:
    assert called(operator, version, inputs, told) == {use(operator, version).callee}


@pytest.mark.parametrize(("operator", "version", "inputs", "told"), NOT_CALLING)
def test_what_it_calls_in_some_cases_only(operator: str, version: int, inputs: list[Any], told: dict[str, Any]) -> None:
    assert use(operator, version).when and called(operator, version, inputs, told) == set()


def test_every_use_names_a_function_and_has_a_reason() -> None:
    rules = [RULES.find(domain, name, version) for domain, name in RULES.names()
             for version in RULES.since(domain, name)]  # fmt: skip
    uses = {found for rule in rules if rule is not None and (found := host_use(rule)) is not None}
    assert {"string_concat", "string_cast", "string_rank", "image_decoder"} <= {found.callee for found in uses}
    assert all(find(found.callee).name == found.callee and found.why for found in uses)
