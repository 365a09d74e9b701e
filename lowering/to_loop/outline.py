"""Leaves the tensor landing: each `tensor.kernel` becomes a function over buffers, the rest the program that runs them.

%y = tensor.kernel %x { generic }  ->  %y = buffer.alloc(); kernel.launch @k(%x, %y)     func @k { loop.stage }
tensor.born %n {symbol = "k"}      ->  %i = buffer.load %n[]; %k = heap.size %i upto %m {of = "k"}

A result whose sizes follow from the inputs is written to memory of the caller's. Where data decide them the caller
gives a descriptor, in which the program writes where the result lies and what sizes it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import attrs

from stepwell.dialects import arith, buffer, func, heap, kernel, loop, tensor
from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.check import RequireOp
from stepwell.dialects.kept import set_kept
from stepwell.dialects.program_attributes import DESCRIPTOR
from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.errors import PassError
from stepwell.ir import affine_expr
from stepwell.ir.affine import AffineMap
from stepwell.ir.attributes import ArrayAttr, Attribute, DenseArrayAttr, DictAttr, StringAttr, UnitAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Region, Value
from stepwell.ir.dims import Dim, DimExpr, free_symbols, solve_for, symbol
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.symbols import SymbolTable
from stepwell.ir.types import I64, INDEX, MemRefType, TensorType, Type
from stepwell.lowering.loop.index import IndexBuilder
from stepwell.lowering.tensor.canonical import canonical_text
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.to_loop import work
from stepwell.lowering.to_loop.borders import border_function
from stepwell.lowering.to_loop.buffers import buffer_type as buffer_type
from stepwell.lowering.to_loop.buffers import open_dims as open_dims
from stepwell.lowering.to_loop.control import CONTROL, convert_control
from stepwell.lowering.to_loop.host import HOST, HostCalls
from stepwell.lowering.to_loop.scatter import convert_scatter
from stepwell.lowering.to_loop.state import convert_append, convert_room, described, in_place, roomy_type


def measured_symbols(function: func.FuncOp, types: Sequence[Type], builder: Builder) -> dict[str, Value]:
    """Code for every symbol that an argument's dim determines: `8*h8` measured as m gives h8 = m // 8."""
    index = IndexBuilder(builder)
    known: dict[str, Value] = {}
    pending = [(n, a, d) for n, t in enumerate(types) for a, d in enumerate(getattr(t, "shape", ()))
               if isinstance(d, DimExpr)]  # fmt: skip
    progress = True
    while progress:
        progress = False
        for argument, axis, dim in pending:
            unknown = [name for name in free_symbols(dim) if name not in known]
            if len(unknown) != 1:
                continue
            measured = symbol("?measured")
            solution = solve_for(dim, unknown[0], measured)
            if solution is None:
                continue
            size = builder.insert(buffer.DimOp(function.arguments[argument], axis=axis)).result
            known[unknown[0]] = index.dim(solution, {**known, "?measured": size})
            known[unknown[0]].name = unknown[0]
            progress = True
    return known


@attrs.frozen
class Outline(Pass):
    """Make one function per kernel and one program that launches them."""

    name: ClassVar[str] = "outline"

    def run(self, module: Operation, context: PassContext) -> None:
        assert isinstance(module, ModuleOp)
        table = SymbolTable(module)
        for function in list(module.walk_of(func.FuncOp)):
            Program(function, table, context).build()


# What has no place below the tensor landing, besides constants.
CONVERTED = (
    KernelOp, tensor.AppendOp, tensor.BorderOp, tensor.BornOp, tensor.ConstantOp, tensor.EntropyOp, tensor.JoinOp,
    tensor.MeasureOp, tensor.ReshapeOp, tensor.RoomOp, tensor.RowOp, tensor.RowsOp, tensor.ScatterOp, tensor.SizeOp,
    *HOST, *CONTROL,
)  # fmt: skip


class Program:
    """The conversion of one function."""

    def __init__(self, function: func.FuncOp, table: SymbolTable, context: PassContext) -> None:
        self.function = function
        self.table = table
        self.context = context
        self.buffers: dict[Value, Value] = {}
        self.destinations: dict[Value, Value] = {}
        self.makers: dict[Value, Callable[[], Value]] = {}  # code for destinations, where the value's sizes are known
        self.kernels: dict[str, str] = {}
        self.symbols: dict[str, Value] = {}
        self.host_calls = HostCalls(self)
        self.types: dict[Value, Type] = {argument: argument.type for argument in function.arguments}

    def build(self) -> None:
        """Convert in place."""
        function = self.function
        types = [argument.type for argument in function.arguments]
        returned = list(function.returned)
        kept = in_place(function)
        roomy = {place.argument: place for place in kept.values()}
        for number, argument in enumerate(function.arguments):
            place = roomy.get(number)
            argument.type = buffer_type(argument.type) if place is None else roomy_type(argument.type, place)
            self.buffers[argument] = argument
        block = function.body.block
        first = block.first
        self.symbols = measured_symbols(function, types, Builder.at_start(block))
        written = [number for number in range(len(returned)) if number not in kept]
        results = [returned[number] for number in written]
        self.published = [number for number, value in enumerate(results) if not self._is_sized(value.type)]
        outputs = [block.add_argument(self._output_type(n, value), f"out{n}") for n, value in enumerate(results)]
        self.destinations.update((results[n], out) for n, out in enumerate(outputs) if n not in self.published)
        _describe_arguments(function, types, [(n, returned[n]) for n in written], self.published)
        for number, place in kept.items():
            name = function.result_attributes(number).get("onnx.name")
            label = name.value if isinstance(name, StringAttr) else f"output{number}"
            type_ = function.result_attributes(number).get("sw.graph", tensor_attr(returned[number].type))
            set_kept(function, described(place, label, type_))
        self.results, self.outputs = results, outputs
        self.convert_from(first)
        function.res_attrs = None
        function.update_type()

    def _is_sized(self, type_: Type) -> bool:
        """Whether the caller can know the sizes of a result before the call."""
        return all(free_symbols(dim) <= self.symbols.keys() for dim in open_dims(type_))

    def _output_type(self, number: int, value: Value) -> MemRefType:
        if number in self.published:
            return heap.descriptor_type(tensor.tensor_type(value).rank)
        return buffer_type(value.type)

    def convert_from(self, first: Operation | None) -> None:
        """Convert the ops of a block, from one of them on."""
        ops: list[Operation] = []
        while first is not None:
            ops.append(first)
            first = first.next
        for op in ops:
            self.set_before(op)
            self._convert(op)
        for op in reversed(ops):
            if isinstance(op, CONVERTED):
                op.erase()

    def set_before(self, op: Operation) -> None:
        """New ops go before this one."""
        self.builder = Builder.before(op)
        self.index = IndexBuilder(self.builder)

    def _convert(self, op: Operation) -> None:
        if isinstance(op, tensor.ConstantOp):
            made = self.builder.insert(buffer.ConstantOp(value=op.value, result_types=[buffer_type(op.result.type)]))
            self.bind(op.result, made.result)
        elif isinstance(op, tensor.ReshapeOp):
            if op.result not in self.buffers:
                self.bind(op.result, self._reshaped(self.buffers[op.x], op.result.type))
        elif isinstance(op, tensor.JoinOp):
            if any(self.buffers.get(part) is not self.buffers.get(op.result) for part in (*op.base, *op.parts)):
                raise PassError(f"{op.op_name} (from {op.loc.label}) has a part that lies elsewhere")
        elif isinstance(op, tensor.BorderOp):
            self._border(op)
        elif isinstance(op, tensor.RowOp):
            self.bind(op.result, self.builder.insert(buffer.SliceOp(self.buffers[op.x], op.place)).result)
        elif isinstance(op, tensor.SizeOp):
            op.result.replace_all_uses_with(self.index.dim(op.of.dims[0], self.symbols))
        elif isinstance(op, KernelOp):
            self._launch(op)
        elif isinstance(op, tensor.RoomOp):
            convert_room(self, op)
        elif isinstance(op, tensor.AppendOp):
            convert_append(self, op)
        elif isinstance(op, tensor.RowsOp):
            if any(not isinstance(user, func.ReturnOp) for user in op.result.users):
                raise PassError(f"{op.op_name} (from {op.loc.label}) has a reader; place-rows gives it another")
        elif isinstance(op, tensor.ScatterOp):
            convert_scatter(self, op)
        elif isinstance(op, HOST):
            self.host_calls.convert(op)
        elif isinstance(op, CONTROL):
            convert_control(self, op)
        elif isinstance(op, tensor.BornOp):
            self._born(op)
        elif isinstance(op, tensor.EntropyOp):
            self.symbols[op.symbol] = self.builder.insert(kernel.EntropyOp(result_types=[INDEX])).result
        elif isinstance(op, tensor.MeasureOp):
            number = self.builder.insert(buffer.DimOp(self.buffers[op.x], axis=op.axis)).result
            self._size(op, op.symbol, number, None)
        elif isinstance(op, func.ReturnOp):
            for place in self.published:
                self.builder.insert(heap.PublishOp(self.buffers[self.results[place]], self.outputs[place]))
            op.set_operands(())
        elif op.dialect == "tensor":
            raise PassError(f"{op.op_name} (from {op.loc.label}) stands outside a kernel")

    def _born(self, op: tensor.BornOp) -> None:
        """The symbol's value is read from memory by the program itself."""
        memory = self.buffers[op.size]
        zeros = [self.index.constant(0) for _ in buffer.memref_type(memory).shape]
        loaded = self.builder.insert(buffer.LoadOp(memory, zeros)).result
        number = self.builder.insert(arith.IndexCastOp(loaded, result_types=[INDEX])).result
        self._size(op, op.symbol, number, op.at_most.dims[0] if op.at_most is not None else None)

    def _size(self, op: Operation, name: str, number: Value, most: Dim | None) -> None:
        limit = self.index.dim(heap.MOST if most is None else most, self.symbols)
        text = None if most is None else str(most)
        size = self.builder.insert(heap.SizeOp(number, limit, of=name, at_most=text, loc=op.loc)).result
        size.name = name
        self.symbols[name] = size

    def bind(self, value: Value, memory: Value) -> None:
        """A tensor lies in this memory."""
        memory.name = memory.name or value.name
        self.buffers[value] = memory

    def _reshaped(self, memory: Value, type_: Type) -> Value:
        sizes = [self.index.dim(dim, self.symbols) for dim in open_dims(type_)]
        return self.builder.insert(buffer.ReshapeOp(memory, sizes, result_types=[buffer_type(type_)])).result

    def destination(self, value: Value) -> Value:
        """Where a value is written: at the place that is meant for it, even reshaped, else in new memory."""
        given = self._given(value)
        return self.allocated(value) if given is None else given

    def _given(self, value: Value) -> Value | None:
        if value in self.makers:
            self.destinations[value] = self.makers.pop(value)()
        if value in self.destinations:
            return self.destinations[value]
        for user in value.users:
            if isinstance(user, tensor.ReshapeOp):
                memory = self._given(user.result)
                if memory is not None:
                    return self._reshaped(memory, value.type)
            if isinstance(user, tensor.JoinOp):
                if user.result not in self.buffers:
                    self.bind(user.result, self.destination(user.result))
                return self.buffers[user.result]
        return None

    def allocated(self, value: Value) -> Value:
        """New memory for a value, at the insertion point."""
        sizes = [self.index.dim(dim, self.symbols) for dim in open_dims(value.type)]
        described = {"sw.tensor": tensor_attr(value.type)}
        made = buffer.AllocOp(sizes, result_types=[buffer_type(value.type)], attributes=described)
        return self.builder.insert(made).result

    def turning(self, type_: Type, turn: Value, turns: int) -> Value:
        """New memory for a value that outlives the round that tells its size."""
        sizes = [self.index.dim(dim, self.symbols) for dim in open_dims(type_)]
        return self.builder.insert(heap.AllocOp(turn, sizes, turns=turns, result_types=[buffer_type(type_)])).result

    def typed(self, memory: Value, type_: Type) -> Value:
        """Memory as that of a tensor type whose elements it has."""
        return memory if memory.type is buffer_type(type_) else self._reshaped(memory, type_)

    def _launch(self, op: KernelOp) -> None:
        for result in op.results:
            self.bind(result, self.destination(result))
        names = kernel_symbols(op)
        callee = self._kernel_function(op, names)
        memory = [self.buffers[value] for value in (*op.inputs, *op.results)]
        missing = [name for name in names if name not in self.symbols]
        if missing:
            raise PassError(f"{op.loc.label}: the sizes {', '.join(missing)} follow from no input")
        sizes = [self.symbols[name] for name in names]
        launch = kernel.LaunchOp([*memory, *sizes], callee=callee, result_types=())
        _mark_parts(launch, op.results, len(op.inputs))
        self.builder.insert(launch)

    def _border(self, op: tensor.BorderOp) -> None:
        self.bind(op.result, self.destination(op.result))
        memory = self.buffers[op.result]
        names = sorted({name for dim in open_dims(op.result.type) for name in free_symbols(dim)})
        key = f"border {op.result.type} {list(op.low)} {list(op.high)} {op.value}"
        if key not in self.kernels:
            machine = Machine.of(self.context.target)
            function = border_function(op, buffer.memref_type(memory), names, machine)
            self.kernels[key] = self.table.insert(function, before=self.function)
        sizes = [self.symbols[name] for name in names]
        launch = kernel.LaunchOp([memory, *sizes], callee=self.kernels[key], result_types=())
        _mark_parts(launch, [op.result], 0)
        self.builder.insert(launch)

    def _kernel_function(self, op: KernelOp, names: Sequence[str]) -> str:
        text = _kernel_key(op)
        if text not in self.kernels:
            function = KernelBuilder(op, names).build(_kernel_name(op))
            self.kernels[text] = self.table.insert(function, before=self.function)
        else:
            self.context.count("kernels shared")
        return self.kernels[text]


def _mark_parts(launch: kernel.LaunchOp, results: Sequence[Value], first: int) -> None:
    """Say which results of a launch are parts of joined tensors; they are operands from the first on."""
    parts = [first + n for n, value in enumerate(results)
             if any(isinstance(user, tensor.JoinOp) for user in value.users)]  # fmt: skip
    if parts:
        launch.attributes[kernel.PARTS] = DenseArrayAttr(I64, tuple(parts))


def _describe_arguments(
    function: func.FuncOp, types: Sequence[Type], results: Sequence[tuple[int, Value]], published: Sequence[int]
) -> None:
    """Keep what the caller must know of each argument: its names and its (symbolic) tensor type. `results` are those
    that become arguments, with their numbers; `published` counts among them."""
    described: list[dict[str, Attribute]] = []
    for n, type_ in enumerate(types):
        described.append({**function.argument_attributes(n), "sw.tensor": tensor_attr(type_)})
    for place, (n, value) in enumerate(results):
        kind = {"sw.out": UnitAttr(), **({DESCRIPTOR: UnitAttr()} if place in published else {})}
        described.append({**function.result_attributes(n), "sw.tensor": tensor_attr(value.type), **kind})
    function.properties["arg_attrs"] = ArrayAttr(tuple(DictAttr.of(d) for d in described))


def tensor_attr(type_: Type) -> StringAttr:
    """A tensor type as text: memrefs lose the names of dims."""
    return StringAttr(str(type_))


def kernel_symbols(op: KernelOp) -> list[str]:
    """The symbols that sizes inside a kernel use, in order of appearance: the same order in kernels of the same text,
    wherever their operands come from."""
    found: dict[str, None] = {}
    for inner in op.walk():
        if inner is op:
            continue
        dims: list[Dim] = list(inner.sizes.dims) if isinstance(inner, GenericOp) else []
        if isinstance(inner, tensor.SizeOp):
            dims = list(inner.of.dims)
        for value in (*inner.operands, *inner.results):
            dims.extend(getattr(value.type, "shape", ()))
        for dim in dims:
            found.update(dict.fromkeys(sorted(free_symbols(dim))))
    return list(found)


def _kernel_key(op: KernelOp) -> str:
    """Text that is equal for kernels that may share one function: no names of values, and of locations only those that
    the function tells when it fails."""
    places = [inner.loc.label for inner in op.walk_of(RequireOp)]
    return f"{canonical_text(op)}{op.schedule}{_constants(op)}" + "".join(f"\n{place}" for place in places)


def _constants(op: KernelOp) -> tuple[int, ...]:
    """The inputs of a kernel that are constants."""
    return tuple(n for n, value in enumerate(op.inputs) if isinstance(value.defining_op, tensor.ConstantOp))


def _kernel_name(op: KernelOp) -> str:
    kinds = [inner for inner in op.body.block if isinstance(inner, GenericOp)]
    last = [inner for inner in kinds if inner.stage == kinds[-1].stage]
    root = next((inner for inner in last if inner.has_reduction), kinds[-1] if kinds else None)
    label = root.loc.label if root is not None else ""
    label = label.split(" + ")[0].strip("/").replace("/", "_")
    clean = "".join(c if c.isalnum() or c == "_" else "_" for c in label)[:40].strip("_")
    return f"k_{clean}" if clean else "k"


class KernelBuilder:
    """Makes a kernel's function: one `loop.stage` per tileable op, full boxes, local buffers between them."""

    def __init__(self, op: KernelOp, symbols: Sequence[str]) -> None:
        self.op = op
        self.symbol_names = symbols

    def build(self, name: str) -> func.FuncOp:
        """The function: inputs, outputs, then the sizes it needs."""
        op = self.op
        memory = [buffer_type(value.type) for value in (*op.body.block.arguments, *op.results)]
        function = func.FuncOp.declare(name, [*memory, *(INDEX for _ in self.symbol_names)], sym_visibility="private")
        function.loc = op.loc
        function.attributes["kernel"] = UnitAttr()
        if op.schedule is not None:
            function.attributes["schedule"] = op.schedule
        work.note(function, op)
        if constants := _constants(op):
            function.attributes[kernel.CONSTANTS] = DenseArrayAttr(I64, constants)
        count = len(op.inputs)
        buffers: dict[Value, Value] = dict(zip(op.body.block.arguments, function.arguments, strict=False))
        for source, argument in buffers.items():
            argument.name = source.name
        self.symbols = dict(zip(self.symbol_names, function.arguments[len(memory) :], strict=True))
        for symbol_name, value in self.symbols.items():
            value.name = symbol_name
        self.builder = Builder.at_end(function.entry, op.loc)
        self.index = IndexBuilder(self.builder)
        yielded = op.body.block.terminator.operands
        destinations = function.arguments[count : count + len(op.results)]
        outputs: dict[Value, Value] = dict(zip(yielded, destinations, strict=True))
        for inner in op.body.block:
            if isinstance(inner, GenericOp):
                self._stage(inner, buffers, outputs)
            elif isinstance(inner, tensor.ReshapeOp) and inner.result not in outputs:
                buffers[inner.result] = self._reshaped(buffers[inner.x], inner.result.type)
        self.builder.insert(func.ReturnOp(()))
        return function

    def _reshaped(self, memory: Value, type_: Type) -> Value:
        sizes = [self.index.dim(dim, self.symbols) for dim in open_dims(type_)]
        return self.builder.insert(buffer.ReshapeOp(memory, sizes, result_types=[buffer_type(type_)])).result

    def _stage(self, generic: GenericOp, buffers: dict[Value, Value], outputs: dict[Value, Value]) -> None:
        for result in generic.results:
            views = [user for user in result.users if isinstance(user, tensor.ReshapeOp) and user.result in outputs]
            if result in outputs:
                buffers[result] = outputs[result]
            elif views:
                buffers[result] = self._reshaped(outputs[views[0].result], result.type)
            else:
                sizes = [self.index.dim(dim, self.symbols) for dim in open_dims(result.type)]
                local = buffer.LocalOp(sizes, result_types=[buffer_type(result.type)])
                buffers[result] = self.builder.insert(local).result
        zero = self.index.constant(0)
        sources = [buffers[value] for value in generic.sources]
        regions = [self._loop_region(region, len(generic.iterators)) for region in generic.regions]
        stage = loop.StageOp(
            [zero] * len(generic.iterators),
            [self.index.dim(dim, self.symbols) for dim in generic.sizes.dims],
            [buffers[value] for value in generic.inputs],
            sources,
            [buffers[value] for value in generic.results],
            iterators=generic.iterators,
            maps=generic.maps,
            identities=generic.identities,
            label=generic.loc.label or None,
            border=generic.border,
            regions=regions,
            result_types=(),
            loc=generic.loc,
        )
        stage.attributes["names"] = generic.properties["names"]
        if generic.stage is not None:
            stage.attributes["stage"] = generic.properties["stage"]
        self.builder.insert(stage)

    def _loop_region(self, region: Region, rank: int) -> Region:
        """The same scalar body, of a space of that many dims, on buffers; ended by `loop.yield`."""
        copy = region.clone({})
        for argument in copy.block.arguments:
            if isinstance(argument.type, TensorType):
                argument.type = buffer_type(argument.type)
        for op in list(copy.block):
            if isinstance(op, tensor.YieldOp):
                copy.block.insert_before(op, loop.YieldOp(list(op.operands)))
                op.erase()
            elif isinstance(op, tensor.ReadOp):
                read = buffer.ReadOp(op.source, op.indices, op.otherwise, loc=op.loc)
                copy.block.insert_before(op, read)
                op.replace_with(read.results)
            elif isinstance(op, tensor.IndexOp):
                place = AffineMap(rank, 0, [affine_expr.dim(op.dim)])
                index = loop.IndexOp(of=place, loc=op.loc)
                copy.block.insert_before(op, index)
                op.replace_with(index.results)
            elif isinstance(op, tensor.SizeOp):
                op.replace_with([self.index.dim(op.of.dims[0], self.symbols)])
        return copy
