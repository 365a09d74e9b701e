"""Register tiles, and the cycles that they take: counted, not guessed.

A tile's step costs the larger of its multiply-adds and its loads; full and partial tiles of the space are counted."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from stepwell.lowering.tensor.machine import Machine


@attrs.frozen
class RegisterTile:
    """Rows times vectors of accumulators."""

    rows: int
    vectors: int


def register_tiles(machine: Machine) -> Iterator[RegisterTile]:
    """Tiles whose accumulators, one step's vectors and one broadcast fit the registers."""
    for vectors in range(1, 9):
        for rows in range(1, 25):
            if rows * vectors + vectors + 1 < machine.vector_registers:
                yield RegisterTile(rows, vectors)


def tile_cycles(tile: RegisterTile, machine: Machine) -> float:
    """Cycles of one reduction step of a tile: multiply-adds, loads, or the latency of too few accumulators."""
    fmas = tile.rows * tile.vectors / machine.fma_per_cycle
    loads = (tile.rows + tile.vectors) / machine.loads_per_cycle
    latency = machine.fma_latency
    return max(fmas, loads, latency)


def space_cycles(tile: RegisterTile, rows: int, columns: int, lanes: int, machine: Machine) -> float:
    """Cycles per reduction step over the whole rows x columns of outputs, partial tiles included."""
    vectors = -(-columns // lanes)
    total = 0.0
    for row_count, row_tiles in _parts(rows, tile.rows):
        for vector_count, vector_tiles in _parts(vectors, tile.vectors):
            total += row_tiles * vector_tiles * tile_cycles(RegisterTile(row_count, vector_count), machine)
    return total


def best_tile(rows: int, columns: int, lanes: int, machine: Machine) -> RegisterTile:
    """The register tile that goes through rows x columns of outputs in the fewest cycles."""
    return min(
        (tile for tile in register_tiles(machine) if tile.rows <= rows and (tile.vectors - 1) * lanes < columns),
        key=lambda tile: (
            space_cycles(tile, rows, columns, lanes, machine), rows % tile.rows != 0, -tile.rows * tile.vectors,
        ),
    )  # fmt: skip


def _parts(total: int, tile: int) -> Iterator[tuple[int, int]]:
    """(size, count) of full and partial tiles."""
    if total >= tile:
        yield tile, total // tile
    if total % tile:
        yield total % tile, 1
