"""Integer products with zero points, einsum, power pools: the graph's results at every landing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.dialects.graph.contraction import EinsumOp, MatmulIntegerOp
from stepwell.dialects.graph.convolution import ConvIntegerOp
from stepwell.dialects.graph.pooling import LpPoolOp
from stepwell.errors import InputError
from tests.lowering.to_tensor.descent import M, N, constant, descend, graph_module, tensor

RANDOM = np.random.default_rng(5)


def bytes_of(dtype: Any, *shape: int) -> Any:
    info = np.iinfo(dtype)
    return RANDOM.integers(info.min, info.max + 1, shape).astype(dtype)


def normal(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("left", [np.int8, np.uint8])
@pytest.mark.parametrize("right", [np.int8, np.uint8])
def test_matmul_integer(left: Any, right: Any) -> None:
    a, b = bytes_of(left, 2, 3, 7), bytes_of(right, 7, 5)
    descend(lambda a, b: MatmulIntegerOp(a, b), a, b, native=True)
    zeros: list[tuple[Any, Any]] = [
        (left(3), right(100)), (bytes_of(left, 3), bytes_of(right, 5)),
        (bytes_of(left, 2, 3, 1), bytes_of(right, 1, 5)),
    ]  # fmt: skip
    for za, zb in zeros:
        descend(lambda a, b, x, y: MatmulIntegerOp(a, b, x, y), a, b, np.asarray(za), np.asarray(zb), native=True)


def test_conv_integer() -> None:
    x, w = bytes_of(np.uint8, 2, 4, 5, 5), bytes_of(np.int8, 6, 2, 3, 3)
    options: dict[str, Any] = {"strides": (1, 1), "dilations": (1, 1), "pads": (1, 1, 1, 1), "groups": 2}
    descend(lambda x, w: ConvIntegerOp(x, w, **options), x, w, native=True)
    descend(lambda x, w, a, b: ConvIntegerOp(x, w, a, b, **options), x, w, np.uint8([120])[0:1].reshape(()),
            bytes_of(np.int8, 6), native=True)  # fmt: skip


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("ij,jk->ik", [(3, 4), (4, 5)]), ("bik,bjk->bij", [(2, 3, 4), (2, 5, 4)]), ("ii->i", [(4, 4)]), ("ii->", [(4, 4)]),
     ("ij->ji", [(3, 4)]), ("i,j->ij", [(3,), (4,)]), ("ij,ij->ij", [(1, 4), (3, 4)]),
     ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)])],
)  # fmt: skip
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    descend(lambda *xs: EinsumOp(list(xs), equation=equation), *(normal(*shape) for shape in shapes), native=True)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_lp_pool(p: float) -> None:
    options: dict[str, Any] = {"kernel": (2, 3), "strides": (1, 2), "dilations": (1, 1), "pads": (0, 1, 1, 0)}
    descend(lambda x: LpPoolOp(x, p=p, **options), normal(1, 2, 5, 6), native=True, rtol=1e-5)


def test_einsum_of_symbols_that_broadcast() -> None:
    """Axis `j` is one or two long, that of the constant is two long: the sum runs over two."""
    weights = np.array([[0.5], [0.25]], np.float32)

    def build(x: Any) -> EinsumOp:
        return EinsumOp([x, constant(weights)], equation="ij,jk->ik")

    model = stepwell.compile(graph_module([tensor(M, N)], build))
    for size in (1, 2):
        x = normal(3, size)
        np.testing.assert_allclose(model(x), np.einsum("ij,jk->ik", x, weights), rtol=1e-6)
    with pytest.raises(InputError, match="do not broadcast"):
        model(normal(3, 4))
