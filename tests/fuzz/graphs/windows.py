"""Families that read windows or samples of images: convolutions, pools, resizing."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.graphs.draft import Rejected, Site, Value
from tests.fuzz.graphs.values import DTYPES, FLOATS


def image(site: Site, ranks: Any = (3, 4, 4, 5)) -> Value:
    """An input with a batch, channels and one to three spatial dims, none of them 0."""
    rank = site.random.choice(ranks)
    sizes = (3, 4, 5, 7, 9, 17) if rank < 5 else (3, 4, 5)
    shape = (site.random.choice((1, 1, 2)), site.random.choice((1, 2, 3, 4, 8, 16)),
             *(site.random.choice(sizes) for _ in range(rank - 2)))  # fmt: skip
    while np.prod(shape) > 2048:
        shape = (1, shape[1], *(max(3, dim // 2) for dim in shape[2:]))
    found = site.draft.existing(lambda value: value.rank in ranks and min(value.shape) > 0
                                and value.element in site.elements(0))  # fmt: skip
    if found is not None and site.chance(0.7):
        return site.bind(0, found)
    return site.new(0, shape=shape)


def window(site: Site, sizes: Any, needs_kernel: bool = True) -> list[int]:
    """Draw kernel, strides, dilations and pads for spatial sizes; gives the kernel."""
    kernel = [site.random.choice([n for n in (1, 2, 3, 3, 5) if n <= size + 1]) for size in sizes]
    if needs_kernel or site.chance(0.5):
        site.attributes["kernel_shape"] = kernel
    site.set("strides", [site.random.choice((1, 1, 2, 3)) for _ in sizes])
    dilations = site.set("dilations", [site.random.choice((1, 1, 2)) for _ in sizes], often=0.3) or [1 for _ in sizes]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    choice = site.random.choice(("none", "pads", "pads", "pads", "auto"))
    short = any(r > size for r, size in zip(reach, sizes, strict=True))
    if choice == "auto" and all(d == 1 for d in dilations) and not short:
        site.set("auto_pad", "SAME_UPPER", "SAME_LOWER", "VALID", often=1)
    elif choice == "pads" or short:
        most = [k - 1 for k in kernel]
        pads = [site.random.randint(0, high) for _ in range(2) for high in most]
        for n, (r, size) in enumerate(zip(reach, sizes, strict=True)):
            if pads[n] + pads[n + len(kernel)] + size < r:
                raise Rejected(f"{site.op}: a window larger than what it reads")
        site.attributes["pads"] = pads
    return kernel


def conv(site: Site) -> Any:
    """Conv, ConvTranspose, ConvInteger: groups, depthwise, with and without bias."""
    x = image(site)
    transposed = site.op == "ConvTranspose"
    kernel = window(site, x.shape[2:])
    count = x.shape[1]
    group = site.random.choice([1, 1, *(n for n in range(2, count + 1) if count % n == 0), count])
    if group > 1 or site.chance(0.2):
        site.attributes["group"] = group
    each = site.random.choice((1, 2, 3, 8)) if group < 8 else 1
    shape = (count, each, *kernel) if transposed else (group * each, count // group, *kernel)
    if site.op == "ConvInteger":
        w = site.new(1, shape=shape, constant=site.chance(0.7))
        zeros = [site.draft.fresh(np.array(3, value.array.dtype)) for value in (x, w)]
        return site.give(x, w, *zeros[: site.random.randrange(3)])
    w = site.value(1, shape=shape, kind="weight")
    if transposed:
        strides = site.attributes.get("strides", [1] * len(kernel))
        if any(s > 1 for s in strides) and "auto_pad" not in site.attributes:
            site.set("output_padding", [site.random.randrange(s) for s in strides], often=0.4)
    bias = site.new(2, shape=(group * each,), kind="weight") if site.chance(0.5) else None
    return site.give(x, w, bias)


def pool(site: Site) -> Any:
    """AveragePool, LpPool, MaxPool."""
    x = image(site)
    window(site, x.shape[2:])
    if "auto_pad" not in site.attributes:
        site.set("ceil_mode", 0, 1)
    site.set("count_include_pad", 0, 1)
    site.set("p", 1, 2)
    outputs = 2 if site.op == "MaxPool" and site.version >= 8 and site.chance(0.15) else 1
    return site.give(x, outputs=outputs)


def global_pool(site: Site) -> Any:
    """GlobalAveragePool, GlobalMaxPool, GlobalLpPool."""
    site.set("p", 1, 2)
    return site.give(image(site))


def columns(site: Site) -> Any:
    """Col2Im of blocks without dilation."""
    grid = [site.random.choice((3, 4, 5)) for _ in range(2)]
    block = [site.random.choice((1, 2, 3)) for _ in range(2)]
    channels, batch = site.random.choice((1, 2)), site.random.choice((1, 2))
    places = int(np.prod([g - b + 1 for g, b in zip(grid, block, strict=True)]))
    x = site.value(0, shape=(batch, channels * int(np.prod(block)), places))
    return site.give(x, site.numbers(1, grid), site.numbers(2, block))


def resize(site: Site) -> Any:
    """Resize and Upsample by scales or to sizes, of the last two dims."""
    x = image(site, (4,) if site.op == "Upsample" or site.version < 11 else (3, 4, 4))
    spatial = x.rank - 2
    mode = site.set("mode", "nearest", "linear", *(["cubic"] if site.version >= 11 and spatial == 2 else []), often=0.8)
    scales = [site.random.choice((1.0, 2.0, 2.0, 1.5, 0.5, 3.0)) for _ in range(spatial)]
    if site.op == "Upsample" or site.version < 11:
        whole = [1.0, 1.0, *(float(max(1, round(scale))) for scale in scales)]
        if site.op == "Upsample" and site.version < 9:
            site.attributes["scales"] = whole
            return site.give(x)
        return site.give(x, site.draft.fresh(np.array(whole, np.float32), constant=True))
    site.set("coordinate_transformation_mode", "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    if mode in (None, "nearest"):
        site.set("nearest_mode", "round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    if mode == "cubic":
        site.set("exclude_outside", 0, 1)
        site.set("cubic_coeff_a", -0.5, -0.75)
    if mode in ("linear", "cubic"):
        site.set("antialias", 0, 1, often=0.2)
    axes = list(range(x.rank))
    if site.version >= 18 and site.chance(0.4):
        axes = axes[2:]
        site.attributes["axes"] = axes
    factors = [1.0, 1.0, *scales][-len(axes) :]
    region = None
    if site.version < 13:
        region = site.draft.fresh(np.array([], DTYPES["float"]), constant=True)
    if site.chance(0.5):
        return site.give(x, region, site.draft.fresh(np.array(factors, np.float32), constant=site.chance(0.85)))
    sizes = [max(1, int(x.shape[axis] * factor)) for axis, factor in zip(axes, factors, strict=True)]
    empty = site.draft.fresh(np.array([], np.float32), constant=True) if site.version < 13 else None
    return site.give(x, region, empty, site.numbers(3, sizes))


def grid_sample(site: Site) -> Any:
    """GridSample of an image at points about [-1, 1]."""
    x = image(site, (4,) if site.version < 20 or site.chance(0.7) else (5,))
    spatial = x.rank - 2
    out = [site.random.choice((1, 2, 3, 5)) for _ in range(spatial)]
    numbers = np.random.default_rng(site.random.getrandbits(64))
    element = x.element if x.element in FLOATS else "float"
    grid = numbers.uniform(-1.2, 1.2, (x.shape[0], *out, spatial)).astype(DTYPES[element])
    site.bound.pop(site.parameter(1).type_str, None)
    if element not in site.elements(1):
        raise Rejected(f"GridSample {site.version} of {element}")
    modes = ("bilinear", "nearest", "bicubic") if site.version < 20 else ("linear", "nearest", "cubic")
    if x.element in FLOATS:
        site.set("mode", *(modes if spatial == 2 else modes[:2]))
    else:
        site.attributes["mode"] = "nearest"  # what else gives of integers, the standard does not say
    site.set("padding_mode", "zeros", "border", "reflection")
    site.set("align_corners", 0, 1)
    return site.give(x, site.draft.fresh(grid))


FAMILY = {
    **dict.fromkeys(("Conv", "ConvInteger", "ConvTranspose"), conv),
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"), global_pool),
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "Col2Im": columns, "GridSample": grid_sample,
}  # fmt: skip
