; Programs for the tests of the run time. Arguments of all but @sum_const: one i64 (or f32) input of shape [n] in
; slot 0, one output of the same shape in slot 1; then arena 2, constants 3, scratch 4, stride 5, n 6.

; out = in
define i64 @copy(ptr %args, ptr %team, i64 %tid) {
entry:
  %in = load ptr, ptr %args
  %out.p = getelementptr i64, ptr %args, i64 1
  %out = load ptr, ptr %out.p
  %n.p = getelementptr i64, ptr %args, i64 6
  %n = load i64, ptr %n.p
  br label %head
head:
  %i = call i64 @sw_next(ptr %team, i64 0)
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %from = getelementptr i64, ptr %in, i64 %i
  %to = getelementptr i64, ptr %out, i64 %i
  %v = load i64, ptr %from
  store i64 %v, ptr %to
  br label %head
done:
  ret i64 0
}

; arena = in; 40 rounds of: out[i] = 3 * arena[(7 i + 1) mod n] + arena[i]; arena[i] = out[n - 1 - i] + round
; The two steps use different counters and each reads what other threads wrote before the barrier.
define i64 @rounds(ptr %args, ptr %team, i64 %tid) {
entry:
  %in = load ptr, ptr %args
  %out.p = getelementptr i64, ptr %args, i64 1
  %out = load ptr, ptr %out.p
  %arena.p = getelementptr i64, ptr %args, i64 2
  %arena = load ptr, ptr %arena.p
  %n.p = getelementptr i64, ptr %args, i64 6
  %n = load i64, ptr %n.p
  %last = sub i64 %n, 1
  br label %fill
fill:
  %fi = call i64 @sw_next(ptr %team, i64 5)
  %fmore = icmp slt i64 %fi, %n
  br i1 %fmore, label %fbody, label %fdone
fbody:
  %ffrom = getelementptr i64, ptr %in, i64 %fi
  %fto = getelementptr i64, ptr %arena, i64 %fi
  %fv = load i64, ptr %ffrom
  store i64 %fv, ptr %fto
  br label %fill
fdone:
  %s0 = call i64 @sw_barrier(ptr %team, i64 %tid, i64 6)
  br label %round
round:
  %r = phi i64 [ 0, %fdone ], [ %r.next, %bdone ]
  %rmore = icmp slt i64 %r, 40
  br i1 %rmore, label %a, label %end
a:
  %ai = call i64 @sw_next(ptr %team, i64 0)
  %amore = icmp slt i64 %ai, %n
  br i1 %amore, label %abody, label %adone
abody:
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
  br label %a
adone:
  %s1 = call i64 @sw_barrier(ptr %team, i64 %tid, i64 1)
  br label %b
b:
  %bi = call i64 @sw_next(ptr %team, i64 1)
  %bmore = icmp slt i64 %bi, %n
  br i1 %bmore, label %bbody, label %bdone
bbody:
  %bj = sub i64 %last, %bi
  %bp = getelementptr i64, ptr %out, i64 %bj
  %bo = getelementptr i64, ptr %arena, i64 %bi
  %bv = load i64, ptr %bp
  %bs = add i64 %bv, %r
  store i64 %bs, ptr %bo
  br label %b
bdone:
  %s2 = call i64 @sw_barrier(ptr %team, i64 %tid, i64 2)
  %r.next = add i64 %r, 1
  br label %round
end:
  ret i64 0
}

; Reports (7, op 42, i) for negative in[i], and must leave before the second interval, which writes out = 1.
define i64 @check(ptr %args, ptr %team, i64 %tid) {
entry:
  %in = load ptr, ptr %args
  %out.p = getelementptr i64, ptr %args, i64 1
  %out = load ptr, ptr %out.p
  %n.p = getelementptr i64, ptr %args, i64 6
  %n = load i64, ptr %n.p
  br label %head
head:
  %i = call i64 @sw_next(ptr %team, i64 0)
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %barrier
body:
  %p = getelementptr i64, ptr %in, i64 %i
  %v = load i64, ptr %p
  %bad = icmp slt i64 %v, 0
  br i1 %bad, label %report, label %head
report:
  call void @sw_report(ptr %team, i64 7, i64 42, i64 %i)
  br label %head
barrier:
  %status = call i64 @sw_barrier(ptr %team, i64 %tid, i64 1)
  %failed = icmp ne i64 %status, 0
  br i1 %failed, label %leave, label %second
leave:
  ret i64 %status
second:
  %j = call i64 @sw_next(ptr %team, i64 0)
  %jmore = icmp slt i64 %j, %n
  br i1 %jmore, label %write, label %done
write:
  %q = getelementptr i64, ptr %out, i64 %j
  store i64 1, ptr %q
  br label %second
done:
  ret i64 0
}

; Answers a status of its own without reporting it.
define i64 @fails(ptr %args, ptr %team, i64 %tid) {
  ret i64 9
}

; Meets barriers for ever; ends only by a status.
define i64 @endless(ptr %args, ptr %team, i64 %tid) {
entry:
  br label %head
head:
  %status = call i64 @sw_barrier(ptr %team, i64 %tid, i64 0)
  %go = icmp eq i64 %status, 0
  br i1 %go, label %head, label %done
done:
  ret i64 %status
}

; out[i] = bits of f32(in[i]) * 0.5: shows the rounding and denormal modes of the thread that ran grain i. Every thread
; runs at least one grain before a barrier, and writes its result to its own out[tid].
define i64 @halve(ptr %args, ptr %team, i64 %tid) {
entry:
  %in = load ptr, ptr %args
  %out.p = getelementptr i64, ptr %args, i64 1
  %out = load ptr, ptr %out.p
  %word = load i64, ptr %in
  %low = trunc i64 %word to i32
  %f = bitcast i32 %low to float
  %half = fmul float %f, 0.5
  %bits = bitcast float %half to i32
  %wide = zext i32 %bits to i64
  %to = getelementptr i64, ptr %out, i64 %tid
  store i64 %wide, ptr %to
  ret i64 0
}

; Inputs f32 [a, b], f32 [b]; outputs i64 [8] = data slots' contents: dims a, b, b, the stride, then for thread t
; (t < 4) the first byte of its scratch as it wrote it (t + 1).
define i64 @slots(ptr %args, ptr %team, i64 %tid) {
entry:
  %out.p = getelementptr i64, ptr %args, i64 2
  %out = load ptr, ptr %out.p
  %scratch.p = getelementptr i64, ptr %args, i64 5
  %scratch = load ptr, ptr %scratch.p
  %stride.p = getelementptr i64, ptr %args, i64 6
  %stride = load i64, ptr %stride.p
  %offset = mul i64 %stride, %tid
  %mine = getelementptr i8, ptr %scratch, i64 %offset
  %id = add i64 %tid, 1
  %id.byte = trunc i64 %id to i8
  store i8 %id.byte, ptr %mine
  %s = call i64 @sw_barrier(ptr %team, i64 %tid, i64 0)
  %again = load i8, ptr %mine
  %wide = zext i8 %again to i64
  %at = add i64 %tid, 4
  %to = getelementptr i64, ptr %out, i64 %at
  store i64 %wide, ptr %to
  %first = icmp eq i64 %tid, 0
  br i1 %first, label %dims, label %done
dims:
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
  br label %done
done:
  ret i64 0
}

; No input; output i64 [1] = constants[0][0] + constants[1][2].
define i64 @sum_const(ptr %args, ptr %team, i64 %tid) {
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
