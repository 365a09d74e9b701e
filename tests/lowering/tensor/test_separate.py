"""A result behind a reshape is written to its place only where the place surely has its size; else it is copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import stepwell
from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.errors import InputError, RuntimeError
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering import pipeline
from stepwell.lowering.tensor.separate import origin
from stepwell.ports import main_function
from stepwell.sources import load_source

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
TO_INPUT_SIZES = f"""{HEAD}
g (float[a, b] x) => (float[c, d] y) <int64[2] s = {{3, -1}}> {{ e = Exp(x) y = Reshape(e, s) }}"""
FLATTENED = f"""{HEAD}
g (float[a] z, float[b, 3] x) => (float[c] y) <int64[1] s = {{-1}}> {{
  k = NonZero(z) f = Cast<to = 1>(k) e = Softmax(f) y = Reshape(e, s) }}"""
TO_A_CONSTANT = f"""{HEAD}
g (float[a] z) => (float[3, 4] y) <int64[2] s = {{3, 4}}> {{
  k = NonZero(z) f = Cast<to = 1>(k) e = Exp(f) [the_reshape] y = Reshape(e, s) }}"""
IN_A_BRANCH = f"""{HEAD}
g (float[a] z, bool c) => (float[3, 4] y) <int64[2] s = {{3, 4}}> {{
  y = If(c) <then_branch = t () => (v) {{ e = Exp(z) [the_reshape] v = Reshape(e, s) }},
             else_branch = f () => (w) {{ q = Sqrt(z) w = Reshape(q, s) }}> }}"""
THROUGH_SIZES_BORN_LATER = f"""{HEAD}
g (float[a] z, int64[3] t) => (float[3, 4] y) <int64[2] s = {{3, 4}}> {{
  e = Exp(z) r = Reshape(e, t) [the_reshape] y = Reshape(r, s) }}"""


def is_copied(text: str) -> bool:
    """Whether what a model returns is a copy, at the end of the tensor landing."""
    module, _ = load_source(onnx.parser.parse_model(text))
    PassManager(pipeline.phases("graph", "tensor")).run(module, PassContext())
    (result,) = main_function(module).returned
    maker = origin(result).defining_op
    assert isinstance(maker, KernelOp)
    return all(op.body.block.first is op.body.block.terminator for op in maker.walk_of(GenericOp))


@pytest.mark.parametrize(("text", "expected"), [
    (TO_INPUT_SIZES, False), (FLATTENED, False), (TO_A_CONSTANT, True), (IN_A_BRANCH, True),
    (THROUGH_SIZES_BORN_LATER, True),
], ids=["of inputs", "as many for certain", "a constant", "a branch", "born later"])  # fmt: skip
def test_copies(text: str, expected: bool) -> None:
    assert is_copied(text) is expected


def test_what_the_call_is_checked_for() -> None:
    compiled = stepwell.compile(onnx.parser.parse_model(TO_INPUT_SIZES))
    x = np.arange(12, dtype=np.float32).reshape(2, 6) / 8
    np.testing.assert_allclose(compiled(x), np.exp(x).reshape(3, 4), rtol=1e-6)
    with pytest.raises(InputError, match="Reshape"):
        compiled(x[:, :5])


@pytest.mark.parametrize(("text", "further"), [
    (TO_A_CONSTANT, []), (IN_A_BRANCH, [np.array(True)]), (THROUGH_SIZES_BORN_LATER, [np.array([1, 2, -1])]),
], ids=["a constant", "a branch", "born later"])  # fmt: skip
def test_what_only_the_run_can_tell(text: str, further: list[Any]) -> None:
    """Nothing is written behind the end of a result of 12 elements, however many there are before the reshape."""
    compiled = stepwell.compile(onnx.parser.parse_model(text))
    z = np.ones(12, np.float32)
    expected = np.exp(np.arange(12, dtype=np.float32) if text is TO_A_CONSTANT else z)
    np.testing.assert_allclose(compiled(z, *further), expected.reshape(3, 4), rtol=1e-6)
    for count in (6, 14, 1 << 20):
        with pytest.raises(RuntimeError, match=r"the_reshape.* 12 differ"):
            compiled(np.ones(count, np.float32), *further)
