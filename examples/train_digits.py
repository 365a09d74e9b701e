"""Train two small digit classifiers in plain NumPy and write them as ONNX models.

    python examples/train_digits.py            # rewrites the .onnx and .npy files beside this script

The data are the 1,797 handwritten 8x8 digits that scikit-learn bundles; a fifth of them is held out. Each layer below
knows three things: its forward step, its backward step, and the ONNX nodes that mean the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

Array = npt.NDArray[np.float32]
HERE = Path(__file__).parent
SEED = 7
HELD_OUT = 360
OPSET = 21


class Parameter:
    """A trained array `[...]` f32, its gradient, and Adam's two moments."""

    def __init__(self, name: str, value: npt.NDArray[Any]) -> None:
        self.name = name
        self.value: Array = value.astype(np.float32)
        self.gradient = np.zeros_like(self.value)
        self.first = np.zeros_like(self.value)
        self.second = np.zeros_like(self.value)

    def update(self, step: int, rate: float) -> None:
        """One step of Adam (Kingma and Ba, 2015, algorithm 1) with the paper's constants; `step` counts from 1."""
        self.first += np.float32(0.1) * (self.gradient - self.first)
        self.second += np.float32(0.001) * (self.gradient**2 - self.second)
        first = self.first / np.float32(1 - 0.9**step)
        second = self.second / np.float32(1 - 0.999**step)
        self.value -= np.float32(rate) * first / (np.sqrt(second) + np.float32(1e-8))


class Layer(Protocol):
    """One layer. `backward` takes and gives gradients of the mean loss, and leaves its parameters' gradients set."""

    name: str

    def parameters(self) -> Sequence[Parameter]: ...

    def forward(self, x: Array) -> Array: ...

    def backward(self, dy: Array) -> Array: ...

    def nodes(self, source: str) -> list[onnx.NodeProto]: ...


def _he(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> npt.NDArray[Any]:
    """Normal values of variance `2 / fan_in` (He et al., 2015), which keep their scale through Relu layers."""
    return np.asarray(rng.standard_normal(shape) * np.sqrt(2.0 / fan_in))


class Dense:
    """`y = x @ W + b` for `x [n, k]`; exported as one Gemm, or as MatMul and Add."""

    def __init__(self, name: str, rng: np.random.Generator, k: int, m: int, *, gemm: bool) -> None:
        self.name = name
        self.gemm = gemm
        self.weight = Parameter(f"{name}.weight", _he(rng, (k, m), k))
        self.bias = Parameter(f"{name}.bias", np.zeros(m))

    def parameters(self) -> Sequence[Parameter]:
        return (self.weight, self.bias)

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray(x @ self.weight.value + self.bias.value)

    def backward(self, dy: Array) -> Array:
        self.weight.gradient = self.x.T @ dy
        self.bias.gradient = dy.sum(axis=0)
        return dy @ self.weight.value.T

    def nodes(self, source: str) -> list[onnx.NodeProto]:
        weight, bias = self.weight.name, self.bias.name
        if self.gemm:
            return [helper.make_node("Gemm", [source, weight, bias], [self.name], name=self.name)]
        product = f"{self.name}/product"
        return [
            helper.make_node("MatMul", [source, weight], [product], name=f"{self.name}/matmul"),
            helper.make_node("Add", [product, bias], [self.name], name=f"{self.name}/add"),
        ]


class Conv3x3:
    """A 3x3 convolution `[n, c, h, w] -> [n, m, h, w]` with one pixel of zeros around, as a product of patches."""

    def __init__(self, name: str, rng: np.random.Generator, c: int, m: int) -> None:
        self.name = name
        self.weight = Parameter(f"{name}.weight", _he(rng, (m, c, 3, 3), 9 * c))
        self.bias = Parameter(f"{name}.bias", np.zeros(m))

    def parameters(self) -> Sequence[Parameter]:
        return (self.weight, self.bias)

    def forward(self, x: Array) -> Array:
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        self.patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        y = np.tensordot(self.patches, self.weight.value, axes=((1, 4, 5), (1, 2, 3)))
        return np.ascontiguousarray((y + self.bias.value).transpose(0, 3, 1, 2))

    def backward(self, dy: Array) -> Array:
        self.weight.gradient = np.tensordot(dy, self.patches, axes=((0, 2, 3), (0, 2, 3)))
        self.bias.gradient = dy.sum(axis=(0, 2, 3))
        n, _, h, w = dy.shape
        spread = np.tensordot(dy, self.weight.value, axes=((1,), (0,)))
        dx = np.zeros((n, self.weight.value.shape[1], h + 2, w + 2), np.float32)
        for i, j in np.ndindex(3, 3):
            dx[:, :, i : i + h, j : j + w] += spread[..., i, j].transpose(0, 3, 1, 2)
        return dx[:, :, 1:-1, 1:-1]

    def nodes(self, source: str) -> list[onnx.NodeProto]:
        inputs = [source, self.weight.name, self.bias.name]
        window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        return [helper.make_node("Conv", inputs, [self.name], name=self.name, **window)]


class _Plain:
    """What layers without parameters share."""

    def __init__(self, name: str) -> None:
        self.name = name

    def parameters(self) -> Sequence[Parameter]:
        return ()


class Relu(_Plain):
    """`max(x, 0)`."""

    def forward(self, x: Array) -> Array:
        self.positive = x > 0
        return x * self.positive

    def backward(self, dy: Array) -> Array:
        return dy * self.positive

    def nodes(self, source: str) -> list[onnx.NodeProto]:
        return [helper.make_node("Relu", [source], [self.name], name=self.name)]


class MaxPool2x2(_Plain):
    """The largest of each 2x2 block; `h` and `w` are even. The gradient goes to the first of equal maxima."""

    def forward(self, x: Array) -> Array:
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
        self.chosen = np.eye(4, dtype=np.float32)[blocks.argmax(axis=-1)]
        return np.asarray(blocks.max(axis=-1))

    def backward(self, dy: Array) -> Array:
        n, c, h, w = dy.shape
        blocks: Array = (self.chosen * dy[..., np.newaxis]).reshape(n, c, h, w, 2, 2)
        return blocks.transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w)

    def nodes(self, source: str) -> list[onnx.NodeProto]:
        window = {"kernel_shape": [2, 2], "strides": [2, 2]}
        return [helper.make_node("MaxPool", [source], [self.name], name=self.name, **window)]


class Flatten(_Plain):
    """`[n, ...] -> [n, k]`."""

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: Array) -> Array:
        return dy.reshape(self.shape)

    def nodes(self, source: str) -> list[onnx.NodeProto]:
        return [helper.make_node("Flatten", [source], [self.name], name=self.name, axis=1)]


def mlp(rng: np.random.Generator) -> list[Layer]:
    """64 -> 32 -> 10 over flat images."""
    hidden = Dense("hidden", rng, 64, 32, gemm=False)
    return [hidden, Relu("hidden/relu"), Dense("logits", rng, 32, 10, gemm=True)]


def cnn(rng: np.random.Generator) -> list[Layer]:
    """Two convolutions, a pooling and a dense layer over images `[n, 1, 8, 8]`."""
    return [
        Conv3x3("conv1", rng, 1, 8),
        Relu("conv1/relu"),
        Conv3x3("conv2", rng, 8, 16),
        Relu("conv2/relu"),
        MaxPool2x2("pool"),
        Flatten("flatten"),
        Dense("logits", rng, 16 * 4 * 4, 10, gemm=True),
    ]


def predict(layers: Sequence[Layer], x: Array) -> Array:
    """The logits `[n, 10]` of images `x [n, ...]`."""
    for layer in layers:
        x = layer.forward(x)
    return x


def _loss_gradient(logits: Array, labels: npt.NDArray[np.int64]) -> Array:
    """The gradient of the mean cross-entropy of softmax at `logits [n, 10]`."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    gradient = odds / odds.sum(axis=1, keepdims=True)
    gradient[np.arange(len(labels)), labels] -= 1
    return np.asarray(gradient / np.float32(len(labels)))


def _batches(rng: np.random.Generator, count: int, size: int) -> Iterator[npt.NDArray[np.int64]]:
    order = rng.permutation(count)
    return (order[start : start + size] for start in range(0, count, size))


def train(layers: Sequence[Layer], x: Array, labels: npt.NDArray[np.int64], *, epochs: int, seed: int = SEED) -> None:
    """Fit `layers` to `x [n, ...]` and `labels [n]` with Adam, in place."""
    rng = np.random.default_rng(seed)
    step = 0
    for epoch in range(epochs):
        rate = 2e-3 * (1 - epoch / epochs)
        for batch in _batches(rng, len(x), 32):
            step += 1
            gradient = _loss_gradient(predict(layers, x[batch]), labels[batch])
            for layer in reversed(layers):
                gradient = layer.backward(gradient)
                for parameter in layer.parameters():
                    parameter.update(step, rate)


def export(layers: Sequence[Layer], name: str, image_shape: Sequence[int]) -> onnx.ModelProto:
    """The ONNX model `image [batch, *image_shape] f32 -> logits [batch, 10] f32` that computes `layers`."""
    nodes, source = [], "image"
    for layer in layers:
        nodes += layer.nodes(source)
        source = layer.name
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *image_shape])],
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(parameter.value, parameter.name) for parameter in parameters],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="train_digits")
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the files (default: beside this script)")
    output: Path = parser.parse_args().output

    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    images = digits.images[order].astype(np.uint8)
    labels = digits.target[order].astype(np.int64)
    scaled = images.astype(np.float32) / np.float32(16)
    np.save(output / "digits_images.npy", images[:HELD_OUT])
    np.save(output / "digits_labels.npy", labels[:HELD_OUT].astype(np.uint8))

    for name, build, shape, epochs in (("digits_mlp", mlp, (64,), 60), ("digits_cnn", cnn, (1, 8, 8), 20)):
        x = scaled.reshape(-1, *shape)
        layers = build(np.random.default_rng(SEED))
        train(layers, x[HELD_OUT:], labels[HELD_OUT:], epochs=epochs)
        accuracy = float(np.mean(predict(layers, x[:HELD_OUT]).argmax(axis=1) == labels[:HELD_OUT]))
        onnx.save(export(layers, name, shape), output / f"{name}.onnx")
        print(f"{name}: {accuracy:.1%} of {HELD_OUT} held-out images")


if __name__ == "__main__":
    main()
