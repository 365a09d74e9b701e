; Programs for the tests of the run time. Arguments of all but @slots and @sum_const: one i64 (or f32) input of shape [n]
; in slot 0, one output of the same shape in slot 1; then arena 2, constants 3, scratch 4, stride 5, n 6. Tasks get the
; program's argument slots as their arguments.

define internal i64 @run(ptr %args, ptr %team, ptr %task, i64 %grains) {
  %scratch.p = getelementptr i64, ptr %args, i64 4
  %scratch = load ptr, ptr %scratch.p
  %stride.p = getelementptr i64, ptr %args, i64 5
  %stride = load i64, ptr %stride.p
  call void @sw_share(ptr %team, ptr %task, ptr %args, i64 %grains)
  %status = call i64 @sw_join(ptr %team, ptr %scratch, i64 %stride)
  ret i64 %status
}

define internal i64 @size(ptr %args) {
  %n.p = getelementptr i64, ptr %args, i64 6
  %n = load i64, ptr %n.p
  ret i64 %n
}

; out = in
define i64 @copy(ptr %args, ptr %team) {
  %n = call i64 @size(ptr %args)
  %status = call i64 @run(ptr %args, ptr %team, ptr @copy.task, i64 %n)
  ret i64 %status
}

define internal void @copy.task(ptr %team, ptr %scratch, ptr %args, i64 %i) {
  %in = load ptr, ptr %args
  %out.p = getelementptr i64, ptr %args, i64 1
  %out = load ptr, ptr %out.p
  %from = getelementptr i64, ptr %in, i64 %i
  %to = getelementptr i64, ptr %out, i64 %i
  %v = load i64, ptr %from
  store i64 %v, ptr %to
  ret void
}

; arena = in; 40 rounds of: out[i] = 3 * arena[(7 i + 1) mod n] + arena[i]; arena[i] = out[n - 1 - i] + round
; Each step reads what other threads wrote in the one before. The round number is in memory that the next one overwrites.
define i64 @rounds(ptr %args, ptr %team) {
entry:
  %block = alloca [8 x i64], align 16
  %n = call i64 @size(ptr %args)
  br label %copy
copy:
  %word = phi i64 [ 0, %entry ], [ %word.next, %copy ]
  %from = getelementptr i64, ptr %args, i64 %word
  %to = getelementptr i64, ptr %block, i64 %word
  %value = load i64, ptr %from
  store i64 %value, ptr %to
  %word.next = add i64 %word, 1
  %more.words = icmp ult i64 %word.next, 7
  br i1 %more.words, label %copy, label %fill
fill:
  %round.p = getelementptr i64, ptr %block, i64 7
  %s0 = call i64 @run(ptr %block, ptr %team, ptr @fill.task, i64 %n)
  br label %round
round:
  %r = phi i64 [ 0, %fill ], [ %r.next, %b ]
  %rmore = icmp slt i64 %r, 40
  br i1 %rmore, label %b, label %end
b:
  store i64 %r, ptr %round.p
  %s1 = call i64 @run(ptr %block, ptr %team, ptr @mix.task, i64 %n)
  %s2 = call i64 @run(ptr %block, ptr %team, ptr @back.task, i64 %n)
  %r.next = add i64 %r, 1
  br label %round
end:
  ret i64 0
}

define internal void @fill.task(ptr %team, ptr %scratch, ptr %args, i64 %i) {
  %in = load ptr, ptr %args
  %arena.p = getelementptr i64, ptr %args, i64 2
  %arena = load ptr, ptr %arena.p
  %from = getelementptr i64, ptr %in, i64 %i
  %to = getelementptr i64, ptr %arena, i64 %i
  %v = load i64, ptr %from
  store i64 %v, ptr %to
  ret void
}

define internal void @mix.task(ptr %team, ptr %scratch, ptr %args, i64 %ai) {
  %out.p = getelementptr i64, ptr %args, i64 1
  %out = load ptr, ptr %out.p
  %arena.p = getelementptr i64, ptr %args, i64 2
  %arena = load ptr, ptr %arena.p
  %n = call i64 @size(ptr %args)
  %a7 = mul i64 %ai, 7
  %a71 = add i64 %a7, 1
  %aj = urem i64 %a71, %n
  %ap = getelementptr i64, ptr %arena, i64 %aj
  %aq = getelementptr i64, ptr %arena, i64 %ai
  %ao = getelementptr i64, ptr %out, i64 %ai
  %av = load i64, ptr %ap
  %aw = load i64, ptr %aq
  %a3 = mul i64 %av, 3
  %as = add i64 %a3, %aw
  store i64 %as, ptr %ao
  ret void
}

define internal void @back.task(ptr %team, ptr %scratch, ptr %args, i64 %bi) {
  %out.p = getelementptr i64, ptr %args, i64 1
  %out = load ptr, ptr %out.p
  %arena.p = getelementptr i64, ptr %args, i64 2
  %arena = load ptr, ptr %arena.p
  %round.p = getelementptr i64, ptr %args, i64 7
  %r = load i64, ptr %round.p
  %n = call i64 @size(ptr %args)
  %last = sub i64 %n, 1
  %bj = sub i64 %last, %bi
  %bp = getelementptr i64, ptr %out, i64 %bj
  %bo = getelementptr i64, ptr %arena, i64 %bi
  %bv = load i64, ptr %bp
  %bs = add i64 %bv, %r
  store i64 %bs, ptr %bo
  ret void
}

; Two launches in one interval: out[i] = in[i] for i < n / 2, and out[n - 1 - i] = -in[n - 1 - i] for the rest; between
; them a launch without grains.
define i64 @halves(ptr %args, ptr %team) {
  %n = call i64 @size(ptr %args)
  %low = lshr i64 %n, 1
  %high = sub i64 %n, %low
  call void @sw_share(ptr %team, ptr @copy.task, ptr %args, i64 %low)
  call void @sw_share(ptr %team, ptr @copy.task, ptr %args, i64 0)
  %status = call i64 @run(ptr %args, ptr %team, ptr @negate.task, i64 %high)
  ret i64 %status
}

define internal void @negate.task(ptr %team, ptr %scratch, ptr %args, i64 %i) {
  %in = load ptr, ptr %args
  %out.p = getelementptr i64, ptr %args, i64 1
  %out = load ptr, ptr %out.p
  %n = call i64 @size(ptr %args)
  %last = sub i64 %n, 1
  %j = sub i64 %last, %i
  %from = getelementptr i64, ptr %in, i64 %j
  %to = getelementptr i64, ptr %out, i64 %j
  %v = load i64, ptr %from
  %w = sub i64 0, %v
  store i64 %w, ptr %to
  ret void
}

; Reports (7, op 42, i) for negative in[i], and must leave before the second interval, which writes out = 1.
define i64 @check(ptr %args, ptr %team) {
  %n = call i64 @size(ptr %args)
  %status = call i64 @run(ptr %args, ptr %team, ptr @check.task, i64 %n)
  %failed = icmp ne i64 %status, 0
  br i1 %failed, label %leave, label %second
leave:
  ret i64 %status
second:
  %again = call i64 @run(ptr %args, ptr %team, ptr @one.task, i64 %n)
  ret i64 %again
}

define internal void @check.task(ptr %team, ptr %scratch, ptr %args, i64 %i) {
  %in = load ptr, ptr %args
  %p = getelementptr i64, ptr %in, i64 %i
  %v = load i64, ptr %p
  %bad = icmp slt i64 %v, 0
  br i1 %bad, label %report, label %done
report:
  call void @sw_report(ptr %team, i64 7, i64 42, i64 %i)
  br label %done
done:
  ret void
}

define internal void @one.task(ptr %team, ptr %scratch, ptr %args, i64 %i) {
  %out.p = getelementptr i64, ptr %args, i64 1
  %out = load ptr, ptr %out.p
  %q = getelementptr i64, ptr %out, i64 %i
  store i64 1, ptr %q
  ret void
}

; Answers a status of its own without reporting it.
define i64 @fails(ptr %args, ptr %team) {
  ret i64 9
}

; Runs intervals for ever; ends only by a status.
define i64 @endless(ptr %args, ptr %team) {
entry:
  br label %head
head:
  %status = call i64 @run(ptr %args, ptr %team, ptr @nothing.task, i64 4)
  %go = icmp eq i64 %status, 0
  br i1 %go, label %head, label %done
done:
  ret i64 %status
}

define internal void @nothing.task(ptr %team, ptr %scratch, ptr %args, i64 %i) {
  ret void
}

; out[i] = bits of f32(in[0]) * 0.5: shows the rounding and denormal modes of the thread that ran grain i.
define i64 @halve(ptr %args, ptr %team) {
  %n = call i64 @size(ptr %args)
  %status = call i64 @run(ptr %args, ptr %team, ptr @halve.task, i64 %n)
  ret i64 %status
}

define internal void @halve.task(ptr %team, ptr %scratch, ptr %args, i64 %i) {
  %in = load ptr, ptr %args
  %out.p = getelementptr i64, ptr %args, i64 1
  %out = load ptr, ptr %out.p
  %word = load i64, ptr %in
  %low = trunc i64 %word to i32
  %f = bitcast i32 %low to float
  %half = fmul float %f, 0.5
  %bits = bitcast float %half to i32
  %wide = zext i32 %bits to i64
  %to = getelementptr i64, ptr %out, i64 %i
  store i64 %wide, ptr %to
  ret void
}

; Inputs f32 [a, b], f32 [b]; outputs i64 [8] = data slots' contents: dims a, b, b, the stride, then for grain g (g < 4)
; the first byte of its thread's scratch memory as it wrote it (g + 1).
define i64 @slots(ptr %args, ptr %team) {
  %out.p = getelementptr i64, ptr %args, i64 2
  %out = load ptr, ptr %out.p
  %scratch.p = getelementptr i64, ptr %args, i64 5
  %scratch = load ptr, ptr %scratch.p
  %stride.p = getelementptr i64, ptr %args, i64 6
  %stride = load i64, ptr %stride.p
  call void @sw_share(ptr %team, ptr @slots.task, ptr %args, i64 4)
  %s = call i64 @sw_join(ptr %team, ptr %scratch, i64 %stride)
  %a.p = getelementptr i64, ptr %args, i64 7
  %b.p = getelementptr i64, ptr %args, i64 8
  %c.p = getelementptr i64, ptr %args, i64 9
  %a = load i64, ptr %a.p
  %b = load i64, ptr %b.p
  %c = load i64, ptr %c.p
  %o1 = getelementptr i64, ptr %out, i64 1
  %o2 = getelementptr i64, ptr %out, i64 2
  %o3 = getelementptr i64, ptr %out, i64 3
  store i64 %a, ptr %out
  store i64 %b, ptr %o1
  store i64 %c, ptr %o2
  store i64 %stride, ptr %o3
  ret i64 0
}

define internal void @slots.task(ptr %team, ptr %scratch, ptr %args, i64 %g) {
  %out.p = getelementptr i64, ptr %args, i64 2
  %out = load ptr, ptr %out.p
  %id = add i64 %g, 1
  %id.byte = trunc i64 %id to i8
  store i8 %id.byte, ptr %scratch
  %again = load volatile i8, ptr %scratch
  %wide = zext i8 %again to i64
  %at = add i64 %g, 4
  %to = getelementptr i64, ptr %out, i64 %at
  store i64 %wide, ptr %to
  ret void
}

; No input; output i64 [1] = constants[0][0] + constants[1][2].
define i64 @sum_const(ptr %args, ptr %team) {
  %out = load ptr, ptr %args
  %table.p = getelementptr i64, ptr %args, i64 2
  %table = load ptr, ptr %table.p
  %first = load ptr, ptr %table
  %second.p = getelementptr i64, ptr %table, i64 1
  %second = load ptr, ptr %second.p
  %x = load i64, ptr %first
  %y.p = getelementptr i64, ptr %second, i64 2
  %y = load i64, ptr %y.p
  %z = add i64 %x, %y
  store i64 %z, ptr %out
  ret i64 0
}
