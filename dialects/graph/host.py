"""What runs on the host: functions on strings and images, called from the graph by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import tensor_type
from stepwell.dialects.graph.symbols import DataDependentOp
from stepwell.dialects.host_calls import plain
from stepwell.dialects.host_functions import find
from stepwell.ir.attributes import DictAttr
from stepwell.ir.attrkinds import SYMBOL, attr_of
from stepwell.ir.constraints import TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, operands, results
from stepwell.ir.types import TensorType, Type


class HostCallOp(DataDependentOp):
    """Calls a function on the host, in Python: the only way in which a model runs anything but machine code. `config`
    is what the function is told at compile time.

    ```mlir
    %a = "test.value"() : () -> tensor<2x!graph.string>
    %b = "test.value"() : () -> tensor<!graph.string>
    %r = graph.host_call @string_concat(%a, %b) {config = {}} : (tensor<2x!graph.string>, tensor<!graph.string>) -> tensor<2x!graph.string>
    ```
    """  # noqa: E501

    name = "graph.host_call"
    assembly = "$callee `(` $operands `)` attr-dict `:` functional-type"
    inputs: Sequence[Value] = operands(TENSOR)
    callee: str = attr(SYMBOL)
    config: DictAttr = attr(attr_of(DictAttr))
    made: Sequence[Value] = results(TENSOR)

    @property
    def types(self) -> list[TensorType]:
        """Those of the operands."""
        return [tensor_type(value) for value in self.inputs]

    def told(self) -> Any:
        """The config as Python values."""
        return plain(self.config)

    def infer_types(self) -> Sequence[Type]:
        return find(self.callee).infer(self)

    def compute(self, frame: Any, *args: Any) -> Any:
        found = find(self.callee).run(self.told(), *map(np.asarray, args))
        return found if isinstance(found, tuple) else (found,)
