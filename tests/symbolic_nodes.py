"""Models of one node with a symbol for each size of its inputs, and their results against ONNX's evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

Array = np.ndarray[Any, Any]


def model(op: str, opset: int, ranks: dict[str, int], results: int = 1, **attributes: Any) -> Any:
    """A node with a symbol of its own for each size of its inputs; an absent input has rank 0."""
    inputs = [name if rank else "" for name, rank in ranks.items()]
    node = helper.make_node(op, inputs, [f"y{n}" for n in range(results)], name="the_node", **attributes)
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}{axis}" for axis in range(rank)])
             for name, rank in ranks.items() if rank]  # fmt: skip
    outs = [helper.make_tensor_value_info(f"y{n}", TensorProto.FLOAT, None) for n in range(results)]
    graph = helper.make_graph([node], "g", infos, outs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def arrays(shapes: Sequence[Sequence[int]]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def results(made: Any, compiled: Any, shapes: Sequence[Sequence[int]]) -> list[tuple[Array, Array]]:
    """What a compiled model gives for random inputs of some shapes, beside what the evaluator gives."""
    given = arrays(shapes)
    names = [port.name for port in made.graph.input]
    expected = ReferenceEvaluator(made).run(None, dict(zip(names, given, strict=True)))
    found = compiled(*given)
    return list(zip(found if isinstance(found, (list, tuple)) else [found], expected, strict=True))
