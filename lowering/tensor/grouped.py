"""A `tensor.kernel` made of ops that stand beside one another in the program."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects.tensor import GenericOp, KernelOp, YieldOp
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.location import fused


def outline_kernel(ops: Sequence[GenericOp]) -> KernelOp:
    """Move ops, in program order, into a `tensor.kernel` where the last one stands, whose results are the kernel's."""
    kernel = kernel_of(ops)
    ops[-1].replace_with(kernel.results)
    for op in reversed(ops[:-1]):
        op.erase()
    return kernel


def kernel_of(ops: Sequence[GenericOp]) -> KernelOp:
    """A kernel of copies of some ops, before the last of them."""
    inside = set(ops)
    inputs: dict[Value, None] = {}
    for op in ops:
        for value in op.operands:
            if value.defining_op not in inside:
                inputs[value] = None
    block = Block(value.type for value in inputs)
    mapping: dict[Value, Value] = dict(zip(inputs, block.arguments, strict=True))
    for value, argument in zip(inputs, block.arguments, strict=True):
        argument.name = value.name
    last = ops[-1]
    for op in ops:
        block.append(op.clone(mapping))
    block.append(YieldOp([mapping[result] for result in last.results]))
    kernel = KernelOp(
        list(inputs), result_types=[r.type for r in last.results], regions=[Region([block])],
        loc=fused(*(op.loc for op in ops)),
    )  # fmt: skip
    assert last.parent is not None
    last.parent.insert_before(last, kernel)
    return kernel
