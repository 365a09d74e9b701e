"""Functions, as upstream's func dialect defines them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stepwell.dialects.builtin import check_prefixed
from stepwell.errors import IRError
from stepwell.ir.attributes import ArrayAttr, Attribute, DictAttr, StringAttr, TypeAttr
from stepwell.ir.attrkinds import ATTRS, FUNCTION_TYPE, STRING, SYMBOL, enum
from stepwell.ir.core import Block, BlockArgument, Operation, Region, Value
from stepwell.ir.opdef import Op, Trait, attr, operands, region, results
from stepwell.ir.registry import Dialect
from stepwell.ir.symbols import lookup
from stepwell.ir.types import FunctionType, Type

if TYPE_CHECKING:
    from stepwell.ir.lexer import Token
    from stepwell.ir.parser import Parser
    from stepwell.ir.printer import Printer


VISIBILITIES = ("private", "public", "nested")


class FuncOp(Op):
    """A function. `arg_attrs` and `res_attrs` hold one dictionary per argument and result.

    ```mlir
    func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
      func.return %x : tensor<4xf32>
    }
    ```
    """

    name = "func.func"
    traits = frozenset({Trait.ISOLATED})
    sym_name: str = attr(STRING)
    function_type: FunctionType = attr(FUNCTION_TYPE)
    sym_visibility: str | None = attr(enum(*VISIBILITIES), default=None)
    arg_attrs: Sequence[Attribute] | None = attr(ATTRS, default=None)
    res_attrs: Sequence[Attribute] | None = attr(ATTRS, default=None)
    body: Region = region()

    @staticmethod
    def declare(name: str, inputs: Sequence[Type], results: Sequence[Type] = (), **parts: Any) -> FuncOp:
        """A function with an entry block and no operations yet."""
        type_ = FunctionType(tuple(inputs), tuple(results))
        return FuncOp(regions=[Region([Block(inputs)])], sym_name=name, function_type=type_, **parts)

    @property
    def entry(self) -> Block:
        """The first block."""
        return self.body.entry

    @property
    def arguments(self) -> list[BlockArgument]:
        """The entry block's arguments."""
        return self.entry.arguments

    @property
    def returned(self) -> Sequence[Value]:
        """The values that the function's one block returns."""
        return self.body.block.terminator.operands

    def argument_attributes(self, index: int) -> dict[str, Attribute]:
        """What is attached to an argument."""
        return _attributes_at(self.arg_attrs, index)

    def result_attributes(self, index: int) -> dict[str, Attribute]:
        """What is attached to a result."""
        return _attributes_at(self.res_attrs, index)

    def update_type(self) -> None:
        """Take the function type from the entry's arguments and, in a function of one block, the returned values."""
        outputs = [value.type for value in self.returned] if self.body.blocks else self.function_type.results
        self.function_type = FunctionType(tuple(a.type for a in self.arguments), tuple(outputs))

    def verify_op(self) -> None:
        type_ = self.function_type
        for given, count in ((self.arg_attrs, len(type_.inputs)), (self.res_attrs, len(type_.results))):
            if given is not None and len(given) != count:
                raise IRError(f"@{self.sym_name}: {len(given)} dictionaries of attributes for {count} values")
            for item in given or ():
                if not isinstance(item, DictAttr):
                    raise IRError(f"@{self.sym_name}: the attributes of a value are a dictionary, not {item}")
                check_prefixed(name for name, _ in item.items)
        if self.body.blocks and tuple(a.type for a in self.arguments) != self.function_type.inputs:
            raise IRError(f"@{self.sym_name}: the entry block's arguments do not have the function's input types")

    def interpret(self, frame: Any, *args: Any) -> Any:
        """A function is run by a call; where it stands, nothing happens."""
        return ()

    def print_custom(self, printer: Printer) -> None:
        """`func.func private @name(%x: type {attributes}) -> (types) attributes {...} { body }`"""
        with printer.isolated(self):
            self._print(printer)

    def _print(self, printer: Printer) -> None:
        from stepwell.ir.printer import dict_text, key_text, type_text

        if self.sym_visibility:
            printer.emit(f" {self.sym_visibility}")
        printer.emit(f" @{key_text(self.sym_name)}(")
        for index, type_ in enumerate(self.function_type.inputs):
            given = self.argument_attributes(index)
            name = f"{printer.name_of(self.arguments[index])}: " if self.body.blocks else ""
            printer.emit(", " if index else "")
            printer.emit(name + type_text(type_) + (f" {dict_text(sorted(given.items()))}" if given else ""))
        printer.emit(")")
        shown = []
        for index, type_ in enumerate(self.function_type.results):
            given = self.result_attributes(index)
            shown.append(type_text(type_) + (f" {dict_text(sorted(given.items()))}" if given else ""))
        if shown:
            plain = len(shown) == 1 and not self.result_attributes(0)
            printer.emit(f" -> {shown[0]}" if plain else f" -> ({', '.join(shown)})")
        printer.attr_dict(list(self.attributes.items()), "attributes ")
        if self.body.blocks:
            printer.emit(" ")
            printer.region(self, self.body, header=False)

    @staticmethod
    def parse_custom(parser: Parser) -> Operation:
        """The inverse of `print_custom`."""
        properties: dict[str, Attribute] = {}
        for visibility in VISIBILITIES:
            if parser.accept(visibility):
                properties["sym_visibility"] = StringAttr(visibility)
        properties["sym_name"] = StringAttr(parser.symbol())
        names: list[Token] = []
        inputs: list[Type] = []
        input_attrs: list[dict[str, Attribute]] = []

        def argument() -> None:
            if parser.at_value():
                names.append(parser.value_name())
                parser.expect(":")
            inputs.append(parser.type())
            input_attrs.append(parser.attr_dict() if parser.at("{") else {})

        parser.expect("(")
        parser.comma_list(")", argument)
        outputs: list[Type] = []
        output_attrs: list[dict[str, Attribute]] = []

        def output() -> None:
            outputs.append(parser.type())
            output_attrs.append(parser.attr_dict() if parser.at("{") else {})

        if parser.accept("->"):
            if parser.accept("("):
                parser.comma_list(")", output)
            else:
                outputs.append(parser.type())
                output_attrs.append({})
        attributes = parser.attr_dict() if parser.accept("attributes") else {}
        properties["function_type"] = TypeAttr(FunctionType(tuple(inputs), tuple(outputs)))
        for key, given in (("arg_attrs", input_attrs), ("res_attrs", output_attrs)):
            if any(given):
                properties[key] = ArrayAttr(tuple(DictAttr.of(item) for item in given))
        body = Region()
        if parser.at("{"):
            place = parser.peek()
            if len(names) != len(inputs):
                raise parser.error(f"{len(names)} of {len(inputs)} arguments have a name", place)
            body = parser.region(list(zip(names, inputs, strict=True)), cls=FuncOp)
            if not body.blocks:
                raise parser.error("a function's body has at least one block", place)
        return FuncOp.make(properties=properties, attributes=attributes, regions=[body])


def _list(types: Sequence[Type]) -> str:
    return f"({', '.join(map(str, types))})"


def _attributes_at(dictionaries: Sequence[Attribute] | None, index: int) -> dict[str, Attribute]:
    if dictionaries is None or index >= len(dictionaries):
        return {}
    found = dictionaries[index]
    return dict(found.items) if isinstance(found, DictAttr) else {}


class ReturnOp(Op):
    """Leaves the function with its results.

    ```mlir
    func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
      func.return %x : tensor<4xf32>
    }
    ```
    """

    name = "func.return"
    traits = frozenset({Trait.TERMINATOR})
    assembly = "attr-dict ($values^ `:` type($values))?"
    values: Sequence[Value] = operands()

    def verify_op(self) -> None:
        function = self.parent_op
        if not isinstance(function, FuncOp):
            raise IRError("stands in no func.func")
        actual, promised = tuple(value.type for value in self.operands), function.function_type.results
        if actual != promised:
            raise IRError(f"returns {_list(actual)} where @{function.sym_name} promises {_list(promised)}")


class CallOp(Op):
    """Calls a function of the module.

    ```mlir
    func.func private @f(tensor<4xf32>) -> tensor<4xf32>
    %x = "test.value"() : () -> tensor<4xf32>
    %y = func.call @f(%x) : (tensor<4xf32>) -> tensor<4xf32>
    ```
    """

    name = "func.call"
    assembly = "$callee `(` $operands `)` attr-dict `:` functional-type"
    callee: str = attr(SYMBOL)
    inputs: Sequence[Value] = operands()
    outputs: Sequence[Value] = results()

    def verify_op(self) -> None:
        callee = lookup(self, self.callee)
        if not isinstance(callee, FuncOp):
            raise IRError(f"@{self.callee} is no function")
        type_ = FunctionType(tuple(v.type for v in self.operands), tuple(r.type for r in self.results))
        if callee.function_type is not type_:
            raise IRError(f"calls @{self.callee} of type {callee.function_type} as {type_}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return frame.call(self, self.callee, args)


DIALECT = Dialect.of_module("func", globals().values(), __doc__)
