"""Shape arithmetic as exporters write it stays symbolic: the result's type is what the model means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from stepwell.dialects.graph.base import content, shape_of
from stepwell.dialects.graph.shape import ReshapeOp
from stepwell.frontends.onnx.element_types import type_proto
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.ir.dims import parse_dim
from stepwell.ir.types import F32, SI64, TensorType
from tests.frontends.onnx.rule_harness import Imported, imported, model_of, refused

END = np.iinfo(np.int64).max


def tensor(*dims: Any) -> TensorType:
    return TensorType(tuple(parse_dim(d) if isinstance(d, str) else d for d in dims), F32)


def chain(text: str, x: TensorType, version: int = 17, **constants: Any) -> Imported:
    """Import lines such as `y = Gather(x, i) axis=0`; the last line's first result is the output."""
    nodes = []
    for line in filter(None, map(str.strip, text.splitlines())):
        left, right = line.split(" = ")
        call, _, rest = right.partition(")")
        op, _, inputs = call.partition("(")
        attributes = {k: eval(v) for k, v in (item.split("=") for item in rest.split())}
        names = [name.strip() for name in inputs.split(",")] if inputs.strip() else []
        nodes.append(helper.make_node(op, names, [n.strip() for n in left.split(",")], **attributes))
    initializers = [
        numpy_helper.from_array(np.asarray(value, np.float32 if isinstance(value, float) else np.int64), name)
        for name, value in constants.items()
    ]
    return imported(model_of(nodes, [port("x", x)], [nodes[-1].output[0]], version, initializers))


def port(name: str, type_: TensorType) -> Any:
    """A declared input."""
    return helper.make_value_info(name, type_proto(type_))


def dims(model: Imported) -> list[str]:
    return [str(dim) for dim in shape_of(model.main.returned[0])]


HEADS = """
    s = Shape(x)
    b = Gather(s, zero) axis=0
    t = Gather(s, one) axis=0
    bu = Unsqueeze(b, axis0)
    tu = Unsqueeze(t, axis0)
    target = Concat(bu, tu, heads, minus) axis=0
    r = Reshape(x, target)
    y = Transpose(r) perm=[0,2,1,3]
"""

CHAINS = {
    "split heads": (
        HEADS, tensor("batch", "seq", 768), {"zero": 0, "one": 1, "axis0": [0], "heads": [12], "minus": [-1]},
        ["batch", "12", "seq", "64"],
    ),
    "merge heads": (
        "r = Reshape(x, target)", tensor("batch", "seq", 12, 64), {"target": [0, 0, -1]}, ["batch", "seq", "768"],
    ),
    "flatten tokens": (
        "r = Reshape(x, target)", tensor("batch", "seq", 768), {"target": [-1, 768]}, ["batch*seq", "768"],
    ),
    "flatten by size": (
        """
        s = Shape(x) start=0 end=2
        b, t = Split(s) axis=0
        n = Mul(b, t)
        target = Concat(n, minus) axis=0
        y = Reshape(x, target)
        """, tensor("batch", "seq", 8), {"minus": [-1]}, ["batch*seq", "8"],
    ),
    "broadcast over batch": (
        """
        s = Shape(x)
        b = Slice(s, zero, one)
        target = Concat(b, rest) axis=0
        c = ConstantOfShape(target)
        """, tensor("batch", 5), {"zero": [0], "one": [1], "rest": [1, 7]}, ["batch", "1", "7"],
    ),
    "position ids": (
        """
        s = Shape(x)
        t = Gather(s, one) axis=0
        r = Range(zero, t, step)
        u = Unsqueeze(r, axis0)
        """, tensor("batch", "seq"), {"one": 1, "zero": 0, "step": 1, "axis0": [0]}, ["1", "seq"],
    ),
    "position ids after the past": (
        """
        s = Shape(x)
        t = Gather(s, one) axis=0
        from = Add(t, three)
        to = Add(from, t)
        r = Range(from, to, step)
        """, tensor("batch", "seq"), {"one": 1, "three": 3, "step": 1}, ["seq"],
    ),
    "range by non-zero": (
        """
        s = Shape(x)
        t = Slice(s, one, two)
        c = ConstantOfShape(t) value=helper.make_tensor("v",7,[1],[1])
        n = NonZero(c)
        y = Transpose(n)
        """, tensor("batch", "seq"), {"one": [1], "two": [2]}, ["seq", "1"],
    ),
    "causal mask cut to length": (
        """
        s = Shape(x)
        t = Gather(s, one) axis=0
        tu = Unsqueeze(t, axis0)
        y = Slice(mask, zero, tu, axis0)
        """, tensor("batch", "2*k"), {"one": 1, "axis0": [0], "zero": [0], "mask": np.zeros((64, 64))},
        ["2*min(32, k)", "64"],
    ),
    "halves": (
        """
        s = Shape(x)
        d = Gather(s, one) axis=0
        h = Div(d, two)
        hu = Unsqueeze(h, axis0)
        y = Slice(x, hu, end, axis1)
        """, tensor("batch", "2*k"), {"one": 1, "two": 2, "axis0": [0], "axis1": [1], "end": [END]}, ["batch", "k"],
    ),
    "upsample to another size": (
        """
        s = Shape(x)
        nc = Slice(s, zero, two)
        hw = Slice(s, two, four)
        big = Mul(hw, two)
        sizes = Concat(nc, big) axis=0
        y = Resize(x, , , sizes) mode="nearest"
        """, tensor("batch", 3, "h", "w"), {"zero": [0], "two": [2], "four": [4]}, ["batch", "3", "2*h", "2*w"],
    ),
    "pad to a multiple of 8": (
        """
        s = Shape(x)
        h = Slice(s, two, three)
        m = Sub(eight, h)
        pads = Concat(six, m, zero) axis=0
        y = Pad(x, pads)
        """, tensor("batch", 3, "h", 4), {"two": [2], "three": [3], "eight": [8], "six": [0] * 6, "zero": [0]},
        ["batch", "3", "8", "4"],
    ),
    "expand by scattered shape": (
        """
        s = Shape(x)
        t = ScatterND(s, places, news)
        y = Expand(x, t)
        """, tensor("batch", 1, 4), {"places": [[1]], "news": [9]}, ["batch", "9", "4"],
    ),
    "strided windows": (
        "y = Slice(x, zero, end, axis1, two)", tensor("batch", "h"),
        {"zero": [0], "end": [END], "axis1": [1], "two": [2]}, ["batch", "(h + 1)//2"],
    ),
    "reversed": (
        "y = Slice(x, last, before, axis1, back)", tensor("batch", "h"),
        {"last": [-1], "before": [-END], "axis1": [1], "back": [-1]}, ["batch", "h"],
    ),
    "pixel shuffle": (
        "y = DepthToSpace(x) blocksize=2", tensor("batch", 16, "h", "w"), {}, ["batch", "4", "2*h", "2*w"],
    ),
    "space to depth": (
        "y = SpaceToDepth(x) blocksize=2", tensor("batch", 3, "2*h", "2*w"), {}, ["batch", "12", "h", "w"],
    ),
    "top k of all": ("v, i = TopK(x, k)", tensor("batch", "classes"), {"k": [5]}, ["batch", "5"]),
    "concatenated past": (
        """
        t = Slice(x, zero, four, axis1)
        y = Concat(x, t) axis=1
        """, tensor("batch", "past + 4"), {"zero": [0], "four": [4], "axis1": [1]}, ["batch", "past + 8"],
    ),
    "tiled": (
        """
        s = Shape(x)
        b = Slice(s, zero, one)
        r = Concat(one, b) axis=0
        y = Tile(x, r)
        """, tensor("batch", "seq"), {"zero": [0], "one": [1]}, ["batch", "batch*seq"],
    ),
    "three parts": ("a, b, c = Split(x) axis=1", tensor("batch", "3*k"), {}, ["batch", "k"]),
    "eye": ("y = EyeLike(x)", tensor("n", "m"), {}, ["n", "m"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_chain_keeps_symbols(name: str) -> None:
    text, x, constants, expected = CHAINS[name]
    model = chain(text, x, **constants)
    assert dims(model) == expected
    sizes = {"batch": 2, "seq": 5, "k": 3, "h": 6, "w": 4, "past": 2, "classes": 7, "n": 3, "m": 4}
    shape = [dim if isinstance(dim, int) else dim.evaluate(sizes) for dim in x.shape]
    for operand in model.main.arguments:
        assert operand.type is x
    (result,) = model.run([np.arange(np.prod(shape), dtype=np.float32).reshape(shape)])
    assert list(np.shape(result)) == [parse_dim(text).evaluate(sizes) if not text.isdigit() else int(text)
                                      for text in expected]  # fmt: skip


def test_a_known_target_leaves_no_shape_operand() -> None:
    model = chain(HEADS, tensor("b", "t", 768), zero=0, one=1, axis0=[0], heads=[12], minus=[-1])
    (op,) = [op for op in model.ops if isinstance(op, ReshapeOp) and op.result.type.rank == 4]
    assert op.shape is None


def test_contents_pass_through_every_part_of_a_split_shape() -> None:
    model = chain("s = Shape(x)\na, b, c = Split(s, sizes)\ny = Concat(c, a) axis=0", tensor("n", 3, "m", 4),
                     sizes=[1, 2, 1])  # fmt: skip
    assert content(model.main.returned[0]) == (4, parse_dim("n"))


def test_shape_of_data_gets_fresh_symbols_that_stay() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["n"]), helper.make_node("Transpose", ["n"], ["y"])]
    model = imported(model_of(nodes, [port("x", tensor(2, 3))], ["y"], 17))
    (op,) = [op for op in model.ops if op.op_name == "graph.non_zero"]
    assert op.infer_types() == [op.results[0].type]
    assert dims(model)[0].startswith("non_zero_")


def test_reshape_by_data() -> None:
    nodes = [helper.make_node("Reshape", ["x", "t"], ["y"])]
    model = imported(model_of(nodes, [port("x", tensor(2, 6)), port("t", TensorType((3,), SI64))], ["y"], 17))
    assert len(set(dims(model))) == 3
    (y,) = model.run([np.zeros((2, 6), np.float32), np.array([3, -1, 2])])
    assert y.shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("text", "constants", "words"),
    [
        ("y = Reshape(x, t)", {"t": [5, -1]}, "12 elements are not a multiple of 5"),
        ("y = Reshape(x, t)", {"t": [5, 2]}, "12 elements"),
        ("y = Reshape(x, t)", {"t": [-1, -1]}, "more than once"),
        ("y = Reshape(x, t)", {"t": [3, 4, 0]}, "does not have"),
        ("y = Squeeze(x, t)", {"t": [0]}, "size 3"),
        ("y = Unsqueeze(x, t)", {"t": [1, 1]}, "twice"),
        ("y = Concat(t, t) axis=2", {"t": [[1]]}, "out of range"),
        ("y = Slice(x, t, t, t, t)", {"t": [0]}, "steps of 0"),
        ("a, b = Split(x, t) axis=1", {"t": [1, 2]}, "cannot be split"),
        ("a, b, c = Split(x) axis=1", {}, "3 equal parts"),
        ("y = Gather(x, t)", {"t": [3]}, "index 3 is out of range"),
        ("y = Tile(x, t)", {"t": [1]}, "repeats must have 2 elements"),
        ("y = Pad(x, t)", {"t": [1, 1]}, "pads must have 4 elements"),
        ("v, i = TopK(x, t)", {"t": [5]}, "top 5 of 4"),
        ("y = Transpose(x) perm=[0,0]", {}, "permutation"),
        ("y = Expand(x, t)", {"t": [2, 4]}, "do not broadcast"),
        ('y = Pad(x, t) mode="mirror"', {"t": [0] * 4}, "'mode' is 'mirror'"),
        ('y = Resize(x, , t) mode="nearest"', {"t": 2.0}, "scales must be a list"),
    ],
)  # fmt: skip
def test_misfits_are_refused(text: str, constants: dict[str, Any], words: str) -> None:
    version = 13 if "Split" in text else 17
    with refused(words):
        chain(text, tensor(3, 4), version, **constants)


def test_squeeze_of_symbolic_sizes_without_axes_is_refused() -> None:
    with refused("rank of the result", Unsupported):
        chain("y = Squeeze(x)", tensor("n", 1))
