"""Keeps what the ops of a program demand of sizes that only a call tells, as an attribute of the function, and asks
for the rest while it runs.

graph.matmul %a, %b : (tensor<?x?xf32, ["n", "k"]>, tensor<?x?xf32, ["l", "m"]>)
->  func.func @main attributes {sw.demands = ["k - l", "/MatMul (graph.matmul): inner sizes: sizes k and l differ"]}

What depends on sizes that the run itself makes, or stands where control may not come, is asked for where the last of
the sizes is known, before anything is written to memory that has them:

tensor.born %s {symbol = "k"}  ..  graph.add %a, %b : (tensor<?xf32, ["k"]>, tensor<?xf32, ["l"]>)
->  tensor.born %s {symbol = "k"}; check.require %k == %l  ..
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from stepwell.dialects import arith
from stepwell.dialects.check import RequireOp
from stepwell.dialects.func import FuncOp
from stepwell.dialects.graph.base import GraphOp
from stepwell.dialects.graph.demands import Demand, demand_size, recorded
from stepwell.dialects.graph.symbols import DataDependentOp
from stepwell.dialects.program_attributes import DEMANDS
from stepwell.dialects.tensor import BornOp, DimsAttr, EntropyOp, MeasureOp, SizeOp
from stepwell.ir.attributes import ArrayAttr, StringAttr, UnitAttr
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Operation
from stepwell.ir.dims import Dim, free_symbols
from stepwell.ir.location import Location
from stepwell.ir.types import INDEX, TensorType, Type
from stepwell.lowering.to_tensor.rules import lowers

BIRTHS = (BornOp, EntropyOp, MeasureOp)  # what brings symbols into a program
ASKING = (*BIRTHS, SizeOp, arith.ConstantOp, arith.CmpIOp, RequireOp)  # what checks may follow, to stay in order
ASKED = "sw.asked"
"""The attribute of a graph op whose demands are asked for."""


def keep_demands(function: FuncOp) -> None:
    """Note the demands of all ops that surely run, on sizes that the inputs tell."""
    known = told_by_inputs(function)
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


def told_by_inputs(function: FuncOp) -> set[str]:
    """The symbols of the inputs' types."""
    return symbols_of(argument.type for argument in function.arguments)


def symbols_of(types: Iterable[Type]) -> set[str]:
    """The symbols of the sizes of tensors."""
    return {name for t in types if isinstance(t, TensorType) for dim in t.shape for name in free_symbols(dim)}


@lowers(Operation)
def ask_while_running(op: Operation, c: Conversion) -> None:
    """graph.op, which demands that k and l are equal  ->  check.require %k == %l; graph.op"""
    met = symbols_of(value.type for value in (*op.operands, *op.results))
    if isinstance(op, GraphOp) and met and ASKED not in op.attributes:
        op.attributes[ASKED] = UnitAttr()
        known = told_by_inputs(op.parent_op) if isinstance(op.parent_op, FuncOp) else set()
        own = set(op.new_dims) if isinstance(op, DataDependentOp) else set()
        for demand in _demands_of(op) if not met <= known else ():
            names = free_symbols(demand.zero)
            if not names & own and not names <= known:
                require_zero(c, demand.zero, f"{op.op_name}: {demand.reason}", op.loc)
    raise NoMatch("")


def require_zero(c: Conversion, zero: Dim, message: str, loc: Location) -> None:
    """End the run with the message where a size is not 0, as early as it is known in this block. What is asked for
    there already is not asked for again."""
    place = _first_place(c.builder, free_symbols(zero))
    while isinstance(place.anchor, ASKING) and place.anchor is not c.builder.anchor:
        if isinstance(place.anchor, RequireOp) and _asks(place.anchor, zero):
            return
        place = Builder(place.block, place.anchor.next)
    place.loc = loc
    size = place.insert(SizeOp(of=DimsAttr((zero,)))).result
    none = place.insert(arith.constant(0, INDEX)).results[0]
    holds = place.insert(arith.CmpIOp(size, none, predicate="eq")).result
    place.insert(RequireOp(holds, size, message=message))


def _asks(op: RequireOp, zero: Dim) -> bool:
    size = op.value.defining_op
    return isinstance(size, SizeOp) and size.of.dims == (zero,)


def _first_place(builder: Builder, names: Collection[str]) -> Builder:
    """The first place in front of an insertion point, in its block, where these symbols are known."""
    first = builder.anchor
    before = builder.block.last if first is None else first.prev
    while before is not None and not (isinstance(before, BIRTHS) and before.symbol in names):
        first, before = before, before.prev
    return Builder(builder.block, first)


def _demands_of(op: GraphOp) -> list[Demand]:
    with recorded() as found:
        op.infer_types()
        op.verify_op()
        for result in op.results:
            for axis, size in enumerate(result.type.shape if isinstance(result.type, TensorType) else ()):
                demand_size(size, f"axis {axis} of its result")
    return found
