"""Resampling of images, and signal processing."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects.graph import resize, sampling, signal
from stepwell.frontends.onnx.exports.composing import Item, as_int64, as_scalar, cast, number_of
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.frontends.onnx.writer import Writer, exports
from stepwell.ir.types import F32


@exports(resize.ResizeOp)
def resize_(op: resize.ResizeOp, writer: Writer) -> None:
    """graph.resize %x, sizes or scales {axes} -> Resize(x, region, scales, sizes) {axes}"""
    if op.coordinates == "tf_half_pixel_for_nn":
        raise Unsupported(
            "Resize has no coordinates tf_half_pixel_for_nn since opset 13", "use half_pixel where it does as well"
        )
    cubic = op.mode == "cubic"
    writer.node(
        "Resize",
        [op.x, op.region, None if op.scales is None else cast(writer, op.scales, F32),
         None if op.sizes is None else as_int64(writer, op.sizes)],
        op.results, axes=list(op.axes), mode=op.mode, coordinate_transformation_mode=op.coordinates,
        nearest_mode=op.rounding if op.mode == "nearest" else None,
        keep_aspect_ratio_policy=None if op.scales is not None else op.aspect,
        antialias=int(op.antialias) or None, exclude_outside=int(op.exclude_outside) or None,
        cubic_coeff_a=writer.float32(op, "cubic_a", op.cubic_a) if cubic else None,
        extrapolation_value=writer.float32(op, "extrapolation", op.extrapolation) or None,
    )  # fmt: skip


@exports(sampling.GridSampleOp)
def grid_sample(op: sampling.GridSampleOp, writer: Writer) -> None:
    """graph.grid_sample %x, %grid -> GridSample(x, grid)"""
    options: dict[str, Any] = {"mode": op.mode, "padding_mode": op.padding, "align_corners": int(op.align_corners)}
    writer.node("GridSample", op.operands, op.results, **options)


@exports(sampling.AffineGridOp)
def affine_grid(op: sampling.AffineGridOp, writer: Writer) -> None:
    """graph.affine_grid %theta, %size -> AffineGrid(theta, size)"""
    size = as_int64(writer, op.size)
    writer.node("AffineGrid", [op.theta, size], op.results, align_corners=int(op.align_corners))


@exports(sampling.RoiAlignOp)
def roi_align(op: sampling.RoiAlignOp, writer: Writer) -> None:
    """graph.roi_align %x, %rois, %batch -> RoiAlign(x, rois, batch)"""
    operands: list[Item] = [op.x, op.rois, as_int64(writer, op.batch_indices)]
    writer.node(
        "RoiAlign", operands, op.results, output_height=op.height, output_width=op.width, sampling_ratio=op.samples,
        spatial_scale=writer.float32(op, "scale", op.scale), mode="avg" if op.reduce == "mean" else "max",
        coordinate_transformation_mode="half_pixel" if op.half_pixel else "output_half_pixel",
    )  # fmt: skip


@exports(sampling.ColToImOp)
def col_to_im(op: sampling.ColToImOp, writer: Writer) -> None:
    """graph.col_to_im %x, %image, %block -> Col2Im(x, image, block)"""
    operands: list[Item] = [op.x, as_int64(writer, op.image_shape), as_int64(writer, op.block_shape)]
    window: dict[str, Any] = {"strides": list(op.strides), "pads": list(op.pads), "dilations": list(op.dilations)}
    writer.node("Col2Im", operands, op.results, **window)


@exports(signal.DftOp)
def dft(op: signal.DftOp, writer: Writer) -> None:
    """graph.dft %x, %length {axis} -> DFT(x, length, axis)"""
    if op.axis is None:
        axis = as_scalar(writer, op.where)
    else:
        axis = writer.constant(np.array(op.axis, np.int64), "axis")
    options: dict[str, Any] = {"inverse": int(op.inverse) or None, "onesided": int(op.onesided) or None}
    writer.node("DFT", [op.x, as_scalar(writer, op.length), axis], op.results, **options)


@exports(signal.StftOp)
def stft(op: signal.StftOp, writer: Writer) -> None:
    """graph.stft %x, %step, %window, %length -> STFT(x, step, window, length)"""
    operands = [op.x, as_scalar(writer, op.step), op.window, as_scalar(writer, op.length)]
    writer.node("STFT", operands, op.results, onesided=int(op.onesided))


@exports(signal.WindowFunctionOp)
def window(op: signal.WindowFunctionOp, writer: Writer) -> None:
    """graph.window_function %n {hann} -> HannWindow(n)"""
    options: dict[str, Any] = {"periodic": int(op.periodic), "output_datatype": number_of(op.element)}
    writer.node(f"{op.kind.capitalize()}Window", [as_scalar(writer, op.size)], op.results, **options)


@exports(signal.MelWeightsOp)
def mel_weights(op: signal.MelWeightsOp, writer: Writer) -> None:
    """graph.mel_weights %bins, %length, %rate, %low, %high -> MelWeightMatrix(bins, length, rate, low, high)"""
    operands = [as_scalar(writer, operand) for operand in op.operands]
    writer.node("MelWeightMatrix", operands, op.results, output_datatype=number_of(op.element))
