"""Determinants, random numbers, trees and tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import numpy_helper

from stepwell.dialects.graph.base import Array, constant_array, shape_of
from stepwell.dialects.graph.linear_algebra import DetOp
from stepwell.dialects.graph.random import RandomOp
from stepwell.dialects.graph.trees import LookupOp, TreeEnsembleOp
from stepwell.frontends.onnx.exports.composing import number_of
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.frontends.onnx.writer import Writer, element_of, exports
from stepwell.ir.core import Value

LEARNED = "ai.onnx.ml"
EXACT_SEEDS = 1 << 24  # beyond, a float does not hold every whole number
AGGREGATES = {"mean": 0, "sum": 1, "min": 2, "max": 3}


@exports(DetOp)
def det(op: DetOp, writer: Writer) -> None:
    """graph.det %x -> Det(x)"""
    writer.node("Det", [op.x], op.results)


@exports(RandomOp)
def random(op: RandomOp, writer: Writer) -> None:
    """graph.random {uniform, seed} -> RandomUniformLike(ConstantOfShape(sizes)) {seed}"""
    if op.generator != "philox" or (op.seed is not None and not 0 <= op.seed < EXACT_SEEDS):
        raise Unsupported(f"ONNX has no random numbers of {op.generator} from the seed {op.seed}")
    like = writer.make("ConstantOfShape", [writer.shape(shape_of(op.result))])
    seed = None if op.seed is None else float(op.seed)
    name = f"Random{op.distribution.capitalize()}Like"
    writer.node(name, [like], op.results, dtype=number_of(element_of(op.result)), seed=seed)


def _known(value: Value, what: str) -> Array:
    array = constant_array(value)
    if array is None:
        raise Unsupported(f"ONNX has no {what} that are computed")
    return array


@exports(LookupOp)
def lookup(op: LookupOp, writer: Writer) -> None:
    """graph.lookup %x, %keys, %values, %default -> LabelEncoder(x) {keys, values, default}"""
    arrays = [_known(value, "tables") for value in (op.keys, op.values, op.default)]
    if arrays[0].dtype == object:
        names, values, default = (list(array.reshape(-1).tolist()) for array in arrays)
        kind = "floats" if arrays[1].dtype.kind == "f" else "int64s"
        if arrays[1].dtype not in (np.float32, np.int64):
            raise Unsupported(f"ONNX has no table from strings to {arrays[1].dtype}")
        writer.node("LabelEncoder", [op.x], op.results, domain=LEARNED, keys_strings=names,
                    **{f"values_{kind}": values, f"default_{kind[:-1]}": default[0]})  # fmt: skip
        return
    keys, values, default = (numpy_helper.from_array(array.reshape(-1)) for array in arrays)
    writer.node("LabelEncoder", [op.x], op.results, domain=LEARNED, keys_tensor=keys, values_tensor=values,
                default_tensor=default)  # fmt: skip


@exports(TreeEnsembleOp)
def tree_ensemble(op: TreeEnsembleOp, writer: Writer) -> None:
    """graph.tree_ensemble %x, tables -> TreeEnsemble(x) {tables}, where each leaf weighs for one target"""
    parts = (op.features, op.modes, op.values, op.children, op.missing, op.weights, op.roots)
    features, modes, values, children, missing, weights, roots = (_known(part, "trees") for part in parts)
    leaves, targets = weights.shape
    counted = np.isfinite(weights) & ((weights != 0) | (op.aggregate in ("min", "max")))
    if (counted.sum(axis=1) > 1).any():
        raise Unsupported("ONNX has no trees whose leaves weigh for several targets")
    if (roots < leaves).any():
        raise Unsupported("ONNX has no trees that are leaves")
    target = counted.argmax(axis=1)
    sides = children[leaves:]
    fields: dict[str, Any] = {
        "aggregate_function": AGGREGATES[op.aggregate], "n_targets": targets,
        "leaf_targetids": target.tolist(),
        "leaf_weights": numpy_helper.from_array(weights[np.arange(leaves), target]),
        "nodes_featureids": features[leaves:].tolist(), "nodes_modes": numpy_helper.from_array(modes[leaves:]),
        "nodes_splits": numpy_helper.from_array(values[leaves:]),
        "nodes_missing_value_tracks_true": missing[leaves:].astype(int).tolist(),
        "tree_roots": (roots - leaves).tolist(),
    }  # fmt: skip
    for place, side in enumerate(("false", "true")):
        inner = sides[:, place] >= leaves
        fields[f"nodes_{side}leafs"] = (~inner).astype(int).tolist()
        fields[f"nodes_{side}nodeids"] = (sides[:, place] - leaves * inner).tolist()
    writer.node("TreeEnsemble", [op.x], op.results, domain=LEARNED, **fields)
