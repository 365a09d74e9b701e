"""The loop landing as LLVM IR text.

One table leads from an op's class to the function that writes it (`rules`); a `FunctionEmitter` keeps the blocks, the
names and the scopes of the function under way. LLVM only selects instructions, schedules and allocates registers: the
text has no flags that would let it reorder arithmetic, and everything that LLVM leaves undefined is guarded here.
"""

from __future__ import annotations

from .module import EmittedModule, emit_module

__all__ = ["EmittedModule", "emit_module"]
