"""Walk two digit classifiers down the landings, then classify held-out handwritten digits with the machine code.

    python examples/digits.py                  # every landing's IR, then the accuracy
    python examples/digits.py --quiet cnn      # one model, the accuracy only

Exits with 1 when a model is right on fewer held-out images than `--at-least` asks for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import stepwell
from stepwell import cli

HERE = Path(__file__).parent
IMAGE_SHAPES = {"mlp": (64,), "cnn": (1, 8, 8)}


def held_out(shape: Sequence[int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """The held-out images `[n, *shape]` f32 in [0, 1] and their labels `[n]`; the files hold grey levels 0 to 16."""
    images = np.load(HERE / "digits_images.npy")
    labels = np.load(HERE / "digits_labels.npy")
    return images.reshape(-1, *shape).astype(np.float32) / np.float32(16), labels


def accuracy(path: Path, shape: Sequence[int]) -> float:
    """The share of held-out images that the model at `path`, compiled by Stepwell, puts into their own class."""
    images, labels = held_out(shape)
    logits = np.asarray(stepwell.compile(path)(images))
    return float(np.mean(logits.argmax(axis=1) == labels))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="mlp, cnn (default: both)")
    parser.add_argument("--quiet", action="store_true", help="do not print the IR")
    parser.add_argument("--at-least", type=float, default=0.95, metavar="SHARE", help="default: %(default)s")
    args = parser.parse_args(argv)
    if unknown := set(args.models) - IMAGE_SHAPES.keys():
        parser.error(f"no such model: {', '.join(sorted(unknown))}; there are {', '.join(IMAGE_SHAPES)}")

    good = True
    for name in args.models or IMAGE_SHAPES:
        path = HERE / f"digits_{name}.onnx"
        if not args.quiet and (code := cli.main(["--print-after-all", str(path)])):
            return code
        share = accuracy(path, IMAGE_SHAPES[name])
        print(f"{path.name}: {share:.1%} of the held-out images are classified right", flush=True)
        good &= share >= args.at_least
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
