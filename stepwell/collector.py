"""The garbage collector pauses while a model is compiled or loaded, and while the compiler itself is.

IR is a web of references both ways, all of it alive while passes work on it: searching it for garbage again and again
takes a third of the time and finds next to nothing."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_pauses = 0
_was_enabled = False


@contextmanager
def paused_collector() -> Iterator[None]:
    """Cyclic garbage is not collected in here; the last of several at once restores what was before the first."""
    global _pauses, _was_enabled
    with _lock:
        if not _pauses:
            _was_enabled = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses and _was_enabled:
                gc.enable()
