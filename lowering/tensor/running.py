"""Softmax behind a sum that is computed part by part, so that a part of a row is all that is kept of it.

    p[m] = max s[m, n]; e[m, n] = exp(s[m, n] - p[m]); t[m] = sum e[m, n]; y[m, d] = sum e[m, n] v[n, d]

for each part of n: q = p; p = max(p, s); f = exp(q - p); e = exp(s - p); t = t f + sum e; y = y f + sum e v

An exponential relative to the largest element so far is brought to a larger one by a factor, and so is what is linear
in it (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022).
The factor is the map itself, of the old peak instead of an element."""

from __future__ import annotations

import attrs

from stepwell.dialects import arith, math
from stepwell.dialects.generic_meaning import single_op
from stepwell.dialects.schedule import PEAK, POWER, TOTAL
from stepwell.dialects.tensor import GenericOp, IndexOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import dim
from stepwell.ir.attributes import FloatAttr
from stepwell.ir.core import BlockArgument, Value
from stepwell.lowering.precision import is_strict
from stepwell.lowering.tensor.common_rows import Rows
from stepwell.lowering.tensor.maps import dims_through
from stepwell.lowering.tensor.stages import Stage, reduction_dims, shares_loads

_MAXIMA = (arith.MaximumFOp, arith.MaxNumFOp)


@attrs.frozen
class Running:
    """A root's reduction dim, and the dim that it is of each stage that is computed part by part along it; `roles` are
    those of stages that are more than maps of a part's elements."""

    dim: int
    along: dict[Stage, int]
    roles: dict[Stage, str]


def running(rows: Rows) -> Running | None:
    """How a kernel's stages may be computed part by part along the root's sum, for several rows that share what they
    read; None where they may not."""
    root = rows.root
    if is_strict(root.root) or len(reduction_dims(root.root)) != 1 or not _is_plain_sum(root):
        return None
    last = max((row.dims[root] for row in rows.rows), default=None)
    if last is None or root.root.sizes.dims[last] == 1 or not shares_loads(root, last):
        return None
    (reduced,) = reduction_dims(root.root)
    makers = {stage.results[0]: stage for stage in rows.stages[1:]}
    for value, read in zip(root.root.inputs, root.root.input_maps, strict=True):
        power = makers.get(value)
        n = None if power is None else _dim_behind(power, read, reduced)
        if power is not None and n is not None and _is_factor(root.root, value):
            found = _behind(power, n, makers, root)
            if found is not None:
                return _with_maps(Running(reduced, {root: reduced, **found.along}, found.roles), rows)
    return None


def _behind(power: Stage, n: int, makers: dict[Value, Stage], root: Stage) -> Running | None:
    """The stages that are computed together with one of powers whose dim `n` is the reduced one."""
    arguments = _power_arguments(power)
    if arguments is None:
        return None
    x, top = arguments
    op = power.root
    peak = makers.get(op.inputs[top])
    if peak is None or not _is_peak(peak, op, x, top, n):
        return None
    along, roles = {power: n, peak: reduction_dims(peak.root)[0]}, {power: POWER, peak: PEAK}
    for user in power.results[0].users:
        if user is root.root:
            continue
        total = next((stage for stage in makers.values() if stage.root is user), None)
        dims = None if total is None else _total_dim(total, power, n)
        if total is None or dims is None or any(reader not in root.ops[1:] for reader in total.results[0].users):
            return None
        along[total], roles[total] = dims, TOTAL
    return Running(-1, along, roles)


def _with_maps(found: Running, rows: Rows) -> Running | None:
    """With the stages whose elements are read along the reduced dim: they are computed for the part that is read."""
    along = dict(found.along)
    for stage in rows.stages:
        if stage in along:
            continue
        for reader in rows.stages:
            for op in reader.ops if reader in along else ():
                for value, read in zip(op.inputs, op.input_maps, strict=True):
                    dims = reader.in_root_dims().get(op) if value is stage.results[0] else None
                    if dims is not None and along[reader] in read.compose(dims).used_dims():
                        n = _dim_behind(stage, read.compose(dims), along[reader])
                        if n is None or along.setdefault(stage, n) != n:
                            return None
    return attrs.evolve(found, along=along)


def _dim_behind(stage: Stage, read: AffineMap, d: int) -> int | None:
    """The parallel dim of a stage's root that a reader's dim is, and nothing else."""
    last = stage.ops[-1]
    to_root = stage.in_root_dims().get(last)
    if to_root is None:
        return None
    written = last.output_maps[0].compose(to_root)
    found = [made.dim_index for made, place in zip(written.results, read.results, strict=True) if d in place.dims]
    at_dim = [place for place in read.results if place == dim(d)]
    ok = len(found) == len(at_dim) == 1 and found[0] is not None and stage.root.iterators[found[0]] == "parallel"
    return found[0] if ok else None


def _power_arguments(stage: Stage) -> tuple[int, int] | None:
    """(x, p) of a stage that is one map exp(x - f(p)) of two inputs."""
    op = stage.ops[0]
    if len(stage.ops) != 1 or op.has_reduction or op.sources or any(True for _ in op.walk_of(IndexOp)):
        return None
    power = op.body.block.terminator.operands[0].defining_op
    difference = power.value.defining_op if isinstance(power, math.ExpOp) else None
    if not isinstance(difference, arith.SubFOp) or len(op.inputs) != 2:
        return None
    x, reached = difference.operands[0], _reached(difference.operands[1])
    if not isinstance(x, BlockArgument) or len(reached) != 1:
        return None
    (top,) = reached
    return (x.index, top.index) if top is not x else None


def _reached(value: Value) -> set[BlockArgument]:
    """The arguments of a body on which a value depends."""
    if isinstance(value, BlockArgument):
        return {value}
    assert value.defining_op is not None
    return set().union(*map(_reached, value.defining_op.operands))


def _is_peak(stage: Stage, power: GenericOp, x: int, top: int, n: int) -> bool:
    """Whether a stage is the maximum, over dim `n` of the powers, of what they are the powers of, and theirs alone."""
    op = stage.ops[0]
    if len(stage.ops) != 1 or list(op.inputs) != [power.inputs[x]] or len(reduction_dims(op)) != 1 or op.sources:
        return False
    kept = list(op.body.block.terminator.operands) == list(op.body.block.arguments)
    lowest = isinstance(op.identities[0], FloatAttr) and op.identities[0].value == float("-inf")
    if op.combine is None or not isinstance(single_op(op.combine), _MAXIMA) or not kept or not lowest:
        return False
    to_power = dims_through(op.output_maps[0], power.input_maps[top])
    if to_power is None or any(user is not power for user in op.results[0].users):
        return False
    places = list(to_power.results)
    places[reduction_dims(op)[0]] = dim(n)
    return op.input_maps[0].compose(AffineMap(to_power.num_dims, 0, places)) == power.input_maps[x]


def _total_dim(stage: Stage, power: Stage, n: int) -> int | None:
    """The reduced dim of a stage that sums up the powers along their dim `n`."""
    op = stage.root
    reduced = reduction_dims(op)
    kept = list(op.body.block.terminator.operands) == list(op.body.block.arguments)
    if stage.ops[0] is not op or len(op.inputs) != 1 or len(reduced) != 1 or not kept or not _is_plain_sum(stage):
        return None
    return reduced[0] if _dim_behind(power, op.input_maps[0], reduced[0]) == n else None


def _is_plain_sum(stage: Stage) -> bool:
    """Whether a stage adds up floats from 0, and its result can hold what has been summed up so far."""
    op = stage.root
    if op.combine is None or not isinstance(single_op(op.combine), arith.AddFOp) or len(op.identities) != 1:
        return False
    zero = op.identities[0]
    element = tensor_type(stage.results[0]).element
    return isinstance(zero, FloatAttr) and zero.value == 0 and zero.type is element


def _is_factor(op: GenericOp, value: Value) -> bool:
    """Whether a body is the product of two inputs, of which a value is one alone."""
    product = single_op(op.body)
    return isinstance(product, arith.MulFOp) and len(op.inputs) == 2 and list(op.inputs).count(value) == 1
