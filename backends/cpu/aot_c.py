"""The C interface of a compiled program: its header, and the source behind it.

    digits_model *model = digits_new();
    if (digits_run(model, (digits_sizes){.batch = 20}, image, logits)) puts(digits_error(model));
    digits_free(model);
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from string import Template

from attrs import frozen

from stepwell import __version__
from stepwell.errors import EngineError
from stepwell.ir.dims import Dim, DimExpr, free_symbols

from . import cpuid, team_block
from .executable import Executable
from .signature import Port
from .target import Processor

_TYPES = {
    "float32": "float", "float64": "double", "bool": "uint8_t", "complex64": "float", "complex128": "double",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
_RESERVED = (
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while bool true "
    "false class new delete this template namespace public private protected operator virtual try catch throw using "
    "asm linux unix model sizes NULL EOF errno"
)

@frozen
class Parameter:
    """An input or output in C. `held` is the type that an output has which the program itself makes, else empty."""

    name: str
    type: str
    port: Port
    held: str = ""

    @property
    def shown(self) -> str:
        """For the header: name in C and in the model, element type and shape."""
        return _comment(f"{self.name}: {self.port.dtype}[{', '.join(map(str, self.port.dims))}], {self.port.name}")


@frozen
class Interface:
    """The names of the C interface. `sizes` gives each symbol of the inputs' dims its name in C."""

    prefix: str
    needs: str
    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]
    sizes: Mapping[str, str]

    @staticmethod
    def of(stem: str, executable: Executable) -> Interface:
        """`stem`, the file's name, becomes the prefix of all names. Raises EngineError where the program needs a size
        that no input has, or keeps state."""
        inputs, outputs = executable.signature.inputs, executable.signature.outputs
        head = executable.head
        if any("sw.state" in head.argument_attributes(number) for number in range(len(head.arguments))):
            raise EngineError("a model that keeps state cannot be a shared library: compile it without state=")
        prefix = re.sub(r"\W", "_", stem, flags=re.ASCII)
        prefix = f"_{prefix}" if prefix[:1].isdigit() or not prefix else prefix
        names = _names(port.name for port in (*inputs, *outputs))
        given = [Parameter(name, _c_type(port), port) for name, port in zip(names, inputs, strict=False)]
        made = [
            Parameter(name, _c_type(port), port, f"{prefix}_{name}" if port.published else "")
            for name, port in zip(names[len(inputs) :], outputs, strict=True)
        ]
        symbols = list(dict.fromkeys(
            name for port in executable.signature.inputs for dim in port.dims for name in sorted(free_symbols(dim))
        ))  # fmt: skip
        needed = free_symbols(executable.signature.arena_bytes) | free_symbols(executable.scratch_bytes)
        if missing := sorted(needed - set(symbols)):
            raise EngineError(f"the memory of a call depends on {', '.join(missing)}, which no input determines")
        processor = executable.processor
        needs = f"{processor.name} ({processor.arch})"
        return Interface(prefix, needs, tuple(given), tuple(made), dict(zip(symbols, _names(symbols), strict=True)))

    def run(self, names: Iterable[str]) -> str:
        """The declaration of the function that runs the model, with these names of inputs and outputs."""
        given = iter(names)
        parameters = [f"{self.prefix}_model *model"]
        parameters += [f"{self.prefix}_sizes sizes"] if self.sizes else []
        parameters += [f"const {parameter.type} *{next(given)}" for parameter in self.inputs]
        parameters += [f"{parameter.held or parameter.type} *{next(given)}" for parameter in self.outputs]
        return f"int {self.prefix}_run({', '.join(parameters)})"


_HEADER = Template("""\
/* A model compiled by Stepwell $version for $needs.

   Link with the library, or load it with dlopen. A model may be used by one thread at a time; any number of models may
   run at once. A process that forks does so before the first call. */
#ifndef STEPWELL_$prefix
#define STEPWELL_$prefix

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The memory of calls, kept from one to the next. */
typedef struct ${prefix}_model ${prefix}_model;
$structs
/* Null where there is no memory, or where this processor lacks what the code uses. */
${prefix}_model *${prefix}_new(void);
void ${prefix}_free(${prefix}_model *model);

/* The threads that share the work of a call, the calling thread included: 1 at first, at most $most.
   Not to be called while a model runs. */
void ${prefix}_set_threads(int64_t threads);

/* Arrays are dense, in row-major order, and must not overlap.
$described
   Answers 0; or 1, and ${prefix}_error says why. */
$run;
const char *${prefix}_error(const ${prefix}_model *model);

#ifdef __cplusplus
}
#endif
#endif
""")

_SOURCE = Template("""\
#include "interface.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;
#define MOST INT64_C($most_bytes)
extern i64 sw_team[];
extern i64 sw_call(void (*program)(void), i64 *args, i64 capacity, i64 parallel, void *state, i64 *report);
extern i64 sw_disband(void);
extern void sw_release(i64 *segments, i64 count);
extern void program(void) __asm__("$program");

/* The team asks these whether Python has signals to look for; here nobody has. */
void *PyEval_SaveThread(void) { abort(); }
void PyEval_RestoreThread(void *state) { (void)state; abort(); }
int PyErr_CheckSignals(void) { abort(); }

__asm__(".section .rodata.stepwell,\\"a\\"\\n.balign $page\\n"
        ".hidden sw_constants\\n.globl sw_constants\\nsw_constants:\\n.incbin \\"constants.bin\\"\\n.text\\n");
extern const unsigned char sw_constants[] __attribute__((visibility("hidden")));
static const void *const constants[] = {$constants};
static const char *const sites[][2] = {$sites};

struct ${prefix}_model {
    unsigned char *memory;
    i64 bytes;
    i64 heap[$heap_words];
    char error[1024];
};

static inline i64 floordiv(i64 a, i64 b) { return a / b - (a % b != 0 && (a ^ b) < 0); }
static inline i64 mod(i64 a, i64 b) { return a - b * floordiv(a, b); }
/* Sums and products of sizes stop growing where a machine has no memory any more. */
static inline i64 bounded(__int128 a) { return a > MOST ? MOST : a < -MOST ? -MOST : (i64)a; }
static inline i64 add(i64 a, i64 b) { return bounded((__int128)a + b); }
static inline i64 mul(i64 a, i64 b) { return bounded((__int128)a * b); }
static inline i64 larger(i64 a, i64 b) { return a > b ? a : b; }
static inline i64 smaller(i64 a, i64 b) { return a < b ? a : b; }
static inline i64 lines(i64 bytes) { return larger((bytes + 63) / 64 * 64, 64); }

__attribute__((destructor)) static void leave(void) { sw_disband(); }

$processor
${prefix}_model *${prefix}_new(void) {
    if (!fits()) return 0;
    return calloc(1, sizeof(${prefix}_model));
}

void ${prefix}_free(${prefix}_model *model) {
    if (!model) return;
    sw_release(model->heap, $segments);
    free(model->memory);
    free(model);
}

void ${prefix}_set_threads(i64 threads) {
    sw_team[$spin_word] = 200000;
    sw_team[$wanted_word] = smaller(larger(threads, 1), $most);
}

const char *${prefix}_error(const ${prefix}_model *model) { return model->error; }

static int fail(${prefix}_model *model, const char *why) {
    snprintf(model->error, sizeof model->error, "%s", why);
    return 1;
}

$run {
$checks    const i64 threads = larger(sw_team[$wanted_word], 1), arena = lines($arena), scratch = lines($scratch);
    if (arena >= MOST || scratch >= MOST / threads)
        return fail(model, "these sizes need more memory than a machine has");
    if (model->bytes < arena + threads * scratch) {
        free(model->memory);
        model->bytes = 0;
        model->memory = aligned_alloc(64, arena + threads * scratch);
        if (!model->memory) return fail(model, "there is not enough memory");
        model->bytes = arena + threads * scratch;
    }
    i64 report[3] = {0, 0, 0};
    i64 args[] = {$args};
    if (sw_call(program, args, threads, $parallel && threads > 1, 0, report))
        return fail(model, "the number of threads was changed during the call");
    model->error[0] = 0;
    if (!report[0]) return 0;
    const int known = report[1] >= 0 && report[1] < $site_count;
    snprintf(model->error, sizeof model->error, "%s: %s (value %lld)", known ? sites[report[1]][0] : "an operation",
             known ? sites[report[1]][1] : "the model stopped", (long long)report[2]);
    return 1;
}
""")

_X86_64 = Template("""\
#include <cpuid.h>

/* What code may use beyond x86-64: where cpuid tells it, and what of the registers the system has to save for it. */
static const struct { unsigned leaf, subleaf, word, mask, least, state; } wanted[] = {
$rows    {0, 0, 0, 0, 0, 0}
};

static unsigned saved(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return 0; /* no system that says what it saves */
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return a;
}

static int fits(void) {
    const unsigned state = saved();
    for (unsigned n = 0; n + 1 < sizeof wanted / sizeof *wanted; ++n) {
        unsigned words[4];
        if (!__get_cpuid_count(wanted[n].leaf, wanted[n].subleaf, words, words + 1, words + 2, words + 3)) return 0;
        if ((words[wanted[n].word] & wanted[n].mask) < wanted[n].least) return 0;
        if ((state & wanted[n].state) != wanted[n].state) return 0;
    }
    return 1;
}
""")

_MOST_BYTES = 1 << 50


def header(interface: Interface) -> str:
    """The text of the header."""
    structs = []
    if interface.sizes:
        fields = "".join(f"    int64_t {name}; /* {_comment(symbol)} */\n" for symbol, name in interface.sizes.items())
        structs.append(f"\n/* Sizes of the inputs. */\ntypedef struct {{\n{fields}}} {interface.prefix}_sizes;\n")
    for output in interface.outputs:
        if output.held:
            rank = max(1, len(output.port.dims))
            fields = f"    const {output.type} *data;\n    int64_t dims[{rank}];\n"
            structs.append(
                f"\n/* Memory of the model's, up to its next call. */\ntypedef struct {{\n{fields}}} {output.held};\n"
            )
    described = [f"   input {parameter.shown}" for parameter in interface.inputs]
    described += [f"   output {parameter.shown}" for parameter in interface.outputs]
    return _HEADER.substitute(
        version=__version__, needs=_comment(interface.needs), prefix=interface.prefix, structs="".join(structs),
        most=team_block.MAX_THREADS, described="\n".join(described),
        run=interface.run(parameter.name for parameter in (*interface.inputs, *interface.outputs)),
    )  # fmt: skip


def source(interface: Interface, executable: Executable, offsets: Sequence[int]) -> str:
    """The text of the source; constant i lies at `offsets[i]` of `constants.bin`."""
    signature = executable.signature
    heap = ["(i64)model->heap"] if signature.segments else []
    dims = [_expression(dim, interface.sizes) for port in signature.inputs for dim in port.dims]
    names = [f"array{number}" for number in range(len(interface.inputs) + len(interface.outputs))]
    memory = ["(i64)model->memory", "(i64)constants", "(i64)(model->memory + arena)", "scratch"]
    args = [*(f"(i64){name}" for name in names), *heap, *memory, *dims]
    sites = [f"{{{_string(site.label or 'an operation')}, {_string(site.message)}}}" for site in executable.sites]
    return _SOURCE.substitute(
        prefix=interface.prefix, program=executable.program, run=interface.run(names), page=4096,
        constants=", ".join(f"sw_constants + {offset}" for offset in offsets) or "0",
        sites=", ".join(sites) or '{"", ""}', site_count=len(sites), processor=processor_check(executable.processor),
        heap_words=max(1, 2 * signature.segments), segments=signature.segments, most=team_block.MAX_THREADS,
        spin_word=team_block.SPIN_NS // 8, wanted_word=team_block.WANTED // 8, most_bytes=_MOST_BYTES,
        arena=_expression(signature.arena_bytes, interface.sizes),
        scratch=_expression(executable.scratch_bytes, interface.sizes),
        args=", ".join(args), parallel=int(executable.shares_work), checks="".join(_checks(interface, executable)),
    )  # fmt: skip


def processor_check(processor: Processor) -> str:
    """C with a function that says whether a processor has what code for this one may use.

    Raises TargetError for features of which it is not known where a processor tells them."""
    if processor.arch != "x86_64":
        return "static int fits(void) { return 1; }\n"
    rows = ""
    for need in cpuid.requirements(processor.enabled_features):
        word = cpuid.REGISTERS.index(need.register)
        fields = f"{need.leaf:#x}, {need.subleaf}, {word}, {need.mask:#x}, {need.least:#x}, {need.state:#x}"
        rows += f"    {{{fields}}}, /* {need.feature} */\n"
    return _X86_64.substitute(rows=rows)


def _checks(interface: Interface, executable: Executable) -> Iterable[str]:
    for symbol, name in interface.sizes.items():
        why = _string(f"the size {symbol} is negative or too large")
        yield f"    if (sizes.{name} < 0 || sizes.{name} > INT32_MAX) return fail(model, {why});\n"
    for parameter, port in zip(interface.inputs, executable.signature.inputs, strict=True):
        for dim in port.dims:
            if isinstance(dim, DimExpr):
                why = _string(f"the sizes make a dim of input {parameter.port.name} negative")
                yield f"    if ({_expression(dim, interface.sizes)} < 0) return fail(model, {why});\n"
    for zero, reason in executable.demands:
        if free_symbols(zero) <= interface.sizes.keys():
            yield f"    if ({_expression(zero, interface.sizes)} != 0) return fail(model, {_string(reason)});\n"


def _expression(dim: Dim, sizes: Mapping[str, str]) -> str:
    """A size in C, over the fields of `sizes`."""
    if not isinstance(dim, DimExpr):
        return f"INT64_C({int(dim)})"
    return dim.fold(
        lambda number: f"INT64_C({number})", lambda name: f"sizes.{sizes[name]}",
        lambda a, b: f"add({a}, {b})", lambda a, b: f"mul({a}, {b})", lambda a, b: f"floordiv({a}, {b})",
        lambda a, b: f"mod({a}, {b})", lambda a, b: f"larger({a}, {b})", lambda a, b: f"smaller({a}, {b})",
    )  # fmt: skip


def _c_type(port: Port) -> str:
    """The type of an element, or of its bits where C has none."""
    return _TYPES.get(port.dtype.name) or f"uint{8 * port.dtype.itemsize}_t"


def _names(given: Iterable[str]) -> list[str]:
    """C identifiers like these names, all different."""
    found: dict[str, None] = {}
    for text in given:
        name = re.sub(r"\W", "_", text, flags=re.ASCII) or "_"
        name = f"_{name}" if name[0].isdigit() else name
        while name in found or name in _RESERVED.split():
            name += "_"
        found[name] = None
    return list(found)


def _comment(text: str) -> str:
    """Text that may stand in a comment."""
    return re.sub(r"[^\x20-\x7e]", "?", text).replace("*/", "* /").replace("/*", "/ *")


def _string(text: str) -> str:
    """A string literal, in UTF-8."""
    plain = frozenset(range(0x20, 0x7F)) - frozenset(b'"\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'
