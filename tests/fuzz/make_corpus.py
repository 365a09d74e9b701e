"""Writes the models from which fuzzing starts: small, and between them using every part of the format.

python -m tests.fuzz.make_corpus
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, parser

CORPUS = Path(__file__).parent / "corpus"
HEADER = '<ir_version: 10, opset_import: ["": 17, "local": 1]>'

TEXTS = {
    "plain": "g (float[N, 4] x) => (float[N, 4] y) <float[4] w = {1, 2, 3, 4}> { s = Add(x, w)  y = Relu(s) }",
    "shapes": """g (float["8*h8", "w + 1"] x, float[h8, w] z) => (a, b) <int64[2] s = {0, -1}, int64[1] k = {1}> {
        n = Shape(x)  a = Reshape(x, s)  t = Transpose<perm = [1, 0]>(z)  c = Concat<axis = 0>(k, n)
        u = Unsqueeze(t, k)  b = Squeeze(u, k)
    }""",
    "control": """g (bool c, float[2] x, int64 n) => (y, v, w) {
        a = Exp(x)
        y = If(c) <then_branch = t () => (float[2] p) { q = Neg(a)  p = Add(q, x) },
                   else_branch = e () => (float[2] r) { r = Mul(a, a) }>
        v, w = Loop(n, c, x) <body = l (int64 i, bool d, float[2] s) => (bool d2, float[2] s2, float[2] o)
            { d2 = Identity(d)  s2 = Add(s, a)  o = Neg(s) }>
    }""",
    "functions": """g (float[2] x, float[3, 4] m) => (y, z) {
        y = local.Twice<k = 5.0>(x)  g1 = HardSwish(m)  z = Softmax<axis = 1>(g1)
    }
    <domain: "local", opset_import: ["": 17, "local": 1]> Twice <k: float = 2.0> (a, b) => (c) {
        k = Constant<value_float: float = @k>()  t = local.Inner(a)  c = Mul(t, k)
    }
    <domain: "local", opset_import: ["": 17]> Inner (a) => (c) { c = Softsign(a) }
    """,
    "vision": """g (float[N, 1, 8, 8] x) => (y) <float[1, 1, 3, 3] k = {1, 2, 3, 4, 5, 6, 7, 8, 9}> {
        a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, k)  b = MaxPool<kernel_shape = [2, 2]>(a)
        c = GlobalAveragePool(b)  d = Flatten(c)  y = Clip(d)
    }""",
}


def tensors() -> Any:
    """Initializers of many element types, by raw data and by typed fields, sparse ones among them."""
    model = parser.parse_model(HEADER + "g (float[2] x) => (y) { y = Neg(x) }")
    for number in (1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 16, 17, 21, 22, 23):
        values = np.array([0, 1, 1], helper.tensor_dtype_to_np_dtype(number))
        model.graph.initializer.append(numpy_helper.from_array(values, f"raw{number}"))
        model.graph.initializer.append(helper.make_tensor(f"typed{number}", number, [3], [0, 1, 1]))
        model.graph.output.append(helper.make_empty_tensor_value_info(f"raw{number}"))
        model.graph.output.append(helper.make_empty_tensor_value_info(f"typed{number}"))
    values = helper.make_tensor("sparse", 1, [2], [5.0, 7.0])
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, helper.make_tensor("i", 7, [2], [1, 4]), [6])
    )
    helper.set_model_props(model, {"labels": "a"})
    return model


def external() -> Any:
    """A model whose weights are in a file that is not there."""
    model = parser.parse_model(HEADER + "g (float[2] x) => (y) { y = Add(x, w) }")
    tensor = model.graph.initializer.add(name="w", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "weights.bin"), ("offset", "4096"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return model


def main() -> None:
    """Write the corpus."""
    CORPUS.mkdir(exist_ok=True)
    for name, text in TEXTS.items():
        (CORPUS / f"{name}.onnx").write_bytes(parser.parse_model(HEADER + text).SerializeToString())
    (CORPUS / "tensors.onnx").write_bytes(tensors().SerializeToString())
    (CORPUS / "external.onnx").write_bytes(external().SerializeToString())


if __name__ == "__main__":
    main()
