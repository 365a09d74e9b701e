"""What prepares features: scales, norms, thresholds, encodings, tables."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph import logic
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.movement import ConcatOp, PadOp, SliceOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, reshaped, scalar, unary
from stepwell.frontends.onnx.rules.ml_common import DOMAIN, row
from stepwell.frontends.onnx.rules.vocabulary import looked_up, texts
from stepwell.frontends.onnx.shapes import int_list
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F32, F64, FloatType, numpy_dtype

SMALLEST_NORM = 1e-30


def _floats(node: Node, index: int = 0) -> Value:
    x = node.input(index)
    return x if tensor_type(x).element is F64 else cast(node, x, F32)


@rule("Scaler", domain=DOMAIN)
def scaler(node: Node) -> Value:
    """(x - offset) * scale, one of each for all features or for every one"""
    x = _floats(node)
    for name, op in (("offset", graph.SubOp), ("scale", graph.MulOp)):
        if numbers := node.floats(name, []):
            x = binary(node, op, x, row(node, numbers, x))
    return cast(node, x, F32)


@rule("Normalizer", domain=DOMAIN)
def normalizer(node: Node) -> Value:
    """x divided by the norm of its row"""
    x = _floats(node)
    kinds = {"MAX": "max", "L1": "sum", "L2": "sum"}
    name = node.string("norm", "MAX")
    if name not in kinds:
        raise node.unsupported(f"the norm {name!r} is not known", "The model is malformed.")
    sizes = binary(node, graph.MulOp, x, x) if name == "L2" else unary(node, graph.AbsOp, x)
    norm = node.insert(ReduceOp(sizes, kind=kinds[name], axes=[len(shape_of(x)) - 1])).result
    norm = unary(node, graph.SqrtOp, norm) if name == "L2" else norm
    return cast(node, binary(node, graph.DivOp, x, binary(node, graph.MaxOp, norm, SMALLEST_NORM)), F32)


@rule("Binarizer", domain=DOMAIN)
def binarizer(node: Node) -> Value:
    """1 above the threshold, else 0"""
    x = node.input(0)
    bound = node.float("threshold", 0.0)
    wide = x if isinstance(tensor_type(x).element, FloatType) else cast(node, x, F64)
    above = node.insert(logic.CompareOp(wide, scalar(node, bound, wide), predicate="gt")).result
    return cast(node, above, tensor_type(x).element)


@rule("Imputer", domain=DOMAIN)
def imputer(node: Node) -> Value:
    """The column's value, or the one of all, where x is the replaced one; NaN replaces NaN."""
    x = node.input(0)
    dtype = numpy_dtype(x.type)
    of_floats = bool(node.floats("imputed_value_floats", []))
    values: list[float] = node.floats("imputed_value_floats") if of_floats else list(node.ints("imputed_value_int64s"))
    replaced = node.float("replaced_value_float", 0.0) if of_floats else node.int("replaced_value_int64", 0)
    if np.isnan(replaced):
        is_missing = node.insert(logic.IsNanOp(x)).result
    else:
        is_missing = node.insert(logic.CompareOp(x, scalar(node, replaced, x), predicate="eq")).result
    return node.insert(logic.WhereOp(is_missing, node.constant(np.array(values).astype(dtype)), x)).result


@rule("FeatureVectorizer", domain=DOMAIN)
def feature_vectorizer(node: Node) -> Value:
    """Columns side by side, each input cut or filled with zeros to its number of them."""
    parts = []
    for index, wanted in enumerate(node.ints("inputdimensions")):
        x = cast(node, node.input(index), F32)
        if len(shape_of(x)) == 1:
            x = reshaped(node, x, (*shape_of(x), 1))
        given = shape_of(x)[1]
        if given != wanted:
            pads = node.insert(PadOp(x, int_list(node, [0, 0, 0, wanted]))).result
            x = node.insert(SliceOp(pads, int_list(node, [0]), int_list(node, [wanted]), axes=[1])).result
        parts.append(x)
    return node.insert(ConcatOp(parts, axis=1)).result if len(parts) > 1 else parts[0]


@rule("ArrayFeatureExtractor", domain=DOMAIN)
def array_feature_extractor(node: Node) -> Value:
    """The elements of the last axis at places; a list gives a matrix of one row."""
    x, places = node.input(0), node.input(1)
    count: Dim = 1
    for size in shape_of(places):
        count = count * size
    if len(shape_of(x)) == 1:
        x = reshaped(node, x, (1, *shape_of(x)))
    return node.insert(GatherOp(x, reshaped(node, places, (count,)), axis=len(shape_of(x)) - 1)).result


@rule("OneHotEncoder", domain=DOMAIN)
def one_hot_encoder(node: Node) -> Value:
    """x == category, for each one along a new last axis; without `zeros` an unknown one is an error"""
    names, x = node.strings("cats_strings", []), node.input(0)
    categories = texts(names) if names else np.array(node.ints("cats_int64s"), np.int64).astype(numpy_dtype(x.type))
    if not node.int("zeros", 1):
        count = len(categories)
        place = looked_up(node, x, categories, np.arange(count), count)
        return node.insert(GatherOp(node.constant(np.eye(count, dtype=np.float32)), place, axis=0)).result
    column, known = reshaped(node, x, (*shape_of(x), 1)), node.constant(categories)
    return cast(node, node.insert(logic.CompareOp(column, known, predicate="eq")).result, F32)
