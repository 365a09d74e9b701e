"""Weights of few bits, packed into bytes and scaled in blocks: matrix products and table look-ups that unpack them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.graph.base import Array, shape_of, tensor_type
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.logic import AndOp, ShiftRightOp
from stepwell.dialects.graph.quantization import DequantizeOp
from stepwell.errors import UnknownError
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import cast, reshaped
from stepwell.frontends.onnx.rules.contraction import as_matrices, transpose, without_unit_axes
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, added
from stepwell.frontends.onnx.rules.movement import sliced
from stepwell.frontends.onnx.shapes import int_list
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import SI32, FloatType, Type

WIDTHS = (2, 4, 8)
MALFORMED = "The model is malformed."


# Unpacking


def unpacked_array(packed: Array, bits: int, count: int) -> Array:
    """[.., bytes] -> [.., count]: numbers of `bits` bits, the lowest bits of a byte first."""
    parts = (packed[..., None] >> _shifts(bits)) & ((1 << bits) - 1)
    return parts.reshape(*packed.shape[:-1], -1)[..., :count].astype(np.uint8)


def unpacked(node: Node, packed: Value, bits: int, count: Dim, high_first: bool = False) -> Value:
    """[.., bytes] -> [.., count] of ui8: each byte shifted and masked, its lowest bits first or last."""
    if bits == 8:
        return packed
    shape = shape_of(packed)
    shifts = _shifts(bits)[::-1] if high_first else _shifts(bits)
    bytes_ = reshaped(node, packed, (*shape, 1))
    parts = node.insert(ShiftRightOp(bytes_, node.constant(np.ascontiguousarray(shifts)))).result
    masked = node.insert(AndOp(parts, node.constant(np.array((1 << bits) - 1, np.uint8)))).result
    return cut(node, reshaped(node, masked, (*shape[:-1], shape[-1] * (8 // bits))), count)


def cut(node: Node, x: Value, count: Dim) -> Value:
    """The first `count` places of the last axis."""
    shape = shape_of(x)
    if shape[-1] == count:
        return x
    count = known_size(node, count, "packed numbers")
    return sliced(node, x, int_list(node, [0]), int_list(node, [count]), [len(shape) - 1])


def _shifts(bits: int) -> Array:
    return np.arange(0, 8, bits, dtype=np.uint8)


def known_size(node: Node, size: Dim, what: str) -> int:
    """A size that decides a type. Raises Unsupported where it is a symbol, which a call may tell."""
    if isinstance(size, int):
        return size
    reason = f"the size {size} of its {what} must be known when the model is compiled"
    advice = f"make the {what} an initializer or export the model with that size fixed"
    raise node.unsupported(reason, advice, UnknownError(reason, [size]))


def small_dtype(bits: int, signed: bool = False) -> np.dtype[Any]:
    """The NumPy type of integers of 2, 4 or 8 bits."""
    import ml_dtypes

    types: dict[int, tuple[Any, Any]] = {
        2: (ml_dtypes.uint2, ml_dtypes.int2), 4: (ml_dtypes.uint4, ml_dtypes.int4), 8: (np.uint8, np.int8),
    }  # fmt: skip
    found: np.dtype[Any] = np.dtype(types[bits][signed])
    return found


def width_of(node: Node, name: str = "bits") -> int:
    """The attribute that says how many bits a number has."""
    bits = node.int(name, 4)
    if bits not in WIDTHS:
        raise node.unsupported(f"numbers of {bits} bits are not supported, those of 2, 4 and 8 are")
    return bits


def positive(node: Node, name: str, default: int | None = None) -> int:
    """An integer attribute above 0."""
    given = node.int(name, default)
    if given < 1:
        raise node.unsupported(f"{name} must be positive, not {given}", MALFORMED)
    return given


# Matrix products


@attrs.frozen
class Blocks:
    """Rows of k numbers of `bits` bits, packed and scaled in blocks; each row starts a new block, and a new byte of
    zero points unless `points_go_on`: then each row is one block and the last axis of `rows` starts a new byte."""

    rows: tuple[int, ...]
    k: int
    block: int
    bits: int
    points_go_on: bool = False

    @property
    def scales(self) -> tuple[int, ...]:
        """[*rows, blocks], the shape of the scales."""
        return (*self.rows, -(-self.k // self.block))

    @property
    def numbers(self) -> tuple[int, ...]:
        """[*rows, blocks, bytes of a block], the shape of the packed numbers."""
        return (*self.scales, -(-self.block * self.bits // 8))

    @property
    def points(self) -> tuple[int, ...]:
        """[.., bytes], the shape of packed zero points."""
        before = self.rows[:-1] if self.points_go_on else self.rows
        return (*before, -(-self.points_in_row * self.bits // 8))

    @property
    def points_in_row(self) -> int:
        """How many zero points are packed without a gap."""
        return self.rows[-1] if self.points_go_on else self.scales[-1]

    @property
    def middle(self) -> int:
        """The zero point where none is given."""
        return 1 << (self.bits - 1)


def block_weights(
    node: Node, places: tuple[int, int, int], layout: Blocks, element: Type, groups: Value | None = None
) -> Value:
    """[*rows, k] in floats of type `element`, from the inputs at `places`: packed numbers, scales and, where they are
    present, zero points, packed or in floats; each in any shape of as many elements. Column i belongs to block
    i // block, or to block groups[i]."""
    numbers, scales, points = places
    given = node.optional(points)
    in_floats = given is not None and isinstance(tensor_type(given).element, FloatType)
    known = node.constant_input(points) is not None or in_floats or given is None
    if known and node.constant_input(numbers) is not None:
        x, zero = _as_constants(node, numbers, None if in_floats else points, layout, signed=given is None)
    else:
        x, zero = _at_run_time(node, numbers, None if in_floats else points, layout)
    zero = reshaped(node, given, layout.scales) if in_floats and given is not None else zero
    scale, axis, block = reshaped(node, node.input(scales), layout.scales), len(layout.rows), layout.block
    if groups is not None:
        scale, block = node.insert(GatherOp(scale, groups, axis=axis)).result, 1
        zero = None if zero is None else node.insert(GatherOp(zero, groups, axis=axis)).result
    return node.insert(DequantizeOp(x, scale, zero, axis=axis, block_size=block, element=element)).result


def _as_constants(
    node: Node, numbers: int, points: int | None, layout: Blocks, signed: bool
) -> tuple[Value, Value | None]:
    """(numbers [*rows, k], zero points [*rows, blocks]) in their width; `signed`: less the middle of the range."""
    x = unpacked_array(_bytes(node, numbers, layout.numbers), layout.bits, layout.block)
    x = x.reshape(*layout.rows, -1)[..., : layout.k]
    if signed:
        return node.constant((x.astype(np.int16) - layout.middle).astype(small_dtype(layout.bits, signed=True))), None
    dtype = small_dtype(layout.bits)
    if points is None:
        return node.constant(x.astype(dtype)), None
    zero = unpacked_array(_bytes(node, points, layout.points), layout.bits, layout.points_in_row)
    return node.constant(x.astype(dtype)), node.constant(zero.reshape(layout.scales).astype(dtype))


def _bytes(node: Node, index: int, shape: Sequence[int]) -> Array:
    array = node.constant_input(index)
    if array is None or array.dtype != np.uint8 or array.size != np.prod(shape):
        given = tensor_type(node.input(index))
        raise node.unsupported(f"its input {index} is {given} where ui8 of shape {list(shape)} are needed", MALFORMED)
    return array.reshape(shape)


def _at_run_time(node: Node, numbers: int, points: int | None, layout: Blocks) -> tuple[Value, Value]:
    """(numbers [*rows, k], zero points [*rows, blocks]) in ui8."""
    x = unpacked(node, reshaped(node, node.input(numbers), layout.numbers), layout.bits, layout.block)
    held = layout.scales[-1] * layout.block
    x = cut(node, reshaped(node, x, (*layout.rows, held)), layout.k)
    given = None if points is None else node.optional(points)
    if given is None:
        return x, node.constant(np.full(layout.scales, layout.middle, np.uint8))
    zero = unpacked(node, reshaped(node, given, layout.points), layout.bits, layout.points_in_row)
    return x, reshaped(node, zero, layout.scales)


@rule("MatMulNBits", domain=DOMAIN)
def matmul_n_bits(node: Node) -> Value:
    """A x B' + bias, with B [n, k] of 2, 4 or 8 bits in blocks along k. `accuracy_level` says how far the operands may
    be rounded; here they never are."""
    if node.int("weight_prepacked", 0):
        raise node.unsupported("weights in the order of another device's kernel are not supported", "export them plain")
    n, k = positive(node, "N"), positive(node, "K")
    layout = Blocks((n,), k, positive(node, "block_size"), width_of(node))
    b = block_weights(node, (1, 2, 3), layout, tensor_type(node.input(0)).element, _column_groups(node, 4, layout))
    return added(node, _product_with_rows(node, b), node.optional(5))


def _column_groups(node: Node, index: int, layout: Blocks) -> Value | None:
    """The block of each column; None where columns are in order."""
    groups = node.optional(index)
    if groups is None:
        return None
    array = node.constant_input(index)
    if array is not None and np.array_equal(array.reshape(-1)[: layout.k], np.arange(layout.k) // layout.block):
        return None
    return cut(node, groups, layout.k)


def _product_with_rows(node: Node, b: Value) -> Value:
    """input 0 x b'"""
    lhs, rhs, row, column = as_matrices(node, node.input(0), transpose(node, b, (1, 0)))
    return without_unit_axes(node, node.insert(MatmulOp(lhs, rhs)).result, row, column)


# QLoRA (Dettmers et al., 2023), appendix E: quantiles of the normal distribution, scaled to [-1, 1].
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
# A sign, two bits of exponent and one of mantissa, scaled to [-1, 1].
FP4 = [sign * number for sign in (1, -1) for number in (0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4)]


@rule("MatMulBnb4", domain=DOMAIN)
def matmul_bnb4(node: Node) -> Value:
    """A x B', with B [n, k] of places in a table of 16 floats, two to a byte, the first in the higher bits; blocks of
    the flattened B have a factor each."""
    if not node.int("transB", 1):
        raise node.unsupported("weights that are not transposed are not supported", "set transB to 1")
    kind = node.int("quant_type")
    if kind not in (0, 1):
        raise node.unsupported(f"quant_type {kind} is neither 0 (FP4) nor 1 (NF4)", MALFORMED)
    n, k, block = (positive(node, name) for name in ("N", "K", "block_size"))
    packed = reshaped(node, node.input(1), (-(-n * k // 2),))
    places = cast(node, unpacked(node, packed, 4, n * k, high_first=True), SI32)
    table = node.constant(np.array(NF4 if kind else FP4, np.float32))
    numbers = node.insert(GatherOp(table, places, axis=0)).result
    scale = reshaped(node, node.input(2), (-(-n * k // block),))
    element = tensor_type(node.input(0)).element
    weights = node.insert(DequantizeOp(numbers, scale, None, axis=0, block_size=block, element=element)).result
    return _product_with_rows(node, reshaped(node, weights, (n, k)))
