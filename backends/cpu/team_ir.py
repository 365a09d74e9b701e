"""The team of threads, as LLVM IR text. It is compiled once per process and shared by all models.

A call of a model holds the team by a try-lock and runs the program; the team's other threads, the workers, take grains
of what it publishes (see `interval_ir`), and between calls wait for the next one, first spinning, then asleep on a
futex. A call that finds the team held runs as a team of one, on a team block of its own.
"""

from __future__ import annotations

from string import Template

from stepwell.errors import TargetError

from . import interval_ir
from .abi import INTERRUPTED, NO_OP
from .team_block import BLOCK_BYTES, JOB, LINE, MAX_THREADS, OFFSETS, PARTS

_X86 = {
    "PAUSE": "call void @llvm.x86.sse2.pause()",
    "FUTEX": "202",
    "ARCH": """\
declare void @llvm.x86.sse2.pause()
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)

define internal i64 @sw_fp_control() {
  %slot = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %slot)
  %word = load i32, ptr %slot
  %wide = zext i32 %word to i64
  ret i64 %wide
}

define internal void @sw_set_fp_control(i64 %wide) {
  %slot = alloca i32
  %word = trunc i64 %wide to i32
  store i32 %word, ptr %slot
  call void @llvm.x86.sse.ldmxcsr(ptr %slot)
  ret void
}
""",
    "FP_DEFAULT": str(0x1F80),  # all exceptions masked, round to nearest, denormals kept
}
_AARCH64 = {
    "PAUSE": "call void @llvm.aarch64.hint(i32 1)",
    "FUTEX": "98",
    "ARCH": """\
declare void @llvm.aarch64.hint(i32)
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)

define internal i64 @sw_fp_control() {
  %word = call i64 @llvm.aarch64.get.fpcr()
  ret i64 %word
}

define internal void @sw_set_fp_control(i64 %word) {
  call void @llvm.aarch64.set.fpcr(i64 %word)
  ret void
}
""",
    "FP_DEFAULT": "0",
}

_TEXT = """\
@sw_team = global [$BLOCK_BYTES x i8] zeroinitializer, align 128
@sw_threads = internal global [$MAX_THREADS x i64] zeroinitializer
@sw_thread_name = internal constant [9 x i8] c"stepwell\\00"

declare i32 @clock_gettime(i32, ptr)
declare i64 @syscall(i64, ...)
declare i32 @sched_yield()
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
declare i32 @sigdelset(ptr, i32)
declare i32 @prctl(i32, ...)
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyEval_SaveThread()
declare i32 @PyErr_CheckSignals()
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.umax.i64(i64, i64)
declare i64 @llvm.umin.i64(i64, i64)

$ARCH
; ---------------------------------------------------------------- one call of a program

; Runs %program with the shared team, or on the calling thread alone when the team is held or %parallel is 0.
; %capacity is the number of threads for which there is scratch memory. %tstate: see TSTATE.
; Answers 1 with nothing run when the team is larger than %capacity, else 0 with (code, op, value) in %report.
define i64 @sw_call(ptr %program, ptr %args, i64 %capacity, i64 %parallel, ptr %tstate, ptr %report) {
entry:
  %fp = call i64 @sw_fp_control()
  call void @sw_set_fp_control(i64 $FP_DEFAULT)
  %shared = icmp ne i64 %parallel, 0
  br i1 %shared, label %lock, label %alone
lock:
  %lock.p = getelementptr i8, ptr @sw_team, i64 $LOCK
  %swap = cmpxchg ptr %lock.p, i32 0, i32 1 acquire monotonic
  %held = extractvalue { i32, i1 } %swap, 1
  br i1 %held, label %form, label %alone
form:
  %size = call i64 @sw_form()
  %fits = icmp ule i64 %size, %capacity
  br i1 %fits, label %run, label %unlock
run:
  call void @sw_run(ptr @sw_team, ptr %program, ptr %args, ptr %tstate, ptr %report)
  br label %unlock
unlock:
  %answer = phi i64 [ 0, %run ], [ 1, %form ]
  store atomic i32 0, ptr %lock.p release, align 4
  br label %done
alone:
  %room = icmp ne i64 %capacity, 0
  br i1 %room, label %run.alone, label %done
run.alone:
  call void @sw_run_alone(ptr %program, ptr %args, ptr %tstate, ptr %report)
  br label %done
done:
  %result = phi i64 [ %answer, %unlock ], [ 1, %alone ], [ 0, %run.alone ]
  call void @sw_set_fp_control(i64 %fp)
  ret i64 %result
}

define internal void @sw_run_alone(ptr %program, ptr %args, ptr %tstate, ptr %report) noinline {
  %team = alloca [$BLOCK_BYTES x i8], align 128
  call void @llvm.memset.p0.i64(ptr align 128 %team, i8 0, i64 $BLOCK_BYTES, i1 false)
  %size.p = getelementptr i8, ptr %team, i64 $SIZE
  store i64 1, ptr %size.p
  call void @sw_run(ptr %team, ptr %program, ptr %args, ptr %tstate, ptr %report)
  ret void
}

define internal void @sw_run(ptr %team, ptr %program, ptr %args, ptr %tstate, ptr %report) {
entry:
  %tstate.p = getelementptr i8, ptr %team, i64 $TSTATE
  %checked.p = getelementptr i8, ptr %team, i64 $CHECKED
  %count.p = getelementptr i8, ptr %team, i64 $COUNT
  %total.p = getelementptr i8, ptr %team, i64 $TOTAL
  %code.p = getelementptr i8, ptr %team, i64 $CODE
  %op.p = getelementptr i8, ptr %team, i64 $OP
  %value.p = getelementptr i8, ptr %team, i64 $VALUE
  store ptr %tstate, ptr %tstate.p
  store i64 0, ptr %count.p
  store i64 0, ptr %total.p
  store atomic i64 0, ptr %code.p monotonic, align 8
  store i64 0, ptr %op.p
  store i64 0, ptr %value.p
  %now = call i64 @sw_clock(i32 6)
  store i64 %now, ptr %checked.p
  %status = call i64 %program(ptr %args, ptr %team)
  %failed = icmp ne i64 %status, 0
  br i1 %failed, label %keep, label %finish
keep:
  call void @sw_report(ptr %team, i64 %status, i64 $NO_OP, i64 0)
  br label %finish
finish:
  %code = load i64, ptr %code.p
  %op = load i64, ptr %op.p
  %value = load i64, ptr %value.p
  %report.op = getelementptr i8, ptr %report, i64 8
  %report.value = getelementptr i8, ptr %report, i64 16
  store i64 %code, ptr %report
  store i64 %op, ptr %report.op
  store i64 %value, ptr %report.value
  ret void
}

; ---------------------------------------------------------------- the workers

; Brings the shared team to the wanted size; the caller holds the lock. Answers the size reached, which is smaller when
; the system gives no more threads.
define internal i64 @sw_form() {
entry:
  %wanted.p = getelementptr i8, ptr @sw_team, i64 $WANTED
  %wanted = load atomic i64, ptr %wanted.p monotonic, align 8
  %formed.p = getelementptr i8, ptr @sw_team, i64 $FORMED
  %formed = load i64, ptr %formed.p
  %size.p = getelementptr i8, ptr @sw_team, i64 $SIZE
  %same = icmp eq i64 %wanted, %formed
  br i1 %same, label %done, label %change
change:
  call void @sw_dismiss()
  call void @sw_hire(i64 %wanted)
  store i64 %wanted, ptr %formed.p
  br label %done
done:
  %size = load i64, ptr %size.p
  ret i64 %size
}

define internal void @sw_hire(i64 %wanted) {
entry:
  %all = alloca [128 x i8], align 16
  %old = alloca [128 x i8], align 16
  %size.p = getelementptr i8, ptr @sw_team, i64 $SIZE
  ; Faults stay deliverable, so that a crash is reported; all other signals go to Python's threads.
  %r0 = call i32 @sigfillset(ptr %all)
  %r1 = call i32 @sigdelset(ptr %all, i32 4)
  %r2 = call i32 @sigdelset(ptr %all, i32 5)
  %r3 = call i32 @sigdelset(ptr %all, i32 6)
  %r4 = call i32 @sigdelset(ptr %all, i32 7)
  %r5 = call i32 @sigdelset(ptr %all, i32 8)
  %r6 = call i32 @sigdelset(ptr %all, i32 11)
  %r7 = call i32 @pthread_sigmask(i32 2, ptr %all, ptr %old)
  br label %head
head:
  %tid = phi i64 [ 1, %entry ], [ %next, %made ]
  %more = icmp slt i64 %tid, %wanted
  br i1 %more, label %make, label %done
make:
  %thread.p = getelementptr i64, ptr @sw_threads, i64 %tid
  %argument = inttoptr i64 %tid to ptr
  %error = call i32 @pthread_create(ptr %thread.p, ptr null, ptr @sw_worker, ptr %argument)
  %refused = icmp ne i32 %error, 0
  br i1 %refused, label %done, label %made
made:
  %next = add i64 %tid, 1
  br label %head
done:
  store atomic i64 %tid, ptr %size.p monotonic, align 8
  %r8 = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  ret void
}

define internal void @sw_dismiss() {
entry:
  %size.p = getelementptr i8, ptr @sw_team, i64 $SIZE
  %size = load i64, ptr %size.p
  %stop.p = getelementptr i8, ptr @sw_team, i64 $STOP
  %start.p = getelementptr i8, ptr @sw_team, i64 $START
  store atomic i32 1, ptr %stop.p monotonic, align 4
  call void @sw_open(ptr %start.p)
  br label %head
head:
  %tid = phi i64 [ 1, %entry ], [ %next, %join ]
  %more = icmp slt i64 %tid, %size
  br i1 %more, label %join, label %done
join:
  %thread.p = getelementptr i64, ptr @sw_threads, i64 %tid
  %thread = load i64, ptr %thread.p
  %error = call i32 @pthread_join(i64 %thread, ptr null)
  %next = add i64 %tid, 1
  br label %head
done:
  store atomic i32 0, ptr %stop.p monotonic, align 4
  store atomic i64 1, ptr %size.p monotonic, align 8
  ret void
}

; The epoch is read before the look for work: what is published after that look has advanced it.
define internal ptr @sw_worker(ptr %argument) {
entry:
  %tid = ptrtoint ptr %argument to i64
  %named = call i32 (i32, ...) @prctl(i32 15, ptr @sw_thread_name)
  call void @sw_set_fp_control(i64 $FP_DEFAULT)
  %start.p = getelementptr i8, ptr @sw_team, i64 $START
  %done.p = getelementptr i8, ptr @sw_team, i64 $DONE
  %pending.p = getelementptr i8, ptr @sw_team, i64 $PENDING
  %stop.p = getelementptr i8, ptr @sw_team, i64 $STOP
  %spin.p = getelementptr i8, ptr @sw_team, i64 $SPIN_NS
  br label %look
look:
  %epoch = load atomic i32, ptr %start.p acquire, align 4
  %stop = load atomic i32, ptr %stop.p monotonic, align 4
  %stopped = icmp ne i32 %stop, 0
  br i1 %stopped, label %end, label %work
work:
  %count = call i64 @sw_take(ptr @sw_team, i64 %tid, i64 -1)
  %some = icmp ne i64 %count, 0
  br i1 %some, label %account, label %idle
account:
  %before = atomicrmw sub ptr %pending.p, i64 %count acq_rel
  %last = icmp eq i64 %before, %count
  br i1 %last, label %open, label %idle
open:
  call void @sw_open(ptr %done.p)
  br label %idle
idle:
  %spin = load atomic i64, ptr %spin.p monotonic, align 8
  call void @sw_wait(ptr %start.p, i32 %epoch, i64 %spin)
  br label %look
end:
  ret ptr null
}

; Ends the workers unless a call holds the team; from then on calls run alone. Answers 1 when they have ended.
define i64 @sw_disband() {
entry:
  %wanted.p = getelementptr i8, ptr @sw_team, i64 $WANTED
  store atomic i64 1, ptr %wanted.p monotonic, align 8
  %lock.p = getelementptr i8, ptr @sw_team, i64 $LOCK
  %swap = cmpxchg ptr %lock.p, i32 0, i32 1 acquire monotonic
  %held = extractvalue { i32, i1 } %swap, 1
  br i1 %held, label %end, label %done
end:
  %size = call i64 @sw_form()
  store atomic i32 0, ptr %lock.p release, align 4
  br label %done
done:
  %ended = zext i1 %held to i64
  ret i64 %ended
}

"""


def team_ir(arch: str) -> str:
    """The module's text for `x86_64` or `aarch64` under Linux. Raises `TargetError` for another architecture."""
    facts = {"x86_64": _X86, "aarch64": _AARCH64}.get(arch)
    if facts is None:
        raise TargetError(f"the team of threads has no code for {arch}")
    return Template(_TEXT + interval_ir.TEXT).substitute(
        facts,
        **OFFSETS,
        BLOCK_BYTES=BLOCK_BYTES,
        MAX_THREADS=MAX_THREADS,
        JOB=JOB,
        LINE=LINE,
        PARTS=PARTS,
        EARLY=interval_ir.EARLY,
        WORTH_NS=interval_ir.WORTH_NS,
        STEADY_NS=interval_ir.STEADY_NS,
        INTERRUPTED=INTERRUPTED,
        NO_OP=NO_OP,
    )
