"""The solver against all choices of small graphs."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from stepwell.lowering.pbqp import Problem


def random_problem(seed: int, nodes: int, edges: int) -> tuple[Problem, list[int]]:
    """A problem and the number of options of each node; a tenth of the costs of edges is infinite, but never between
    first options."""
    chance = random.Random(seed)
    problem = Problem()
    sizes = [chance.randint(1, 4) for _ in range(nodes)]
    for size in sizes:
        problem.add([float(chance.randint(0, 9)) for _ in range(size)])
    for _ in range(edges):
        a, b = chance.randrange(nodes), chance.randrange(nodes)
        matrix = [[math.inf if chance.random() < 0.1 and n + m else float(chance.randint(0, 9))
                   for m in range(sizes[b])] for n in range(sizes[a])]  # fmt: skip
        problem.join(a, b, matrix)
    return problem, sizes


def least(problem: Problem, sizes: list[int]) -> float:
    """Of all choices."""
    return min(problem.cost(choice) for choice in itertools.product(*map(range, sizes)))


@pytest.mark.parametrize("seed", range(150))
def test_what_is_called_best_is_best(seed: int) -> None:
    problem, sizes = random_problem(seed, nodes=6, edges=seed % 12)
    found = problem.solve()
    assert found.cost == problem.cost(found.choice)
    best = least(problem, sizes)
    assert found.cost == best if found.is_best else best <= found.cost < math.inf


@pytest.mark.parametrize("seed", range(30))
def test_trees_and_rings_are_solved_without_loss(seed: int) -> None:
    chance = random.Random(seed)
    problem = Problem()
    sizes = [chance.randint(2, 4) for _ in range(7)]
    for size in sizes:
        problem.add([chance.random() for _ in range(size)])
    for b in range(1, 7):
        a = b - 1 if seed % 2 else chance.randrange(b)
        problem.join(a, b, [[chance.random() for _ in range(sizes[b])] for _ in range(sizes[a])])
    if seed % 2:  # a ring
        problem.join(6, 0, [[chance.random() for _ in range(sizes[0])] for _ in range(sizes[6])])
    found = problem.solve()
    assert found.is_best
    assert math.isclose(found.cost, least(problem, sizes))


def test_dense_graphs_are_solved_well() -> None:
    """Of complete graphs, where nothing can be taken out without loss at first."""
    near = 0
    for seed in range(40):
        problem, sizes = random_problem(seed, nodes=5, edges=0)
        chance = random.Random(seed)
        for a, b in itertools.combinations(range(5), 2):
            problem.join(a, b, [[chance.random() * 9 for _ in range(sizes[b])] for _ in range(sizes[a])])
        near += problem.solve().cost <= 1.1 * least(problem, sizes)
    assert near >= 30


def test_the_example() -> None:
    problem = Problem()
    a, b = problem.add([3, 0]), problem.add([0, 1])
    problem.join(a, b, [[0, 2], [9, 0]])
    found = problem.solve()
    assert (found.choice, found.cost, found.is_best) == ([1, 1], 1, True)


def test_edges_add_up_and_loops_are_costs() -> None:
    problem = Problem()
    a, b = problem.add([0, 0]), problem.add([0, 0])
    problem.join(a, b, [[1, 2], [3, 4]])
    problem.join(b, a, [[1, 0], [1, 0]])  # the other way round
    problem.join(a, a, [[0, 7], [7, 9]])
    problem.add_cost(b, [5, 0])
    assert [problem.cost([n, m]) for n in (0, 1) for m in (0, 1)] == [7, 3, 17, 13]
    assert problem.solve().choice == [0, 1]


def test_no_nodes() -> None:
    found = Problem().solve()
    assert (found.choice, found.cost, found.is_best) == ([], 0, True)


def test_among_equals_the_first_is_taken() -> None:
    problem = Problem()
    a, b = problem.add([1, 1]), problem.add([1, 1, 1])
    problem.join(a, b, [[0] * 3] * 2)
    assert problem.solve().choice == [0, 0]


def test_what_does_not_fit_is_refused() -> None:
    problem = Problem()
    a, b = problem.add([0, 0]), problem.add([0])
    with pytest.raises(ValueError, match="at least one option"):
        problem.add([])
    with pytest.raises(ValueError, match="2 and 1 options"):
        problem.join(a, b, [[0, 0]])
    with pytest.raises(ValueError, match="2 and 1 options"):
        problem.join(a, b, [[0], [0, 0]])
    with pytest.raises(ValueError, match="1 costs for 2 options"):
        problem.add_cost(a, [0])
