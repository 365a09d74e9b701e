"""Results that nobody measured."""

from __future__ import annotations

from benchmarks.harness import Comparison, Outcome, Spread


def outcome(engine: str, seconds: float, ratio: float | None = None, **other: object) -> Outcome:
    spread = None if ratio is None else Spread(ratio, ratio / 2, ratio * 2)
    return Outcome(engine, 0.5, (seconds,), Spread(seconds, seconds, seconds), spread, **other)  # type: ignore[arg-type]


def case(
    name: str, threads: int, *ratios: float, limit: float | None = None, seconds: float = 0.001, disturbed: int = 0
) -> Comparison:
    """Of us and peers `a`, `b`, ... by their ratios; `limit` is the share of the machine's limit that we reach."""
    ours = outcome("ours", seconds, disturbed=disturbed)
    peers = [outcome(peer, seconds * ratio, ratio) for peer, ratio in zip("abc", ratios, strict=False)]
    return Comparison(name, threads, (ours, *peers), outcome("limit", seconds * limit) if limit else None)
