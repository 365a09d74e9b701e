"""The team of threads, as LLVM IR text. It is compiled once per process and shared by all models.

Thread 0 is the thread that calls a model. The others are workers: they wait for the next call, first spinning, then
asleep on a futex. A call holds the team by a try-lock. A call that finds it held runs as a team of one, on a team block
of its own. All waiting is at a *gate*: an epoch that the releasing thread advances, and a count of sleepers that tells
it whether anybody needs a wake-up call (Drepper, "Futexes Are Tricky"; the barrier is the central sense-reversing one
of Mellor-Crummey and Scott, TOCS 1991, with an epoch for the sense).

A team block is `BLOCK_BYTES` long. Fields that different threads write lie on different pairs of cache lines, because
processors prefetch lines in pairs.
"""

from __future__ import annotations

from string import Template

from stepwell.errors import TargetError

from .abi import COUNTER_SLOTS, INTERRUPTED, NO_OP

MAX_THREADS = 1024
_LINE = 128

# Settings: written from Python, kept across a fork. All else in the block is the threads' own.
WANTED = 0  # i64: the size that the team is to have from the next call on
SPIN_NS = 8  # i64: how long a waiting thread spins before it sleeps
MAIN_THREAD = 16  # i64: pthread_self() of Python's main thread, the one that runs signal handlers

STATE = 1 * _LINE
_OFFSETS = {
    "WANTED": WANTED,
    "SPIN_NS": SPIN_NS,
    "MAIN_THREAD": MAIN_THREAD,
    # The job. Written by thread 0 while the workers wait.
    "SIZE": STATE + 0,  # i64: threads of this team, thread 0 included; 0 before the first call
    "FORMED": STATE + 8,  # i64: the value of WANTED for which the team was formed
    "PROGRAM": STATE + 16,  # ptr
    "ARGS": STATE + 24,  # ptr
    "TSTATE": STATE + 32,  # ptr: saved thread state of a caller who must look for signals, else null
    "CHECKED": STATE + 40,  # i64: when thread 0 last looked for signals, in ns
    "BASE": STATE + 48,  # i32: the start gate's epoch when the workers were made
    "STOP": STATE + 52,  # i32: 1 tells the workers to end
    "CODE": 2 * _LINE + 0,  # i64: the status: 0, or the code of the first report
    "OP": 2 * _LINE + 8,  # i64
    "VALUE": 2 * _LINE + 16,  # i64
    "START": 3 * _LINE,  # gate
    "GATE": 4 * _LINE,  # gate of the barrier
    "AGREED": 4 * _LINE + 8,  # i64: the status as it was when the barrier last opened
    "ARRIVED": 5 * _LINE,  # i64
    "LOCK": 6 * _LINE,  # i32
    "COUNTERS": 7 * _LINE,  # one line each
}
BLOCK_BYTES = (7 + COUNTER_SLOTS) * _LINE
WORKERS_SIZE = _OFFSETS["SIZE"]
LOCK = _OFFSETS["LOCK"]

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

_TEXT = Template("""\
@sw_team = global [$BLOCK_BYTES x i8] zeroinitializer, align 128
@sw_threads = internal global [$MAX_THREADS x i64] zeroinitializer
@sw_thread_name = internal constant [9 x i8] c"stepwell\\00"

declare i32 @clock_gettime(i32, ptr)
declare i64 @syscall(i64, ...)
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

$ARCH
; ---------------------------------------------------------------- what kernels and programs call

define i64 @sw_next(ptr %team, i64 %slot) {
  %offset = mul i64 %slot, 128
  %counters = getelementptr i8, ptr %team, i64 $COUNTERS
  %counter = getelementptr i8, ptr %counters, i64 %offset
  %index = atomicrmw add ptr %counter, i64 1 monotonic
  ret i64 %index
}

define i64 @sw_now() {
  %time = call i64 @sw_clock(i32 1) ; CLOCK_MONOTONIC
  ret i64 %time
}

define void @sw_report(ptr %team, i64 %code, i64 %op, i64 %value) {
entry:
  %code.p = getelementptr i8, ptr %team, i64 $CODE
  %swap = cmpxchg ptr %code.p, i64 0, i64 %code acq_rel monotonic
  %first = extractvalue { i64, i1 } %swap, 1
  br i1 %first, label %write, label %done
write:
  %op.p = getelementptr i8, ptr %team, i64 $OP
  %value.p = getelementptr i8, ptr %team, i64 $VALUE
  store i64 %op, ptr %op.p
  store i64 %value, ptr %value.p
  br label %done
done:
  ret void
}

; All threads leave with the status that the last arriver saw. Each must get the same one: a report made by a fast
; thread after the gate opened must not send a slow thread another way.
define i64 @sw_barrier(ptr %team, i64 %tid, i64 %used) {
entry:
  %size.p = getelementptr i8, ptr %team, i64 $SIZE
  %size = load i64, ptr %size.p
  %gate = getelementptr i8, ptr %team, i64 $GATE
  %agreed.p = getelementptr i8, ptr %team, i64 $AGREED
  %caller = icmp eq i64 %tid, 0
  br i1 %caller, label %signals, label %arrive
signals:
  call void @sw_check_signals(ptr %team)
  br label %arrive
arrive:
  %epoch = load atomic i32, ptr %gate monotonic, align 4
  %alone = icmp eq i64 %size, 1
  br i1 %alone, label %last, label %count
count:
  %arrived.p = getelementptr i8, ptr %team, i64 $ARRIVED
  %before = atomicrmw add ptr %arrived.p, i64 1 acq_rel
  %after = add i64 %before, 1
  %complete = icmp eq i64 %after, %size
  br i1 %complete, label %reopen, label %wait
reopen:
  store i64 0, ptr %arrived.p
  br label %last
last:
  call void @sw_reset_counters(ptr %team, i64 %used)
  %code.p = getelementptr i8, ptr %team, i64 $CODE
  %code = load atomic i64, ptr %code.p monotonic, align 8
  br i1 %alone, label %leave.alone, label %open
open:
  store i64 %code, ptr %agreed.p
  call void @sw_open(ptr %gate)
  br label %leave
leave.alone:
  ret i64 %code
wait:
  %spin.p = getelementptr i8, ptr %team, i64 $SPIN_NS
  %spin = load i64, ptr %spin.p
  call void @sw_wait(ptr %gate, i32 %epoch, i64 %spin)
  br label %leave
leave:
  %agreed = load i64, ptr %agreed.p
  ret i64 %agreed
}

define internal void @sw_reset_counters(ptr %team, i64 %used) {
entry:
  %counters = getelementptr i8, ptr %team, i64 $COUNTERS
  br label %head
head:
  %slot = phi i64 [ 0, %entry ], [ %next, %step ]
  %more = icmp ult i64 %slot, %used
  br i1 %more, label %body, label %done
body:
  %offset = mul i64 %slot, 128
  %counter = getelementptr i8, ptr %counters, i64 %offset
  %count = load i64, ptr %counter
  %dirty = icmp ne i64 %count, 0
  br i1 %dirty, label %clear, label %step
clear:
  store i64 0, ptr %counter
  br label %step
step:
  %next = add i64 %slot, 1
  br label %head
done:
  ret void
}

; ---------------------------------------------------------------- gates: { i32 epoch, i32 sleepers }

; The epoch is advanced before the sleepers are counted, and a sleeper counts itself before the kernel compares the
; epoch: whichever comes second sees the other.
define internal void @sw_open(ptr %gate) {
entry:
  %old = atomicrmw add ptr %gate, i32 1 seq_cst
  %sleepers.p = getelementptr i8, ptr %gate, i64 4
  %sleepers = load atomic i32, ptr %sleepers.p seq_cst, align 4
  %any = icmp ne i32 %sleepers, 0
  br i1 %any, label %wake, label %done
wake:
  ; FUTEX_WAKE | FUTEX_PRIVATE_FLAG, everybody
  %woken = call i64 (i64, ...) @syscall(i64 $FUTEX, ptr %gate, i64 129, i64 2147483647, i64 0, i64 0, i64 0)
  br label %done
done:
  ret void
}

; Returns when the gate's epoch is no longer %epoch: spins for %spin nanoseconds, then sleeps.
define internal void @sw_wait(ptr %gate, i32 %epoch, i64 %spin) {
entry:
  br label %batch
batch:
  %began = phi i64 [ 0, %entry ], [ %start, %clock ]
  br label %poll
poll:
  %round = phi i32 [ 0, %batch ], [ %round.next, %pause ]
  %now = load atomic i32, ptr %gate acquire, align 4
  %opened = icmp ne i32 %now, %epoch
  br i1 %opened, label %done, label %pause
pause:
  $PAUSE
  %round.next = add i32 %round, 1
  %again = icmp ult i32 %round.next, 64
  br i1 %again, label %poll, label %clock
clock:
  %time = call i64 @sw_clock(i32 1)
  %first = icmp eq i64 %began, 0
  %start = select i1 %first, i64 %time, i64 %began
  %spent = sub i64 %time, %start
  %keep = icmp slt i64 %spent, %spin
  br i1 %keep, label %batch, label %sleep
sleep:
  %sleepers.p = getelementptr i8, ptr %gate, i64 4
  %asleep = atomicrmw add ptr %sleepers.p, i32 1 seq_cst
  br label %check
check:
  %seen = load atomic i32, ptr %gate seq_cst, align 4
  %free = icmp ne i32 %seen, %epoch
  br i1 %free, label %awake, label %block
block:
  ; FUTEX_WAIT | FUTEX_PRIVATE_FLAG, for ever
  %slept = call i64 (i64, ...) @syscall(i64 $FUTEX, ptr %gate, i64 128, i32 %epoch, i64 0, i64 0, i64 0)
  br label %check
awake:
  %rest = atomicrmw sub ptr %sleepers.p, i32 1 monotonic
  br label %done
done:
  ret void
}

define internal i64 @sw_clock(i32 %which) {
  %time = alloca [2 x i64]
  %ignored = call i32 @clock_gettime(i32 %which, ptr %time)
  %seconds = load i64, ptr %time
  %rest.p = getelementptr i8, ptr %time, i64 8
  %rest = load i64, ptr %rest.p
  %scaled = mul i64 %seconds, 1000000000
  %nanoseconds = add i64 %scaled, %rest
  ret i64 %nanoseconds
}

; Lets Python's signal handlers run, at most every 50 ms: taking the GIL may mean a wait for another Python thread.
define internal void @sw_check_signals(ptr %team) {
entry:
  %tstate.p = getelementptr i8, ptr %team, i64 $TSTATE
  %tstate = load ptr, ptr %tstate.p
  %main = icmp ne ptr %tstate, null
  br i1 %main, label %look, label %done
look:
  %now = call i64 @sw_clock(i32 6) ; CLOCK_MONOTONIC_COARSE: a few ns to read, a few ms wide
  %checked.p = getelementptr i8, ptr %team, i64 $CHECKED
  %checked = load i64, ptr %checked.p
  %age = sub i64 %now, %checked
  %due = icmp sgt i64 %age, 50000000
  br i1 %due, label %check, label %done
check:
  store i64 %now, ptr %checked.p
  call void @PyEval_RestoreThread(ptr %tstate)
  %raised = call i32 @PyErr_CheckSignals()
  %saved = call ptr @PyEval_SaveThread()
  %interrupted = icmp ne i32 %raised, 0
  br i1 %interrupted, label %report, label %done
report:
  call void @sw_report(ptr %team, i64 $INTERRUPTED, i64 $NO_OP, i64 0)
  br label %done
done:
  ret void
}

; ---------------------------------------------------------------- one call of a program

; Runs %program on the shared team, or on the calling thread alone when the team is held or %parallel is 0.
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
  %program.p = getelementptr i8, ptr %team, i64 $PROGRAM
  %args.p = getelementptr i8, ptr %team, i64 $ARGS
  %tstate.p = getelementptr i8, ptr %team, i64 $TSTATE
  %checked.p = getelementptr i8, ptr %team, i64 $CHECKED
  %code.p = getelementptr i8, ptr %team, i64 $CODE
  %op.p = getelementptr i8, ptr %team, i64 $OP
  %value.p = getelementptr i8, ptr %team, i64 $VALUE
  store ptr %program, ptr %program.p
  store ptr %args, ptr %args.p
  store ptr %tstate, ptr %tstate.p
  store i64 0, ptr %code.p
  store i64 0, ptr %op.p
  store i64 0, ptr %value.p
  %now = call i64 @sw_clock(i32 6)
  store i64 %now, ptr %checked.p
  %size.p = getelementptr i8, ptr %team, i64 $SIZE
  %size = load i64, ptr %size.p
  %alone = icmp eq i64 %size, 1
  br i1 %alone, label %work, label %start
start:
  %start.p = getelementptr i8, ptr %team, i64 $START
  call void @sw_open(ptr %start.p)
  br label %work
work:
  call void @sw_work(ptr %team, i64 0)
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

; One thread's part of a call. The barrier at the end leaves all counters at 0 for the next call.
define internal void @sw_work(ptr %team, i64 %tid) {
entry:
  %program.p = getelementptr i8, ptr %team, i64 $PROGRAM
  %args.p = getelementptr i8, ptr %team, i64 $ARGS
  %program = load ptr, ptr %program.p
  %args = load ptr, ptr %args.p
  %status = call i64 %program(ptr %args, ptr %team, i64 %tid)
  %failed = icmp ne i64 %status, 0
  br i1 %failed, label %report, label %finish
report:
  call void @sw_report(ptr %team, i64 %status, i64 $NO_OP, i64 0)
  br label %finish
finish:
  %agreed = call i64 @sw_barrier(ptr %team, i64 %tid, i64 $COUNTER_SLOTS)
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
  %base.p = getelementptr i8, ptr @sw_team, i64 $BASE
  %start.p = getelementptr i8, ptr @sw_team, i64 $START
  %size.p = getelementptr i8, ptr @sw_team, i64 $SIZE
  %base = load i32, ptr %start.p
  store i32 %base, ptr %base.p
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
  store i64 %tid, ptr %size.p
  %r8 = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  ret void
}

define internal void @sw_dismiss() {
entry:
  %size.p = getelementptr i8, ptr @sw_team, i64 $SIZE
  %size = load i64, ptr %size.p
  %stop.p = getelementptr i8, ptr @sw_team, i64 $STOP
  %start.p = getelementptr i8, ptr @sw_team, i64 $START
  store i32 1, ptr %stop.p
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
  store i32 0, ptr %stop.p
  store i64 1, ptr %size.p
  ret void
}

define internal ptr @sw_worker(ptr %argument) {
entry:
  %tid = ptrtoint ptr %argument to i64
  %named = call i32 (i32, ...) @prctl(i32 15, ptr @sw_thread_name)
  call void @sw_set_fp_control(i64 $FP_DEFAULT)
  %base.p = getelementptr i8, ptr @sw_team, i64 $BASE
  %base = load i32, ptr %base.p
  %start.p = getelementptr i8, ptr @sw_team, i64 $START
  %stop.p = getelementptr i8, ptr @sw_team, i64 $STOP
  %spin.p = getelementptr i8, ptr @sw_team, i64 $SPIN_NS
  br label %idle
idle:
  %epoch = phi i32 [ %base, %entry ], [ %epoch.next, %work ]
  %spin = load i64, ptr %spin.p
  call void @sw_wait(ptr %start.p, i32 %epoch, i64 %spin)
  %stop = load i32, ptr %stop.p
  %stopped = icmp ne i32 %stop, 0
  br i1 %stopped, label %done, label %work
work:
  call void @sw_work(ptr @sw_team, i64 %tid)
  %epoch.next = add i32 %epoch, 1
  br label %idle
done:
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
""")


def team_ir(arch: str) -> str:
    """The module's text for `x86_64` or `aarch64` under Linux. Raises `TargetError` for another architecture."""
    facts = {"x86_64": _X86, "aarch64": _AARCH64}.get(arch)
    if facts is None:
        raise TargetError(f"the team of threads has no code for {arch}")
    return _TEXT.substitute(
        facts,
        **_OFFSETS,
        BLOCK_BYTES=BLOCK_BYTES,
        MAX_THREADS=MAX_THREADS,
        COUNTER_SLOTS=COUNTER_SLOTS,
        INTERRUPTED=INTERRUPTED,
        NO_OP=NO_OP,
    )
