"""Ensembles of decision trees.

The operators say the same in two ways: lists of nodes and leaves by the numbers of trees and nodes, or by places. Both
become one table (`Table`) with the leaves first. A node that asks for membership in a set is a chain of nodes that ask
for its members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import tensor_type
from stepwell.dialects.graph.trees import MODES, TreeEnsembleOp
from stepwell.frontends.onnx.registry import Array, Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, scalar, unary
from stepwell.frontends.onnx.rules.ml_common import (
    DOMAIN,
    best_label,
    both_classes,
    class_labels,
    features,
    label_above,
    row,
    transformed,
)
from stepwell.ir.core import Value
from stepwell.ir.types import F32, numpy_dtype

MODE_NAMES = {f"BRANCH_{name}": number for number, name in enumerate(("LEQ", "LT", "GTE", "GT", "EQ", "NEQ"))}
MEMBER = 6
MALFORMED = "The model is malformed."
AGGREGATES = {"AVERAGE": "mean", "SUM": "sum", "MIN": "min", "MAX": "max"}
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@attrs.define
class Table:
    """Nodes by number, the leaves first. A child is a number; leaves are their own children."""

    weights: Array
    features: list[int]
    modes: list[int]
    values: list[float]
    children: list[tuple[int, int]]
    missing: list[bool]
    roots: list[int]

    @staticmethod
    def of_leaves(weights: Array) -> Table:
        """A table that has leaves only."""
        count = len(weights)
        leaves = [(number, number) for number in range(count)]
        return Table(weights, [0] * count, [0] * count, [0.0] * count, leaves, [False] * count, [])

    def add(self, feature: int, mode: int, value: float, no: int, yes: int, missing: bool) -> int:
        """A new node's number."""
        self.features.append(feature)
        self.modes.append(mode)
        self.values.append(value)
        self.children.append((no, yes))
        self.missing.append(missing)
        return len(self.features) - 1

    def split_members(self, node: int, members: Sequence[float]) -> None:
        """Let a node ask for its first member, and a chain of new ones for the others."""
        no, yes = self.children[node]
        following = no
        for member in reversed(members[1:]):
            following = self.add(self.features[node], MODES.index("eq"), member, following, yes, self.missing[node])
        self.modes[node] = MODES.index("eq")
        self.values[node] = members[0] if members else np.nan  # nothing is equal to NaN
        self.children[node] = (following, yes)

    def depth(self) -> int:
        """Steps of the longest walk; -1 where one does not end, or a number is none of a node's."""
        count, leaves = len(self.features), len(self.weights)
        if any(not 0 <= number < count for pair in self.children for number in pair):
            return -1
        if any(not 0 <= number < count for number in self.roots):
            return -1
        level, steps = {number for number in self.roots if number >= leaves}, 0
        while level:
            level = {child for number in level for child in self.children[number] if child >= leaves}
            steps += 1
            if steps > count:
                return -1
        return steps


def insert_trees(node: Node, x: Value, table: Table, aggregate: str) -> Value:
    """The op of a table. Raises ModelError where the table is malformed."""
    depth, dtype = table.depth(), numpy_dtype(tensor_type(x).element)
    if depth < 0 or not table.roots:
        raise node.unsupported("its trees are no trees", MALFORMED)
    identity = {"min": np.inf, "max": -np.inf}.get(aggregate, 0.0)
    weights = np.where(np.isnan(table.weights), identity, table.weights)
    tables: list[Any] = [
        np.array(table.features, np.int32), np.array(table.modes, np.uint8), np.array(table.values).astype(dtype),
        np.array(table.children, np.int32).reshape(-1, 2), np.array(table.missing, np.bool_), weights.astype(dtype),
        np.array(table.roots, np.int32),
    ]  # fmt: skip
    made = TreeEnsembleOp(x, *(node.constant(array) for array in tables), depth=depth, aggregate=aggregate)
    return node.insert(made).result


def _numbers(node: Node, name: str) -> list[float]:
    """A list of floats, which may be given as a tensor of doubles."""
    if node.has(f"{name}_as_tensor"):
        return [float(v) for v in node.tensor(f"{name}_as_tensor").reshape(-1)]
    return list(node.floats(name, []))


def table_by_ids(node: Node, prefix: str, targets: int) -> Table:
    """The table of nodes and leaves that are named by their trees' and their own numbers."""
    keys = list(zip(node.ints("nodes_treeids"), node.ints("nodes_nodeids"), strict=True))
    modes, count = node.strings("nodes_modes"), len(keys)
    leaves = [number for number in range(count) if modes[number] == "LEAF"]
    place = {keys[number]: at for at, number in enumerate(leaves)}
    inner = [number for number in range(count) if modes[number] != "LEAF"]
    place.update({keys[number]: len(leaves) + at for at, number in enumerate(inner)})
    weights = np.full((len(leaves), targets), np.nan)
    owners = zip(node.ints(f"{prefix}_treeids"), node.ints(f"{prefix}_nodeids"), strict=True)
    for owner, target, weight in zip(
        owners, node.ints(f"{prefix}_ids"), _numbers(node, f"{prefix}_weights"), strict=True
    ):
        if owner not in place or place[owner] >= len(leaves) or not 0 <= target < targets:
            raise node.unsupported(f"a weight of target {target} at node {owner}: there is none", MALFORMED)
        at = place[owner], target
        weights[at] = weight if np.isnan(weights[at]) else weights[at] + weight
    table = Table.of_leaves(weights)
    values, which = _numbers(node, "nodes_values"), node.ints("nodes_featureids")
    missing = node.ints("nodes_missing_value_tracks_true", []) or [0] * count
    yes, no = node.ints("nodes_truenodeids"), node.ints("nodes_falsenodeids")
    for number in inner:
        tree = keys[number][0]
        sides = [place.get((tree, side[number]), -1) for side in (no, yes)]
        mode = MODE_NAMES.get(modes[number], -1)
        if mode < 0:
            raise node.unsupported(f"nodes of mode {modes[number]!r} are not known", MALFORMED)
        table.add(which[number], mode, values[number], sides[0], sides[1], bool(missing[number]))
    children = {child for pair in table.children[len(leaves) :] for child in pair}
    firsts = {keys[number][0]: place[keys[number]] for number in reversed(range(count))
              if place[keys[number]] not in children}  # fmt: skip
    if firsts.keys() != {tree for tree, _ in keys} or any(
        firsts[keys[number][0]] < len(leaves) for number in inner
    ):  # fmt: skip
        raise node.unsupported("its trees are no trees: one has no root", MALFORMED)
    table.roots = list(firsts.values())
    return table


def _with_base(node: Node, scores: Value, base: Sequence[float]) -> Value:
    return binary(node, graph.AddOp, scores, row(node, base, scores)) if any(base) else scores


@rule("TreeEnsembleRegressor", domain=DOMAIN, since=1)
def tree_ensemble_regressor(node: Node) -> Value:
    """The merged weights, the base values, the post-transform."""
    table = table_by_ids(node, "target", node.int("n_targets", 1))
    aggregate = AGGREGATES.get(node.string("aggregate_function", "SUM"))
    if aggregate is None:
        raise node.unsupported(f"trees are not merged by {node.string('aggregate_function')!r}")
    scores = insert_trees(node, features(node), table, aggregate)
    scores = _with_base(node, scores, _numbers(node, "base_values"))
    return cast(node, transformed(node, scores, node.string("post_transform", "NONE")), F32)


@rule("TreeEnsembleClassifier", domain=DOMAIN, since=1)
def tree_ensemble_classifier(node: Node) -> list[Value]:
    """(labels, scores). Where all weights are those of one class of two, their sum is the score of the second one."""
    labels, name = class_labels(node, "classlabels_int64s") or [0, 1], node.string("post_transform", "NONE")
    base, ids = _numbers(node, "base_values"), set(node.ints("class_ids"))
    if len(ids) > 1 or len(labels) > 2:
        scores = insert_trees(node, features(node), table_by_ids(node, "class", max(len(labels), max(ids) + 1)), "sum")
        scores = transformed(node, _with_base(node, scores, base), name)
        return [best_label(node, scores, labels), cast(node, scores, F32)]
    table = table_by_ids(node, "class", max(ids, default=0) + 1)
    table.weights = table.weights[:, -1:]
    score = insert_trees(node, features(node), table, "sum")
    score = _with_base(node, score, base[-1:])
    shares = name in ("NONE", "PROBIT") and min(_numbers(node, "class_weights"), default=0.0) >= 0
    if isinstance(labels[0], str) and len(labels) == 1:
        raise node.unsupported("one label, a string, does not say what the other class is called")
    if len(labels) == 1:
        labels = [0, int(labels[0])]
    picked = label_above(node, score, 0.5 if shares else 0.0, labels)
    other = binary(node, graph.SubOp, scalar(node, 1, score), score) if shares else unary(node, graph.NegOp, score)
    return [picked, cast(node, transformed(node, both_classes(node, score, other), name), F32)]


@rule("TreeEnsemble", domain=DOMAIN, since=5)
def tree_ensemble(node: Node) -> Value:
    """Nodes and leaves by place; every leaf has one target."""
    targets, weights = node.ints("leaf_targetids"), node.tensor("leaf_weights").reshape(-1).astype(np.float64)
    count = node.int("n_targets", 0) or max(targets, default=0) + 1
    matrix = np.full((len(targets), count), np.nan)
    matrix[np.arange(len(targets)), targets] = weights
    table, leaves = Table.of_leaves(matrix), len(targets)
    sides = []
    for side in ("false", "true"):
        is_leaf, numbers = node.ints(f"nodes_{side}leafs"), node.ints(f"nodes_{side}nodeids")
        sides.append([at if leaf else leaves + at for at, leaf in zip(numbers, is_leaf, strict=True)])
    modes, which = node.tensor("nodes_modes").reshape(-1), node.ints("nodes_featureids")
    splits = node.tensor("nodes_splits").reshape(-1).astype(np.float64)
    missing = node.ints("nodes_missing_value_tracks_true", []) or [0] * len(modes)
    for at, mode in enumerate(modes.tolist()):
        if not 0 <= mode <= MEMBER:
            raise node.unsupported(f"nodes of mode {mode} are not known", MALFORMED)
        table.add(which[at], mode, float(splits[at]), sides[0][at], sides[1][at], bool(missing[at]))
    _split_sets(node, table, leaves)
    table.roots = [leaves + root for root in node.ints("tree_roots")]
    aggregate = list(AGGREGATES.values())[node.int("aggregate_function", 1)]
    scores = insert_trees(node, node.input(0), table, aggregate)
    return transformed(node, scores, TRANSFORMS[node.int("post_transform", 0)])


def _split_sets(node: Node, table: Table, leaves: int) -> None:
    """Give nodes that ask for membership their sets, which stand one behind the other, each ended by a NaN."""
    asking = [at for at in range(leaves, len(table.modes)) if table.modes[at] == MEMBER]
    members = node.tensor("membership_values").reshape(-1).astype(np.float64) if asking else np.zeros(0)
    ends = np.flatnonzero(np.isnan(members))
    if len(ends) != len(asking):
        raise node.unsupported(f"{len(ends)} sets for {len(asking)} nodes that ask for one", MALFORMED)
    begin = 0
    for at, end in zip(asking, ends.tolist(), strict=True):
        table.split_members(at, members[begin:end].tolist())
        begin = end + 1
