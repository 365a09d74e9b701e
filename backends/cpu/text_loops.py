"""Loops of the runtime's LLVM IR text."""

from __future__ import annotations


def counted(function: str, body: str) -> str:
    """`define FUNCTION { .. }`, a function of no result, that runs the body for %index = 0, 1, .. below its argument
    i64 %count; the body is one block."""
    return f"""\
define {function} {{
entry:
  br label %head
head:
  %index = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp ult i64 %index, %count
  br i1 %more, label %body, label %done
body:
{body.rstrip()}
  %next = add i64 %index, 1
  br label %head
done:
  ret void
}}
"""
