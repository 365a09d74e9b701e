"""Partitioned boolean quadratic programming: one option for each node of a graph, so that the costs of the options and
of what the edges make of every two neighbours' options are least in sum.

    problem = Problem()
    a, b = problem.add([3, 0]), problem.add([0, 1])
    problem.join(a, b, [[0, 2], [9, 0]])
    problem.solve().choice                  # [1, 1]

Nodes of at most two edges are taken out of the graph without loss: their best option for every choice of the neighbours
is added to a neighbour's costs (R1) or to the edge between both (R2). Where all nodes left have more, one is decided by
what is best near it (RN); the answer may then be short of the best. The time is linear in the nodes (B. Scholz and
E. Eckstein, Register Allocation for Irregular Architectures, 2002)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

Costs = list[float]
Matrix = list[Costs]  # a row for each option of the first node


@attrs.frozen
class Solution:
    """The option of each node, what they cost together, and whether nothing costs less for certain."""

    choice: list[int]
    cost: float
    is_best: bool


class Problem:
    """Nodes and edges. Costs may be infinite: of options that cannot be taken, together or at all."""

    def __init__(self) -> None:
        self._costs: list[Costs] = []
        self._edges: list[dict[int, Matrix]] = []

    def add(self, costs: Sequence[float]) -> int:
        """A node with an option for each cost; answers its number. Raises ValueError for a node without options."""
        if not costs:
            raise ValueError("a node has at least one option")
        self._costs.append(list(costs))
        self._edges.append({})
        return len(self._costs) - 1

    def add_cost(self, node: int, costs: Sequence[float]) -> None:
        """Add to the costs of a node's options. Raises ValueError for another number of options."""
        if len(costs) != len(self._costs[node]):
            raise ValueError(f"{len(costs)} costs for {len(self._costs[node])} options")
        self._costs[node] = _sum(self._costs[node], costs)

    def join(self, first: int, second: int, matrix: Sequence[Sequence[float]]) -> None:
        """An edge, or more costs for one that is there: a row for each option of the first node. Of a node with itself,
        the diagonal counts. Raises ValueError for a matrix of another form."""
        rows, columns = len(self._costs[first]), len(self._costs[second])
        if len(matrix) != rows or any(len(row) != columns for row in matrix):
            raise ValueError(f"the edge of nodes with {rows} and {columns} options has as many rows and columns")
        if first == second:
            self.add_cost(first, [matrix[n][n] for n in range(rows)])
        else:
            _join(self._edges, first, second, [list(row) for row in matrix])

    def cost(self, choice: Sequence[int]) -> float:
        """What a choice costs."""
        total = math.fsum(costs[option] for costs, option in zip(self._costs, choice, strict=True))
        return total + math.fsum(
            matrix[choice[first]][choice[second]]
            for first, edges in enumerate(self._edges) for second, matrix in edges.items() if first < second
        )  # fmt: skip

    def solve(self) -> Solution:
        """The best choice, or a good one."""
        reduction = _Reduction([list(costs) for costs in self._costs], [dict(edges) for edges in self._edges])
        choice = reduction.solve()
        return Solution(choice, self.cost(choice), reduction.is_best)


class _Reduction:
    """Takes one node after the other out of the graph, then decides them in the opposite order."""

    def __init__(self, costs: list[Costs], edges: list[dict[int, Matrix]]) -> None:
        self.costs, self.edges = costs, edges
        self.is_best = True
        self.left = dict.fromkeys(range(len(costs)))
        self.few = dict.fromkeys(node for node in self.left if len(edges[node]) <= 2)  # of at most two edges
        self.taken: list[tuple[int, dict[int, Matrix]]] = []  # with the edges at that time

    def solve(self) -> list[int]:
        while self.left:
            if self.few:
                node = next(iter(self.few))
                self._fold(node)
            else:
                node = max(self.left, key=lambda each: len(self.edges[each]))
                self._decide(node)
        choice = [0] * len(self.costs)
        for node, edges in reversed(self.taken):
            choice[node] = _least(_with_neighbours(self.costs[node], edges, choice))
        return choice

    def _fold(self, node: int) -> None:
        """R0, R1, R2: the node's best option becomes a part of its neighbours' costs."""
        edges = self._take(node)
        mine = self.costs[node]
        if len(edges) == 1:
            ((other, matrix),) = edges.items()
            best = [min(cost + row[n] for cost, row in zip(mine, matrix, strict=True))
                    for n in range(len(self.costs[other]))]  # fmt: skip
            self.costs[other] = _sum(self.costs[other], best)
        elif len(edges) == 2:
            (a, to_a), (b, to_b) = edges.items()
            columns = list(zip(*to_b, strict=True))
            made = [
                [min(map(sum, zip(mine, of_a, of_b, strict=True))) for of_b in columns]
                for of_a in zip(*to_a, strict=True)
            ]
            _join(self.edges, a, b, made)
            self._normalize(a, b)
        for other in edges:
            if len(self.edges[other]) <= 2:
                self.few[other] = None

    def _decide(self, node: int) -> None:
        """RN: the option that is best if every neighbour thinks of this node alone."""
        self.is_best = False
        edges = self._take(node)
        locally = list(self.costs[node])
        for other, matrix in edges.items():
            locally = _sum(locally, [min(_sum(row, self.costs[other])) for row in matrix])
        option = _least(locally)
        self.costs[node] = [cost if n == option else math.inf for n, cost in enumerate(self.costs[node])]
        for other, matrix in edges.items():
            self.costs[other] = _sum(self.costs[other], matrix[option])
            if len(self.edges[other]) <= 2:
                self.few[other] = None

    def _take(self, node: int) -> dict[int, Matrix]:
        edges = self.edges[node]
        self.taken.append((node, edges))
        self.left.pop(node)
        self.few.pop(node, None)
        for other in edges:
            self.edges[other].pop(node)
        self.edges[node] = {}
        return edges

    def _normalize(self, first: int, second: int) -> None:
        """Move what does not depend on the other node's option into the costs of each; an edge without more is none."""
        matrix = [list(row) for row in self.edges[first][second]]
        for n, row in enumerate(matrix):
            least = min(row)
            self.costs[first][n] += least
            matrix[n] = [cost - least if math.isfinite(least) else 0.0 for cost in row]
        for n, column in enumerate(zip(*matrix, strict=True)):
            least = min(column)
            self.costs[second][n] += least
            for row in matrix:
                row[n] = row[n] - least if math.isfinite(least) else 0.0
        del self.edges[first][second], self.edges[second][first]
        if any(map(any, matrix)):
            _join(self.edges, first, second, matrix)


def _join(edges: list[dict[int, Matrix]], first: int, second: int, matrix: Matrix) -> None:
    known = edges[first].get(second)
    if known is not None:
        matrix = [_sum(old, new) for old, new in zip(known, matrix, strict=True)]
    edges[first][second] = matrix
    edges[second][first] = [list(column) for column in zip(*matrix, strict=True)]


def _with_neighbours(costs: Costs, edges: dict[int, Matrix], choice: Sequence[int]) -> Costs:
    for other, matrix in edges.items():
        costs = _sum(costs, [row[choice[other]] for row in matrix])
    return costs


def _sum(a: Sequence[float], b: Sequence[float]) -> Costs:
    return [x + y for x, y in zip(a, b, strict=True)]


def _least(costs: Sequence[float]) -> int:
    """The first of the cheapest options."""
    return min(range(len(costs)), key=lambda n: costs[n])
