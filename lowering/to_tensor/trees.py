"""Decision trees -> a loop over levels, in which all rows walk all trees in step; tables -> bisections, unrolled."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.graph.base import constant_array
from stepwell.dialects.graph.base import tensor_type as graph_type
from stepwell.dialects.graph.trees import MODES, LookupOp, TreeEnsembleOp
from stepwell.dialects.tensor import ConstantOp, DimsAttr, ForOp, YieldOp, tensor_type
from stepwell.ir.affine_expr import dim
from stepwell.ir.attributes import ElementsAttr, elements
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.types import I32, INDEX, FloatType, StringType, TensorType
from stepwell.lowering.to_tensor.host import HANDLES
from stepwell.lowering.to_tensor.places import (
    Places,
    dims,
    moved,
    origin_place,
    reads_unsigned,
    reduced,
    result_type,
)
from stepwell.lowering.to_tensor.reductions import COMBINE, identity_of
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers

PREDICATES = dict(zip(MODES, ("le", "lt", "ge", "gt", "eq", "ne"), strict=True))


@lowers(TreeEnsembleOp)
def tree_ensemble(op: TreeEnsembleOp, c: Conversion) -> Value:
    """graph.tree_ensemble %x, ..  ->  for level { node[i, t] = children[node, holds(x[i, feature], value)] }; sums"""
    result = result_type(op)
    rows = result.shape[0]
    trees = tensor_type(c.new(op.roots)).shape[0]
    walk = TensorType((rows, trees), I32)
    start = moved(c, walk, lambda p, r: p.integer_of(p.index_of(r, False), I32), inputs=[c.new(op.roots)],
                  maps=[[dim(1)]])  # fmt: skip
    block = Block([INDEX, walk])
    outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
    c.insert(YieldOp([_level(op, c, block.arguments[1], walk)]))
    c.builder = outside
    leaves = c.insert(ForOp([start], steps=DimsAttr((op.depth,)), regions=[Region([block])])).finals[0]
    kind, wide = "sum" if op.aggregate == "mean" else op.aggregate, accumulator_type(result.element)

    def weight(p: Places, leaf: Value, weights: Value) -> Value:
        return p.widened(p.read(weights, [p.index_of(leaf, False), p.at(1)]))

    total = reduced(
        c, result.with_element(wide), [trees], weight, lambda p, a, b: COMBINE[kind](p, a, b, False),
        identity_of(kind, wide), inputs=[leaves], maps=[[dim(0), dim(2)]], sources=[c.new(op.weights)],
    )  # fmt: skip

    def finished(p: Places, value: Value) -> Value:
        if op.aggregate == "mean":
            value = p.divf(value, p.float_of(p.size(trees), wide))
        if op.aggregate in ("min", "max"):
            infinite = p.compare("eq", p.magnitude(value), p.constant(float("inf"), wide))
            value = p.select(infinite, p.constant(0.0, wide), value)
        return p.narrowed(value, result.element)

    return moved(c, result, finished, inputs=[total], maps=[dims(2)])


def _level(op: TreeEnsembleOp, c: Conversion, walk: Value, type_: TensorType) -> Value:
    """The next node of each row in each tree. Comparisons that no node asks for are left out."""
    known, missing = constant_array(op.modes), constant_array(op.missing)
    used = range(len(MODES)) if known is None else np.unique(known).tolist()
    tracks = missing is None or bool(missing.any())
    sources = [c.new(value) for value in (op.x, op.features, op.modes, op.values, op.children, op.missing)]

    def step(p: Places, node: Value, *given: Value) -> Value:
        x, features, modes, values, children, is_missing = given
        at = p.index_of(node, False)
        seen = p.widened(p.read(x, [p.at(0), p.index_of(p.read(features, [at]), False)]))
        bound = p.widened(p.read(values, [at]))
        made: Value | None = None
        mode = p.read(modes, [at]) if len(used) > 1 else None
        for number in used:
            holds = p.compare(PREDICATES[MODES[number]], seen, bound)
            if made is None or mode is None:
                made = holds
            else:
                made = p.select(p.compare("eq", mode, p.constant(number, mode.type)), holds, made)
        assert made is not None
        if tracks:
            made = p.either(made, p.both(p.is_nan(seen), p.read(is_missing, [at])))
        child = p.read(children, [at, p.select(made, p.whole(1), p.whole(0))])
        return p.integer_of(p.index_of(child, False), I32)

    return moved(c, type_, step, inputs=[walk], maps=[dims(2)], sources=sources)


@lowers(LookupOp)
def lookup(op: LookupOp, c: Conversion) -> Value:
    """graph.lookup %x, %keys, %values, %default  ->  the place by halving steps; values[place] where its key is x

    Strings are handles, those of constants the first ones: these count the rows of a table with the places."""
    if isinstance(graph_type(op.keys).element, StringType):
        return _by_handle(op, c)
    result = result_type(op)
    (count,) = tensor_type(c.new(op.keys)).shape
    assert isinstance(count, int)
    unsigned = reads_unsigned(op.x)
    inputs = [c.new(op.x), c.new(op.default)]

    def body(p: Places, x: Value, default: Value, keys: Value, values: Value) -> Value:
        if not count:
            return default
        wide, place = p.widened(x), p.whole(0)
        for bit in reversed(range(count.bit_length())):
            candidate = p.add(place, p.whole(1 << bit))
            below = p.compare("lt", p.widened(p.read(keys, [p.sub(candidate, p.whole(1))])), wide, unsigned)
            inside = p.compare("le", candidate, p.whole(count))
            place = p.select(p.both(inside, below), candidate, place)
        place = p.minimum(place, p.whole(count - 1))
        if isinstance(x.type, FloatType):
            place = p.select(p.is_nan(wide), p.whole(count - 1), place)
        found = p.widened(p.read(keys, [place]))
        same = p.compare("eq", found, wide)
        if isinstance(x.type, FloatType):
            same = p.either(same, p.both(p.is_nan(found), p.is_nan(wide)))
        return p.select(same, p.read(values, [place]), default)

    maps = [dims(result.rank), origin_place(inputs[1])]
    return moved(c, result, body, inputs=inputs, maps=maps, sources=[c.new(op.keys), c.new(op.values)])


def _by_handle(op: LookupOp, c: Conversion) -> Value:
    """values[places[x]] where the handle x is that of a key, else the default"""
    result, known = result_type(op), op.keys.defining_op
    handles = known.attributes.get(HANDLES) if known is not None else None
    if not isinstance(handles, ElementsAttr):
        raise NoMatch("keys that are strings must be constants")
    numbers = handles.numpy()
    places = np.full(int(numbers.max(initial=-1)) + 1, -1, np.int64)
    places[numbers] = np.arange(len(numbers))
    inputs = [c.new(op.x), c.new(op.default)]
    if not len(places):
        return moved(c, result, inputs=inputs[1:], maps=[origin_place(inputs[1])])

    def body(p: Places, x: Value, default: Value, table: Value, values: Value) -> Value:
        handle, count = p.index_of(x, False), p.whole(len(places))
        inside = p.compare("lt", handle, count)
        place = p.index_of(p.read(table, [p.minimum(handle, p.sub(count, p.whole(1)))]), False)
        found = p.both(inside, p.compare("ge", place, p.whole(0)))
        return p.select(found, p.read(values, [p.maximum(place, p.whole(0))]), default)

    table = c.insert(ConstantOp(value=elements(places, None, "places"))).result
    maps = [dims(result.rank), origin_place(inputs[1])]
    return moved(c, result, body, inputs=inputs, maps=maps, sources=[table, c.new(op.values)])
