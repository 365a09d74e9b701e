"""How far lowering may change the rounding of float arithmetic: what a module says in its attribute `sw.precision`.

    builtin.module attributes {sw.precision = "strict"} { ... }

Strict arithmetic is that of the operations as they are written: a reduction starts from its identity and takes its
elements one after the other, in row-major order of the reduced dims; every product is rounded before it is added; and
no rewrite replaces an operation by one that rounds otherwise. Every pass that could do any of that asks `is_strict`."""

from __future__ import annotations

from stepwell.errors import TargetError
from stepwell.ir.attributes import StringAttr
from stepwell.ir.core import Operation
from stepwell.ir.types import FloatType

STRICT = "strict"
PRECISIONS = {
    "f32": "elements are computed in their own type, narrower floats in f32; sums are cut and fused for speed",
    STRICT: "the same types, in the order of the operations and without fused multiply-adds",
}
ATTRIBUTE = "sw.precision"

# Modules of the graph dialect whose ops move, choose or convert numbers.
_MOVING = frozenset({"base", "conversion", "indexing", "logic", "movement", "shape", "sequence"})
_ROUNDED_ONCE = frozenset(
    f"graph.{name}"
    for name in (
        "add", "sub", "mul", "div", "sqrt", "max", "min", "neg", "abs", "sign", "ceil", "floor", "round", "relu",
    )
)  # fmt: skip


def is_strict(op: Operation) -> bool:
    """Whether the module that an op is in (or is) asks for strict arithmetic."""
    root = op
    while root.parent_op is not None:
        root = root.parent_op
    attribute = root.attributes.get(ATTRIBUTE)
    return isinstance(attribute, StringAttr) and attribute.value == STRICT


def demand_precision(module: Operation, precision: str) -> None:
    """Write a compilation's precision into its module. What the module says already stays, since it was lowered so.

    Raises TargetError where strict arithmetic comes too late: the module's kernels have been scheduled without it."""
    if precision != STRICT or is_strict(module):
        return
    from stepwell.dialects.tensor import KernelOp  # not needed where a model is loaded

    if any(isinstance(op, KernelOp) or "kernel" in op.attributes for op in module.walk()):
        raise TargetError(
            "strict precision: kernels were made of the module without it; it has to be asked for above them"
        )
    module.attributes[ATTRIBUTE] = StringAttr(STRICT)


def folds_alike(op: Operation) -> bool:
    """Whether NumPy, which folds constants, gives the bits that strict code gives: the op moves numbers, computes no
    floats, or rounds each result once. Sums have another order in NumPy, elementary functions other errors."""
    if op.dialect == "math":
        from stepwell.lowering.loop.math.recipes import FUNCTIONS

        return op.op_name.removeprefix("math.") not in FUNCTIONS
    if op.dialect != "graph" or type(op).__module__.rpartition(".")[2] in _MOVING or op.op_name in _ROUNDED_ONCE:
        return True
    return not any(_has_floats(value.type) for value in (*op.operands, *op.results))


def _has_floats(type_: object) -> bool:
    return isinstance(getattr(type_, "element", type_), FloatType)
