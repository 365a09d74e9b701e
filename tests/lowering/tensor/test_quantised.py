"""Quantised numbers are moved before they are dequantised, and lowered to the arithmetic of the graph: bit for bit."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.movement import ConcatOp, PadOp, SliceOp, TransposeOp
from stepwell.dialects.graph.pooling import MaxPoolOp
from stepwell.dialects.graph.quantization import DequantizeOp, QuantizeOp
from stepwell.dialects.graph.shape import ReshapeOp
from stepwell.ir.core import Operation, Value
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.printer import print_op
from stepwell.ir.types import F16, F32, SI8, SI16, UI8, FloatType, Type
from stepwell.ir.verifier import verify
from stepwell.lowering.tensor.lower_quant import LowerQuant
from stepwell.lowering.tensor.quantised import MoveQuantised
from stepwell.lowering.to_tensor.convert import ToTensor
from stepwell.ports import ports_of
from tests.lowering.to_tensor.descent import constant, f32, graph_module, main, run_native, signless, types_of

RNG = np.random.default_rng(8)
BYTES = RNG.integers(0, 256, (1, 4, 6, 6)).astype(np.uint8)


def dequantize(x: Value, scale: float = 0.37, zero: int = 7, element: Type = F32) -> Value:
    dtype = np.float16 if element is F16 else np.float32
    return DequantizeOp(x, constant(dtype(scale)), constant(np.uint8(zero)), element=element).result


def ops(module: Operation) -> list[str]:
    """The names of the ops of the function, in order, without constants."""
    found = [op.op_name for op in main(module).body.block]
    return [name for name in found if not name.endswith("constant")]


def walked(build: Any, *inputs: Any, symbolic: bool = False) -> list[list[str]]:
    """The ops after to-tensor, move-quantised and lower-quant; each stage, and machine code, gives the graph's bits."""
    module = graph_module(types_of(inputs, symbolic), build)
    with np.errstate(all="ignore"):
        expected = run_function(main(module), inputs)
    native = run_native(module.clone(), inputs)
    arguments, stages = [signless(array) for array in inputs], []
    results = [native]
    for pass_ in (ToTensor(), MoveQuantised(), LowerQuant()):
        pass_.run(module, PassContext())
        verify(module)
        stages.append(ops(module))
        results.append(list(run_function(main(module), arguments)))
    for result in results:
        for one, other in zip(result, expected, strict=True):
            assert one.shape == other.shape
            assert np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()
    assert not [name for name in stages[-1] if name.startswith("quant.")]
    assert "!quant." not in print_op(module)
    return stages


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("axis", [None, 1])
def test_known_scales_become_types(axis: int | None, symbolic: bool) -> None:
    """graph.quantize, graph.dequantize  ->  qcast, scast, scast, dcast  ->  qcast, dcast  ->  two generics"""
    scale = f32(0.05) if axis is None else f32([0.05, 0.1, 0.2])
    zero = np.int8(3) if axis is None else np.array([3, 0, -3], np.int8)

    def build(x: Value) -> list[Value]:
        s, z = constant(scale), constant(zero)
        made = QuantizeOp(x, s, z, element=SI8, axis=axis).result
        return [DequantizeOp(made, s, z, element=F32, axis=axis).result]

    x = f32(RNG.standard_normal((5, 3)) * 9)
    x[0] = [np.nan, np.inf, -np.inf]
    before, moved, after = walked(build, x, symbolic=symbolic and axis is None)
    assert before == ["quant.qcast", "quant.scast", "quant.scast", "quant.dcast", "func.return"]
    assert moved == ["quant.qcast", "quant.dcast", "func.return"]  # it rounds and saturates: it does not go
    assert after == ["tensor.generic", "tensor.generic", "func.return"]


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda x, s: QuantizeOp(x, s, element=SI8), id="scale at run time"),
        pytest.param(lambda x, s: QuantizeOp(x, constant(f32(-0.5)), element=SI8), id="negative scale"),
        pytest.param(lambda x, s: QuantizeOp(x, constant(f32(0.0)), element=SI8), id="scale 0"),
        pytest.param(lambda x, s: QuantizeOp(x, constant(f32(np.nan)), element=SI8), id="scale NaN"),
        pytest.param(lambda x, s: QuantizeOp(x, constant(f32(0.5)), element=SI8, precision=F16), id="other precision"),
        pytest.param(lambda x, s: QuantizeOp(x, constant(np.float16(0.5)), element=SI8), id="scale of another type"),
        pytest.param(lambda x, s: QuantizeOp(x, constant(f32([[0.5]] * 4)), element=SI8, axis=1, block_size=3),
                     id="blocks"),
        pytest.param(lambda x, s: QuantizeOp(x, constant(f32(0.5)), element=FloatType("f8E5M2")), id="float8"),
    ],
)  # fmt: skip
def test_what_no_type_says_is_expanded_at_once(build: Any) -> None:
    before, moved, after = walked(build, f32(RNG.standard_normal((4, 3))), f32(0.3))
    assert before == moved == after == ["tensor.generic", "func.return"]


def plain_pool(x: Value, **given: Any) -> Operation:
    fields = {"strides": [1, 1], "dilations": [1, 1], "pads": [0] * 4, **given}
    return MaxPoolOp(x, **fields)


def ints(*numbers: int) -> Value:
    return constant(np.array(numbers))


# graph op on D(q) -> the ops on S(q) in front of the dequantisation
MOVES = [
    pytest.param(lambda x: TransposeOp(x, permutation=[0, 2, 3, 1]), True, ["tensor.generic"], id="transpose"),
    pytest.param(lambda x: ReshapeOp(x, ints(0, 6, -1)), False, ["tensor.reshape"], id="reshape"),
    pytest.param(lambda x: SliceOp(x, ints(1), ints(3), None, axes=[2]), False, ["tensor.generic"], id="slice"),
    pytest.param(lambda x: PadOp(x, ints(0, 0, 1, 1, 0, 0, 2, 0), None), False, ["tensor.pad"], id="pad with 0"),
    pytest.param(lambda x: PadOp(x, ints(0, 0, 1, 1, 0, 0, 2, 0), constant(f32(np.float32(0.37) * np.float32(5)))),
                 False, ["tensor.pad"], id="pad with a number that is stored"),
    pytest.param(lambda x: ConcatOp([x, x], axis=1), False, ["tensor.concat"], id="concat"),
    pytest.param(lambda x: ConcatOp([x, x], axis=2), True, ["tensor.generic"], id="concat by reads"),
    pytest.param(lambda x: plain_pool(x, kernel=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), False,
                 ["tensor.pad", "tensor.generic"], id="max pool"),
    pytest.param(lambda x: plain_pool(x, kernel=[2, 2]), True, ["tensor.generic"], id="max pool without a border"),
    pytest.param(lambda x: plain_pool(x, kernel=[2, 2], dilations=[2, 2], pads=[2, 0, 1, 0]), False,
                 ["tensor.pad", "tensor.generic"], id="max pool with gaps"),
]  # fmt: skip


@pytest.mark.parametrize("sign", [UI8, SI8], ids=str)
@pytest.mark.parametrize(("build", "symbolic", "expected"), MOVES)
def test_data_moves_as_bytes(build: Any, symbolic: bool, expected: list[str], sign: Type) -> None:
    """op(D(q)) -> D(S(op(S(q)))), which leaves the op on bytes and one dequantisation behind it"""
    data = BYTES if sign is UI8 else BYTES.view(np.int8)

    def on_bytes(x: Value) -> list[Value]:
        zero = constant(np.zeros((), data.dtype) + 7)
        return [build(DequantizeOp(x, constant(f32(0.37)), zero, element=F32).result).results[0]]

    _, moved, after = walked(on_bytes, data, symbolic=symbolic)
    assert [name for name in moved if name != "quant.scast"] == [*expected, "quant.dcast", "func.return"]
    assert after == [*expected, "tensor.generic", "func.return"]


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda x: PadOp(dequantize(x), ints(0, 0, 1, 1, 0, 0, 2, 0), constant(f32(0.5))),
                     id="a number that no integer stands for"),
        pytest.param(lambda x: PadOp(dequantize(x), ints(0, 0, 1, 1, 0, 0, 2, 0), constant(f32(-0.0))),
                     id="a zero with a sign"),
        pytest.param(lambda x: plain_pool(dequantize(x), kernel=[2, 2], pads=[2, 2, 0, 0]), id="windows in the border"),
        pytest.param(lambda x: ConcatOp([dequantize(x), dequantize(x, 0.5)], axis=1), id="two scales"),
        pytest.param(lambda x: TransposeOp(DequantizeOp(x, constant(f32([0.1, 0.2, 0.3, 0.4])), element=F32,
                                                        axis=1).result, permutation=[0, 2, 3, 1]), id="per axis"),
    ],
)  # fmt: skip
def test_what_does_not_move(build: Any) -> None:
    before, moved, _ = walked(lambda x: build(x), BYTES)
    assert moved.count("quant.dcast") == before.count("quant.dcast")
    assert moved[-2] != "quant.dcast"


def test_a_pool_between_quantised_tensors_works_on_bytes_alone() -> None:
    """quantize(max_pool(dequantize(q))) -> a pool of bytes: the types are equal and every integer survives"""

    def build(x: Value) -> list[Value]:
        pooled = plain_pool(dequantize(x), kernel=[3, 3], pads=[1, 1, 1, 1]).results[0]
        return [QuantizeOp(pooled, constant(f32(0.37)), constant(np.uint8(7)), element=UI8).result]

    _, moved, after = walked(build, BYTES)
    assert moved == after == ["tensor.pad", "tensor.generic", "func.return"]


def test_requantising_with_another_scale_stays() -> None:
    def build(x: Value) -> list[Value]:
        return [QuantizeOp(dequantize(x), constant(f32(0.38)), constant(np.uint8(7)), element=UI8).result]

    _, moved, after = walked(build, BYTES)
    assert moved == ["quant.scast", "quant.dcast", "quant.qcast", "quant.scast", "func.return"]
    assert after == ["tensor.generic", "tensor.generic", "func.return"]


@pytest.mark.parametrize("element", [F32, F16], ids=str)
def test_small_storage_and_contractions(element: Type) -> None:
    """Nibbles, and products of dequantised numbers, which stay products of floats."""
    dtype: Any = np.float32 if element is F32 else np.float16
    x = RNG.integers(-8, 8, (4, 6)).astype(ml_dtypes.int4)
    number = constant(dtype(0.25))

    def build(x: Value, y: Value) -> list[Value]:
        a = DequantizeOp(x, number, element=element).result
        return [MatmulOp(a, y).result]

    before, moved, _ = walked(build, x, np.eye(6).astype(dtype))
    assert before == moved
    assert before.count("quant.dcast") == 1


QUANTISED_ENDS = """
func.func @main(%q: tensor<?x4x!quant.uniform<u8:f32, 0.5:128>, #graph.shape<["n"]>>)
    -> tensor<4x?x!quant.uniform<u8:f32, 0.5:128>, #graph.shape<["n"]>> {
  %r = tensor.reshape %q : (tensor<?x4x!quant.uniform<u8:f32, 0.5:128>, #graph.shape<["n"]>>)
    -> tensor<4x?x!quant.uniform<u8:f32, 0.5:128>, #graph.shape<["n"]>>
  func.return %r : tensor<4x?x!quant.uniform<u8:f32, 0.5:128>, #graph.shape<["n"]>>
}
"""


def test_arguments_and_other_ops_get_integers() -> None:
    """@f(%q: u8:f32, 0.5:128)  ->  @f(%q: i8 {sw.graph = "ui8"}); a caller sees ui8 on both sides of the pass."""
    module = parse_module(QUANTISED_ENDS, "ends")
    array = np.arange(250, 254, dtype=np.uint8).reshape(1, 4)
    seen = []
    for stage in range(2):
        if stage:
            LowerQuant().run(module, PassContext())
        verify(module)
        (given,), (returned,) = ports_of(main(module))
        (made,) = run_function(main(module), [given.accept(array)])
        seen.append((given.dtype, returned.dtype, returned.restore(made).tolist()))
    assert seen == [(np.uint8, np.uint8, [[250], [251], [252], [253]])] * 2
    assert re.search(r"tensor\.reshape %q : .*x4xi8, .* -> tensor<4x\?xi8", print_op(module))


def test_what_does_not_survive_as_a_float_is_quantised_again() -> None:
    """quant.qcast(quant.dcast(q)) of 16 bits over f16 stays"""

    def build(x: Value) -> list[Value]:
        scale = constant(np.float16(0.1))
        number = DequantizeOp(x, scale, element=F16).result
        return [QuantizeOp(number, scale, element=SI16).result]

    x = np.arange(-(1 << 15), 1 << 15, 7).astype(np.int16)
    before, moved, _ = walked(build, x)
    assert moved == before == ["quant.scast", "quant.dcast", "quant.qcast", "quant.scast", "func.return"]
