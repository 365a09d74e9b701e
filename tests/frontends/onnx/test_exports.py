"""Every graph op as ONNX: well formed, read back with the same meaning, and what onnxruntime makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import checker

from stepwell.frontends.onnx.exporter import ExportFailed, export_model
from stepwell.frontends.onnx.importer import import_model
from stepwell.ir.verifier import verify
from tests.frontends.onnx.export_samples import Array, arrays_for, function_of, sample, sampled_ops
from tests.frontends.onnx.round_trip import difference
from tests.frontends.onnx.rule_harness import onnxruntime_session, run_module

# Its example has a size that none of its operands tells; see "expand to read sizes".
WITHOUT_SIZES = {"graph.expand"}

# Why onnxruntime does not run an op's example: it ends after opset 26, has no kernel, or cannot be given the type.
NOT_IN_ONNXRUNTIME = {
    "graph.linear_attention": "Opset 27", "graph.lrn": "NumDimensions() == 4", "graph.cast": "Float8E8M0",
    "graph.dequantize": "Numpy_type",
}  # fmt: skip

# ONNX says them only as a part of something else.
NOT_IN_ONNX = {"graph.inverse", "graph.pairwise_coupling"}

RANDOM = {"graph.random"}  # onnxruntime has other generators

RTOL = {"graph.expm1": 1e-6}  # a formula of four operators stands for it


def returned(name: str) -> tuple[list[Array], list[Array], Any]:
    """(arguments for an op's example, its results, the example as ONNX)"""
    module = sample(name)
    arrays = arrays_for(module, name)
    return arrays, run_module(module, arrays), export_model(module)


SAMPLED = [name for name in sampled_ops() if name not in WITHOUT_SIZES | NOT_IN_ONNX]


@pytest.mark.parametrize("name", sorted(NOT_IN_ONNX))
def test_what_onnx_does_not_say(name: str) -> None:
    with pytest.raises(ExportFailed, match="nothing says what it is in ONNX"):
        export_model(sample(name))


@pytest.mark.parametrize("name", SAMPLED)
def test_every_op_comes_back(name: str) -> None:
    arrays, expected, made = returned(name)
    checker.check_model(made, full_check=True)
    again = import_model(made)
    verify(again)
    assert difference(run_module(again, arrays), expected, RTOL.get(name, 0)) == ""


@pytest.mark.parametrize("name", [name for name in SAMPLED if name not in RANDOM])
def test_onnxruntime_agrees(name: str) -> None:
    """Where it runs the op at all: newer versions have more of them."""
    arrays, expected, made = returned(name)
    try:
        results = _run_onnxruntime(made, arrays)
    except Exception as error:  # its errors have no common class of their own
        assert name in NOT_IN_ONNXRUNTIME and NOT_IN_ONNXRUNTIME[name] in str(error), error
        return
    for found, wanted in zip(results, expected, strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        if wanted.dtype.kind == "O":
            assert found.tolist() == wanted.tolist()
        else:
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def _run_onnxruntime(made: Any, arrays: list[Array]) -> list[Array]:
    session = onnxruntime_session(made)
    feeds = {port.name: array for port, array in zip(session.get_inputs(), arrays, strict=True)}
    return list(session.run(None, feeds))


# Forms that need more than one operator: IR text, its inputs as test.value.
V = '"test.value"() : () ->'
S3 = "operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0>"
FORMS = {
    "neg of unsigned": f"%x = {V} tensor<4xui8>\n%r = graph.neg %x : (tensor<4xui8>) -> tensor<4xui8>",
    "relu of unsigned": f"%x = {V} tensor<4xui8>\n%r = graph.relu %x : (tensor<4xui8>) -> tensor<4xui8>",
    "mod of floats": f"""%x = {V} tensor<9x9xf32>
        %y = {V} tensor<9xf32>
        %r = graph.mod %x, %y : (tensor<9x9xf32>, tensor<9xf32>) -> tensor<9x9xf32>""",
    "mod of narrow floats": f"""%x = {V} tensor<9xf16>
        %r = graph.mod %x, %x : (tensor<9xf16>, tensor<9xf16>) -> tensor<9xf16>""",
    "pow of bytes": f"""%x = {V} tensor<4xsi8>
        %r = graph.pow %x, %x : (tensor<4xsi8>, tensor<4xsi8>) -> tensor<4xsi8>""",
    "ne": f"""%x = {V} tensor<4xsi8>
        %r = graph.compare %x, %x {{predicate = "ne"}} : (tensor<4xsi8>, tensor<4xsi8>) -> tensor<4xi1>""",
    "order of i1": f"""%x = {V} tensor<9xi1>
        %y = {V} tensor<9xi1>
        %r = graph.compare %x, %y {{predicate = "le"}} : (tensor<9xi1>, tensor<9xi1>) -> tensor<9xi1>""",
    "shift of signed": f"""%x = {V} tensor<9xsi32>
        %n = graph.neg %x : (tensor<9xsi32>) -> tensor<9xsi32>
        %a = graph.shift_right %n, %x : (tensor<9xsi32>, tensor<9xsi32>) -> tensor<9xsi32>
        %r = graph.shift_left %a, %x : (tensor<9xsi32>, tensor<9xsi32>) -> tensor<9xsi32>""",
    "zero point in floats": f"""%x = {V} tensor<3x5xui8>
        %s = {V} tensor<f32>
        %r = graph.dequantize %x, %s, %s {{element = f32}} : (tensor<3x5xui8>, tensor<f32>, tensor<f32>)
          -> tensor<3x5xf32>""",
    "zero points in floats along an axis": f"""%x = {V} tensor<3x?xui8, #graph.shape<["n"]>>
        %s = {V} tensor<3xf16>
        %r = graph.dequantize %x, %s, %s {{axis = 0, element = f16}}
          : (tensor<3x?xui8, #graph.shape<["n"]>>, tensor<3xf16>, tensor<3xf16>)
          -> tensor<3x?xf16, #graph.shape<["n"]>>""",
    "zero points in floats of blocks": f"""%x = {V} tensor<3x5xui8>
        %s = {V} tensor<3x2xf32>
        %r = graph.dequantize %x, %s, %s {{axis = 1, block_size = 4, element = f32}}
          : (tensor<3x5xui8>, tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x5xf32>""",
    "scaled floats": f"""%x = {V} tensor<3x5xf32>
        %s = {V} tensor<3xf32>
        %r = graph.dequantize %x, %s {{axis = 0, element = f32}}
          : (tensor<3x5xf32>, tensor<3xf32>) -> tensor<3x5xf32>""",
    "rows of four bits": f"""%x = {V} tensor<3x5xui8>
        %i = {V} tensor<2xsi64>
        %s = graph.cast %x {{to = si4}} : (tensor<3x5xui8>) -> tensor<3x5xsi4>
        %g = graph.gather %s, %i {{axis = 0}} : (tensor<3x5xsi4>, tensor<2xsi64>) -> tensor<2x5xsi4>
        %r = graph.cast %g {{to = si8}} : (tensor<2x5xsi4>) -> tensor<2x5xsi8>""",
    "sum of bytes": f"""%x = {V} tensor<3x4xsi8>
        %r = graph.reduce %x {{kind = "sum", axes = array<i64: 1>, keepdims = false}}
          : (tensor<3x4xsi8>) -> tensor<3xsi8>""",
    "mean of bytes": f"""%x = {V} tensor<?x4xui8, #graph.shape<["n"]>>
        %r = graph.reduce %x {{kind = "mean", axes = array<i64: 0>}} : (tensor<?x4xui8, #graph.shape<["n"]>>)
          -> tensor<1x4xui8>""",
    "max of shorts": f"""%x = {V} tensor<3x4xui16>
        %r = graph.reduce %x {{kind = "max", axes = array<i64: 0, 1>}} : (tensor<3x4xui16>) -> tensor<1x1xui16>""",
    "reduce nothing": f"""%x = {V} tensor<3x4xf32>
        %r = graph.reduce %x {{kind = "sum", axes = array<i64>}} : (tensor<3x4xf32>) -> tensor<3x4xf32>""",
    "running sum of bytes": f"""%x = {V} tensor<3x4xui8>
        %r = graph.cumulative %x {{kind = "sum", axis = 1, exclusive = true, reverse = true}}
          : (tensor<3x4xui8>) -> tensor<3x4xui8>""",
    "softmax over two axes": f"""%x = {V} tensor<2x?x4xf32, #graph.shape<["n"]>>
        %r = graph.softmax %x {{axes = array<i64: 1, 2>}} : (tensor<2x?x4xf32, #graph.shape<["n"]>>)
          -> tensor<2x?x4xf32, #graph.shape<["n"]>>""",
    "matmul of bytes": f"""%x = {V} tensor<3x4xsi8>
        %y = {V} tensor<4x2xsi8>
        %r = graph.matmul %x, %y : (tensor<3x4xsi8>, tensor<4x2xsi8>) -> tensor<3x2xsi8>""",
    "layer norm over middle axes": f"""%x = {V} tensor<2x3x4xf32>
        %w = {V} tensor<3x1xf32>
        %y, %mean, %inverse = graph.layer_norm %x, %w
          {{axes = array<i64: 1>, epsilon = 1.0e-05, operandSegmentSizes = array<i32: 1, 1, 0>}}
          : (tensor<2x3x4xf32>, tensor<3x1xf32>) -> (tensor<2x3x4xf32>, tensor<2x1x4xf32>, tensor<2x1x4xf32>)""",
    "layer norm without scale": f"""%x = {V} tensor<2x3xf32>
        %y, %mean, %inverse = graph.layer_norm %x
          {{axes = array<i64: 1>, epsilon = 1.0e-05, operandSegmentSizes = array<i32: 1, 0, 0>}}
          : (tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2x1xf32>, tensor<2x1xf32>)""",
    "layer norm with a wide scale": f"""%x = {V} tensor<2x3xf16>
        %w = {V} tensor<3xf32>
        %y, %mean, %inverse = graph.layer_norm %x, %w, %w
          {{axes = array<i64: 1>, epsilon = 1.0e-05, operandSegmentSizes = array<i32: 1, 1, 1>}}
          : (tensor<2x3xf16>, tensor<3xf32>, tensor<3xf32>) -> (tensor<2x3xf16>, tensor<2x1xf32>, tensor<2x1xf32>)""",
    "rms norm over the first axis": f"""%x = {V} tensor<2x3xf32>
        %w = {V} tensor<2x3xf32>
        %y, %inverse = graph.rms_norm %x, %w {{axes = array<i64: 0>, epsilon = 1.0e-05}}
          : (tensor<2x3xf32>, tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<1x3xf32>)""",
    "group norm by group": f"""%x = {V} tensor<2x6x4xf32>
        %c = {V} tensor<3xf32>
        %r = graph.group_norm %x, %c, %c {{groups = 3, epsilon = 1.0e-05}}
          : (tensor<2x6x4xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<2x6x4xf32>""",
    "instance norm": f"""%x = {V} tensor<2x6x4xf16>
        %c = {V} tensor<6xf32>
        %r = graph.group_norm %x, %c, %c {{epsilon = 1.0e-05}}
          : (tensor<2x6x4xf16>, tensor<6xf32>, tensor<6xf32>) -> tensor<2x6x4xf16>""",
    "attention at an offset": f"""%q = {V} tensor<2x4x3x8xf32>
        %k = {V} tensor<2x2x?x8xf32, #graph.shape<["t"]>>
        %m = {V} tensor<1x?xf32, #graph.shape<["t"]>>
        %o = {V} tensor<1xsi64>
        %r = graph.attention %q, %k, %k, %m, %o {{scale = 0.25, causal = true, left = 1,
          operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 1, 0>}} : (tensor<2x4x3x8xf32>,
          tensor<2x2x?x8xf32, #graph.shape<["t"]>>, tensor<2x2x?x8xf32, #graph.shape<["t"]>>,
          tensor<1x?xf32, #graph.shape<["t"]>>, tensor<1xsi64>) -> tensor<2x4x3x8xf32>""",
    "attention of lengths": f"""%q = {V} tensor<2x4x3x8xf32>
        %k = {V} tensor<2x2x5x8xf32>
        %m = {V} tensor<4xi1>
        %n = {V} tensor<2xsi32>
        %r = graph.attention %q, %k, %k, %m, %n {{scale = 0.25, right = 2,
          operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0>}} : (tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>,
          tensor<2x2x5x8xf32>, tensor<4xi1>, tensor<2xsi32>) -> tensor<2x4x3x8xf32>""",
    "attention that keeps NaN": f"""%q = {V} tensor<2x4x3x8xf32>
        %k = {V} tensor<2x2x5x8xf32>
        %m = {V} tensor<3x5xf32>
        %r = graph.attention %q, %k, %k, %m {{scale = 0.25, softcap = 2.0, undefined = "nan",
          operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0>}}
          : (tensor<2x4x3x8xf32>, tensor<2x2x5x8xf32>, tensor<2x2x5x8xf32>, tensor<3x5xf32>) -> tensor<2x4x3x8xf32>""",
    "attention that fills scores in": f"""%q = {V} tensor<2x4x3x8xf32>
        %m = {V} tensor<3x3xi1>
        %r = graph.attention %q, %q, %q, %m {{scale = 0.25, fill = -1.0e9, undefined = "zero",
          operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0>}}
          : (tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>, tensor<3x3xi1>) -> tensor<2x4x3x8xf32>""",
    "attention that exposes": f"""%q = {V} tensor<2x4x3x8xf32>
        %r, %s = graph.attention %q, %q, %q {{scale = 0.25, causal = true, softcap = 2.0, scores = "capped", {S3}}}
          : (tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>)
          -> (tensor<2x4x3x8xf32>, tensor<2x4x3x3xf32>)""",
    "rotation by one table": f"""%x = {V} tensor<2x4x3x8xf32>
        %c = {V} tensor<1x3x4xf32>
        %r = graph.rotary_embedding %x, %c, %c
          : (tensor<2x4x3x8xf32>, tensor<1x3x4xf32>, tensor<1x3x4xf32>) -> tensor<2x4x3x8xf32>""",
    "rotation of a part": f"""%x = {V} tensor<2x4x3x8xf32>
        %c = {V} tensor<9x2xf32>
        %p = {V} tensor<2x3xsi32>
        %r = graph.rotary_embedding %x, %c, %c, %p {{interleaved = true}}
          : (tensor<2x4x3x8xf32>, tensor<9x2xf32>, tensor<9x2xf32>, tensor<2x3xsi32>) -> tensor<2x4x3x8xf32>""",
    "expand to read sizes": f"""%x = {V} tensor<3x1xf32>
        %y = {V} tensor<2x?xf32, #graph.shape<["8*n"]>>
        %r = graph.expand %x : (tensor<3x1xf32>) -> tensor<3x?xf32, #graph.shape<["2*n + 1"]>>""",
    "sizes of every kind": f"""%x = {V} tensor<?x?xf32, #graph.shape<["n", "m"]>>
        %z = graph.constant dense<1.0> : tensor<f32>
        %r = graph.expand %z : (tensor<f32>) -> tensor<?x?x?x?xf32,
          #graph.shape<["max(n, 2*m)", "min(n, m)", "n % 3", "ceildiv(n, 2)"]>>""",
    "eye": f"""%x = {V} tensor<?x4xf32, #graph.shape<["n"]>>
        %r = graph.eye {{k = 1 : i64}} : () -> tensor<?x4xsi32, #graph.shape<["n"]>>""",
    "split by symbols": f"""%x = {V} tensor<?x4xf32, #graph.shape<["2*n"]>>
        %a, %b = graph.split %x {{axis = 0 : i64}} : (tensor<?x4xf32, #graph.shape<["2*n"]>>)
          -> (tensor<?x4xf32, #graph.shape<["n"]>>, tensor<?x4xf32, #graph.shape<["n"]>>)""",
    "reshape of two symbols": f"""%x = {V} tensor<?x?xf32, #graph.shape<["n", "m"]>>
        %r = graph.reshape %x : (tensor<?x?xf32, #graph.shape<["n", "m"]>>)
          -> tensor<1x?x?xf32, #graph.shape<["m", "n"]>>""",
    "sizes inside a loop": f"""%x = {V} tensor<?xf32, #graph.shape<["n"]>>
        %n = graph.constant dense<3> : tensor<si64>
        %one = graph.constant dense<1.0> : tensor<f32>
        %r = graph.loop %n, %x {{operandSegmentSizes = array<i32: 1, 0, 1>}}
          : (tensor<si64>, tensor<?xf32, #graph.shape<["n"]>>) -> tensor<?xf32, #graph.shape<["n"]>> {{
        ^bb0(%i: tensor<si64>, %go: tensor<i1>, %v: tensor<?xf32, #graph.shape<["n"]>>):
          %a = graph.expand %one : (tensor<f32>) -> tensor<2x?xf32, #graph.shape<["n"]>>
          %b = graph.reduce %a {{kind = "sum", axes = array<i64: 0>, keepdims = false}}
            : (tensor<2x?xf32, #graph.shape<["n"]>>) -> tensor<?xf32, #graph.shape<["n"]>>
          %y = graph.add %v, %b : (tensor<?xf32, #graph.shape<["n"]>>, tensor<?xf32, #graph.shape<["n"]>>)
            -> tensor<?xf32, #graph.shape<["n"]>>
          graph.yield %go, %y : tensor<i1>, tensor<?xf32, #graph.shape<["n"]>>
        }}""",
    "range of bytes": """%a = graph.constant dense<2> : tensor<ui8>
        %b = graph.constant dense<9> : tensor<ui8>
        %r = graph.range %a, %b, %a : (tensor<ui8>, tensor<ui8>, tensor<ui8>) -> tensor<4xui8>""",
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_several_operators(name: str) -> None:
    module = function_of(FORMS[name])
    arrays = arrays_for(module, "graph.div")
    expected = run_module(module, arrays)
    made = export_model(module)
    checker.check_model(made, full_check=True)
    assert difference(run_module(import_model(made), arrays), expected) == ""
    for found, wanted in zip(_run_onnxruntime(made, arrays), expected, strict=True):
        tolerance = 1e-5 if wanted.dtype != np.float16 else 1e-3
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


FREE = f"""%x = {V} tensor<3x1xf32>
    %r = graph.expand %x : (tensor<3x1xf32>) -> tensor<3x?xf32, #graph.shape<["n"]>>"""
NIBBLES = f"""%x = {V} tensor<2xsi4>
    %r = graph.add %x, %x : (tensor<2xsi4>, tensor<2xsi4>) -> tensor<2xsi4>"""
DOUBLE = f"""%x = {V} tensor<1x2x3x4xf64>
    %r = graph.lrn %x {{size = 5, alpha = 1.0e-04, beta = 0.75, bias = 1.0}}
      : (tensor<1x2x3x4xf64>) -> tensor<1x2x3x4xf64>"""
HALF_NORM = f"""%x = {V} tensor<1x3x8xf32>
    %r = graph.lp_pool %x {{kernel = array<i64: 2>, strides = array<i64: 2>, dilations = array<i64: 1>,
      pads = array<i64: 0, 0>, p = 2.5}} : (tensor<1x3x8xf32>) -> tensor<1x3x4xf32>"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FREE, r"expand: 1 node\n  the size n is not that of any tensor before the op\n    at .*\(f32\[3, 1\]\)"),
        (NIBBLES, r"graph.add: 1 node\n  Add \(opset 14\) does not allow int4 as input 0 \(A\)\n    at .* \(si4\[2\]"),
        (DOUBLE, r"graph.lrn: 1 node\n  alpha 0.0001 is not a number of 32 bits"),
        (HALF_NORM, r"LpPool has norms of whole orders only, not of 2.5"),
    ],
)
def test_what_onnx_cannot_say(text: str, expected: str) -> None:
    with pytest.raises(ExportFailed, match=expected):
        export_model(function_of(text))


def test_all_problems_are_reported() -> None:
    text = f"""%x = {V} tensor<2xsi4>
        %a = graph.add %x, %x : (tensor<2xsi4>, tensor<2xsi4>) -> tensor<2xsi4>
        %b = graph.mul %a, %x : (tensor<2xsi4>, tensor<2xsi4>) -> tensor<2xsi4>
        %r = graph.add %b, %x : (tensor<2xsi4>, tensor<2xsi4>) -> tensor<2xsi4>"""
    with pytest.raises(ExportFailed) as caught:
        export_model(function_of(text))
    assert "the graph cannot be written as ONNX: 3 problems" in str(caught.value)
    assert [problem.op for problem in caught.value.problems] == ["graph.add", "graph.mul", "graph.add"]
