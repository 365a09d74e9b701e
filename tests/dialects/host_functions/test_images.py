"""Images decoded on the host: pixels as they were drawn; what is no image, or claims too many pixels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from stepwell.dialects.host_functions import find
from stepwell.errors import IRError

Image = pytest.importorskip("PIL.Image", reason="decoding images needs Pillow: the extra stepwell[image]")

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 13


def encoded(form: str, pixels: Any = PIXELS, mode: str | None = None) -> Any:
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(stream, form)
    return np.frombuffer(stream.getvalue(), np.uint8)


def decoded(stream: Any, layout: str = "RGB") -> Any:
    return find("image_decoder").run({"pixel_format": layout}, stream)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_pixels_come_back(form: str) -> None:
    assert decoded(encoded(form)).tolist() == PIXELS.tolist()


def test_layouts_of_a_pixel() -> None:
    stream = encoded("PNG")
    assert decoded(stream, "BGR").tolist() == PIXELS[:, :, ::-1].tolist()
    grey = decoded(stream, "Grayscale")
    assert grey.shape == (2, 3, 1) and grey.dtype == np.uint8
    assert decoded(encoded("PNG", mode="RGBA")).shape == decoded(encoded("PNG", mode="P")).shape == (2, 3, 3)


@pytest.mark.parametrize(
    "stream",
    [b"", b"not an image", encoded("PNG").tobytes()[:40], b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n"],
)
def test_what_is_no_image_has_no_pixels(stream: bytes) -> None:
    assert decoded(np.frombuffer(stream, np.uint8)).shape == (0, 0, 3)


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("side", [12_000, 65_000])
def test_an_image_that_claims_too_many_pixels_is_not_decoded(side: int) -> None:
    header = f"P6 {side} {side} 255\n".encode()
    with pytest.raises(IRError, match=r"are decoded|is too large"):
        decoded(np.frombuffer(header + bytes(100), np.uint8))
