"""The intervals of a team of threads, as LLVM IR text: how grains are published, taken and waited for.

The thread that calls a model, thread 0, runs the program. The others are workers and know nothing of programs: they
take grains of the interval that thread 0 has published, a short list of jobs (a task, a block of arguments, a number of
grains), and wait for the next one.

The grains are numbered, and each thread has a part of the numbers (several threads one, in large teams): it begins with
its own, and goes on with what is left of the others'. So a thread gets about the same grains of launches of one size,
and finds in its cache what it read or wrote for the one before.

REMAINING of each part counts down the grains that nobody has taken, PENDING those of all parts that nobody has
finished. A thread takes a grain by `old = REMAINING--` and has it if old > 0. An interval ends when PENDING is 0,
whoever has arrived:

- Who holds a grain keeps PENDING above 0 until it has counted the grain as done, so thread 0 waits for it. All that it
  reads (jobs, arguments, scratch memory) is therefore of the interval that the grain belongs to, and stays as it is.
- Who holds none has read the counters and a gate, and nothing else. It may be late by any number of intervals, calls or
  models: what it takes next is a grain of the interval that is then under way, or nothing.

A failed attempt leaves REMAINING below 0 until the next interval that has grains for the part sets it; a thread looks
before it subtracts, so there is at most one for each thread, part and interval.

All waiting is at a *gate*: an epoch that the releasing thread advances, and a count of sleepers that tells it whether
anybody needs a wake-up call (Drepper, "Futexes Are Tricky"). Who waits spins first, then looks again each time that it
gets the CPU back, then sleeps.
"""

from __future__ import annotations

EARLY = 16
"""Grains from which on sleepers are woken as soon as an interval is published. Schedules make no grain of less than
some microseconds where they make several."""
WORTH_NS = 30_000
"""Of fewer grains, thread 0 runs one and wakes the sleepers if the rest would take it so long: about the time in which
a thread wakes up."""
STEADY_NS = 20_000
"""How long a thread that waits keeps its CPU for itself. From then on it lets others have it each time that it has
looked: the thread that it waits for may be queued behind it."""

TEXT = """\
; ---------------------------------------------------------------- what kernels and programs call

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

; Lets signal handlers run. Answers the status.
define i64 @sw_poll(ptr %team) {
  call void @sw_check_signals(ptr %team)
  %code.p = getelementptr i8, ptr %team, i64 $CODE
  %code = load atomic i64, ptr %code.p monotonic, align 8
  ret i64 %code
}

define void @sw_share(ptr %team, ptr %task, ptr %arguments, i64 %grains) {
  %count.p = getelementptr i8, ptr %team, i64 $COUNT
  %total.p = getelementptr i8, ptr %team, i64 $TOTAL
  %count = load i64, ptr %count.p
  %total = load i64, ptr %total.p
  %end = add i64 %total, %grains
  %offset = mul i64 %count, $JOB
  %jobs = getelementptr i8, ptr %team, i64 $TASKS
  %job = getelementptr i8, ptr %jobs, i64 %offset
  %arguments.p = getelementptr i8, ptr %job, i64 8
  %end.p = getelementptr i8, ptr %job, i64 16
  store ptr %task, ptr %job
  store ptr %arguments, ptr %arguments.p
  store i64 %end, ptr %end.p
  %more = add i64 %count, 1
  store i64 %more, ptr %count.p
  store i64 %end, ptr %total.p
  ret void
}

define i64 @sw_join(ptr %team, ptr %scratch, i64 %stride) {
entry:
  %size.p = getelementptr i8, ptr %team, i64 $SIZE
  %total.p = getelementptr i8, ptr %team, i64 $TOTAL
  %size = load i64, ptr %size.p
  %total = load i64, ptr %total.p
  %others = icmp ugt i64 %size, 1
  %several = icmp sgt i64 %total, 1
  %shared = and i1 %others, %several
  br i1 %shared, label %publish, label %alone
publish:
  call void @sw_lead(ptr %team, ptr %scratch, i64 %stride, i64 %total)
  br label %done
alone:
  call void @sw_run_grains(ptr %team, ptr %scratch, i64 %total)
  br label %done
done:
  %count.p = getelementptr i8, ptr %team, i64 $COUNT
  store i64 0, ptr %count.p
  store i64 0, ptr %total.p
  %status = call i64 @sw_poll(ptr %team)
  ret i64 %status
}

; ---------------------------------------------------------------- an interval

; Runs all grains on the calling thread; stops at an error.
define internal void @sw_run_grains(ptr %team, ptr %scratch, i64 %total) {
entry:
  %code.p = getelementptr i8, ptr %team, i64 $CODE
  br label %head
head:
  %grain = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %grain, %total
  br i1 %more, label %body, label %done
body:
  call void @sw_run_grain(ptr %team, ptr %scratch, i64 %grain)
  %next = add i64 %grain, 1
  %code = load atomic i64, ptr %code.p monotonic, align 8
  %failed = icmp ne i64 %code, 0
  br i1 %failed, label %done, label %head
done:
  ret void
}

; Runs one grain, counted over all jobs.
define internal void @sw_run_grain(ptr %team, ptr %scratch, i64 %grain) {
entry:
  %jobs = getelementptr i8, ptr %team, i64 $TASKS
  br label %job
job:
  %job.p = phi ptr [ %jobs, %entry ], [ %job.next, %skip ]
  %first = phi i64 [ 0, %entry ], [ %end, %skip ]
  %end.p = getelementptr i8, ptr %job.p, i64 16
  %end = load i64, ptr %end.p
  %inside = icmp slt i64 %grain, %end
  br i1 %inside, label %run, label %skip
skip:
  %job.next = getelementptr i8, ptr %job.p, i64 $JOB
  br label %job
run:
  %arguments.p = getelementptr i8, ptr %job.p, i64 8
  %task = load ptr, ptr %job.p
  %arguments = load ptr, ptr %arguments.p
  %index = sub i64 %grain, %first
  call void %task(ptr %team, ptr %scratch, ptr %arguments, i64 %index)
  ret void
}

; Thread 0 publishes the interval, works on it and waits for the grains that others hold.
define internal void @sw_lead(ptr %team, ptr %scratch, i64 %stride, i64 %total) {
entry:
  %scratch.p = getelementptr i8, ptr %team, i64 $SCRATCH
  %stride.p = getelementptr i8, ptr %team, i64 $STRIDE
  %pending.p = getelementptr i8, ptr %team, i64 $PENDING
  %start.p = getelementptr i8, ptr %team, i64 $START
  %done.p = getelementptr i8, ptr %team, i64 $DONE
  %parts = call i64 @sw_parts(ptr %team)
  store ptr %scratch, ptr %scratch.p
  store i64 %stride, ptr %stride.p
  %pending = add i64 %total, 1
  store atomic i64 %pending, ptr %pending.p monotonic, align 8
  %epoch = load atomic i32, ptr %done.p monotonic, align 4
  br label %part
part:
  %index = phi i64 [ 0, %entry ], [ %index.next, %told ]
  %first = phi i64 [ 0, %entry ], [ %end, %told ]
  %index.next = add i64 %index, 1
  %end = call i64 @sw_end_of_part(i64 %index, i64 %total, i64 %parts)
  %share = sub i64 %end, %first
  %any.share = icmp sgt i64 %share, 0
  br i1 %any.share, label %tell, label %told
tell:
  %remaining.p = call ptr @sw_remaining(ptr %team, i64 %index)
  store atomic i64 %share, ptr %remaining.p release, align 8
  br label %told
told:
  %last.part = icmp eq i64 %index.next, %parts
  br i1 %last.part, label %publish, label %part
publish:
  %old.epoch = atomicrmw add ptr %start.p, i32 1 seq_cst
  %sleepers.p = getelementptr i8, ptr %start.p, i64 4
  %sleepers = load atomic i32, ptr %sleepers.p seq_cst, align 4
  %any = icmp ne i32 %sleepers, 0
  br i1 %any, label %asleep, label %work
asleep:
  %many = icmp uge i64 %total, $EARLY
  br i1 %many, label %wake.now, label %try
wake.now:
  call void @sw_wake(ptr %start.p)
  br label %work
try:
  %began = call i64 @sw_clock(i32 1)
  %one = call i64 @sw_take(ptr %team, i64 0, i64 1)
  %ended = call i64 @sw_clock(i32 1)
  %left = sub i64 %total, 1
  %each = sub i64 %ended, %began
  %rest = mul i64 %each, %left
  %worth = icmp sge i64 %rest, $WORTH_NS
  br i1 %worth, label %wake.late, label %work
wake.late:
  call void @sw_wake(ptr %start.p)
  br label %work
work:
  %tried = phi i64 [ 0, %publish ], [ 0, %wake.now ], [ %one, %try ], [ %one, %wake.late ]
  %taken = call i64 @sw_take(ptr %team, i64 0, i64 -1)
  %mine = add i64 %tried, %taken
  %counted = add i64 %mine, 1
  %before = atomicrmw sub ptr %pending.p, i64 %counted acq_rel
  %last = icmp eq i64 %before, %counted
  br i1 %last, label %done, label %wait
wait:
  %spin.p = getelementptr i8, ptr %team, i64 $SPIN_NS
  %spin = load i64, ptr %spin.p
  call void @sw_wait(ptr %done.p, i32 %epoch, i64 %spin)
  br label %done
done:
  ret void
}

; Takes grains and runs them until none is left, at most %limit (compared without sign). Answers how many are finished;
; the caller counts them off PENDING. Behind an error it takes all grains and runs none. The team's size may change
; while no interval is under way: who goes by an old one sees empty parts that are no longer there, or not all of them.
define internal i64 @sw_take(ptr %team, i64 %tid, i64 %limit) {
entry:
  %code.p = getelementptr i8, ptr %team, i64 $CODE
  %scratch.p = getelementptr i8, ptr %team, i64 $SCRATCH
  %stride.p = getelementptr i8, ptr %team, i64 $STRIDE
  %total.p = getelementptr i8, ptr %team, i64 $TOTAL
  %parts = call i64 @sw_parts(ptr %team)
  %own = urem i64 %tid, %parts
  br label %part
part:
  %count.part = phi i64 [ 0, %entry ], [ %count, %next ]
  %step = phi i64 [ 0, %entry ], [ %step.next, %next ]
  %place = add i64 %own, %step
  %index = urem i64 %place, %parts
  %remaining.p = call ptr @sw_remaining(ptr %team, i64 %index)
  br label %look
look:
  %count = phi i64 [ %count.part, %part ], [ %count.run, %run ], [ %count.all, %abandon ]
  %full = icmp uge i64 %count, %limit
  br i1 %full, label %done, label %peek
peek:
  %left = load atomic i64, ptr %remaining.p monotonic, align 8
  %some = icmp sgt i64 %left, 0
  br i1 %some, label %try, label %next
try:
  %old = atomicrmw sub ptr %remaining.p, i64 1 acq_rel
  %got = icmp sgt i64 %old, 0
  br i1 %got, label %hold, label %next
next:
  %step.next = add i64 %step, 1
  %over = icmp eq i64 %step.next, %parts
  br i1 %over, label %done, label %part
hold:
  %code = load atomic i64, ptr %code.p monotonic, align 8
  %failed = icmp ne i64 %code, 0
  br i1 %failed, label %abandon, label %run
abandon:
  %rest = atomicrmw xchg ptr %remaining.p, i64 0 acq_rel
  %others = call i64 @llvm.smax.i64(i64 %rest, i64 0)
  %with.mine = add i64 %others, 1
  %count.all = add i64 %count, %with.mine
  br label %look
run:
  %total = load i64, ptr %total.p
  %parts.now = call i64 @sw_parts(ptr %team)
  %scratch = load ptr, ptr %scratch.p
  %stride = load i64, ptr %stride.p
  %end = call i64 @sw_end_of_part(i64 %index, i64 %total, i64 %parts.now)
  %grain = sub i64 %end, %old
  %offset = mul i64 %stride, %tid
  %mine = getelementptr i8, ptr %scratch, i64 %offset
  call void @sw_run_grain(ptr %team, ptr %mine, i64 %grain)
  %count.run = add i64 %count, 1
  br label %look
done:
  %finished = phi i64 [ %count, %look ], [ %count, %next ]
  ret i64 %finished
}

; How many parts the grains of an interval have.
define internal i64 @sw_parts(ptr %team) {
  %size.p = getelementptr i8, ptr %team, i64 $SIZE
  %size = load atomic i64, ptr %size.p monotonic, align 8
  %most = call i64 @llvm.umin.i64(i64 %size, i64 $PARTS)
  %parts = call i64 @llvm.umax.i64(i64 %most, i64 1)
  ret i64 %parts
}

; The number behind the last grain of a part.
define internal i64 @sw_end_of_part(i64 %index, i64 %total, i64 %parts) {
  %next = add i64 %index, 1
  %product = mul i64 %next, %total
  %end = udiv i64 %product, %parts
  ret i64 %end
}

define internal ptr @sw_remaining(ptr %team, i64 %index) {
  %all = getelementptr i8, ptr %team, i64 $REMAINING
  %offset = mul i64 %index, $LINE
  %place = getelementptr i8, ptr %all, i64 %offset
  ret ptr %place
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
  call void @sw_wake(ptr %gate)
  br label %done
done:
  ret void
}

define internal void @sw_wake(ptr %gate) {
  ; FUTEX_WAKE | FUTEX_PRIVATE_FLAG, everybody
  %woken = call i64 (i64, ...) @syscall(i64 $FUTEX, ptr %gate, i64 129, i64 2147483647, i64 0, i64 0, i64 0)
  ret void
}

; Returns when the gate's epoch is no longer %epoch: looks for it for %spin nanoseconds, then sleeps.
define internal void @sw_wait(ptr %gate, i32 %epoch, i64 %spin) {
entry:
  br label %batch
batch:
  %began = phi i64 [ 0, %entry ], [ %start, %patience ], [ %start, %yield ]
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
  br i1 %keep, label %patience, label %sleep
patience:
  %long = icmp sgt i64 %spent, $STEADY_NS
  br i1 %long, label %yield, label %batch
yield:
  %yielded = call i32 @sched_yield()
  br label %batch
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
"""
