"""The heap of compiled models, as LLVM IR text, compiled once per process with the team.

A segment is two words: its address and its capacity in bytes. It grows by half at least, so that a sequence of growing
requests costs few allocations, and is kept from call to call."""

from __future__ import annotations

from stepwell.backends.cpu.text_loops import counted

_TEXT = """\
declare ptr @aligned_alloc(i64, i64)
declare void @free(ptr)
declare ptr @memcpy(ptr, ptr, i64)

define i64 @sw_reserve(ptr %segment, i64 %asked) {
entry:
  %made = call i64 @sw_grow(ptr %segment, i64 %asked, i64 0)
  ret i64 %made
}

; Keeps the first %kept bytes of what the segment holds, or all where it holds less.
define i64 @sw_grow(ptr %segment, i64 %asked, i64 %kept) {
entry:
  ; Never nothing: a guarded read of an empty buffer looks at its first element, and drops it.
  %some = icmp ugt i64 %asked, 64
  %bytes = select i1 %some, i64 %asked, i64 64
  %capacity.p = getelementptr i64, ptr %segment, i64 1
  %capacity = load i64, ptr %capacity.p
  %fits = icmp ule i64 %bytes, %capacity
  br i1 %fits, label %done, label %grow
grow:
  %sane = icmp ule i64 %bytes, 1152921504606846976
  br i1 %sane, label %measure, label %fail
measure:
  %old = load ptr, ptr %segment
  %all = icmp ult i64 %capacity, %kept
  %copied = select i1 %all, i64 %capacity, i64 %kept
  %drops = icmp eq i64 %copied, 0
  br i1 %drops, label %drop, label %allocate
drop:
  ; What is not kept goes first, so that both need not fit at once.
  call void @free(ptr %old)
  store ptr null, ptr %segment
  store i64 0, ptr %capacity.p
  br label %allocate
allocate:
  %half = lshr i64 %capacity, 1
  %more = add i64 %capacity, %half
  %larger = icmp ugt i64 %more, %bytes
  %wanted = select i1 %larger, i64 %more, i64 %bytes
  %padded = add i64 %wanted, 63
  %rounded = and i64 %padded, -64
  %fresh = call ptr @aligned_alloc(i64 64, i64 %rounded)
  %null = icmp eq ptr %fresh, null
  br i1 %null, label %fail, label %fresh.memory
fresh.memory:
  br i1 %drops, label %keep, label %copy
copy:
  call ptr @memcpy(ptr %fresh, ptr %old, i64 %copied)
  call void @free(ptr %old)
  br label %keep
keep:
  store ptr %fresh, ptr %segment
  store i64 %rounded, ptr %capacity.p
  br label %done
done:
  ret i64 1
fail:
  ret i64 0
}

; Frees what %count segments hold.
"""

_RELEASED = """\
  %words = shl i64 %index, 1
  %segment = getelementptr i64, ptr %segments, i64 %words
  %memory = load ptr, ptr %segment
  call void @free(ptr %memory)
  store ptr null, ptr %segment
  %capacity = getelementptr i64, ptr %segment, i64 1
  store i64 0, ptr %capacity
"""


def heap_ir() -> str:
    """The text, to stand in one module with the team's."""
    return _TEXT + counted("void @sw_release(ptr %segments, i64 %count)", _RELEASED)
