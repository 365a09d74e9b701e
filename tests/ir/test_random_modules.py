"""Property: whatever verifies survives printing and parsing, in both forms, with locations."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwell.ir.attributes import Attribute
from stepwell.ir.core import Operation
from stepwell.ir.parser import Parser, parse_module
from stepwell.ir.printer import PrintOptions, print_op
from stepwell.ir.registry import REGISTRY
from stepwell.ir.verifier import verify
from tests.ir.random_ir import random_attribute, random_module, random_op
from tests.ir.samples import all_ops

OPS = [name for name in all_ops() if not REGISTRY.ops[name].spec.regions]
FORMS = [PrintOptions(generic=generic, locations=True) for generic in (False, True)]


def assert_survives(module: Operation) -> None:
    wanted = print_op(module, FORMS[1])
    for form in FORMS:
        text = print_op(module, form)
        again = parse_module(text)
        verify(again)
        assert print_op(again, form) == text
        assert print_op(again, FORMS[1]) == wanted


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_random_modules_survive_both_forms(rng: Random) -> None:
    assert_survives(random_module(rng, OPS))


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_attributes_are_read_back_as_the_same_object(rng: Random) -> None:
    attribute: Attribute = random_attribute(rng, 3)
    assert Parser(str(attribute)).attribute() is attribute


def valid_ops(name: str) -> list[Operation]:
    rng = Random(name)
    return [op for op in (random_op(rng, REGISTRY.ops[name]) for _ in range(60)) if op is not None]


@pytest.mark.parametrize("name", OPS)
def test_random_ops_of_every_class(name: str) -> None:
    for op in valid_ops(name)[:6]:
        assert_survives(op)


def test_most_classes_are_reached() -> None:
    reached = [name for name in OPS if valid_ops(name)]
    assert len(reached) > 0.8 * len(OPS), sorted(set(OPS) - set(reached))
