"""Families that move elements: shapes, slices, joins, gathers, scatters, sorts."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.graphs.draft import Rejected, Site, Value
from tests.fuzz.graphs.values import DTYPES, NUMBERS, draw_array, draw_element, draw_shape, integers


def transpose(site: Site) -> Any:
    """Transpose, mostly by a drawn order."""
    x = site.value(0, range(6))
    if site.chance(0.8):
        site.attributes["perm"] = site.random.sample(range(x.rank), x.rank)
    return site.give(x)


def reshape(site: Site) -> Any:
    """Reshape: dims are merged and split; one may be -1, some 0 for what the input has."""
    x = site.value(0, range(6))
    shape = factors(site, x.array.size)
    if x.array.size and site.chance(0.4) and shape:
        shape[site.random.randrange(len(shape))] = -1
    elif x.array.size:
        shape = [0 if n < x.rank and dim == x.shape[n] and site.chance(0.3) else dim for n, dim in enumerate(shape)]
    elif site.has("allowzero"):
        site.attributes["allowzero"] = 1
    else:
        raise Rejected("Reshape of nothing")
    return site.give(x, *site.setting("shape", shape))


def factors(site: Site, size: int) -> list[int]:
    """Sizes whose product is a number."""
    if size == 0:
        return [site.random.choice((1, 2, 3)), 0]
    found: list[int] = []
    while len(found) < 4 and (size > 1 or site.chance(0.3)):
        divisors = [n for n in range(1, size + 1) if size % n == 0]
        found.append(site.random.choice(divisors))
        size //= found[-1]
    return [*found, size] if size > 1 else found


def flatten(site: Site) -> Any:
    """Flatten at an axis."""
    x = site.value(0, range(1, 6))
    site.set("axis", *range(x.rank + 1))
    return site.give(x)


def squeeze(site: Site) -> Any:
    """Squeeze some dims of 1, or all."""
    x = site.value(0, range(1, 6), suits=lambda value: 1 in value.shape)
    ones = [axis for axis, dim in enumerate(x.shape) if dim == 1]
    if not ones:
        raise Rejected("Squeeze without a 1")
    if site.chance(0.2):
        return site.give(x)
    return site.give(x, *site.setting("axes", axes_of(site, x.rank, site.random.sample(ones, max(1, len(ones) - 1)))))


def axes_of(site: Site, rank: int, axes: list[int]) -> list[int]:
    """Axes, some counted from the end."""
    return [axis - rank if site.counts_backwards and site.chance(0.4) else axis for axis in axes]


def unsqueeze(site: Site) -> Any:
    """Unsqueeze at one or two places."""
    x = site.value(0, range(5))
    count = site.random.choice((1, 1, 2))
    axes = site.random.sample(range(x.rank + count), count)
    return site.give(x, *site.setting("axes", axes_of(site, x.rank + count, axes)))


def concat(site: Site) -> Any:
    """Concat of one to three values, which may be the same."""
    x = site.value(0, range(1, 5))
    axis = site.axis(x.rank)
    parts = [x]
    for _ in range(site.random.randrange(3)):
        shape = list(x.shape)
        shape[axis] = site.random.choice((shape[axis], 1, 2, 5))
        parts.append(site.value(0, shape=tuple(shape)))
    site.random.shuffle(parts)
    site.attributes["axis"] = axis
    return site.give(*parts)


def split(site: Site) -> Any:
    """Split into equal or given parts."""
    x = site.value(0, range(1, 5), suits=lambda value: 0 not in value.shape)
    axis = site.axis(x.rank)
    size, count = x.shape[axis], min(x.shape[axis], site.random.choice((2, 2, 3)))
    site.attributes["axis"] = axis
    if site.chance(0.6):
        cuts = sorted(site.random.randrange(size + 1) for _ in range(count - 1))
        parts = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
        return site.give(x, *site.setting("split", parts), outputs=count)
    if site.has("num_outputs"):
        site.attributes["num_outputs"] = count
    elif size % count:
        raise Rejected("Split into unequal parts")
    return site.give(x, outputs=count)


def slice_(site: Site) -> Any:
    """Slice along some axes, backwards and with steps too, with bounds beyond the ends."""
    x = site.value(0, range(1, 5))
    axes = site.random.sample(range(x.rank), site.random.randint(1, min(2, x.rank)))
    starts, ends, steps = [], [], []
    for axis in axes:
        size = x.shape[axis]
        step = site.random.choice((1, 1, 1, 2, 3, -1, -2)) if site.version >= 10 else 1
        low, high = sorted(site.random.randint(-1, size + 1) for _ in range(2))
        low, high = max(low, 0), high if high > low else low + 1
        start, end = (low, high) if step > 0 else (high, low - 1 if low else -size - 1)
        starts.append(start - size if 0 <= start < size and site.chance(0.2) else start)
        ends.append(site.random.choice((end, 2**31 - 1 if step > 0 else -(2**31))) if site.chance(0.3) else end)
        steps.append(step)
    given = axes_of(site, x.rank, axes)
    if site.version < 10:
        site.attributes.update(starts=starts, ends=ends, axes=axes)
        return site.give(x)
    inputs = [site.numbers(1, starts), site.numbers(2, ends), site.numbers(3, given)]
    if any(step != 1 for step in steps) or site.chance(0.3):
        inputs.append(site.numbers(4, steps))
    return site.give(x, *inputs)


def pad(site: Site) -> Any:
    """Pad in all modes; crops too."""
    x = site.value(0, range(1, 5))
    modes = ["constant", "constant", "edge", "reflect", *(["wrap"] if site.version >= 19 else [])]
    mode = site.random.choice(modes)
    axes = list(range(x.rank))
    if site.version >= 18 and site.chance(0.4):
        axes = site.random.sample(axes, site.random.randint(1, x.rank))
    most = [max(0, min(3, x.shape[axis] - 1)) if mode != "constant" else 3 for axis in axes]
    least = [-1 if x.shape[axis] > 2 and mode == "constant" and site.chance(0.2) else 0 for axis in axes]
    pads = [site.random.randint(low, high) for _ in range(2) for low, high in zip(least, most, strict=True)]
    site.attributes["mode"] = mode
    if site.version < 11:
        site.attributes["pads"] = pads
        site.set("value", 0.5, -1.0)
        return site.give(x)
    value = site.value(2, shape=()) if mode == "constant" and site.chance(0.5) else None
    more = [site.numbers(3, axes_of(site, x.rank, axes))] if len(axes) < x.rank or axes != sorted(axes) else []
    return site.give(x, site.numbers(1, pads), value, *more)


def tile(site: Site) -> Any:
    """Tile by small numbers."""
    x = site.value(0, range(1, 5))
    return site.give(x, site.numbers(1, [site.random.choice((1, 1, 2, 3)) for _ in x.shape]))


def expand(site: Site) -> Any:
    """Expand to a shape that broadcasts with the input's."""
    x = site.value(0, range(5))
    shape = [site.random.choice((1, 2, 3, 5)) if dim == 1 else site.random.choice((1, dim)) for dim in x.shape]
    extra = [site.random.choice((1, 2))] if site.chance(0.3) else []
    return site.give(x, site.numbers(1, [*extra, *shape]))


def gather(site: Site) -> Any:
    """Gather, GatherElements: indices within the axis, negative ones too."""
    x = site.value(0, range(1, 5), suits=lambda value: 0 not in value.shape)
    axis = site.axis(x.rank)
    rank = x.rank if site.op == "GatherElements" else site.random.randrange(3)
    shape = [site.random.choice((1, 2, 3)) for _ in range(rank)]
    if site.op == "GatherElements":
        shape = [min(a, b) for a, b in zip(shape, x.shape, strict=True)]
    site.attributes["axis"] = axis
    return site.give(x, indices(site, 1, x.shape[axis], shape))


def indices(site: Site, place: int, size: int, shape: Any) -> Value:
    """Indices into an axis of a size."""
    numbers = np.random.default_rng(site.random.getrandbits(64))
    least = -size if site.version >= 11 else 0
    element = draw_element(site.random, site.elements(place))
    return site.bind(place, site.draft.fresh(numbers.integers(least, size, shape).astype(DTYPES[element])))


def gather_nd(site: Site) -> Any:
    """GatherND by tuples of one or two indices."""
    x = site.value(0, range(1, 5), suits=lambda value: 0 not in value.shape)
    batch = site.set("batch_dims", 0, *([1] if x.rank > 1 else []), often=0.4) or 0
    depth = site.random.randint(1, min(2, x.rank - batch))
    lead = x.shape[:batch]
    shape = [*lead, *(site.random.choice((1, 2, 3)) for _ in range(1 - batch + site.random.randrange(2)))]
    return site.give(x, tuples(site, 1, x.shape[batch : batch + depth], shape))


def tuples(site: Site, place: int, sizes: Any, shape: Any) -> Value:
    """Tuples of indices into axes of these sizes."""
    numbers = np.random.default_rng(site.random.getrandbits(64))
    columns = [numbers.integers(0, size, shape) for size in sizes]
    return site.bind(place, site.draft.fresh(np.stack(columns, -1).astype(np.int64)))


def scatter_elements(site: Site) -> Any:
    """Scatter and ScatterElements; without a reduction every place is written once."""
    x = site.value(0, range(1, 4), suits=lambda value: 0 not in value.shape)
    axis = site.axis(x.rank)
    site.attributes["axis"] = axis
    size = x.shape[axis]
    reduction = site.set("reduction", "none", "add", "mul", *(["min", "max"] if site.version >= 18 else []))
    shape = list(x.shape)
    if reduction in (None, "none"):
        shape[axis] = site.random.randint(1, size)
        orders = np.stack([np.array(site.random.sample(range(size), shape[axis]))
                           for _ in range(int(np.prod(shape)) // shape[axis])])  # fmt: skip
        rest = [dim for n, dim in enumerate(shape) if n != axis % x.rank]
        picked = np.moveaxis(orders.reshape([*rest, shape[axis]]), -1, axis)
        at = site.bind(1, site.draft.fresh(integers(picked)))
    else:
        shape[axis] = site.random.randint(1, 4)
        at = indices(site, 1, size, shape)
    return site.give(x, at, site.value(2, shape=tuple(shape)))


def cached(site: Site) -> Any:
    """TensorScatter of a few steps into a cache, at a place for every batch."""
    x = site.value(0, range(2, 5), suits=lambda value: 0 not in value.shape)
    axis = site.set("axis", *range(1, x.rank), *range(1 - x.rank, 0)) or -2
    if x.rank == 2 and axis == -2:
        axis = site.attributes["axis"] = 1
    size = x.shape[axis]
    steps = site.random.randint(1, size)
    shape = list(x.shape)
    shape[axis] = steps
    mode = site.set("mode", "linear", "circular")
    most = size - 1 if mode == "circular" else size - steps
    at = [site.random.randint(0, most) for _ in range(x.shape[0])]
    given = site.numbers(2, at, runtime=0.5) if site.chance(0.7) else None
    return site.give(x, site.value(1, shape=tuple(shape)), given)


def scatter_nd(site: Site) -> Any:
    """ScatterND; without a reduction every place is written once."""
    x = site.value(0, range(1, 4), suits=lambda value: 0 not in value.shape)
    depth = site.random.randint(1, x.rank)
    sizes = x.shape[:depth]
    reduction = site.set("reduction", "none", "add", "mul", *(["min", "max"] if site.version >= 18 else []))
    count = site.random.randint(1, 4)
    if reduction in (None, "none"):
        count = min(count, int(np.prod(sizes)))
        picked = site.random.sample(range(int(np.prod(sizes))), count)
        at = site.draft.fresh(np.stack(np.unravel_index(picked, sizes), -1).astype(np.int64))
    else:
        at = tuples(site, 1, sizes, [count])
    return site.give(x, at, site.value(2, shape=(count, *x.shape[depth:])))


def blocks(site: Site) -> Any:
    """DepthToSpace and SpaceToDepth."""
    size, channels = site.random.choice((1, 2, 2, 3)), site.random.choice((1, 2))
    grid = [site.random.choice((1, 2, 3)) for _ in range(2)]
    deep = site.op == "DepthToSpace"
    shape = (2, channels * size * size, *grid) if deep else (2, channels, *(dim * size for dim in grid))
    site.attributes["blocksize"] = size
    site.set("mode", "DCR", "CRD")
    return site.give(site.value(0, shape=shape))


def reverse_sequence(site: Site) -> Any:
    """ReverseSequence along one of the first two axes."""
    x = site.value(0, range(2, 4), suits=lambda value: 0 not in value.shape)
    time = site.random.randrange(2)
    site.attributes.update(time_axis=time, batch_axis=1 - time)
    return site.give(x, site.numbers(1, [site.random.randint(1, x.shape[time]) for _ in range(x.shape[1 - time])]))


def center_crop_pad(site: Site) -> Any:
    """CenterCropPad along all or some axes."""
    x = site.value(0, range(1, 4))
    axes = list(range(x.rank))
    if site.chance(0.5):
        axes = sorted(site.random.sample(axes, site.random.randint(1, x.rank)))
        site.attributes["axes"] = axes
    return site.give(x, site.numbers(1, [max(1, x.shape[axis] + site.random.randint(-2, 3)) for axis in axes]))


def trilu(site: Site) -> Any:
    """Trilu with and without a diagonal."""
    x = site.value(0, range(2, 5))
    site.set("upper", 0, 1)
    return site.give(x, site.numbers(1, site.random.randint(-2, 2)) if site.chance(0.5) else None)


def compress(site: Site) -> Any:
    """Compress along an axis, or of all elements."""
    x = site.value(0, range(1, 4))
    axis = site.set("axis", *range(x.rank))
    size = x.array.size if axis is None else x.shape[axis]
    return site.give(x, site.new(1, shape=(max(1, size - site.random.randrange(2)),)))


def top_k(site: Site) -> Any:
    """TopK: the least or the largest, by an axis."""
    x = site.value(0, range(1, 4), suits=lambda value: 0 not in value.shape)
    axis = site.axis(x.rank)
    site.attributes["axis"] = axis
    site.set("largest", 0, 1)
    count = site.random.randint(1, min(4, x.shape[axis]))
    if site.version < 10:
        site.attributes["k"] = count
        return site.give(x, outputs=2)
    return site.give(x, site.numbers(1, [count]), outputs=2)


def unique(site: Site) -> Any:
    """Unique elements, in order."""
    x = site.value(0, range(1, 3))
    site.set("sorted", 1, 1, 0)
    if site.chance(0.3):
        site.set("axis", *range(x.rank))
    return site.give(x, outputs=site.random.choice((1, 4)))


def one_hot(site: Site) -> Any:
    """OneHot with a row of two values."""
    depth = site.random.choice((1, 2, 3, 5))
    at = indices(site, 0, depth, [site.random.choice((1, 2, 3)) for _ in range(site.random.randrange(3))])
    site.set("axis", -1, 0)
    element = draw_element(site.random, site.elements(1))
    given = site.draft.fresh(np.array([depth] if site.chance(0.5) else depth, DTYPES[element]))
    return site.give(at, site.bind(1, given), site.new(2, shape=(2,)))


def eye_like(site: Site) -> Any:
    """EyeLike with a diagonal."""
    site.set("k", -1, 0, 1)
    site.set("dtype", NUMBERS["float"], NUMBERS["int64"], NUMBERS["double"])
    return site.give(site.value(0, [2]))


def about_shape(site: Site) -> Any:
    """Shape, Size."""
    x = site.value(0, range(6))
    site.set("start", 0, 1, -1, -3, often=0.4)
    site.set("end", 1, 2, -1, 9, often=0.4)
    found = site.give(x)
    for _ in range(site.random.choice((0, 0, 1, 2, 3, 5))):
        found = size_arithmetic(site, found)
    return found


def size_arithmetic(site: Site, sizes: Any) -> Any:
    """An operator that computes with sizes, also negative ones, and a small constant."""
    draft = site.draft
    newer = ("Mod", "Max", "Min") if draft.opset >= 12 else ()  # of integers
    op = site.random.choice(("Add", "Sub", "Mul", "Div", "Div", "Neg", "Abs", *newer))
    if op in ("Neg", "Abs"):
        return draft.add(op, sizes, {}, 1)
    number = site.random.choice((1, 2, 3, 4, 7) if op in ("Div", "Mod") else (-3, -1, 0, 1, 2, 5))
    constant = draft.fresh(np.array(-number if op == "Div" and site.chance(0.2) else number, np.int64), constant=True)
    operands = [*sizes, constant]
    return draft.add(op, operands[::-1] if op == "Sub" and site.chance(0.3) else operands, {}, 1)


def range_(site: Site) -> Any:
    """Range, up or down."""
    element = site.element(0)
    down = not element.startswith("u") and site.chance(0.3)
    start, step = site.random.randrange(4), site.random.choice((1, 2, 3))
    limits = (9, start, -step) if down else (start, 12, step)
    dtype = DTYPES[element]
    return site.give(*(site.bind(n, site.draft.fresh(np.array(limit, dtype))) for n, limit in enumerate(limits)))


def constant(site: Site) -> Any:
    """Constant, in all the ways that a version has to say it."""
    from onnx import numpy_helper

    forms = {"value_int": 3, "value_float": 0.5, "value_ints": [2, -1], "value_floats": [0.5, -1.0, 2.0]}
    form = site.random.choice(["value", *(name for name in forms if site.has(name))])
    if form == "value":
        element = draw_element(site.random, [name for name in DTYPES if name != "bfloat16" or site.version >= 13])
        array = draw_array(site.random, element, draw_shape(site.random, range(4), 64))
        site.attributes["value"] = numpy_helper.from_array(array)
    else:
        site.attributes[form] = forms[form]
    return site.give()


def constant_of_shape(site: Site) -> Any:
    """ConstantOfShape of a drawn type."""
    from onnx import numpy_helper

    if site.chance(0.8):
        element = draw_element(site.random, tuple(DTYPES)[: 4 if site.version < 20 else None])
        if element == "bfloat16" and site.version < 20:
            element = "float"
        site.attributes["value"] = numpy_helper.from_array(draw_array(site.random, element, (1,)))
    shape = [site.random.choice((1, 2, 3)) for _ in range(site.random.randrange(4))]
    return site.give(site.numbers(0, integers(shape)))


def running(site: Site) -> Any:
    """CumSum, CumProd."""
    x = site.value(0, range(1, 4))
    site.set("exclusive", 0, 1)
    site.set("reverse", 0, 1)
    return site.give(x, site.numbers(1, site.axis(x.rank)))


def plain(site: Site) -> Any:
    """NonZero."""
    return site.give(site.value(0, range(1, 4)))


FAMILY = {
    "CenterCropPad": center_crop_pad, "Compress": compress, "Concat": concat, "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "CumProd": running, "CumSum": running, "DepthToSpace": blocks, "Expand": expand, "EyeLike": eye_like,
    "Flatten": flatten, "Gather": gather, "GatherElements": gather, "GatherND": gather_nd, "NonZero": plain,
    "OneHot": one_hot, "Pad": pad, "Range": range_, "Reshape": reshape, "ReverseSequence": reverse_sequence,
    "Scatter": scatter_elements, "ScatterElements": scatter_elements, "ScatterND": scatter_nd, "Shape": about_shape,
    "Size": about_shape, "Slice": slice_, "SpaceToDepth": blocks, "Split": split, "Squeeze": squeeze,
    "TensorScatter": cached, "Tile": tile, "TopK": top_k, "Transpose": transpose,
    "Trilu": trilu, "Unique": unique, "Unsqueeze": unsqueeze,
}  # fmt: skip
