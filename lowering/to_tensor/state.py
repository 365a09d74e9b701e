"""State that grows: rows are appended in the memory of an argument."""

from __future__ import annotations

from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.state import AppendOp
from stepwell.dialects.tensor import AppendOp as TensorAppendOp
from stepwell.dialects.tensor import DimsAttr, RoomOp, RowsOp
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.lowering.to_tensor.places import result_type
from stepwell.lowering.to_tensor.rules import lowers


@lowers(AppendOp)
def append(op: AppendOp, c: Conversion) -> Value:
    """graph.append %past, %new  ->  tensor.room %past; tensor.append %room, %new at past; tensor.rows of that"""
    at = DimsAttr((shape_of(op.past)[op.axis],))
    count = DimsAttr((result_type(op).shape[op.axis],))
    room = c.insert(RoomOp(c.new(op.past), axis=op.axis, capacity=op.capacity)).result
    written = c.insert(TensorAppendOp(room, c.new(op.new), axis=op.axis, at=at)).result
    return c.insert(RowsOp(written, axis=op.axis, count=count)).result
