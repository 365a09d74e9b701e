"""ONNX's own node tests as they are, and with sizes that are symbols or inputs that are constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.frontends.onnx.backend_cases import check_case, covered_cases, parameter
from tests.frontends.onnx.rule_harness import symbols_by_size
from tests.onnx_conformance.cases import as_array

CASES = covered_cases()

# Operators whose first input gets symbols; behind `ROWS`, those whose first input keeps its last size.
WINDOWS = [
    "MatMul", "MatMulInteger", "Gemm", "Einsum", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "MaxPool",
    "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "QuantizeLinear", "DequantizeLinear",
    "DynamicQuantizeLinear", "QLinearMatMul", "QLinearConv", "RNN", "GRU", "LSTM",
]  # fmt: skip
ROWS = ["Attention", "RotaryEmbedding", "LinearAttention", "CausalConvWithState", "DFT", "STFT"]

# Operators that move, index, select and resample: their other inputs say what becomes of the first one.
MOVEMENT = [
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split", "Slice", "Pad", "Tile", "Expand",
    "Shape", "Size", "ConstantOfShape", "Constant", "Range", "Gather", "GatherElements", "GatherND", "Scatter",
    "ScatterElements", "ScatterND", "OneHot", "NonZero", "Unique", "Compress", "DepthToSpace", "SpaceToDepth",
    "CenterCropPad", "ReverseSequence", "EyeLike", "Trilu", "TopK", "Resize", "Upsample", "GridSample", "AffineGrid",
    "RoiAlign", "MaxUnpool", "Col2Im", "NonMaxSuppression", "TensorScatter",
]  # fmt: skip

ELEMENTWISE = [
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitCast", "BitShift", "BitwiseAnd",
    "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div",
    "Dropout", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish",
    "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod",
    "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "SwiGLU", "Swish", "Tan", "Tanh", "ThresholdedRelu",
    "Where", "Xor", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "ArgMax", "ArgMin", "CumSum", "CumProd", "BatchNormalization",
    "InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization", "LpNormalization",
    "MeanVarianceNormalization", "LRN", "Softmax", "LogSoftmax", "Hardmax",
]  # fmt: skip


def cases_of(operators: list[str]) -> list[Any]:
    """The cases with one of these operators, without those that spell out functions."""
    return [
        parameter(case) for name, case in CASES.items()
        if "_expanded" not in name and any(node.op_type in operators for node in case.model.graph.node)
    ]  # fmt: skip


def first_input(case: Any) -> tuple[str, Any]:
    """The name and the array of a case's first input; it must have one."""
    return case.model.graph.input[0].name, as_array(case.data_sets[0][0][0])


def symbols_of_first(case: Any, fixed: int = 0) -> dict[str, list[int | str]]:
    """A symbol for each dim of the first input, but for the last `fixed` ones."""
    name, array = first_input(case)
    free = array.ndim - fixed
    return {name: [f"s{axis}" if axis < free else size for axis, size in enumerate(array.shape)]}


@pytest.mark.parametrize("case", list(map(parameter, CASES.values())))
def test_case(case: Any) -> None:
    check_case(case)


@pytest.mark.parametrize("case", cases_of(WINDOWS))
def test_symbols_in_data(case: Any) -> None:
    check_case(case, symbols_of_first(case), kept=[first_input(case)[0]])


@pytest.mark.parametrize("case", cases_of(ROWS))
def test_symbols_in_rows(case: Any) -> None:
    check_case(case, symbols_of_first(case, fixed=1), kept=[first_input(case)[0]])


@pytest.mark.parametrize("case", cases_of(ELEMENTWISE))
def test_one_symbol_per_size(case: Any) -> None:
    shapes = symbols_by_size([as_array(array) for array in case.data_sets[0][0]])
    ports = case.model.graph.input
    check_case(case, {ports[index].name: shape for index, shape in shapes.items()}, kept=[first_input(case)[0]])


@pytest.mark.parametrize("case", [case for case in cases_of(MOVEMENT) if case.values[0].model.graph.input])
@pytest.mark.parametrize("symbolic", [False, True])
def test_constants_behind_the_first_input(case: Any, symbolic: bool) -> None:
    """With `symbolic`, the first input has symbols; but a shape has none: its length is the rank of a result."""
    symbolic = symbolic and not case.name.startswith("test_constantofshape")
    name, array = first_input(case)
    others = [port.name for port in case.model.graph.input if port.name != name]
    symbolic = symbolic and np.ndim(array) > 0
    check_case(case, symbols_of_first(case) if symbolic else None, others, kept=[name] if symbolic else [])
