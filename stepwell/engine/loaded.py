"""What `stepwell.load` gives: a model without IR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.api import Model
from stepwell.errors import EngineError, InputError
from stepwell.way import LaterWay

if TYPE_CHECKING:
    from stepwell.backends.cpu.model import CpuModel
    from stepwell.compiler import Options
    from stepwell.ir.core import Operation
    from stepwell.ir.passes import PassContext


class EngineModel(Model):
    """A model from an engine file: it runs, and that is all. There is no IR behind it."""

    def __init__(self, program: CpuModel) -> None:
        super().__init__(program, program.executable.head, LaterWay(_no_source))

    @property
    def context(self) -> PassContext:
        """Empty: no pass was run here."""
        from stepwell.ir.passes import PassContext

        return PassContext()

    def fetching(self, names: tuple[str, ...]) -> Model:
        """Raises InputError."""
        raise InputError(f"{', '.join(names)}: an engine file holds machine code, which has no intermediates to fetch: "
                         "compile the model from its source")  # fmt: skip

    def profile(self, *args: Any, **options: Any) -> Any:
        """Raises InputError."""
        raise InputError("an engine file holds machine code without clocks, which cannot be profiled: "
                         "compile the model from its source")  # fmt: skip


def _no_source() -> tuple[Operation, Options]:
    raise EngineError("an engine file holds machine code, without the IR that it was made from")
