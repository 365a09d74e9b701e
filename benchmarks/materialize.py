"""Give the weightless models beside this file their weights, and make inputs for them.

A model in `benchmarks/models/` is the graph that its exporter wrote. A large initializer keeps its name, element type
and shape, and where its data were, its doc string says how to draw them: `fill mean=M std=S min=A max=B`. The generator
is seeded by the initializer's name, so every machine fills in the same bytes.

    python -m benchmarks.materialize resnet50 -o resnet50.onnx      # the filled model
    python -m benchmarks.materialize resnet50 --inputs -o in.npz    # inputs for it

Model metadata says more about inputs: `dims` gives sizes to symbols (`batch=2 seq=128`), and for an integer input
`from:NAME` and `below:NAME` bound its values (default 0 and 2), or `arange:NAME` makes it count up from a start.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]
MODELS = Path(__file__).parent / "models"


def _generator(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def _pairs(text: str) -> dict[str, str]:
    """`a=1 b=2` as `{"a": "1", "b": "2"}`; words without `=` are skipped."""
    return {key: value for key, separator, value in (word.partition("=") for word in text.split()) if separator}


def _filled(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """`tensor` with the data that its doc string asks for: a clipped normal distribution, rounded for integers."""
    law = {key: float(value) for key, value in _pairs(tensor.doc_string).items()}
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    values = _generator(tensor.name).standard_normal(tuple(tensor.dims), dtype=np.float32)
    values = np.clip(values * np.float32(law["std"]) + np.float32(law["mean"]), law["min"], law["max"])
    if np.issubdtype(dtype, np.integer):
        values = np.rint(values)
    return numpy_helper.from_array(values.astype(dtype), tensor.name)


def load(path: str | Path) -> onnx.ModelProto:
    """The model at `path` with every weightless initializer filled."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.doc_string.startswith("fill "):
            tensor.CopyFrom(_filled(tensor))
    return model


def size(expression: str, symbols: Mapping[str, int]) -> int:
    """The value of a dimension as exporters write it, a sum of products: `batch`, `8*h8`, `past + 1`.

    A symbol that `symbols` lacks counts as 1.
    """
    total = 0
    for term in expression.split("+"):
        product = 1
        for factor in map(str.strip, term.split("*")):
            product *= int(factor) if factor.isdecimal() else symbols.get(factor, 1)
        total += product
    return total


def _integers(name: str, shape: list[int], dtype: np.dtype[Any], metadata: Mapping[str, str]) -> Array:
    if start := metadata.get(f"arange:{name}"):
        row = np.arange(int(start), int(start) + shape[-1], dtype=dtype)
        return np.broadcast_to(row, shape).copy()
    low, high = int(metadata.get(f"from:{name}", 0)), int(metadata.get(f"below:{name}", 2))
    return _generator(name).integers(low, high, shape).astype(dtype)


def _input(value: onnx.ValueInfoProto, symbols: Mapping[str, int], metadata: Mapping[str, str]) -> Array:
    tensor = value.type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else size(d.dim_param, symbols) for d in tensor.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    if dtype == np.bool_:
        return np.ones(shape, dtype)
    if np.issubdtype(dtype, np.integer):
        return _integers(value.name, shape, dtype, metadata)
    return _generator(value.name).standard_normal(shape, dtype=np.float32).astype(dtype)


def symbols(model: onnx.ModelProto) -> dict[str, int]:
    """The sizes that a model's metadata give its symbols."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return {name: int(value) for name, value in _pairs(metadata.get("dims", "")).items()}


def inputs(model: onnx.ModelProto, sizes: Mapping[str, int] | None = None) -> dict[str, Array]:
    """Seeded arrays for the inputs of `model`, in the order of its graph; `sizes` wins over the metadata's `dims`."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    sizes = symbols(model) | dict(sizes or {})
    constant = {tensor.name for tensor in model.graph.initializer}
    return {v.name: _input(v, sizes, metadata) for v in model.graph.input if v.name not in constant}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a name in benchmarks/models/, or the path of a model file")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--inputs", action="store_true", help="write the inputs (.npz) instead of the model")
    args = parser.parse_args()
    named = MODELS / f"{args.model}.onnx"
    path = named if named.exists() else Path(args.model)
    if args.inputs:
        np.savez(args.output, allow_pickle=False, **inputs(onnx.load(path)))
    else:
        onnx.save(load(path), args.output)


if __name__ == "__main__":
    main()
