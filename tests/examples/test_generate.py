"""The example that writes text: it goes on as its passage does, and its state changes nothing in what it writes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import stepwell

EXAMPLE = Path(__file__).parents[2] / "examples" / "generate.py"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    spec.loader.exec_module(module)
    return module


def test_it_goes_on_as_its_passage_does(generate: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--prompt", "The walk down li", "--bytes", "60"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("The walk down lie") and len(text) == len("The walk down li") + 60 + 1
    words = set(text[:-1].split()[:-1])
    assert len(words & set(generate.TEXT.split())) >= 0.7 * len(words)


def test_the_state_changes_no_bit(generate: ModuleType) -> None:
    proto = generate.make_model()
    plain = stepwell.compile(proto)
    stateful = stepwell.compile(proto, state=generate.STATE, capacity={"past": 40})
    state = stateful.new_state()
    context, keys, values = (np.zeros((rows, 256), np.float32) for rows in (1, 0, 0))
    byte = ord("A")
    for number in range(40):
        logits, context, keys, values = plain(np.array([byte]), context, keys, values)
        np.testing.assert_array_equal(stateful(np.array([byte]), state=state), logits)
        byte = generate.TEXT.encode()[number]
    found = state.arrays()
    for name, array in {"context": context, "past_keys": keys, "past_values": values}.items():
        np.testing.assert_array_equal(found[name], array)
