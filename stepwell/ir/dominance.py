"""Dominance between the blocks of a region: Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm" (2001)."""

from __future__ import annotations

from stepwell.ir.core import Block, Region


class Dominance:
    """Immediate dominators, computed once per region. Valid until a region's control flow changes."""

    def __init__(self) -> None:
        self._trees: dict[Region, dict[Block, Block]] = {}

    def dominates(self, a: Block, b: Block) -> bool:
        """Whether every path from the entry to `b` passes `a`. Unreachable blocks are dominated by all."""
        region = a.parent
        if region is None or b.parent is not region:
            return False
        if a is b or len(region.blocks) == 1:
            return a is b
        tree = self._tree(region)
        if b not in tree:
            return True
        node = b
        while node is not a:
            above = tree[node]
            if above is node:
                return False
            node = above
        return True

    def _tree(self, region: Region) -> dict[Block, Block]:
        if region not in self._trees:
            self._trees[region] = _immediate_dominators(region)
        return self._trees[region]


def _immediate_dominators(region: Region) -> dict[Block, Block]:
    order = _postorder(region.entry)
    number = {block: index for index, block in enumerate(order)}
    predecessors: dict[Block, list[Block]] = {block: [] for block in order}
    for block in order:
        for target in block.last.successors if block.last else ():
            predecessors[target].append(block)
    tree = {region.entry: region.entry}
    changed = True
    while changed:
        changed = False
        for block in reversed(order):
            if block is region.entry:
                continue
            known = [p for p in predecessors[block] if p in tree]
            new = known[0]
            for other in known[1:]:
                new = _meet(new, other, tree, number)
            if tree.get(block) is not new:
                tree[block] = new
                changed = True
    return tree


def _meet(a: Block, b: Block, tree: dict[Block, Block], number: dict[Block, int]) -> Block:
    while a is not b:
        while number[a] < number[b]:
            a = tree[a]
        while number[b] < number[a]:
            b = tree[b]
    return a


def _postorder(entry: Block) -> list[Block]:
    order: list[Block] = []
    seen = {entry}
    stack = [(entry, iter(entry.last.successors if entry.last else ()))]
    while stack:
        block, targets = stack[-1]
        for target in targets:
            if target not in seen:
                seen.add(target)
                stack.append((target, iter(target.last.successors if target.last else ())))
                break
        else:
            order.append(block)
            stack.pop()
    return order
