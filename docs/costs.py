"""A dialect in one file: the correlation cost volume of stereo matching."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.base import GraphOp, shape_of, tensor_type
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.ir.attrkinds import INT
from stepwell.ir.constraints import FLOAT_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.registry import Dialect
from stepwell.ir.types import F32, TensorType
from stepwell.lowering.to_tensor.places import Places
