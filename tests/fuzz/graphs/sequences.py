"""Families of a few nodes whose values are sequences or optionals; what they give at the end is a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.fuzz.graphs.draft import Draft, Rejected, Site, Value, port_of_any
from tests.fuzz.graphs.oracle import tensors_of
from tests.fuzz.graphs.values import NUMBERS, draw_array, draw_shape

# Operators that make a sequence, that make another one of it, and that make a tensor of it.
FIRST = ("SequenceConstruct", "SequenceEmpty", "SplitToSequence")
MIDDLE = ("SequenceErase", "SequenceInsert", "SequenceMap")
LAST = ("ConcatFromSequence", "SequenceAt", "SequenceLength")


def sequence(site: Site) -> Any:
    """A sequence, changed up to three times, and what is read of it; the site's operator is one of the nodes."""
    mapped = ("SequenceMap",) if site.draft.opset >= 17 else ()
    between = [site.random.choice((*MIDDLE[:2], *mapped)) for _ in range(site.random.choice((0, 1, 1, 2)))]
    if site.op in MIDDLE:
        between.insert(site.random.randint(0, len(between)), site.op)
    value = START[site.op if site.op in FIRST else site.random.choice(FIRST)](site)
    for op in between:
        value = CHANGE[op](site, value)
    for op in dict.fromkeys((site.op, site.random.choice(LAST))):
        if op in END:
            END[op](site, value)


def split(site: Site) -> Value:
    """SplitToSequence into parts of 1, of a size, or of given sizes."""
    x = tensor(site, range(1, 4), least=1)
    axis = site.random.randrange(-x.rank, x.rank)
    size = x.shape[axis]
    attributes: dict[str, Any] = {"axis": axis}
    how = site.random.choice(("ones", "ones", "size", "sizes"))
    if how == "ones":
        if size > 9:
            raise Rejected("SplitToSequence into many")
        attributes["keepdims"] = site.random.choice((0, 1))
        return made(site, "SplitToSequence", [x], attributes)
    cut = site.random.randint(0, size)
    parts = [cut, size - cut] if how == "sizes" else max(1, (size + 1) // 2)
    return made(site, "SplitToSequence", [x, index(site, parts, "int64")], attributes)


def construct(site: Site) -> Value:
    """SequenceConstruct of one to three tensors of one type, not always of one shape."""
    x = tensor(site, range(4))
    others = [alike(site, x) if site.chance(0.8) else site.draft.fresh(draw_array(site.random, x.element, ()))
              for _ in range(site.random.randrange(3))]  # fmt: skip
    return made(site, "SequenceConstruct", [x, *others])


def empty(site: Site) -> Value:
    """SequenceEmpty, with a first element inserted."""
    x = tensor(site, range(4))
    start = made(site, "SequenceEmpty", [], {"dtype": NUMBERS[x.element]})
    return made(site, "SequenceInsert", [start, x])


def insert(site: Site, value: Value) -> Value:
    """SequenceInsert at a place, or at the end."""
    x = alike(site, sample(value))
    count = len(value.array)
    place = index(site, site.random.randint(-count, count)) if site.chance(0.7) and count else None
    return made(site, "SequenceInsert", [value, x, place])


def erase(site: Site, value: Value) -> Value:
    """SequenceErase at a place, or at the end; one element is left."""
    count = len(value.array)
    if count < 2:
        return value
    place = index(site, site.random.randrange(-count, count)) if site.chance(0.7) else None
    return made(site, "SequenceErase", [value, place])


def mapped(site: Site, value: Value) -> Value:
    """SequenceMap of a few operators; a second input is a tensor, or the same sequence."""
    body = site.draft.body("m")
    body.values.clear()
    x = taken(body, "a", value)
    inputs, y = [value], None
    if site.chance(0.5):
        scalar = site.draft.fresh(draw_array(site.random, x.element, ()))
        other = scalar if site.chance(0.5) else value
        inputs.append(other)
        y = taken(body, "b", other)
    kinds = ["Identity", "Transpose", "Shape", *(["Neg", "Abs"] if not x.element.startswith(("u", "b")) else [])]
    (step,) = body.add(site.random.choice(kinds), [x], {}, 1)
    if y is not None and y.element == step.element and y.element != "bool":
        (step,) = body.add(site.random.choice(("Add", "Mul")), [step, x if y.rank else y], {}, 1)
    return made(site, "SequenceMap", inputs, {"body": body.body_graph([step])})


def at(site: Site, value: Value) -> Value:
    """SequenceAt a place, counted from either end."""
    count = len(value.array)
    return made(site, "SequenceAt", [value, index(site, site.random.randrange(-count, count))])


def length(site: Site, value: Value) -> Value:
    """SequenceLength."""
    return made(site, "SequenceLength", [value])


def joined(site: Site, value: Value) -> Value:
    """ConcatFromSequence along an axis or a new one; of elements that cannot be joined, one is taken."""
    shapes = {array.shape for array in value.array}
    rank = sample(value).rank
    if len(shapes) > 1 or rank == 0:
        return at(site, value)
    is_new = int(site.chance(0.4))
    axis = site.random.randrange(-rank - is_new, rank + is_new)
    return made(site, "ConcatFromSequence", [value], {"axis": axis, "new_axis": is_new})


def optional(site: Site) -> Any:
    """An optional of a tensor: its element, and whether it has one."""
    x = tensor(site, range(4))
    value = made(site, "Optional", [x])
    if site.op != "OptionalHasElement":
        made(site, "OptionalGetElement", [value])
    if site.op == "OptionalHasElement" or site.chance(0.3):
        made(site, "OptionalHasElement", [value])


def tensor(site: Site, ranks: Any, least: int = 0) -> Value:
    """A value of the graph or a new one, of an element type that sequences may have."""
    allowed = ("float", "double", "float16", "int32", "int64", "uint8", "bool")

    def suits(value: Value) -> bool:
        return value.element in allowed and value.rank in ranks and min(value.shape, default=1) >= least

    found = site.draft.existing(suits)
    if found is not None and site.chance(0.7):
        return found
    shape = tuple(max(least, dim) for dim in draw_shape(site.random, ranks, 128))
    return site.draft.fresh(draw_array(site.random, site.random.choice(allowed), shape))


def alike(site: Site, like: Value) -> Value:
    """A value of the graph or a new one, of an element type and a shape."""
    found = site.draft.existing(lambda value: (value.element, value.shape) == (like.element, like.shape))
    if found is not None and site.chance(0.5):
        return found
    return site.draft.fresh(draw_array(site.random, like.element, like.shape))


def sample(value: Value) -> Value:
    """A tensor, or the first of a sequence."""
    return value if value.is_tensor else Value(value.name, value.array[0])


def index(site: Site, place: Any, element: str = "") -> Value:
    """Places or sizes, mostly as a constant."""
    dtype = element or site.random.choice(("int32", "int64"))
    return site.draft.fresh(np.array(place, dtype), site.chance(0.85))


def taken(body: Draft, name: str, given: Value) -> Value:
    """An input of a body: a tensor, or every element of a sequence."""
    value = Value(f"{body.prefix}{name}", sample(given).array)
    body.inputs[value.name] = value.array
    body.ports[value.name] = port_of_any(value.name, list(tensors_of([given.array])))
    return value


def made(site: Site, op: str, inputs: Any, attributes: Any = None) -> Value:
    """A node and the first value that it gives."""
    return site.draft.add(op, inputs, attributes or {}, 1)[0]


START: dict[str, Callable[[Site], Value]] = {
    "SequenceConstruct": construct, "SequenceEmpty": empty, "SplitToSequence": split,
}  # fmt: skip
CHANGE: dict[str, Callable[[Site, Value], Value]] = {
    "SequenceErase": erase, "SequenceInsert": insert, "SequenceMap": mapped,
}  # fmt: skip
END: dict[str, Callable[[Site, Value], Value]] = {
    "ConcatFromSequence": joined, "SequenceAt": at, "SequenceLength": length,
}  # fmt: skip
FAMILY = {
    **dict.fromkeys((*FIRST, *MIDDLE, *LAST), sequence),
    **dict.fromkeys(("Optional", "OptionalGetElement", "OptionalHasElement"), optional),
}
