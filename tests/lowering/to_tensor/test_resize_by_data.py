"""Resizing to sizes, by scales and of regions that are numbers in a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.resize import COORDINATES, ROUNDINGS, SMALL, ResizeOp, simple
from stepwell.ir.interpreter import run_function
from stepwell.ir.types import SI64, UI8
from stepwell.lowering.to_tensor.fractions import fractions, quotients
from tests.lowering.to_tensor.by_data import check_by_data, fails, serves
from tests.lowering.to_tensor.descent import M, N, counted, f32, tensor

IMAGE, SCALES, SIZES, REGION = tensor(2, N, M), tensor(2), tensor(2, element=SI64), tensor(4)
FACTORS = [(2, 0.7), (0.6, 1.5), (1, 1), (0.33333334, 3), (0.123456, 1.234567), (0.25, 0.05)]
TARGETS = [(8, 3), (1, 1), (5, 7), (2, 20), (0, 4)]


def image(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def resize(**how: Any) -> Any:
    """by scales"""
    return lambda x, scales: ResizeOp(x, None, scales, None, axes=(1, 2), **how)


def resize_to(**how: Any) -> Any:
    """to sizes"""
    return lambda x, sizes: ResizeOp(x, sizes, None, None, axes=(1, 2), **how)


@pytest.mark.parametrize("coordinates", COORDINATES[:-1])
@pytest.mark.parametrize(("mode", "rounding"), [("linear", "floor"), *(("nearest", word) for word in ROUNDINGS)])
def test_coordinates(coordinates: str, mode: str, rounding: str) -> None:
    how = {"coordinates": coordinates, "mode": mode, "rounding": rounding}
    x = image(2, 5, 10)
    serves([IMAGE, SCALES], resize(**how), *([x, f32(factors)] for factors in FACTORS), tolerance=1e-5)
    serves([IMAGE, SIZES], resize_to(**how), *([x, np.array(sizes)] for sizes in TARGETS), tolerance=1e-5)


@pytest.mark.parametrize("how", [
    {"mode": "cubic"}, {"mode": "cubic", "exclude_outside": True, "cubic_a": -0.5},
    {"mode": "linear", "antialias": True}, {"mode": "cubic", "antialias": True, "exclude_outside": True},
], ids=str)  # fmt: skip
def test_filters(how: Any) -> None:
    x = image(2, 5, 10)
    how["coordinates"] = "half_pixel"
    serves([IMAGE, SCALES], resize(**how), *([x, f32(factors)] for factors in FACTORS), tolerance=1e-5)
    serves([IMAGE, SIZES], resize_to(**how), *([x, np.array(sizes)] for sizes in TARGETS), tolerance=1e-5)


@pytest.mark.parametrize("aspect", ["not_larger", "not_smaller"])
def test_one_scale_for_all_axes(aspect: str) -> None:
    x = image(2, 6, 10)
    for mode, coordinates in (("nearest", "asymmetric"), ("linear", "half_pixel_symmetric")):
        how = {"aspect": aspect, "mode": mode, "coordinates": coordinates}
        serves([IMAGE, SIZES], resize_to(**how), *([x, np.array(s)] for s in ((7, 7), (3, 8), (1, 2))), tolerance=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_regions(mode: str) -> None:
    def build(x: Any, sizes: Any, region: Any) -> Any:
        how = {"mode": mode, "coordinates": "tf_crop_and_resize", "extrapolation": 9.0}
        return ResizeOp(x, sizes, None, region, axes=(1, 2), **how)

    x = image(2, 5, 10)
    regions = [f32([0.1, 0.2, 0.7, 0.95]), f32([-0.31, 0.6, 0.4, 1.27]), f32([0.9, 0.0, 0.2, 1.0])]
    sets = [[x, np.array(sizes), region] for region in regions for sizes in ((4, 6), (1, 3), (9, 1))]
    serves([IMAGE, SIZES, REGION], build, *sets, tolerance=1e-5)
    known = [[x, region] for region in regions]
    types = [tensor(2, 5, 10), REGION]
    from tests.lowering.to_tensor.descent import ints

    serves(types, lambda x, region: build(x, ints(4, 6), region), *known, tolerance=1e-5)


def test_integers_saturate() -> None:
    x = (counted(2, 4, 5) * 37 % 256).astype(np.uint8)
    how = {"mode": "cubic", "coordinates": "half_pixel"}
    serves([tensor(2, N, M, element=UI8), SCALES], resize(**how), [x, f32([1.5, 0.5])], [x, f32([3, 2])])


def test_every_pass_keeps_a_resize() -> None:
    x = image(1, 3, 4)
    how = {"mode": "nearest", "coordinates": "half_pixel"}
    check_by_data([tensor(1, N, M), SCALES], resize(**how), x, f32([2, 0.5]), others=[[x, f32([0.6, 1])]])


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, 1e-7, 1e8])
def test_scales_that_cannot_be_are_errors(scale: float) -> None:
    build = resize(mode="nearest", coordinates="asymmetric")
    fails([IMAGE, SCALES], build, image(2, 5, 10), f32([1, scale]), match="a scale is not a positive number")


def test_sizes_that_cannot_be_are_errors() -> None:
    import stepwell
    from tests.lowering.to_tensor.descent import graph_module

    model = stepwell.compile(graph_module([IMAGE, SIZES], resize_to(mode="nearest", coordinates="asymmetric")))
    for x, sizes in ((image(2, 5, 10), (-1, 3)), (image(2, 0, 10), (1, 3)), (image(2, 5, 10), (1 << 40, 1 << 40))):
        with pytest.raises(stepwell.RuntimeError):
            model(x, np.array(sizes))
    assert model(image(2, 0, 10), np.array((0, 3))).shape == (2, 0, 3)


def test_fractions_are_those_that_the_oracle_finds() -> None:
    from stepwell.dialects.builtin import ModuleOp
    from stepwell.dialects.func import FuncOp, ReturnOp
    from stepwell.ir.builder import Builder
    from stepwell.ir.conversion import Conversion

    random = np.random.default_rng(7)
    ratios = random.integers(1, 5000, 300) / random.integers(1, 5000, 300)
    numbers = f32(np.concatenate([ratios, 2.0 ** random.uniform(-17, 21, 300), [1, 2, 0.5, 1 / 3, 0.7]]))
    module = ModuleOp.empty()
    function = FuncOp.declare("main", [tensor(len(numbers))])
    module.block.append(function)
    c = Conversion({}, lambda type_: type_, lambda op: True)
    c.builder = Builder.at_end(function.entry)
    made = [fractions(c, function.arguments[0]), quotients(c, function.arguments[0])]
    function.entry.append(ReturnOp(made))
    function.update_type()
    pairs, floats = run_function(function, [numbers])
    expected = [simple(number) for number in numbers]
    assert [(number.numerator, number.denominator) for number in expected] == [tuple(pair) for pair in pairs]
    small = [number.denominator <= SMALL for number in expected]
    assert 300 < sum(small) < len(small)
    for number, is_small, (top, bottom) in zip(expected, small, floats, strict=True):
        assert (top, bottom) == ((number.numerator, number.denominator) if is_small else (float(number), 1))
