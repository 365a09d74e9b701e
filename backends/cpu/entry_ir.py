"""The native entry, as LLVM IR text: one METH_FASTCALL function for all models.

A model is a *descriptor*: an array of 64-bit words that says where its program is and what each argument must look
like. The function reads NumPy's array objects in place, without a call into NumPy. It relies on the layout that NumPy
publishes for C extensions (numpy/ndarraytypes.h: `PyArrayObject_fields` and the head of `_PyArray_Descr`, unchanged
from NumPy 1 to 2); all of Python is reached through the stable C API.
"""

from __future__ import annotations

from string import Template

from stepwell.backends.cpu.text_loops import counted

_WORD = 8

# Descriptor words.
PROGRAM, INPUTS, OUTPUTS, CONSTANTS, PARALLEL, SYMBOLS, SLOTS = range(7)
HEADER_WORDS = 7
# Then for each argument: these words, then one per dimension.
TYPE_NUM, FLAGS, ALIGN_MASK, RANK = range(4)
ARGUMENT_WORDS = 4
# A dimension word is a size, ANY, or SYMBOL - k: equal to all other dimensions with the same k.
ANY = -1
SYMBOL = -2

C_CONTIGUOUS = 0x1  # NPY_ARRAY_C_CONTIGUOUS
WRITEABLE = 0x400  # NPY_ARRAY_WRITEABLE

PYTHON_FUNCTIONS = (
    "PyBytes_AsString",
    "PyErr_CheckSignals",
    "PyErr_Occurred",
    "PyErr_SetString",
    "PyEval_RestoreThread",
    "PyEval_SaveThread",
    "PyLong_FromLongLong",
    "Py_BuildValue",
    "Py_IncRef",
)

_COPIED = """\
  %from.p = getelementptr i64, ptr %from, i64 %index
  %to.p = getelementptr i64, ptr %to, i64 %index
  %word = load i64, ptr %from.p
  store i64 %word, ptr %to.p
"""
_TEXT = Template("""\
@sw_array_type = external global i8
@sw_none = external global i8
@sw_type_error = external global i8
@sw_wrong_count = internal constant [44 x i8] c"wrong number of arguments to a native entry\\00"
@sw_triple = internal constant [6 x i8] c"(LLL)\\00"
@sw_entry_name = internal constant [5 x i8] c"call\\00"
@sw_entry_doc = internal constant [40 x i8] c"call(*inputs, *outputs, arena, scratch)\\00"
@sw_entry_method = global { ptr, ptr, i32, ptr } { ptr @sw_entry_name, ptr @sw_entry, i32 128, ptr @sw_entry_doc }

declare ptr @PyBytes_AsString(ptr)
declare void @PyErr_SetString(ptr, ptr)
declare ptr @PyErr_Occurred()
declare ptr @PyLong_FromLongLong(i64)
declare ptr @Py_BuildValue(ptr, ...)
declare void @Py_IncRef(ptr)
declare i64 @pthread_self()

; Whether %array is what %spec asks for. Dimensions that share a symbol are compared through %symbols (-1: not yet met).
define internal i1 @sw_fits(ptr %array, ptr %spec, ptr %symbols) {
entry:
  %type.p = getelementptr i8, ptr %array, i64 $OB_TYPE
  %type = load ptr, ptr %type.p
  %exact = icmp eq ptr %type, @sw_array_type
  br i1 %exact, label %layout, label %no
layout:
  %data.p = getelementptr i8, ptr %array, i64 $DATA
  %data = load i64, ptr %data.p
  %rank.p = getelementptr i8, ptr %array, i64 $ND
  %rank.narrow = load i32, ptr %rank.p
  %rank = sext i32 %rank.narrow to i64
  %flags.p = getelementptr i8, ptr %array, i64 $ARRAY_FLAGS
  %flags.narrow = load i32, ptr %flags.p
  %flags = sext i32 %flags.narrow to i64
  %descr.p = getelementptr i8, ptr %array, i64 $DESCR
  %descr = load ptr, ptr %descr.p
  %order.p = getelementptr i8, ptr %descr, i64 $BYTE_ORDER
  %order = load i8, ptr %order.p
  %number.p = getelementptr i8, ptr %descr, i64 $DESCR_TYPE_NUM
  %number.narrow = load i32, ptr %number.p
  %number = sext i32 %number.narrow to i64
  %want.number = load i64, ptr %spec
  %want.flags.p = getelementptr i8, ptr %spec, i64 8
  %want.flags = load i64, ptr %want.flags.p
  %mask.p = getelementptr i8, ptr %spec, i64 16
  %mask = load i64, ptr %mask.p
  %want.rank.p = getelementptr i8, ptr %spec, i64 24
  %want.rank = load i64, ptr %want.rank.p
  %set = and i64 %flags, %want.flags
  %off = and i64 %data, %mask
  %ok.number = icmp eq i64 %number, %want.number
  %ok.order = icmp ne i8 %order, $SWAPPED
  %ok.flags = icmp eq i64 %set, %want.flags
  %ok.align = icmp eq i64 %off, 0
  %ok.rank = icmp eq i64 %rank, %want.rank
  %ok.0 = and i1 %ok.number, %ok.order
  %ok.1 = and i1 %ok.flags, %ok.align
  %ok.2 = and i1 %ok.0, %ok.1
  %ok = and i1 %ok.2, %ok.rank
  br i1 %ok, label %shape, label %no
shape:
  %dims.p = getelementptr i8, ptr %array, i64 $DIMENSIONS
  %dims = load ptr, ptr %dims.p
  %want.dims = getelementptr i8, ptr %spec, i64 32
  br label %head
head:
  %axis = phi i64 [ 0, %shape ], [ %next, %step ]
  %more = icmp ult i64 %axis, %rank
  br i1 %more, label %dim, label %yes
dim:
  %size.p = getelementptr i64, ptr %dims, i64 %axis
  %size = load i64, ptr %size.p
  %want.p = getelementptr i64, ptr %want.dims, i64 %axis
  %want = load i64, ptr %want.p
  %same = icmp eq i64 %size, %want
  %any = icmp eq i64 %want, $ANY
  %pass = or i1 %same, %any
  br i1 %pass, label %step, label %symbolic
symbolic:
  %is.symbol = icmp sle i64 %want, $SYMBOL
  br i1 %is.symbol, label %symbol, label %no
symbol:
  %index = sub i64 $SYMBOL, %want
  %bound.p = getelementptr i64, ptr %symbols, i64 %index
  %bound = load i64, ptr %bound.p
  %unbound = icmp eq i64 %bound, -1
  %agrees = icmp eq i64 %bound, %size
  store i64 %size, ptr %bound.p
  %good = or i1 %unbound, %agrees
  br i1 %good, label %step, label %no
step:
  %next = add i64 %axis, 1
  br label %head
yes:
  ret i1 true
no:
  ret i1 false
}

$COPY_WORDS
define ptr @sw_entry(ptr %self, ptr %objects, i64 %given) uwtable {
entry:
  %report = alloca [3 x i64]
  %descriptor = call ptr @PyBytes_AsString(ptr %self)
  %inputs.p = getelementptr i64, ptr %descriptor, i64 $INPUTS
  %inputs = load i64, ptr %inputs.p
  %outputs.p = getelementptr i64, ptr %descriptor, i64 $OUTPUTS
  %outputs = load i64, ptr %outputs.p
  %arena.index = add i64 %inputs, %outputs
  %scratch.index = add i64 %arena.index, 1
  %count = add i64 %arena.index, 2
  %complete = icmp eq i64 %given, %count
  br i1 %complete, label %slots, label %wrong.count

wrong.count:
  %type.error = load ptr, ptr @sw_type_error
  call void @PyErr_SetString(ptr %type.error, ptr @sw_wrong_count)
  ret ptr null

slots:
  %n.slots.p = getelementptr i64, ptr %descriptor, i64 $SLOTS
  %n.slots = load i64, ptr %n.slots.p
  %args = alloca i64, i64 %n.slots, align 16
  %n.symbols.p = getelementptr i64, ptr %descriptor, i64 $SYMBOLS
  %n.symbols = load i64, ptr %n.symbols.p
  %symbols = alloca i64, i64 %n.symbols, align 16
  %symbol.bytes = mul i64 %n.symbols, 8
  call void @llvm.memset.p0.i64(ptr %symbols, i8 -1, i64 %symbol.bytes, i1 false)
  %specs = getelementptr i64, ptr %descriptor, i64 $HEADER_WORDS
  %arena.slot = getelementptr i64, ptr %args, i64 %arena.index
  %first.dim = getelementptr i64, ptr %arena.slot, i64 4
  br label %head

; The data pointer of argument i goes to slot i (scratch is put in its place below), input dimensions to the end.
head:
  %index = phi i64 [ 0, %slots ], [ %index.next, %stored ]
  %spec = phi ptr [ %specs, %slots ], [ %spec.next, %stored ]
  %dims.at = phi ptr [ %first.dim, %slots ], [ %dims.next, %stored ]
  %more = icmp ult i64 %index, %count
  br i1 %more, label %argument, label %place
argument:
  %object.p = getelementptr ptr, ptr %objects, i64 %index
  %object = load ptr, ptr %object.p
  %fits = call i1 @sw_fits(ptr %object, ptr %spec, ptr %symbols)
  br i1 %fits, label %take, label %misfit
misfit:
  %misfit.number = call ptr @PyLong_FromLongLong(i64 %index)
  ret ptr %misfit.number
take:
  %data.p = getelementptr i8, ptr %object, i64 $DATA
  %data = load i64, ptr %data.p
  %slot.p = getelementptr i64, ptr %args, i64 %index
  store i64 %data, ptr %slot.p
  %rank.p = getelementptr i64, ptr %spec, i64 $RANK
  %rank = load i64, ptr %rank.p
  %is.input = icmp ult i64 %index, %inputs
  br i1 %is.input, label %dims, label %stored
dims:
  %shape.p = getelementptr i8, ptr %object, i64 $DIMENSIONS
  %shape = load ptr, ptr %shape.p
  call void @sw_copy_words(ptr %dims.at, ptr %shape, i64 %rank)
  %dims.after = getelementptr i64, ptr %dims.at, i64 %rank
  br label %stored
stored:
  %dims.next = phi ptr [ %dims.at, %take ], [ %dims.after, %dims ]
  %words = add i64 %rank, $ARGUMENT_WORDS
  %spec.next = getelementptr i64, ptr %spec, i64 %words
  %index.next = add i64 %index, 1
  br label %head

place:
  %constants.slot = getelementptr i64, ptr %arena.slot, i64 1
  %scratch.slot = getelementptr i64, ptr %arena.slot, i64 2
  %stride.slot = getelementptr i64, ptr %arena.slot, i64 3
  %scratch.data = load i64, ptr %constants.slot
  store i64 %scratch.data, ptr %scratch.slot
  %constants.p = getelementptr i64, ptr %descriptor, i64 $CONSTANTS
  %constants = load i64, ptr %constants.p
  store i64 %constants, ptr %constants.slot
  %scratch.p = getelementptr ptr, ptr %objects, i64 %scratch.index
  %scratch = load ptr, ptr %scratch.p
  %scratch.shape.p = getelementptr i8, ptr %scratch, i64 $DIMENSIONS
  %scratch.shape = load ptr, ptr %scratch.shape.p
  %capacity = load i64, ptr %scratch.shape
  %stride.p = getelementptr i64, ptr %scratch.shape, i64 1
  %stride = load i64, ptr %stride.p
  store i64 %stride, ptr %stride.slot
  %program.p = getelementptr i64, ptr %descriptor, i64 $PROGRAM
  %program = load ptr, ptr %program.p
  %parallel.p = getelementptr i64, ptr %descriptor, i64 $PARALLEL
  %parallel = load i64, ptr %parallel.p
  %main.p = getelementptr i8, ptr @sw_team, i64 $MAIN_THREAD
  %main = load i64, ptr %main.p
  %self.thread = call i64 @pthread_self()
  %is.main = icmp eq i64 %self.thread, %main

  %tstate = call ptr @PyEval_SaveThread()
  %signals = select i1 %is.main, ptr %tstate, ptr null
  %answer = call i64 @sw_call(ptr %program, ptr %args, i64 %capacity, i64 %parallel, ptr %signals, ptr %report)
  call void @PyEval_RestoreThread(ptr %tstate)

  %ran = icmp eq i64 %answer, 0
  br i1 %ran, label %finished, label %small
small:
  %small.number = call ptr @PyLong_FromLongLong(i64 %scratch.index)
  ret ptr %small.number
finished:
  %code = load i64, ptr %report
  %good = icmp eq i64 %code, 0
  br i1 %good, label %none, label %bad
none:
  call void @Py_IncRef(ptr @sw_none)
  ret ptr @sw_none
bad:
  %raised = call ptr @PyErr_Occurred()
  %quiet = icmp eq ptr %raised, null
  br i1 %quiet, label %tuple, label %raise
raise:
  ret ptr null
tuple:
  %op.p = getelementptr i64, ptr %report, i64 1
  %value.p = getelementptr i64, ptr %report, i64 2
  %op = load i64, ptr %op.p
  %value = load i64, ptr %value.p
  %triple = call ptr (ptr, ...) @Py_BuildValue(ptr @sw_triple, i64 %code, i64 %op, i64 %value)
  ret ptr %triple
}
""")


def entry_ir(main_thread: int) -> str:
    """The text, to follow the team's in one module. `main_thread` is the offset of that word in the team block.

    An object's header is `object.__basicsize__` bytes long (more without a GIL) and ends with its type.
    """
    header = object.__basicsize__
    array = {"DATA": 0, "ND": 8, "DIMENSIONS": 16, "DESCR": 40, "ARRAY_FLAGS": 48}
    descr = {"BYTE_ORDER": 10, "DESCR_TYPE_NUM": 12}
    copy_words = counted("internal void @sw_copy_words(ptr %to, ptr %from, i64 %count)", _COPIED)
    return _TEXT.substitute(
        {name: header + offset for name, offset in (array | descr).items()},
        COPY_WORDS=copy_words,
        OB_TYPE=header - _WORD,
        SWAPPED=ord(">"),
        MAIN_THREAD=main_thread,
        INPUTS=INPUTS,
        OUTPUTS=OUTPUTS,
        CONSTANTS=CONSTANTS,
        PROGRAM=PROGRAM,
        PARALLEL=PARALLEL,
        SYMBOLS=SYMBOLS,
        SLOTS=SLOTS,
        HEADER_WORDS=HEADER_WORDS,
        ARGUMENT_WORDS=ARGUMENT_WORDS,
        RANK=RANK,
        ANY=ANY,
        SYMBOL=SYMBOL,
    )
