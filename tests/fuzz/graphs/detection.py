"""Families that read an image where boxes or offsets say, and that choose boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.graphs.draft import Site, Value
from tests.fuzz.graphs.values import DTYPES, draw_array
from tests.fuzz.graphs.windows import image


def roi_align(site: Site) -> Any:
    """RoiAlign of a few boxes."""
    x = image(site, (4,))
    count = site.random.choice((1, 2))
    numbers = np.random.default_rng(site.random.getrandbits(64))
    low = numbers.uniform(0, 2, (count, 2))
    boxes = np.concatenate([low, low + numbers.uniform(0.5, 3, (count, 2))], 1).astype(x.array.dtype)
    site.set("output_height", 1, 2, 3)
    site.set("output_width", 1, 2)
    site.set("sampling_ratio", 0, 1, 2)
    site.set("mode", "avg", "max", often=0.3)
    site.set("coordinate_transformation_mode", "half_pixel", "output_half_pixel")
    batch = numbers.integers(0, x.shape[0], count)
    return site.give(x, site.bind(1, site.draft.fresh(boxes)), site.draft.fresh(batch.astype(np.int64)))


def max_roi_pool(site: Site) -> Any:
    """MaxRoiPool of boxes that reach beyond the image too; their cells have exact bounds."""
    x = image(site, (4,))
    numbers = np.random.default_rng(site.random.getrandbits(64))
    count = site.random.choice((1, 2, 3))
    scale = site.set("spatial_scale", 1.0, 0.5, often=0.4) or 1.0
    low = numbers.integers(-1, 4, (count, 2))
    corners = np.concatenate([low, low + numbers.integers(-1, 6, (count, 2))], 1) / scale
    boxes = np.concatenate([numbers.integers(0, x.shape[0], (count, 1)), corners], 1)
    site.attributes["pooled_shape"] = [site.random.choice((1, 2, 4)) for _ in range(2)]
    return site.give(x, site.bind(1, site.draft.fresh(boxes.astype(x.array.dtype))))


def max_unpool(site: Site) -> Any:
    """MaxUnpool: every element has a place of its own; sometimes into a larger output."""
    x = site.value(0, (3, 4), suits=lambda value: 0 < value.array.size < 512)
    kernel = [site.random.choice((1, 2, 3)) for _ in x.shape[2:]]
    strides = [site.random.randint(1, size) for size in kernel]
    site.attributes["kernel_shape"] = kernel
    if any(stride > 1 for stride in strides) or site.chance(0.5):
        site.attributes["strides"] = strides
    spatial = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, kernel, strict=True)]
    shape = [*x.shape[:2], *spatial]
    picked = site.random.sample(range(int(np.prod(shape))), x.array.size)
    places = site.bind(1, site.draft.fresh(np.array(picked, np.int64).reshape(x.shape)))
    if site.chance(0.25):
        larger = [*shape[:2], *(size + site.random.randrange(2) for size in spatial)]
        return site.give(x, places, site.numbers(2, larger))
    return site.give(x, places)


def deformed(site: Site) -> Any:
    """DeformConv of images: groups, groups of offsets, with and without bias and mask."""
    kernel = [site.random.choice((1, 2, 3)) for _ in range(2)]
    strides = site.set("strides", [site.random.choice((1, 2)) for _ in kernel], often=0.5) or [1, 1]
    dilations = site.set("dilations", [site.random.choice((1, 2)) for _ in kernel], often=0.3) or [1, 1]
    pads = site.set("pads", [site.random.randint(0, size - 1) for size in (*kernel, *kernel)], often=0.7) or [0] * 4
    if site.chance(0.5):
        site.attributes["kernel_shape"] = kernel
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    group, offsets = (site.random.choice((1, 1, 2)) for _ in range(2))
    site.attributes.update({name: count for name, count in (("group", group), ("offset_group", offsets)) if count > 1})
    channels = max(group, offsets) * site.random.choice((1, 2))

    def suits(value: Value) -> bool:
        return min(value.shape) > 0 and value.shape[1] == channels and min(value.shape[2:]) >= max(*reach, 2)

    sizes = [size + site.random.choice((1, 2, 3)) for size in reach]
    shape = (site.random.choice((1, 2)), channels, *sizes)
    found = site.draft.existing(lambda v: v.rank == 4 and v.element in site.elements(0) and suits(v))
    x = site.new(0, shape=shape) if found is None else site.bind(0, found)
    out = [(x.shape[2 + n] + pads[n] + pads[n + 2] - reach[n]) // strides[n] + 1 for n in range(2)]
    maps = group * site.random.choice((1, 2))
    w = site.new(1, shape=(maps, channels // group, *kernel), kind="weight")
    moves = (x.shape[0], offsets * 2 * kernel[0] * kernel[1], *out)
    offset = site.bind(2, site.draft.fresh(draw_array(site.random, x.element, moves, "unit")))
    bias = site.new(3, shape=(maps,), kind="weight") if site.chance(0.5) else None
    mask = site.new(4, shape=(moves[0], moves[1] // 2, *out), kind="unit") if site.chance(0.5) else None
    return site.give(x, w, offset, bias, mask)


def affine_grid(site: Site) -> Any:
    """AffineGrid of two or three dims, of at least two places each."""
    spatial = site.random.choice((2, 2, 3))
    batch = site.random.choice((1, 2))
    theta = site.new(0, shape=(batch, spatial, spatial + 1), kind="weight")
    site.set("align_corners", 0, 1)
    return site.give(theta, site.numbers(1, [batch, 2, *(site.random.choice((2, 3, 5)) for _ in range(spatial))]))


def suppression(site: Site) -> Any:
    """NonMaxSuppression of boxes on a grid: they coincide, touch, are empty or turned; scores are often equal."""
    batch, classes, count = site.random.choice((1, 2)), site.random.choice((1, 2, 3)), site.random.choice((1, 3, 6, 17))
    numbers = np.random.default_rng(site.random.getrandbits(64))
    boxes = numbers.integers(0, 9, (batch, count, 4)) / 4
    if site.set("center_point_box", 0, 1):
        boxes[..., 2:] = numbers.integers(0, 5, (batch, count, 2)) / 2
    scores = site.value(1, shape=(batch, classes, count), suits=lambda value: bool(np.isfinite(value.array).all()))
    most = site.numbers(2, [site.random.choice((0, 1, 2, 5, 99))])
    overlap = site.draft.fresh(np.array([site.random.choice((0.0, 0.25, 0.3, 0.5, 1.0))], np.float32))
    least = site.draft.fresh(np.array([site.random.choice((-1.0, 0.0, 0.5))], np.float32))
    return site.give(site.draft.fresh(boxes.astype(DTYPES["float"])), scores, most, overlap,
                     least if site.chance(0.5) else None)  # fmt: skip


FAMILY = {
    "AffineGrid": affine_grid, "DeformConv": deformed, "MaxRoiPool": max_roi_pool, "MaxUnpool": max_unpool,
    "NonMaxSuppression": suppression, "RoiAlign": roi_align,
}  # fmt: skip
