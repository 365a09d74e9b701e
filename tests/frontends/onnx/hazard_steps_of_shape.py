"""Steps of the operators that move elements: which version takes what from where, worked out by hand."""

from __future__ import annotations

import numpy as np

from tests.frontends.onnx.hazard_sides import N, Side, X, at, f32, ints

ROW = np.arange(4, dtype=N).reshape(1, 1, 1, 4)
EIGHT = np.arange(8, dtype=N).reshape(1, 8, 1, 1)
REGION = [X[None, None], f32([0, 0, 2, 1]), ints(0)]

STEPS: dict[str, tuple[Side, ...]] = {
    "Reshape 1 -> 5: the target becomes an input": (
        at(1, X.reshape(3, 2), X, shape=[3, -1]),
        at(5, X.reshape(3, 2), X, ints(3, -1)),
    ),
    "Reshape 13 -> 14: a 0 may mean a size of 0": (
        at(13, np.zeros((0, 10), N), np.zeros((0, 10), N), ints(0, 0)),
        at(14, np.zeros((0, 10), N), np.zeros((0, 10), N), ints(0, 0)),
        at(14, np.zeros((0, 0), N), np.zeros((0, 10), N), ints(0, 0), allowzero=1),
        at(13, "allowzero", X, ints(0, 3), allowzero=1),
    ),
    "Squeeze 1 -> 11: axes may count from the back": (
        at(1, X, X[..., None], axes=[2]),
        at(11, X, X[..., None], axes=[-1]),
    ),
    "Squeeze 11 -> 13: the axes become an input": (
        at(11, X[None], X[None, ..., None], axes=[3]),
        at(13, X[None], X[None, ..., None], ints(3)),
        at(13, X, X[None, ..., None]),
        at(13, "axes", X[None], axes=[0]),
    ),
    "Unsqueeze 1 -> 11: axes may count from the back": (
        at(1, X[..., None], X, axes=[2]),
        at(11, X[..., None], X, axes=[-1]),
    ),
    "Unsqueeze 11 -> 13: the axes become an input": (
        at(11, X[None, ..., None], X, axes=[0, 3]),
        at(13, X[None, ..., None], X, ints(0, 3)),
    ),
    "Split 1 -> 2: sizes are an attribute only, the axis is 0 by default": (
        at(1, [X[:1], X[1:]], X, ints(1, 1), outputs=2, axis=0),
        at(2, [X[:1], X[1:]], X, outputs=2, split=[1, 1]),
    ),
    "Split 11 -> 13: sizes become an input": (
        at(11, [X[:, :1], X[:, 1:]], X, outputs=2, axis=1, split=[1, 2]),
        at(13, [X[:, :1], X[:, 1:]], X, ints(1, 2), outputs=2, axis=1),
        at(13, "not 2 equal parts", X, outputs=2, axis=1),
    ),
    "Split 13 -> 18: the last part may be smaller": (
        at(13, "num_outputs", X, outputs=2, axis=1, num_outputs=2),
        at(18, [X[:, :2], X[:, 2:]], X, outputs=2, axis=1, num_outputs=2),
        at(18, [X[:, :1], X[:, 1:]], X, ints(1, 2), outputs=2, axis=1),
    ),
    "Slice 1 -> 10: bounds become inputs, with steps": (
        at(1, X[:, 1:2], X, starts=[-2], ends=[-1], axes=[1]),
        at(1, X[:, 1:], X, starts=[1], ends=[99], axes=[1]),
        at(10, X[:, 1:], X, ints(1), ints(99), ints(1)),
        at(10, X[:, ::-1], X, ints(99), ints(-99), ints(1), ints(-1)),
        at(10, X[:, ::-2], X, ints(-1), ints(-99), ints(-1), ints(-2)),
    ),
    "Pad 1 -> 2: paddings are called pads": (
        at(1, X[:, [0, 0, 1, 2]], X, paddings=[0, 1, 0, 0], mode="edge"),
        at(2, X[:, [0, 0, 1, 2]], X, pads=[0, 1, 0, 0], mode="edge"),
        at(2, X[:, 1:], X, pads=[0, -1, 0, 0]),
    ),
    "Pad 2 -> 11: pads and value become inputs": (
        at(2, np.pad(X[1:], [(0, 0), (2, 0)], constant_values=9), X, pads=[-1, 2, 0, 0], value=9.0),
        at(11, np.pad(X[1:], [(0, 0), (2, 0)], constant_values=9), X, ints(-1, 2, 0, 0), N(9)),
        at(11, X[:, [0, 1, 0, 1]], X, ints(0, 2, 0, -1), mode="reflect"),
    ),
    "Pad 13 -> 18: axes": (
        at(13, X[:, [0, 0, 1, 2]], X, ints(0, 1, 0, 0), mode="edge"),
        at(18, X[:, [0, 0, 1, 2]], X, ints(1, 0), None, ints(-1), mode="edge"),
        at(18, X[:, [0, 1]], X, ints(0, -1), None, ints(1)),
    ),
    "Pad 18 -> 19: wrap": (
        at(18, X[:, [1, 0, 1, 2, 1]], X, ints(0, 1, 0, 1), mode="reflect"),
        at(19, X[:, [2, 0, 1, 2, 0]], X, ints(0, 1, 0, 1), mode="wrap"),
        at(19, X[:, [1, 2, 1]], X, ints(0, -1, 0, 1), mode="wrap"),
        at(19, X[:, [2, 0, 1, 2, 0, 1, 2, 0]], X, ints(0, 1, 0, 4), mode="wrap"),
    ),
    "DepthToSpace 1 -> 11: the order CRD": (
        at(1, EIGHT.reshape(1, 2, 2, 2, 1, 1).transpose(0, 3, 4, 1, 5, 2).reshape(1, 2, 2, 2), EIGHT, blocksize=2),
        at(11, EIGHT.reshape(1, 2, 2, 2, 1, 1).transpose(0, 3, 4, 1, 5, 2).reshape(1, 2, 2, 2), EIGHT, blocksize=2),
        at(11, EIGHT.reshape(1, 2, 2, 2), EIGHT, blocksize=2, mode="CRD"),
        at(1, "mode", EIGHT, blocksize=2, mode="CRD"),
    ),
    "TopK 1 -> 10: k becomes an input": (
        at(1, [f32(3, 2), ints(0, 2)], f32(3, 1, 2), outputs=2, k=2),
        at(10, [f32(3, 2), ints(0, 2)], f32(3, 1, 2), ints(2), outputs=2),
    ),
    "TopK 10 -> 11: the smallest, and integers": (
        at(10, "largest", f32(3, 1, 2), ints(2), outputs=2, largest=0),
        at(11, [f32(1, 2), ints(1, 2)], f32(3, 1, 2), ints(2), outputs=2, largest=0),
        at(11, [ints(7, 7), ints(0, 2)], ints(7, 1, 7), ints(2), outputs=2),
    ),
    "Upsample 1 -> 7: scales by axis": (
        at(1, ROW.repeat(2, 3), ROW, height_scale=1.0, width_scale=2.0),
        at(7, ROW.repeat(2, 3), ROW, scales=[1.0, 1.0, 1.0, 2.0]),
        at(7, f32(0, 0.5, 1, 1.5, 2, 2.5, 3, 3).reshape(1, 1, 1, 8), ROW, scales=[1.0, 1.0, 1.0, 2.0], mode="linear"),
    ),
    "Upsample 7 -> 9: scales become an input": (
        at(7, ROW.repeat(2, 3), ROW, scales=[1.0, 1.0, 1.0, 2.0]),
        at(9, ROW.repeat(2, 3), ROW, f32(1, 1, 1, 2)),
        at(9, f32(0, 0.5, 1, 1.5, 2, 2.5, 3, 3).reshape(1, 1, 1, 8), ROW, f32(1, 1, 1, 2), mode="linear"),
    ),
    "Resize 10 -> 11: half pixels in place of corners": (
        at(10, f32(0, 1, 3), f32(0, 1, 2, 3, 4), f32(0.6)),
        at(11, f32(0, 2, 4), f32(0, 1, 2, 3, 4), None, f32(0.6)),
        at(10, f32(0, 1, 2, 2), f32(0, 2), f32(2), mode="linear"),
        at(11, f32(0, 0.5, 1.5, 2), f32(0, 2), None, f32(2), mode="linear"),
        at(11, f32(0, 1, 2, 2), f32(0, 2), None, f32(2), mode="linear",
           coordinate_transformation_mode="asymmetric"),
        at(11, f32(0, 0.5, 1.5, 2), f32(0, 2), None, f32(), ints(4), mode="linear"),
    ),
    "Resize 11 -> 13: the region may be left out with sizes": (
        at(11, f32(0, 0.5, 1.5, 2), f32(0, 2), f32(), f32(), ints(4), mode="linear"),
        at(13, f32(0, 0.5, 1.5, 2), f32(0, 2), None, None, ints(4), mode="linear"),
    ),
    "Resize 13 -> 18: axes, kept ratios, wider filters": (
        at(13, X.repeat(2, 1), X, None, f32(1, 2)),
        at(18, X.repeat(2, 1), X, None, f32(2), axes=[1]),
        at(18, X.repeat(2, 1).repeat(2, 0), X, None, None, ints(5, 6), keep_aspect_ratio_policy="not_larger"),
        at(18, f32(0.625, 2.375), f32(0, 1, 2, 3), None, f32(0.5), mode="linear", antialias=1),
        at(13, "axes", X, None, f32(2), axes=[1]),
    ),
    "Resize 18 -> 19: half pixels about the middle": (
        at(18, f32(3 / 14, 23 / 14), f32(0, 1, 2, 3), None, f32(0.7), mode="linear"),
        at(19, f32(3 / 14, 23 / 14), f32(0, 1, 2, 3), None, f32(0.7), mode="linear"),
        at(19, f32(11 / 14, 31 / 14), f32(0, 1, 2, 3), None, f32(0.7), mode="linear",
           coordinate_transformation_mode="half_pixel_symmetric"),
    ),
    "GridSample 16 -> 20: other names of the modes, any number of axes": (
        at(16, f32([[[2.5]]]), X[None, None], f32([[[0, 0]]]), mode="bilinear"),
        at(16, f32([[[2.96875]]]), X[None, None], f32([[[0, 0]]]), mode="bicubic"),
        at(20, f32([[[2.5]]]), X[None, None], f32([[[0, 0]]]), mode="linear"),
        at(20, f32([[[2.96875]]]), X[None, None], f32([[[0, 0]]]), mode="cubic"),
        at(20, f32([[[[2.5]]]]), X[None, None, None], f32([[[[0, 0, 0]]]])),
    ),
    "RoiAlign 10 -> 16: half pixels": (
        at(10, f32([[[2.5]]]), *REGION, sampling_ratio=1),
        at(16, f32([[[0.5]]]), *REGION, sampling_ratio=1),
        at(16, f32([[[2.5]]]), *REGION, sampling_ratio=1, coordinate_transformation_mode="output_half_pixel"),
    ),
    "TensorScatter 23 -> 24: it is new": (
        at(24, f32([[0], [1], [0]]), np.zeros((1, 3, 1), N), f32([[1]]), ints(1)),
        at(24, f32([[2], [0], [1]]), np.zeros((1, 3, 1), N), f32([[1], [2]]), ints(2), mode="circular"),
    ),
}  # fmt: skip
