"""Windows, mel filters and Fourier transforms: against NumPy's, at every landing, with sizes that data tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.dialects.graph.signal import DftOp, MelWeightsOp, StftOp, WindowFunctionOp, roots_of_unity
from stepwell.errors import InputError, IRError, RuntimeError
from stepwell.ir.types import BF16, F16, F32, F64, SI32, SI64, Type, numpy_dtype
from tests.lowering.to_tensor.descent import K, M, N, check, constant, graph_module, tensor

SCALAR = tensor(element=SI64)


def signal(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def compiled(types: Any, build: Any) -> stepwell.Model:
    return stepwell.compile(graph_module(types, build))


def run(types: Any, build: Any, *arrays: Any) -> Any:
    return compiled(types, build)(*map(np.asarray, arrays))


COSINES = {"hann": (0.5, -0.5, 0.0), "hamming": (25 / 46, -21 / 46, 0.0), "blackman": (0.42, -0.5, 0.08)}


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("kind", COSINES)
def test_windows_of_a_size_that_data_tell(kind: str, periodic: bool) -> None:
    model = stepwell.compile(
        graph_module([SCALAR], lambda n: WindowFunctionOp(n, kind=kind, periodic=periodic or None, element=F64))
    )
    a, b, c = COSINES[kind]
    for size in (0, 1, 2, 16, 77):
        period = size if periodic else size - 1
        angle = 2 * np.pi * np.arange(size) / max(period, 1)
        expected = a + b * np.cos(angle) + c * np.cos(2 * angle) if period > 0 else np.ones(size)
        made = model(np.int64(size))
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-15)
        if size > 1:  # 0.42 - 0.5 + 0.08 is -1.4e-17, which has no square root
            assert made.min() >= 0 and (kind == "hamming" or made[0] == 0)


@pytest.mark.parametrize("element", [F32, F16, BF16, SI32])
def test_windows_are_rounded_once(element: Type) -> None:
    made = run([SCALAR], lambda n: WindowFunctionOp(n, kind="hamming", element=element), np.int64(9))
    wide = run([SCALAR], lambda n: WindowFunctionOp(n, kind="hamming", element=F64), np.int64(9))
    np.testing.assert_array_equal(made, wide.astype(numpy_dtype(element)))


def test_windows_at_every_landing() -> None:
    check([], lambda: WindowFunctionOp(constant(np.int64(7)), kind="hann", element=F64), tolerance=1e-15)


def test_a_window_of_a_negative_size() -> None:
    with pytest.raises(RuntimeError, match="negative"):
        run([SCALAR], lambda n: WindowFunctionOp(n, kind="hann", element=F32), np.int64(-1))


def test_mel_filters() -> None:
    types = [tensor(element=SI32)] * 3 + [tensor()] * 2
    model = stepwell.compile(graph_module(types, lambda *args: MelWeightsOp(*args, element=F32)))
    for bins, length, rate, low, high in ((8, 16, 8192, 0, 4096), (20, 512, 16000, 125, 7500), (1, 2, 8, 0, 4)):
        given = [np.int32(bins), np.int32(length), np.int32(rate), np.float32(low), np.float32(high)]
        expected = mel_filters(bins, length, rate, low, high)
        made = model(*given)
        assert made.shape == (length // 2 + 1, bins)
        np.testing.assert_allclose(made, expected, rtol=1e-6, atol=1e-7)


def mel_filters(bins: int, length: int, rate: int, low: float, high: float) -> Any:
    """Triangles over neighbouring edges, bin by bin."""
    start, end = (2595 * np.log10(1 + hertz / 700) for hertz in (low, high))
    mels = start + np.arange(bins + 2) * (end - start) / (bins + 2)
    edges = np.floor((length + 1) * 700 * (10 ** (mels / 2595) - 1) / rate)
    made = np.zeros((length // 2 + 1, bins))
    for k, (left, center, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for i in range(len(made)):
            if left <= i <= center:
                made[i, k] = (i - left) / (center - left) if center > left else 1
            if center <= i < right:
                made[i, k] = (right - i) / max(right - center, 1)
    return made


def transform(x: Any, axis: int, length: int | None, inverse: bool, onesided: bool) -> Any:
    """In double precision, with real and imaginary parts side by side."""
    wide = x.astype(np.float64)
    whole = wide[..., 0] + (1j * wide[..., 1] if x.shape[-1] == 2 else 0)
    if inverse and onesided:
        return np.fft.irfft(whole, length, axis)[..., None]
    if onesided:
        whole = np.fft.rfft(whole.real, length, axis)
    else:
        whole = (np.fft.ifft if inverse else np.fft.fft)(whole, length, axis)
    return np.stack([whole.real, whole.imag], -1)


FORMS = [(False, False, 1), (False, False, 2), (True, False, 2), (False, True, 1), (True, True, 2)]


@pytest.mark.parametrize("inverse, onesided, parts", FORMS)
@pytest.mark.parametrize("lengths", [(), (1, 12)], ids=["whole", "given"])
def test_transforms_of_unknown_sizes(inverse: bool, onesided: bool, parts: int, lengths: Sequence[int]) -> None:
    """The axis is known, its size is a symbol or the transform's length an operand."""
    options: dict[str, Any] = {"inverse": inverse or None, "onesided": onesided or None, "axis": 1}
    types = [tensor(N, M, parts), *([SCALAR] if lengths else [])]
    model = compiled(types, lambda x, *n: DftOp(x, *(n or (None,)), None, **options))
    x = signal(3, 9, parts)
    for length in lengths or (None,):
        made = model(x) if length is None else model(x, np.int64(length))
        expected = transform(x, 1, length, inverse, onesided)
        assert made.shape == expected.shape
        np.testing.assert_allclose(made, expected, atol=2e-5)


@pytest.mark.parametrize("inverse, onesided, parts", FORMS[2:])
@pytest.mark.parametrize("shape", [(4, 9, 5), (N, 9, M)])
def test_the_axis_by_data(shape: Any, inverse: bool, onesided: bool, parts: int) -> None:
    options: dict[str, Any] = {"inverse": inverse or None, "onesided": onesided or None}
    x = signal(4, 9, 5, parts)
    model = compiled([tensor(*shape, parts), SCALAR], lambda x, a: DftOp(x, None, a, **options))
    for axis in (0, 2, -3):
        made = model(x, np.int64(axis))
        expected = transform(x, axis if axis >= 0 else axis + 1, None, inverse, onesided)
        assert made.shape == expected.shape
        np.testing.assert_allclose(made, expected, atol=2e-5)


@pytest.mark.parametrize("length", [10, 100, 509, 1024])
def test_complex_transforms_in_steps(length: int) -> None:
    x = signal(2, length, 2)
    made = run([tensor(2, length, 2)], lambda x: DftOp(x, None, None, axis=1), x)
    expected = transform(x, 1, None, False, False)
    np.testing.assert_allclose(made, expected, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 12, 1000])
def test_roots_of_unity(length: int, inverse: bool) -> None:
    turns = np.arange(-2 * length, 2 * length)
    cos, sin = roots_of_unity(turns, length, inverse)
    made = np.exp((2j if inverse else -2j) * np.pi * (turns % length) / length)
    np.testing.assert_allclose(cos + 1j * sin, made, rtol=0, atol=2e-15)  # 2 pi, rounded
    quarters = 4 * turns % length == 0
    assert set(cos[quarters]) | set(sin[quarters]) <= {-1.0, 0.0, 1.0}
    np.testing.assert_array_equal(np.hypot(cos, sin)[quarters], 1)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("length", [2, 4, 8, 250, 1000])
def test_the_middle_of_a_spectrum_is_real(length: int, known: bool) -> None:
    """Of a real signal: what a root of unity that is only nearly -1 leaves there would be no 0."""
    model = compiled([tensor(2, length if known else N, 1)], lambda x: DftOp(x, None, None, axis=1))
    made = model(1 + np.abs(signal(2, length, 1)))
    np.testing.assert_array_equal(made[:, [0, length // 2], 1], 0)


@pytest.mark.parametrize("inverse, onesided, parts", FORMS)
def test_nan_reaches_all_frequencies(inverse: bool, onesided: bool, parts: int) -> None:
    """In the row that has it, at every landing: both parts, even where a root's part is 0."""
    x = signal(3, 8, parts)
    x[1, 3, 0] = np.nan
    options: dict[str, Any] = {"inverse": inverse or None, "onesided": onesided or None, "axis": 1}
    check([tensor(3, 8, parts)], lambda x: DftOp(x, None, None, **options), x, tolerance=2e-5)
    found = run([tensor(3, 8, parts)], lambda x: DftOp(x, None, None, **options), x)
    assert np.isfinite(found[[0, 2]]).all()
    assert np.isnan(found[1]).all()


def test_an_axis_that_is_none() -> None:
    with pytest.raises(RuntimeError, match="not among the signal's axes 0 to 1"):
        run([tensor(4, 9, 1), SCALAR], lambda x, a: DftOp(x, None, a), signal(4, 9, 1), np.int64(2))


def test_parts_that_are_unknown() -> None:
    model = stepwell.compile(graph_module([tensor(N, M, K)], lambda x: DftOp(x, None, None, axis=1)))
    for parts in (1, 2):
        x = signal(2, 7, parts)
        np.testing.assert_allclose(model(x), transform(x, 1, None, False, False), atol=1e-5)
    with pytest.raises(InputError, match="parts of a signal"):
        model(signal(2, 7, 3))
    with pytest.raises(IRError, match="last axis of 1 or 2"):
        graph_module([tensor(2, 7, 3)], lambda x: DftOp(x, None, None, axis=1))


def frames(x: Any, step: int, window: Any, onesided: bool) -> Any:
    starts = np.arange(0, x.shape[1] - len(window) + 1, step)
    cut = x[:, starts[:, None] + np.arange(len(window))] * window[:, None]
    return transform(cut, -1, None, False, onesided)


@pytest.mark.parametrize("onesided", [False, True])
@pytest.mark.parametrize("windowed", [False, True])
def test_frames_of_unknown_length(windowed: bool, onesided: bool) -> None:
    types = [tensor(N, M, 1), SCALAR, tensor(K) if windowed else SCALAR]

    def build(x: Any, step: Any, last: Any) -> Any:
        rest = (last, None) if windowed else (None, last)
        return StftOp(x, step, *rest, onesided=onesided or None)

    model, x = stepwell.compile(graph_module(types, build)), signal(2, 40, 1)
    for length, step in ((8, 4), (7, 3), (40, 1)):
        window = signal(length) if windowed else np.ones(length, np.float32)
        made = model(x, np.int64(step), window if windowed else np.int64(length))
        expected = frames(x, step, window, onesided)
        assert made.shape == expected.shape
        np.testing.assert_allclose(made, expected, atol=2e-5)


@pytest.mark.parametrize("onesided", [False, True])
def test_nan_reaches_all_frequencies_of_its_frames(onesided: bool) -> None:
    """At every landing: those that start at samples 0, 2 and 4 do not read sample 9, the next two do."""
    x, window = signal(2, 14, 1), signal(5)
    x[1, 9] = np.nan

    def build(x: Any, window: Any) -> Any:
        return StftOp(x, constant(np.int64(2)), window, None, onesided=onesided or None)

    types = [tensor(2, 14, 1), tensor(5)]
    check(types, build, x, window, tolerance=2e-5)
    found = np.isnan(run(types, build, x, window))
    assert not found[0].any() and found[1].all((1, 2)).tolist() == [False] * 3 + [True] * 2
    assert not found[1, :3].any()


@pytest.mark.parametrize("length, step", [(41, 1), (8, 0), (8, -2)])
def test_frames_that_do_not_fit(length: int, step: int) -> None:
    with pytest.raises(RuntimeError, match="negative"):
        run([tensor(2, 40, 1), SCALAR, SCALAR], lambda x, s, n: StftOp(x, s, None, n), signal(2, 40, 1),
            np.int64(step), np.int64(length))  # fmt: skip


def test_a_window_and_a_length_agree() -> None:
    def build(x: Any, window: Any) -> Any:
        return StftOp(x, constant(np.int64(2)), window, constant(np.int64(5)))

    with pytest.raises(IRError, match="the window and the frame: sizes 7 and 5 differ"):
        graph_module([tensor(2, 14, 1), tensor(7)], build)
    model, x, window = compiled([tensor(2, 14, 1), tensor(N)], build), signal(2, 14, 1), signal(5)
    np.testing.assert_allclose(model(x, window), frames(x, 2, window, False), atol=2e-5)
    with pytest.raises(InputError, match="the window and the frame"):
        model(x, signal(7))
