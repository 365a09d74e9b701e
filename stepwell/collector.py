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
def paused_collector(lasting: bool = False) -> Iterator[None]:
    """Cyclic garbage is not collected in here; the last of several at once restores what was before the first.

    With `lasting`, what is made in here stays, as modules do: it counts as old afterwards, and is not searched at once
    because there is so much of it."""
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
                if lasting and not gc.get_freeze_count():  # what others have frozen stays so
                    gc.freeze()
                    gc.unfreeze()  # into the oldest generation
                gc.enable()
