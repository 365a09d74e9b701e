"""Keeps what the ops of a program demand of sizes that only a call tells, as an attribute of the function.

graph.matmul %a, %b : (tensor<?x?xf32, ["n", "k"]>, tensor<?x?xf32, ["l", "m"]>)
->  func.func @main attributes {sw.demands = ["k - l", "/MatMul (graph.matmul): inner sizes: sizes k and l differ"]}
"""

from __future__ import annotations

from stepwell.dialects.func import FuncOp
from stepwell.dialects.graph.base import GraphOp
from stepwell.dialects.graph.demands import Demand, demand_size, recorded
from stepwell.dialects.program_attributes import DEMANDS
from stepwell.ir.attributes import ArrayAttr, StringAttr
from stepwell.ir.dims import free_symbols
from stepwell.ir.types import TensorType


def keep_demands(function: FuncOp) -> None:
    """Note the demands of all ops that surely run. What depends on sizes that the run itself makes is left out."""
    arguments = [argument.type for argument in function.arguments]
    known = {name for t in arguments if isinstance(t, TensorType) for dim in t.shape for name in free_symbols(dim)}
    found: dict[str, str] = {}
    for op in function.body.block:
        if isinstance(op, GraphOp):
            for demand in _demands_of(op):
                if free_symbols(demand.zero) <= known:
                    where = f"{op.loc.label} ({op.op_name})" if op.loc.label else op.op_name
                    found.setdefault(str(demand.zero), f"{where}: {demand.reason}")
    if found:
        texts = [text for pair in found.items() for text in pair]
        function.attributes[DEMANDS] = ArrayAttr(tuple(map(StringAttr, texts)))


def _demands_of(op: GraphOp) -> list[Demand]:
    with recorded() as found:
        op.infer_types()
        op.verify_op()
        for result in op.results:
            for axis, size in enumerate(result.type.shape if isinstance(result.type, TensorType) else ()):
                demand_size(size, f"axis {axis} of its result")
    return found
