"""Resizing by every kind of coordinates, of known and of unknown sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.resize import COORDINATES, ROUNDINGS, ResizeOp
from stepwell.dialects.graph.shape import ShapeOp
from stepwell.dialects.tensor import GenericOp, ReadOp
from stepwell.ir.types import F16, F64, SI32, IntegerType, Signedness, Type, numpy_dtype
from tests.lowering.to_tensor.descent import M, N, check, constant, counted, ints, tensor

UI8 = IntegerType(8, Signedness.UNSIGNED)
PLAIN = [kind for kind in COORDINATES if kind != "tf_crop_and_resize"]


def by_scales(*scales: float, **options: Any) -> Any:
    return lambda x: ResizeOp(x, None, constant(np.array(scales, np.float32)), None, axes=(0, 1), **options)


def to_sizes_of_the_other(x: Any, y: Any, **options: Any) -> Any:
    return ResizeOp(x, ShapeOp(y, start=0, end=2).result, None, None, axes=(0, 1), **options)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("coordinates", PLAIN)
def test_nearest(coordinates: str, rounding: str) -> None:
    options = {"mode": "nearest", "coordinates": coordinates, "rounding": rounding}
    for scales in ((2.0, 2.0), (0.6, 1.7)):
        check([tensor(3, 5, 2)], by_scales(*scales, **options), counted(3, 5, 2), deep=scales[0] == 2.0)
        check([tensor(N, M, 2)], by_scales(*scales, **options), counted(3, 5, 2), deep=scales[0] == 2.0)
    check([tensor(N, 5), tensor(M, 7)], lambda x, y: to_sizes_of_the_other(x, y, **options), counted(3, 5),
          counted(4, 7), deep=False)  # fmt: skip


@pytest.mark.parametrize(
    ("scale", "coordinates", "rounding", "place"),
    [
        (2.0, "asymmetric", "floor", "d0 floordiv 2"),
        (3.0, "half_pixel", "floor", None),  # the first would be at -1
        (3.0, "half_pixel", "round_prefer_floor", "d0 floordiv 3"),
        (2.0, "asymmetric", "round_prefer_ceil", None),  # the last would be behind the end
        (1.5, "asymmetric", "floor", None),
    ],
)
def test_elements_that_are_repeated_have_affine_places(
    scale: float, coordinates: str, rounding: str, place: str | None
) -> None:
    options = {"mode": "nearest", "coordinates": coordinates, "rounding": rounding}
    module = check([tensor(N, 2)], by_scales(scale, 1.0, **options), counted(5, 2), deep=False)
    (copy,) = [op for op in module.walk_of(GenericOp) if len(op.names) == 2]
    assert any(True for _ in copy.walk_of(ReadOp)) == (place is None)
    assert place is None or str(copy.input_maps[0]) == f"(d0, d1) -> ({place}, d1)"


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("coordinates", PLAIN)
def test_interpolation(coordinates: str, mode: str) -> None:
    options = {"mode": mode, "coordinates": coordinates}
    check([tensor(3, 4)], by_scales(2.0, 1.5, **options), counted(3, 4), tolerance=1e-5, deep=False)
    check([tensor(N, M)], by_scales(2.0, 0.75, **options), counted(3, 4), tolerance=1e-5, deep=False)
    for target in ((2, 7), (1, 3)):
        check([tensor(N, 4), tensor(M, 7)], lambda x, y: to_sizes_of_the_other(x, y, **options), counted(3, 4),
              counted(target[0], 7), tolerance=1e-5, deep=False)  # fmt: skip


def test_interpolation_down_to_loops() -> None:
    options = {"mode": "linear", "coordinates": "half_pixel"}
    check([tensor(3, 4)], by_scales(2.0, 1.5, **options), counted(3, 4), tolerance=1e-5)
    check([tensor(N, 2)], by_scales(2.0, 1.0, **options), counted(3, 2), tolerance=1e-5)


@pytest.mark.parametrize("element", [F16, F64, UI8, SI32])
def test_element_types(element: Type) -> None:
    build = by_scales(1.5, 1.3, mode="cubic", coordinates="half_pixel")
    check([tensor(4, 5, element=element)], build, counted(4, 5, dtype=numpy_dtype(element)),
          tolerance=2e-3 if element is F16 else 1e-12, deep=False)  # fmt: skip


@pytest.mark.parametrize("shape", [(6, 5), (N, 5)])
def test_filters_that_widen(shape: tuple[Any, ...]) -> None:
    for options in ({"antialias": True}, {"exclude_outside": True}, {"antialias": True, "exclude_outside": True}):
        build = by_scales(0.4, 1.0, mode="cubic", coordinates="half_pixel", **options)
        check([tensor(*shape)], build, counted(6, 5), tolerance=1e-5, deep=False)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_cropped_region(mode: str) -> None:
    def build(x: Any) -> Any:
        region = constant(np.array([-0.2, 0.1, 0.7, 1.4], np.float32))
        return ResizeOp(x, ints(5, 6), None, region, axes=(0, 1), mode=mode, coordinates="tf_crop_and_resize",
                          extrapolation=-7.0)  # fmt: skip

    check([tensor(4, 5)], build, counted(4, 5), tolerance=1e-5)


def test_one_scale_for_all_axes() -> None:
    def build(x: Any) -> Any:
        return ResizeOp(x, ints(7, 4), None, None, axes=(0, 1), mode="linear", coordinates="half_pixel",
                          aspect="not_larger")  # fmt: skip

    check([tensor(4, 5)], build, counted(4, 5), tolerance=1e-5, deep=False)
