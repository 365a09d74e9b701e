"""Structured loops over index ranges, and `loop.stage`: one tileable op restricted to a box of its iteration space.

Still target-neutral: a parallel loop says that its iterations are independent, not who runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepwell.errors import IRError
from stepwell.ir.attributes import Attribute
from stepwell.ir.attrkinds import ATTRS, BOOL, INT, MAP, MAPS, SCALAR, STRING, STRINGS
from stepwell.ir.constraints import BOOL_LIKE, INDEX_TYPE, MEMREF
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.opdef import (
    PURE,
    Op,
    Trait,
    attr,
    operand,
    operands,
    optional_operand,
    region,
    regions,
    result,
    results,
)
from stepwell.ir.registry import Dialect
from stepwell.ir.types import INDEX, Type

if TYPE_CHECKING:
    from stepwell.ir.affine import AffineMap
    from stepwell.ir.builder import Builder
    from stepwell.ir.parser import Parser
    from stepwell.ir.printer import Printer


class ForOp(Op):
    """Runs its body for lower, lower + step, ... below upper, in order, carrying values from one iteration to the next.

    ```mlir
    %n = arith.constant 8 : index
    %s = arith.constant 1 : index
    %x = "test.value"() : () -> f32
    %r = loop.for %i = %n to %n step %s iter(%a = %x) -> (f32) {
      loop.yield %a : f32
    }
    ```
    """

    name = "loop.for"
    lower: Value = operand(INDEX_TYPE)
    upper: Value = operand(INDEX_TYPE)
    step: Value = operand(INDEX_TYPE)
    inits: Sequence[Value] = operands()
    label: str | None = attr(STRING, default=None)
    finals: Sequence[Value] = results()
    body: Region = region()

    @staticmethod
    def build(lower: Value, upper: Value, step: Value, inits: Sequence[Value] = (), label: str | None = None) -> ForOp:
        """A loop whose body has its arguments and no operations yet."""
        types = [value.type for value in inits]
        block = Block([INDEX, *types])
        block.arguments[0].name = label or "i"
        return ForOp(lower, upper, step, inits, label=label, result_types=types, regions=[Region([block])])

    @property
    def block(self) -> Block:
        """The body's block."""
        return self.body.block

    @property
    def induction(self) -> Value:
        """The loop variable."""
        return self.block.arguments[0]

    @property
    def carried(self) -> Sequence[Value]:
        """The values of the iteration under way."""
        return self.block.arguments[1:]

    def verify_op(self) -> None:
        types = [value.type for value in self.inits]
        if [a.type for a in self.block.arguments] != [INDEX, *types]:
            raise IRError("the body takes the loop variable and the carried values")
        if [r.type for r in self.results] != types:
            raise IRError("the results have the types of the carried values")
        if [v.type for v in self.block.terminator.operands] != types:
            raise IRError("the body yields the carried values")

    def interpret(self, frame: Any, *args: Any) -> Any:
        lower, upper, step, *carried = args
        if step <= 0:
            raise IRError("the step must be positive")
        for i in range(int(lower), int(upper), int(step)):
            carried = list(frame.run_region(self.body, [np.int64(i), *carried]))
        return tuple(carried)

    def print_custom(self, printer: Printer) -> None:
        """`loop.for %i = %lo to %hi step %s iter(%a = %init) -> (types) "label" { body }`"""
        names = [printer.name_of(argument) for argument in self.block.arguments]
        low, high, step = (printer.name_of(v) for v in (self.lower, self.upper, self.step))
        printer.emit(f" {names[0]} = {low} to {high} step {step}")
        if self.inits:
            pairs = (f"{n} = {printer.name_of(v)}" for n, v in zip(names[1:], self.inits, strict=True))
            printer.emit(f" iter({', '.join(pairs)}) -> ({', '.join(str(v.type) for v in self.inits)})")
        _print_rest(printer, self)

    @staticmethod
    def parse_custom(parser: Parser) -> Operation:
        """The inverse of `print_custom`."""
        names, bounds = _parse_range(parser)
        inits: list[Value] = []
        types: list[Type] = []
        if parser.accept("iter"):
            parser.expect("(")

            def pair() -> None:
                names.append(parser.value_name())
                parser.expect("=")
                inits.append(parser.value())

            parser.comma_list(")", pair)
            parser.expect("->")
            parser.expect("(")
            place = parser.peek()
            types = parser.comma_list(")", parser.type)
            parser.check_operand_types(inits, types, place)
        attributes = parser.attr_dict() if parser.accept("attributes") else {}
        properties = {"label": attributes.pop("label")} if "label" in attributes else {}
        body = parser.region(list(zip(names, [INDEX, *types], strict=True)), cls=ForOp)
        return ForOp.make([*bounds, *inits], types, properties, attributes, [body])


def _parse_range(parser: Parser) -> tuple[list[Any], list[Value]]:
    names = [parser.value_name()]
    parser.expect("=")
    bounds = [parser.value()]
    parser.expect("to")
    bounds.append(parser.value())
    parser.expect("step")
    bounds.append(parser.value())
    return names, bounds


def _print_rest(printer: Printer, op: Op) -> None:
    items = [*op.properties.items(), *op.attributes.items()]
    printer.attr_dict([item for item in items if not item[0].endswith("SegmentSizes")], "attributes ")
    printer.emit(" ")
    printer.region(op, op.regions[0], header=False)


class ParallelOp(Op):
    """Runs its body for lower, lower + step, ... below upper, in any order or at once.

    ```mlir
    %n = arith.constant 8 : index
    loop.parallel %i = %n to %n step %n {
      loop.yield
    }
    ```
    """

    name = "loop.parallel"
    lower: Value = operand(INDEX_TYPE)
    upper: Value = operand(INDEX_TYPE)
    step: Value = operand(INDEX_TYPE)
    label: str | None = attr(STRING, default=None)
    body: Region = region()

    @staticmethod
    def build(lower: Value, upper: Value, step: Value, label: str | None = None) -> ParallelOp:
        """A loop whose body has its argument and no operations yet."""
        block = Block([INDEX])
        block.arguments[0].name = label or "i"
        return ParallelOp(lower, upper, step, label=label, regions=[Region([block])])

    @property
    def block(self) -> Block:
        """The body's block."""
        return self.body.block

    @property
    def induction(self) -> Value:
        """The loop variable."""
        return self.block.arguments[0]

    def interpret(self, frame: Any, *args: Any) -> Any:
        lower, upper, step = args
        for i in range(int(lower), int(upper), int(step)):
            frame.run_region(self.body, [np.int64(i)])
        return ()

    def print_custom(self, printer: Printer) -> None:
        """`loop.parallel %i = %lo to %hi step %s { body }`"""
        low, high, step = (printer.name_of(v) for v in (self.lower, self.upper, self.step))
        printer.emit(f" {printer.name_of(self.induction)} = {low} to {high} step {step}")
        _print_rest(printer, self)

    @staticmethod
    def parse_custom(parser: Parser) -> Operation:
        """The inverse of `print_custom`."""
        names, bounds = _parse_range(parser)
        attributes = parser.attr_dict() if parser.accept("attributes") else {}
        properties = {"label": attributes.pop("label")} if "label" in attributes else {}
        body = parser.region(list(zip(names, [INDEX], strict=True)), cls=ParallelOp)
        return ParallelOp.make(bounds, (), properties, attributes, [body])


class IfOp(Op):
    """Runs one of two regions and gives what it yields. The second may be empty where there are no results.

    ```mlir
    %c = "test.value"() : () -> i1
    loop.if %c : (i1) -> () {
      loop.yield
    } {
    }
    ```
    """

    name = "loop.if"
    condition: Value = operand(BOOL_LIKE)
    finals: Sequence[Value] = results()
    then: Region = region()
    otherwise: Region = region()

    @staticmethod
    def build(condition: Value, types: Sequence[Type] = ()) -> IfOp:
        """An if with two empty blocks."""
        return IfOp(condition, result_types=types, regions=[Region([Block()]), Region([Block()])])

    def verify_op(self) -> None:
        for side in self.regions:
            if side.blocks and [v.type for v in side.block.terminator.operands] != [r.type for r in self.results]:
                raise IRError("each side yields the results")
            if not side.blocks and self.results:
                raise IRError("an if with results has two sides")

    def interpret(self, frame: Any, *args: Any) -> Any:
        side = self.then if args[0] else self.otherwise
        return frame.run_region(side, ()) if side.blocks else ()


class WhileOp(Op):
    """Runs `before` on the carried values; while its first yielded value holds, `body` on the others gives the next.

    ```mlir
    %x = "test.value"() : () -> index
    %r = loop.while %x : (index) -> index {
    ^bb0(%a: index):
      %c = "test.value"() : () -> i1
      loop.yield %c, %a : i1, index
    } {
    ^bb0(%a: index):
      loop.yield %a : index
    }
    ```
    """

    name = "loop.while"
    inits: Sequence[Value] = operands()
    finals: Sequence[Value] = results()
    before: Region = region()
    body: Region = region()

    def interpret(self, frame: Any, *args: Any) -> Any:
        carried: Sequence[Any] = args
        while True:
            holds, *carried = frame.run_region(self.before, carried)
            if not holds:
                return tuple(carried)
            carried = frame.run_region(self.body, carried)


class YieldOp(Op):
    """Ends a body with the values it gives.

    ```mlir
    loop.yield
    ```
    """

    name = "loop.yield"
    traits = frozenset({Trait.TERMINATOR})
    assembly = "attr-dict ($values^ `:` type($values))?"
    values: Sequence[Value] = operands()


PARALLEL, REDUCTION, SEQUENTIAL = "parallel", "reduction", "sequential"


class StageOp(Op):
    """One tileable op restricted to the box [offset, offset + size) of its iteration space.

    The body maps one element of each input before the last `epilogue_inputs`, and the whole `sources`, from
    which it may `buffer.read`, to values. Where there are
    reduction dims, `combine` merges (accumulators, values) starting from `identities`, and `finalize` maps the
    accumulators, one element of each epilogue input and the sources to the outputs; else the body's values are the outputs.
    Indices are those of the whole space, in each box alike. With `first` and `last` a reduction is done in parts: the
    outputs hold the accumulators in between, are initialised where `first` holds and finalized where `last` holds.
    With `scaled`, what they hold is multiplied by the element of the last input before a part is added.
    With a `border` the outputs are filled with it before anything is written.

    ```mlir
    %a = "test.value"() : () -> memref<8xf32>
    %z = arith.constant 0 : index
    %n = arith.constant 8 : index
    loop.stage %z, %n, %a, %a {identities = [], iterators = ["parallel"], maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0>} : (index, index, memref<8xf32>, memref<8xf32>) -> () {
    ^bb0(%x: f32):
      loop.yield %x : f32
    }
    ```
    """  # noqa: E501

    name = "loop.stage"
    offsets: Sequence[Value] = operands(INDEX_TYPE)
    sizes: Sequence[Value] = operands(INDEX_TYPE)
    inputs: Sequence[Value] = operands(MEMREF)
    sources: Sequence[Value] = operands(MEMREF)
    outputs: Sequence[Value] = operands(MEMREF)
    first: Value | None = optional_operand(BOOL_LIKE)
    last: Value | None = optional_operand(BOOL_LIKE)
    iterators: Sequence[str] = attr(STRINGS)
    maps: Sequence[AffineMap] = attr(MAPS)
    identities: Sequence[Attribute] = attr(ATTRS, default=())
    epilogue_inputs: int = attr(INT, default=0)
    label: str | None = attr(STRING, default=None)
    scaled: bool = attr(BOOL, default=False)
    border: Attribute | None = attr(SCALAR, default=None)
    body: Region = region()
    reducers: Sequence[Region] = regions()

    @property
    def combine(self) -> Region | None:
        """The region that merges accumulators with values."""
        return self.regions[1] if len(self.regions) > 1 else None

    @property
    def finalize(self) -> Region | None:
        """The region from accumulators to outputs; None: the accumulators are the outputs."""
        return self.regions[2] if len(self.regions) > 2 else None

    @property
    def body_inputs(self) -> Sequence[Value]:
        """The inputs that the body reads."""
        return self.inputs[: len(self.inputs) - self.epilogue_inputs - self.scaled]

    @property
    def input_maps(self) -> Sequence[AffineMap]:
        """Index maps of the inputs, all of them."""
        return self.maps[: len(self.inputs)]

    @property
    def output_maps(self) -> Sequence[AffineMap]:
        """Index maps of the outputs."""
        return self.maps[len(self.inputs) :]

    @property
    def reduction_dims(self) -> list[int]:
        """Positions of the reduction dims."""
        return [i for i, kind in enumerate(self.iterators) if kind == REDUCTION]

    def verify_op(self) -> None:
        dims = len(self.iterators)
        if len(self.offsets) != dims or len(self.sizes) != dims:
            raise IRError(f"a box of {dims} dims has {len(self.offsets)} offsets and {len(self.sizes)} sizes")
        if len(self.maps) != len(self.inputs) + len(self.outputs):
            raise IRError(f"{len(self.maps)} maps for {len(self.inputs)} inputs and {len(self.outputs)} outputs")
        for value, map_ in zip((*self.inputs, *self.outputs), self.maps, strict=True):
            if map_.num_dims != dims or len(map_.results) != value.type.rank:  # type: ignore[attr-defined]
                raise IRError(f"map {map_} does not lead from {dims} dims into {value.type}")
        if len(self.body.block.arguments) != len(self.body_inputs) + len(self.sources):
            raise IRError("the body takes one element of each of its inputs, then the sources")
        if bool(self.reduction_dims) != (self.combine is not None):
            raise IRError("reduction dims go with a combine region")
        if self.scaled and (self.first is None or len(self.identities) != 1):
            raise IRError("what is scaled is a sum in parts with one accumulator")

    def interpret(self, frame: Any, *args: Any) -> Any:
        from stepwell.dialects.stage_meaning import run_stage

        run_stage(self, frame, args)
        return ()


class IndexOp(Op):
    """A place that depends on the dims alone: the map's one result at the current point, inside a stage's body.

    ```mlir
    %i = loop.index {of = affine_map<(d0, d1) -> (d0 * 16 + d1)>}
    ```
    """

    name = "loop.index"
    traits = frozenset({PURE})
    assembly = "attr-dict"
    of: AffineMap = attr(MAP)
    result: Value = result()

    def infer_types(self) -> Sequence[Type]:
        return [INDEX]

    def verify_op(self) -> None:
        if len(self.of.results) != 1 or self.of.num_symbols:
            raise IRError(f"map {self.of} does not lead from dims to one place")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.int64(self.of.evaluate(frame.state["index grids"], ())[0])


def yield_values(builder: Builder, values: Sequence[Value] = ()) -> None:
    """Insert a `loop.yield`."""
    builder.insert(YieldOp(values))


DIALECT = Dialect.of_module("loop", globals().values(), __doc__, landing="loop")
