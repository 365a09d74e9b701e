"""Families whose results have an element for every element: maps, broadcasting operators, conversions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.graphs.draft import Rejected, Site
from tests.fuzz.graphs.values import DTYPES, ELEMENT_OF, ELEMENTS, FLOATS, NUMBERS, broadcastable, draw_element

# Operators of one input -> what new inputs are drawn from.
MAPS = {
    **dict.fromkeys((
        "Abs", "Atan", "Asinh", "BitwiseNot", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu",
        "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Mish", "Neg", "Not", "Relu", "Round",
        "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Swish", "Tan", "Tanh", "ThresholdedRelu",
    ), "any"),
    **dict.fromkeys(("Acos", "Asin", "Atanh", "Cosh", "Sinh"), "unit"),
    **dict.fromkeys(("Log", "Reciprocal", "Sqrt"), "positive"),
    "Acosh": "above one",
}  # fmt: skip

# Attributes of these operators -> values.
COEFFICIENTS: dict[str, tuple[Any, ...]] = {
    "alpha": (0.25, 0.5, 1.0, 1.5), "beta": (0.25, 0.5, 1.0), "gamma": (1.0, 1.25), "lambd": (0.5, 1.0),
    "bias": (0.0, 0.5), "approximate": ("none", "tanh"), "detect_negative": (0, 1), "detect_positive": (0, 1),
}  # fmt: skip


def one_input(site: Site) -> Any:
    """An operator of MAPS."""
    x = site.value(0, range(6), kind=MAPS[site.op])
    for name, choices in COEFFICIENTS.items():
        site.set(name, *choices, often=0.5)
    return site.give(x)


def two_inputs(site: Site) -> Any:
    """Two operands that broadcast to each other."""
    x = site.value(0, range(6))
    shape = broadcastable(site.random, x.shape)
    y = site.value(1, shape=shape, kind="positive" if site.op in ("Div", "Mod", "Pow") else "any")
    if site.op in ("Div", "Mod") and y.element not in FLOATS and not np.all(y.array):
        y = site.new(1, shape=shape, kind="positive")
    if site.op == "Mod":
        is_float = x.element in FLOATS
        if site.has("fmod") and (is_float or site.chance(0.5)):
            site.attributes["fmod"] = 1
        elif is_float:
            raise Rejected("Mod of floats asks for fmod")
    if site.op == "Pow" and x.element not in FLOATS:
        y = site.new(1, shape=shape, kind="positive")
    site.set("direction", "LEFT", "RIGHT")
    swapped = site.op not in ("PRelu", "Pow", "BitShift", "Mod", "Div") and x.element == y.element and site.chance(0.3)
    return site.give(*((y, x) if swapped else (x, y)))


def shares(site: Site) -> Any:
    """PRelu: the slope broadcasts to the input."""
    x = site.value(0, range(5))
    return site.give(x, site.value(1, shape=broadcastable(site.random, x.shape)))


def several(site: Site) -> Any:
    """Max, Min, Mean, Sum: one operand or more."""
    x = site.value(0, range(5))
    rest = [site.value(0, shape=broadcastable(site.random, x.shape)) for _ in range(site.random.randrange(3))]
    return site.give(x, *rest)


def where(site: Site) -> Any:
    """Where: three operands."""
    x = site.value(1, range(5))
    y = site.value(2, shape=broadcastable(site.random, x.shape))
    return site.give(site.value(0, shape=broadcastable(site.random, x.shape)), x, y)


def clip(site: Site) -> Any:
    """Clip: bounds are attributes at first, then inputs; each may be missing."""
    x = site.value(0, range(5))
    if site.version < 11:
        site.set("min", -1.5, 0.0)
        site.set("max", 1.0, 6.0)
        return site.give(x)
    bounds = [
        site.bind(place, site.draft.fresh(np.array(bound, DTYPES[x.element]))) if site.chance(0.7) else None
        for place, bound in ((1, 0 if x.element.startswith("u") else -2), (2, 3))
    ]
    return site.give(x, *bounds)


def cast(site: Site) -> Any:
    """Cast and CastLike between all types; floats that no integer holds are not asked for."""
    x = site.value(0, range(5))
    allowed = [name for name in ELEMENTS if name != x.element and can_cast(x.array, name, site.draft.opset)]
    to = draw_element(site.random, allowed)
    if site.op == "Cast":
        site.attributes["to"] = NUMBERS[to]
        return site.give(x)
    like = site.draft.existing(lambda value: value.element == to)
    if like is None:
        like = site.draft.fresh(np.zeros((2,), DTYPES[to]))
    return site.give(x, like)


def can_cast(array: Any, to: str, opset: int) -> bool:
    """Whether the standard says what the cast gives, at an opset."""
    if "bfloat16" in (to, ELEMENT_OF[array.dtype]) and opset < 13:
        return False
    if array.dtype.kind in "biu" or to in FLOATS or to == "bool":
        return True
    wide = array.astype(np.float64)
    info = np.iinfo(DTYPES[to])
    return bool(np.all(np.isfinite(wide)) and np.all(wide > max(info.min, -1e9) - 1) and np.all(wide < info.max))


def bit_cast(site: Site) -> Any:
    """BitCast to a type of the same width."""
    x = site.value(0, range(5))
    same = [name for name in ELEMENTS if DTYPES[name].itemsize == x.array.itemsize and name not in ("bool", x.element)]
    site.attributes["to"] = NUMBERS[site.random.choice(same)]
    return site.give(x)


def quantize(site: Site) -> Any:
    """QuantizeLinear: one scale, or one for every slice along an axis."""
    x = site.value(0, range(1, 5), suits=lambda value: bool(np.all(np.isfinite(value.array.astype(np.float64)))))
    axis, shape = _scale_axis(site, x)
    site.bound.pop(getattr(site.parameter(1), "type_str", ""), None)
    scale = site.new(1, shape=shape, kind="scale")
    elements = [name for name in site.elements(2) if name in ("int8", "uint8", "int16", "uint16")]
    zero = None
    if site.chance(0.8) and elements:
        element = site.random.choice(elements)
        zero = site.draft.fresh(np.full(shape, site.random.choice((0, 1, 3)), DTYPES[element]))
    if axis is not None:
        site.attributes["axis"] = axis
    return site.give(x, scale, zero)


def dequantize(site: Site) -> Any:
    """DequantizeLinear of 8- and 16-bit integers."""
    x = site.value(0, range(1, 5), suits=lambda value: "8" in value.element or "16" in value.element)
    if x.element in ("int32",):
        raise Rejected("int32 has no zero point")
    axis, shape = _scale_axis(site, x)
    scale = site.new(1, shape=shape, kind="scale")
    zero = site.new(2, shape=shape, kind="positive") if site.chance(0.7) else None
    if axis is not None:
        site.attributes["axis"] = axis
    return site.give(x, scale, zero)


def _scale_axis(site: Site, x: Any) -> tuple[int | None, tuple[int, ...]]:
    if site.version < 13 or site.chance(0.5):
        return None, ()
    axis = site.axis(x.rank)
    return axis, (x.shape[axis],)


def dynamic_quantize(site: Site) -> Any:
    """DynamicQuantizeLinear."""
    x = site.value(0, range(1, 4), suits=lambda value: bool(np.all(np.isfinite(value.array))))
    return site.give(x, outputs=3)


FAMILY = {
    **dict.fromkeys(MAPS, one_input),
    **dict.fromkeys((
        "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual",
        "Less", "LessOrEqual", "Mod", "Mul", "Or", "Pow", "Sub", "Xor", "SwiGLU",
    ), two_inputs),
    **dict.fromkeys(("Max", "Mean", "Min", "Sum"), several),
    "BitCast": bit_cast, "Cast": cast, "CastLike": cast, "Clip": clip, "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": dynamic_quantize, "PRelu": shares, "QuantizeLinear": quantize, "Where": where,
}  # fmt: skip
