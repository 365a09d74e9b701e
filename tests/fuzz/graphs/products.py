"""Families that sum: reductions, contractions, normalisations."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.graphs.draft import Rejected, Site, Value
from tests.fuzz.graphs.movement import axes_of
from tests.fuzz.graphs.values import DTYPES, broadcastable, draw_element

REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip


def reduce(site: Site) -> Any:
    """A reduction over some axes, all of them or none."""
    kind = "positive" if site.op == "ReduceLogSum" else "any"
    x = site.value(0, range(5), kind=kind)
    site.set("keepdims", 0, 1)
    noop = site.set("noop_with_empty_axes", 0, 1, often=0.2)
    if x.rank == 0 or site.chance(0.2):
        return site.give(x)
    count = 0 if noop is not None and site.chance(0.3) else site.random.randint(1, x.rank)
    axes = site.random.sample(range(x.rank), count)
    return site.give(x, *site.setting("axes", axes_of(site, x.rank, axes)))


def arg(site: Site) -> Any:
    """ArgMax, ArgMin, of ties too."""
    x = site.value(0, range(1, 5), suits=lambda value: 0 not in value.shape)
    site.attributes["axis"] = site.axis(x.rank)
    site.set("keepdims", 0, 1)
    site.set("select_last_index", 0, 1)
    return site.give(x)


def along(site: Site) -> Any:
    """Softmax and others along an axis."""
    x = site.value(0, range(1, 5))
    axis = site.axis(x.rank)
    if site.chance(0.7):
        site.attributes["axis"] = axis
    site.set("p", 1, 2)
    return site.give(x)


def matmul(site: Site) -> Any:
    """MatMul, MatMulInteger: vectors, matrices, broadcast batches, on either side."""
    a = site.value(0, range(1, 5))
    inner, columns = a.shape[-1], site.random.choice((1, 2, 3, 5, 16, 17, 33))
    batch = broadcastable(site.random, a.shape[:-2])
    shape = (inner,) if site.chance(0.1) else (*batch, inner, columns)
    b = site.value(1, shape=shape, kind="any" if site.op == "MatMul" else "positive")
    if site.op == "MatMul":
        if site.chance(0.25) and a.rank >= 2:
            turned = site.value(0, shape=(*broadcastable(site.random, a.shape[:-2]), columns, a.shape[-2]))
            return site.give(turned, a)
        return site.give(a, b)
    zeros = [_zero(site, 2, a), _zero(site, 3, b)] if site.chance(0.6) else []
    return site.give(a, b, *zeros)


def _zero(site: Site, place: int, value: Value) -> Value | None:
    if site.chance(0.2):
        return None
    return site.draft.fresh(np.array(site.random.randrange(4), value.array.dtype))


def gemm(site: Site) -> Any:
    """Gemm: turned operands, with and without C."""
    a = site.value(0, [2])
    turned_a, turned_b = site.set("transA", 0, 1), site.set("transB", 0, 1)
    rows, inner = a.shape[::-1] if turned_a else a.shape
    columns = site.random.choice((1, 2, 3, 8, 17))
    b = site.value(1, shape=(columns, inner) if turned_b else (inner, columns))
    if a.element not in ("int32", "int64", "uint32", "uint64"):
        site.set("alpha", 1.0, 0.5, -2.0)
        site.set("beta", 1.0, 0.5, 0.0)
    c = site.value(2, shape=broadcastable(site.random, (rows, columns)))
    return site.give(a, b, c if site.version < 11 or site.chance(0.7) else None)


# Equations, and the rank of each operand.
EQUATIONS = (
    "ij,jk->ik", "bij,bjk->bik", "ij->ji", "ii->i", "ij->", "i,i->", "i,j->ij", "bhid,bhjd->bhij", "...ij,jk->...ik",
    "ij,kj->ik", "ijk,k->ij", "ij,ij->j", "abc,cd,d->ab", "bij->bj", "ij,jk", "...i,...i->...", "iij->ij",
)  # fmt: skip


def einsum(site: Site) -> Any:
    """Einsum by one of EQUATIONS."""
    equation = site.random.choice(EQUATIONS)
    sizes: dict[str, int] = {}
    operands: list[Value] = []
    for term in equation.partition("->")[0].split(","):
        lead = (2,) if "..." in term else ()
        shape = (*lead, *(sizes.setdefault(letter, site.random.choice((1, 2, 3, 5, 17))) for letter in term.strip(".")))
        operands.append(site.value(0, shape=shape))
    site.attributes["equation"] = equation
    return site.give(*operands)


def layer_norm(site: Site) -> Any:
    """LayerNormalization, RMSNormalization: scale and bias over the axes behind one."""
    x = site.value(0, range(1, 5))
    axis = site.axis(x.rank)
    site.attributes["axis"] = axis
    site.set("epsilon", 1e-5, 0.25)
    inner = x.shape[axis % x.rank :]
    scale = site.new(1, shape=inner, kind="weight")
    if site.op == "RMSNormalization":
        return site.give(x, scale)
    bias = site.new(2, shape=inner, kind="weight") if site.chance(0.6) else None
    return site.give(x, scale, bias, outputs=site.random.choice((1, 1, 3)))


def channels(site: Site) -> Any:
    """BatchNormalization, InstanceNormalization, GroupNormalization: parameters for every channel."""
    x = site.value(0, range(3, 6) if site.op != "BatchNormalization" else range(2, 6))
    count = x.shape[1]
    shape: tuple[int, ...] = (count,)
    site.set("epsilon", 1e-5, 0.25)
    if site.op == "GroupNormalization":
        groups = [n for n in range(1, count + 1) if count % n == 0]
        if not groups:
            raise Rejected("GroupNormalization of no channels")
        site.attributes["num_groups"] = site.random.choice(groups)
        shape = (site.attributes["num_groups"],) if site.version < 21 else shape
    parameters = [site.new(place, shape=shape, kind="weight") for place in (1, 2)]
    if site.op == "BatchNormalization":
        if site.version == 7 or site.version == 9:
            site.set("momentum", 0.9)
        parameters += [site.new(place, shape=shape, kind=kind) for place, kind in ((3, "weight"), (4, "positive"))]
    return site.give(x, *parameters)


def local_response(site: Site) -> Any:
    """LRN over neighbouring channels."""
    x = site.value(0, range(3, 5))
    site.attributes["size"] = site.random.choice((1, 3, 5))
    site.set("alpha", 1e-4, 0.5)
    site.set("bias", 1.0, 2.0)
    return site.give(x)


def mean_variance(site: Site) -> Any:
    """MeanVarianceNormalization."""
    x = site.value(0, [4])
    site.set("axes", [0, 2, 3], [1], [2, 3])
    return site.give(x)


def determinant(site: Site) -> Any:
    """Det of small matrices."""
    size = site.random.choice((1, 2, 3, 4))
    return site.give(site.value(0, shape=(*((2,) if site.chance(0.5) else ()), size, size)))


def loss(site: Site) -> Any:
    """SoftmaxCrossEntropyLoss, NegativeLogLikelihoodLoss."""
    classes, batch = site.random.choice((2, 3, 5)), site.random.choice((1, 2, 4))
    rest = [site.random.choice((1, 2, 3)) for _ in range(site.random.randrange(2))]
    x = site.value(0, shape=(batch, classes, *rest))
    numbers = np.random.default_rng(site.random.getrandbits(64))
    element = draw_element(site.random, site.elements(1))
    labels = site.draft.fresh(numbers.integers(0, classes, (batch, *rest)).astype(DTYPES[element]))
    weight = site.new(2, shape=(classes,), kind="positive") if site.chance(0.5) else None
    site.set("reduction", "none", "sum", "mean")
    site.set("ignore_index", 0, -1, often=0.3)
    return site.give(x, labels, weight)


FAMILY = {
    **dict.fromkeys(REDUCTIONS, reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), arg),
    **dict.fromkeys(("Hardmax", "LogSoftmax", "LpNormalization", "Softmax"), along),
    **dict.fromkeys(("MatMul", "MatMulInteger"), matmul),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layer_norm),
    **dict.fromkeys(("BatchNormalization", "GroupNormalization", "InstanceNormalization"), channels),
    **dict.fromkeys(("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"), loss),
    "Det": determinant, "Einsum": einsum, "Gemm": gemm, "LRN": local_response,
    "MeanVarianceNormalization": mean_variance,
}  # fmt: skip
