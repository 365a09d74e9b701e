"""Register tiles of contractions: which there are, and which takes the fewest cycles."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from stepwell.lowering.tensor.machine import Machine


@attrs.frozen
class RegisterTile:
    """Rows times vectors of accumulators."""

    rows: int
    vectors: int


def register_tiles(machine: Machine, rows: int, vectors: int) -> Iterator[RegisterTile]:
    """Tiles of so many rows and vectors at most, whose accumulators, one step's vectors and one broadcast fit the
    registers."""
    for wide in range(1, min(8, vectors) + 1):
        for high in range(1, min(24, rows) + 1):
            if high * wide + wide + 1 < machine.vector_registers:
                yield RegisterTile(high, wide)
