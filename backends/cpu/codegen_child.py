"""The child process behind `isolated=True`: reads one pickled request from stdin, answers on stdout."""

from __future__ import annotations

import pickle
import sys

from stepwell.errors import StepwellError

from . import jit


def main() -> None:
    """Answers (True, code) or (False, the error's text); dies with LLVM where LLVM dies."""
    text, target, opt, passes, as_object = pickle.load(sys.stdin.buffer)
    make = jit.compile_object if as_object else jit.emit_assembly
    answer: tuple[bool, bytes | str]
    try:
        code = make(text, target, opt=opt, passes=passes)
        answer = True, code if isinstance(code, bytes) else code.encode()
    except StepwellError as error:
        answer = False, str(error)
    sys.stdout.buffer.write(pickle.dumps(answer))


if __name__ == "__main__":
    main()
