"""What ops compute, as keys that are compared in place of texts."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.opdef import Trait, has_trait


def structure_of(op: Operation, inside: dict[Any, int] | None = None) -> Hashable:
    """Equal for ops of one kind on the same operands with equal regions, within one process. Names of values, locations
    and attributes that are no properties do not count. `inside` has the numbers of what is defined in an op around."""
    operands: list[Hashable] = [inside.get(value, value) for value in op.operands] if inside else list(op.operands)
    if has_trait(op, Trait.COMMUTATIVE):
        operands.sort(key=_order)
    properties = op.properties.items()
    own = (
        op.op_name,
        tuple(operands),
        tuple([result.type for result in op.results]),
        tuple(properties if len(properties) < 2 else sorted(properties, key=_name)),
    )
    if not op.successors and not op.regions:
        return own
    inside = {} if inside is None else inside
    around = tuple([inside.get(block, block) for block in op.successors])
    return *own, around, tuple([_region_structure(region, inside) for region in op.regions])


def _name(item: tuple[str, Any]) -> str:
    return item[0]


def _order(item: Any) -> tuple[bool, int]:
    return (isinstance(item, Value), id(item) if isinstance(item, Value) else int(item))


def _region_structure(region: Region, inside: dict[Any, int]) -> Hashable:
    for block in region.blocks:
        inside[block] = len(inside)
        for argument in block.arguments:
            inside[argument] = len(inside)
    return tuple(_block_structure(block, inside) for block in region.blocks)


def _block_structure(block: Block, inside: dict[Any, int]) -> Hashable:
    types = tuple(argument.type for argument in block.arguments)
    parts = []
    for op in block:
        parts.append(structure_of(op, inside))
        for result in op.results:
            inside[result] = len(inside)
    return (types, tuple(parts))
