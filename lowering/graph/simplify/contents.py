"""Shape arithmetic whose outcome is known: the symbolic contents of small integer tensors, turned into constants."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.graph.base import ConstantOp, GraphOp, content, tensor_type
from stepwell.ir.attributes import elements
from stepwell.ir.core import Operation
from stepwell.ir.opdef import Trait, has_trait
from stepwell.ir.rewrite import Rewriter
from stepwell.ir.types import numpy_dtype
from stepwell.lowering.graph.simplify import simplifies


@simplifies
def fold_known_content(op: Operation, rewriter: Rewriter) -> bool:
    """shape(%x : tensor<4x?xf32>)[0] -> 4, through any chain of integer ops whose elements are all numbers"""
    if not isinstance(op, GraphOp) or len(op.results) != 1 or has_trait(op, Trait.CONSTANT):
        return False
    known = content(op.results[0])
    if known is None or not all(isinstance(dim, int) for dim in known):
        return False
    type_ = tensor_type(op.results[0])
    array = np.array(known, numpy_dtype(type_)).reshape(type_.static_shape)
    rewriter.replace_with(op, ConstantOp(value=elements(array, type_, op.results[0].name or "shape")))
    return True
