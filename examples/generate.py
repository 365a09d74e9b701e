"""Write text byte by byte with a model that keeps its keys and values in a state.

    python examples/generate.py                          # reads a passage, then goes on from "A stepwell"
    python examples/generate.py --prompt "Down" --bytes 120 --seed 3

The model is one attention head that nobody trained. A context vector turns by a random rotation and takes in the code
of each byte; the key of a step is the context before its byte, the value is the byte's code. The query is the context
now, so that the head looks for places where the text read the same before, and finds what came next there (an
induction head: Olsson et al., "In-context Learning and Induction Heads", 2022).

The context is carried from call to call; keys and values grow by one row each, in place.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

import stepwell

WIDTH = 256  # of a code
BYTES = 256
FORGET = 0.8  # what a step leaves of the context before it
SHARPNESS = 40.0  # of the search for contexts
CONFIDENCE = 22.0  # of the choice of a byte

TEXT = """\
A stepwell is a well that people reach by walking down steps. In dry months the water lies deep and the walk is long;
in wet months the water rises and the walk is short. A model walks down in the same way. It enters as a graph, and the
graph says what is computed. One flight down lie tensors, and the tensors say how data is kept. One flight down lie
loops, and the loops say in which order the work is done. At the bottom lies the water: the code that the machine runs.
Whoever walks down can stop at each landing, look around, and walk on.
"""

STATE = {"context": "next_context", "past_keys": "keys", "past_values": "values"}


def make_model(seed: int = 0) -> onnx.ModelProto:
    """(byte i64 [1], context [1, 256], past_keys and past_values f32 [past, 256]) ->
    (logits f32 [1, 256], next_context, keys, values [past + 1, 256])."""
    random = np.random.default_rng(seed)
    codes = random.choice([-1.0, 1.0], (BYTES, WIDTH)) / np.sqrt(WIDTH)
    rotation, _ = np.linalg.qr(random.standard_normal((WIDTH, WIDTH)))
    weights = {"codes": codes, "turn": FORGET * rotation, "choose": CONFIDENCE * codes.T, "tiny": 1e-6,
               "sharpness": SHARPNESS}  # fmt: skip
    steps = [
        ("Gather", "codes byte", "code"),
        ("ReduceL2", "context", "length"),
        ("Add", "length tiny", "some_length"),
        ("Div", "context some_length", "key"),
        ("MatMul", "context turn", "turned"),
        ("Add", "turned code", "next_context"),
        ("ReduceL2", "next_context", "next_length"),
        ("Div", "next_context next_length", "query"),
        ("Concat", "past_keys key", "keys"),
        ("Concat", "past_values code", "values"),
        ("Transpose", "keys", "turned_keys"),
        ("MatMul", "query turned_keys", "likeness"),
        ("Mul", "likeness sharpness", "scores"),
        ("Softmax", "scores", "attention"),
        ("MatMul", "attention values", "found"),
        ("MatMul", "found choose", "logits"),
    ]
    attributes: dict[str, dict[str, Any]] = {"Concat": {"axis": 0}, "ReduceL2": {"axes": [1]}}
    nodes = [helper.make_node(kind, given.split(), [made], **attributes.get(kind, {})) for kind, given, made in steps]
    row, past, present = [1, WIDTH], ["past", WIDTH], ["past + 1", WIDTH]
    inputs = {"context": row, "past_keys": past, "past_values": past}
    outputs = {"logits": [1, BYTES], "next_context": row, "keys": present, "values": present}
    graph = helper.make_graph(
        nodes, "induction",
        [helper.make_tensor_value_info("byte", TensorProto.INT64, [1]),
         *(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items())],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def read(model: stepwell.Model, state: stepwell.State, text: bytes) -> npt.NDArray[np.float32]:
    """Give the model bytes, one per call; answers the logits [256] of what may follow the last."""
    logits = np.zeros(BYTES, np.float32)
    for byte in text:
        logits = model(np.array([byte]), state=state)[0]
    return logits


def written(
    model: stepwell.Model, state: stepwell.State, logits: npt.NDArray[np.float32], random: np.random.Generator
) -> Iterator[int]:
    """Bytes without end: each is drawn, and given to the model."""
    while True:
        chances = np.exp(logits - logits.max())
        byte = int(random.choice(BYTES, p=chances / chances.sum(dtype=np.float64)))
        yield byte
        logits = read(model, state, bytes([byte]))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", default="A stepwell", help="what the text begins with (default: %(default)s)")
    parser.add_argument("--bytes", type=int, default=300, metavar="N", help="how many to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    args = parser.parse_args(argv)

    passage, prompt = TEXT.encode(), args.prompt.encode()
    room = len(passage) + len(prompt) + args.bytes
    model = stepwell.compile(make_model(), state=STATE, capacity={"past": room})
    state = model.new_state()
    logits = read(model, state, passage + prompt)
    sys.stdout.write(args.prompt)
    for count, byte in enumerate(written(model, state, logits, np.random.default_rng(args.seed))):
        if count == args.bytes:
            break
        sys.stdout.write(chr(byte) if byte < 128 else "?")
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
