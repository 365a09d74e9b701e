"""What a model was on its way down: the module that entered, and the one at the end of the loop landing.

A compiled model has both. One that came from a cache has them made again, from its source, when they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from stepwell.collector import paused_collector
from stepwell.ir.core import Operation

if TYPE_CHECKING:
    from stepwell.compiler import Options
    from stepwell.ir.passes import PassContext

T = TypeVar("T")


class Way(NamedTuple):
    """What is known. `origin` is a module at the graph landing; None of a model that entered below. `lowered` is None
    of a model without IR."""

    options: Options
    context: PassContext
    origin: Operation | None = None
    lowered: Operation | None = None


def walked(module: Operation, options: Options) -> Way:
    """Bring a module, which is consumed, to the end of the loop landing. Raises what passes raise."""
    from stepwell.compiler import context_of, lower, machine_of
    from stepwell.lowering.pipeline import landing_of

    origin = module.clone() if landing_of(module) == "graph" else None
    context = context_of(options, machine_of(options))
    lower(module, "loop", context)
    return Way(options, context, origin, module)


class LaterWay:
    """As `Way`, each part made when it is first asked for. `enter` gives the module and the options."""

    def __init__(self, enter: Callable[[], tuple[Operation, Options]]) -> None:
        self._entered = Once(lambda: _entered(*enter()))
        self._walked = Once(lambda: walked(*enter()))

    @property
    def options(self) -> Options:
        """The options of the compilation."""
        return self._entered.get()[1]

    @property
    def origin(self) -> Operation | None:
        """The module that entered at the graph landing."""
        return self._entered.get()[0]

    @property
    def context(self) -> PassContext:
        """Remarks and statistics of the passes."""
        return self._walked.get().context

    @property
    def lowered(self) -> Operation | None:
        """The module at the end of the loop landing."""
        return self._walked.get().lowered


def _entered(module: Operation, options: Options) -> tuple[Operation | None, Options]:
    from stepwell.lowering.pipeline import landing_of

    return (module if landing_of(module) == "graph" else None), options


class Once(Generic[T]):
    """A value that is made when it is first asked for, by one thread; again where that failed."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._found: list[T] = []
        self._lock = threading.Lock()

    def get(self) -> T:
        """The value."""
        with self._lock, paused_collector():
            if not self._found:
                self._found.append(self._make())
            return self._found[0]
