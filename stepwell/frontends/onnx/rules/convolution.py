"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.convolution import ConvIntegerOp, ConvOp, ConvTransposeOp, DeformConvOp
from stepwell.dialects.graph.windows import Window
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, proven_different

PADDING_OF = {"NOTSET": "explicit", "VALID": "explicit", "SAME_UPPER": "same_upper", "SAME_LOWER": "same_lower"}


def auto_pad(node: Node) -> str:
    """The attribute `auto_pad`, checked."""
    given = node.string("auto_pad", "NOTSET") or "NOTSET"
    if given not in PADDING_OF:
        raise node.unsupported(f"auto_pad {given!r} is not one of {', '.join(PADDING_OF)}")
    return given


def read_window(node: Node, sizes: Sequence[Dim], kernel: Sequence[Dim], ceil: bool = False) -> Window:
    """The window of a node over spatial `sizes`. auto_pad becomes explicit pads wherever these are plain integers."""
    rank = len(kernel)
    if len(sizes) != rank:
        raise node.unsupported(f"a kernel of {rank} axes does not fit {len(sizes)} spatial axes")
    given = auto_pad(node)
    window = Window(
        tuple(kernel),
        tuple(node.ints("strides", [1] * rank)),
        tuple(node.ints("dilations", [1] * rank)),
        tuple(node.ints("pads", [0] * 2 * rank)) if given == "NOTSET" else (0,) * (2 * rank),
        PADDING_OF[given],
        ceil and given == "NOTSET",
    )
    window.check()
    return window.resolved(sizes)


def conv_window(node: Node, x: Value, w: Value) -> Window:
    """The window of a convolution, whose kernel sizes are those of the weights."""
    return read_window(node, shape_of(x)[2:], declared_kernel(node, w) or shape_of(w)[2:])


def declared_kernel(node: Node, w: Value) -> tuple[int, ...] | None:
    """What `kernel_shape` says of the kernel where the weights' shape does not say it all. Raises Unsupported where the
    two differ."""
    kernel = shape_of(w)[2:]
    declared = tuple(node.ints("kernel_shape", [])) if node.has("kernel_shape") else ()
    if declared and (len(declared) != len(kernel) or any(map(proven_different, kernel, declared))):
        raise node.unsupported(f"kernel_shape {list(declared)} differs from the weights' {list(kernel)}")
    return declared if declared and declared != kernel else None


def window_fields(window: Window) -> dict[str, Any]:
    """A window as the attributes of an op that slides it."""
    fields = attrs.asdict(window, filter=lambda field, _: field.name in ("strides", "dilations", "pads"))
    return fields | {"padding": None if window.padding == "explicit" else window.padding}


def group_count(node: Node) -> int:
    """The attribute `group`. Raises Unsupported where it is not positive."""
    groups = node.int("group", 1)
    if groups < 1:
        raise node.unsupported(f"the number of groups must be positive, not {groups}", "The model is malformed.")
    return groups


@rule("Conv")
def conv(node: Node) -> Value:
    """Any number of spatial axes."""
    x, w = node.input(0), node.input(1)
    fields = window_fields(conv_window(node, x, w))
    made = ConvOp(x, w, node.optional(2), groups=group_count(node), kernel=declared_kernel(node, w), **fields)
    return node.insert(made).result


@rule("ConvInteger", since=10)
def conv_integer(node: Node) -> Value:
    """(x - x_zero) * (w - w_zero) in si32."""
    x, w = node.input(0), node.input(1)
    fields = window_fields(conv_window(node, x, w))
    zeros = node.optional(2), node.optional(3)
    made = ConvIntegerOp(x, w, *zeros, groups=group_count(node), kernel=declared_kernel(node, w), **fields)
    return node.insert(made).result


@rule("DeformConv", since=19)
def deform_conv(node: Node) -> Value:
    """Inputs X, W, offset, B, mask."""
    x, w = node.input(0), node.input(1)
    window = conv_window(node, x, w)
    return node.insert(
        DeformConvOp(
            x, w, node.input(2), node.optional(3), node.optional(4), groups=group_count(node),
            offset_groups=node.int("offset_group", 1), kernel=declared_kernel(node, w), **window_fields(window),
        )
    ).result  # fmt: skip


@rule("ConvTranspose")
def conv_transpose(node: Node) -> Value:
    """auto_pad SAME means output size = input size * stride, which fixes the pads for a known kernel."""
    x, w = node.input(0), node.input(1)
    rank = len(shape_of(w)) - 2
    given = declared_kernel(node, w)
    kernel, sizes = given or shape_of(w)[2:], shape_of(x)[2:]
    strides, dilations = (node.ints(name, [1] * rank) for name in ("strides", "dilations"))
    known = [size for size in kernel if isinstance(size, int)]
    extra = node.ints("output_padding", [0] * rank)
    pads = node.ints("pads", [0] * 2 * rank)
    padding = auto_pad(node)
    shape = node.ints("output_shape", []) or None
    if padding == "VALID":
        pads = [0] * 2 * rank
    if shape is not None:
        shape = shape[-rank:]
        pads = [0] * 2 * rank
    elif padding.startswith("SAME") and len(known) == rank:
        pads, extra = same_transposed(known, strides, dilations, extra, padding == "SAME_UPPER")
    if len(sizes) != rank:
        raise node.unsupported(f"weights with {rank} spatial axes do not fit data with {len(sizes)}")
    implied = shape is not None or len(known) < rank
    return node.insert(
        ConvTransposeOp(
            x, w, node.optional(2), strides=strides, dilations=dilations, pads=pads, output_padding=extra,
            output_shape=shape, groups=group_count(node), kernel=given,
            padding=PADDING_OF[padding] if implied and padding.startswith("SAME") else None,
        )
    ).result  # fmt: skip


def same_transposed(
    kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], extra: Sequence[int],
    upper: bool,
) -> tuple[list[int], list[int]]:  # fmt: skip
    """(pads, output paddings) with which a transposed convolution multiplies sizes by the strides.

    stride * (n - 1) + extent + extra - pads = stride * n, so the pads are extent + extra - stride for every n; where
    that is negative, the result is extended behind."""
    begins, ends, extras = [], [], []
    for size, stride, dilation, more in zip(kernel, strides, dilations, extra, strict=True):
        total = (size - 1) * dilation + 1 + more - stride
        extras.append(more - min(total, 0))
        total = max(total, 0)
        half = total // 2
        begins.append(half if upper else total - half)
        ends.append(total - begins[-1])
    return begins + ends, extras
