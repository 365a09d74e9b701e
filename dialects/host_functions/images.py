"""Images, decoded by Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.host_functions import host_function
from stepwell.errors import IRError
from stepwell.ir.types import UI8, TensorType

Array = np.ndarray[Any, Any]

CHANNELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}
"""Layouts of a pixel: how many bytes it has."""

FORMATS = ("BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that ONNX asks for; others may run programs to be read."""

MOST_PIXELS = 1 << 27
"""Of an image whose header says more, no pixel is decoded: a file of some bytes may claim any size."""


def _decoder_types(op: Any) -> Sequence[TensorType]:
    from stepwell.dialects.graph.symbols import fresh_dim

    (stream,) = op.types
    layout = op.told().get("pixel_format", "RGB")
    if stream.rank != 1 or stream.element is not UI8:
        raise IRError(f"an encoded image is a list of bytes, not {stream}")
    if layout not in CHANNELS:
        raise IRError(f"pixels are {', '.join(CHANNELS)}, not {layout!r}")
    size = (fresh_dim(op, "image_height"), fresh_dim(op, "image_width", 1))
    return [TensorType((*size, CHANNELS[layout]), UI8)]


@host_function(_decoder_types)
def image_decoder(config: Any, stream: Array) -> Array:
    """The pixels [height, width, channels] of an encoded image; none of what is no image. ONNX: ImageDecoder."""
    layout = config.get("pixel_format", "RGB")
    try:
        from PIL import Image, UnidentifiedImageError  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise IRError("decoding images needs Pillow: pip install 'stepwell[image]'") from None
    try:
        with Image.open(io.BytesIO(stream.tobytes()), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise IRError(f"an image of {width} x {height} pixels; at most {MOST_PIXELS} are decoded")
            pixels = np.asarray(image.convert("L" if layout == "Grayscale" else "RGB"), np.uint8)
    except Image.DecompressionBombError as error:
        raise IRError(f"the image is too large: {error}") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError):
        return np.empty((0, 0, CHANNELS[layout]), np.uint8)
    if layout == "Grayscale":
        return pixels[:, :, np.newaxis]
    return np.ascontiguousarray(pixels[:, :, ::-1]) if layout == "BGR" else pixels
