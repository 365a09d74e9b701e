"""IR to text: MLIR's generic form, or the ops' custom forms.

A module printed with locations and external resources is complete: parsing it gives the same module."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np

from stepwell.errors import IRError
from stepwell.ir import location as loc_
from stepwell.ir.affine import AffineMap
from stepwell.ir.attributes import (
    AffineMapAttr,
    ArrayAttr,
    Attribute,
    DenseArrayAttr,
    DenseAttr,
    DenseResourceAttr,
    DictAttr,
    FloatAttr,
    IntegerAttr,
    OpaqueAttr,
    StringAttr,
    StringElementsAttr,
    SymbolRefAttr,
    TypeAttr,
    UnitAttr,
)
from stepwell.ir.blobs import Blob
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.dims import DimExpr
from stepwell.ir.opdef import Op, Trait, has_trait
from stepwell.ir.types import (
    DYNAMIC,
    F64,
    I1,
    I64,
    ComplexType,
    FloatType,
    FunctionType,
    IndexType,
    IntegerType,
    MemRefType,
    NoneType,
    OpaqueType,
    StridedLayout,
    TensorType,
    Type,
    VectorType,
    numpy_dtype,
)

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_$.]*\Z")
_PLAIN = re.compile(r'[ !#-\[\]-~]*\Z')  # printable ASCII without quotes and backslashes
_SUFFIX = re.compile(r"[A-Za-z_$.-][A-Za-z0-9_$.-]*\Z")


def quoted(text: str) -> str:
    """A string literal in MLIR's syntax."""
    if _PLAIN.match(text):
        return f'"{text}"'
    out = []
    for byte in text.encode(errors="surrogateescape"):
        char = chr(byte)
        out.append(f"\\{char}" if char in '"\\' else char if 32 <= byte < 127 else f"\\{byte:02X}")
    return '"' + "".join(out) + '"'


# Types


def type_text(type_: Type) -> str:
    """The text of a type."""
    printer = _TYPE_PRINTERS.get(type(type_))
    if printer is not None:
        return printer(type_)
    return f"!{type_.mnemonic}{_parameters(type_)}"


def _parameters(item: Type | Attribute) -> str:
    custom = getattr(item, "print_parameters", None)
    if custom is not None:
        return str(custom())
    fields = [(f.name, getattr(item, f.name)) for f in attrs.fields(type(item))]  # type: ignore[arg-type]
    shown = [f"{name} = {parameter_text(value)}" for name, value in fields if value is not None]
    return f"<{', '.join(shown)}>" if shown else ""


def parameter_text(value: Any) -> str:
    """The text of a field of a dialect's type or attribute: `3`, `"name"`, `[1, 2]`, a type, an attribute, a map."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value, F64)
    if isinstance(value, (str, DimExpr)):
        return quoted(str(value))
    if isinstance(value, AffineMap):
        return f"affine_map<{value}>"
    if isinstance(value, tuple):
        return f"[{', '.join(map(parameter_text, value))}]"
    return str(value)


def _integer(type_: Any) -> str:
    return f"{type_.signedness}{type_.width}"


def _float(type_: Any) -> str:
    return str(type_.format) if type_.is_builtin else f"!tensor.{type_.format}"


def _tensor(type_: Any) -> str:
    dims = "".join(f"{dim}x" if isinstance(dim, int) else "?x" for dim in type_.shape)
    symbols = [str(dim) for dim in type_.shape if isinstance(dim, DimExpr)]
    names = f"[{', '.join(map(quoted, symbols))}]" if symbols and any(text != "?" for text in symbols) else ""
    if names and type_.layout is not None:
        encoding = f", #tensor.encoding<{names}, {type_.layout}>"
    elif names:
        encoding = f", #graph.shape<{names}>"
    else:
        encoding = f", {type_.layout}" if type_.layout is not None else ""
    return f"tensor<{dims}{type_.element}{encoding}>"


def _size(dim: int) -> str:
    return "?" if dim == DYNAMIC else str(dim)


def _memref(type_: Any) -> str:
    layout = f", affine_map<{type_.layout}>" if isinstance(type_.layout, AffineMap) else f", {type_.layout}"
    space = f", {type_.space}" if type_.space is not None else ""
    dims = "".join(f"{_size(dim)}x" for dim in type_.shape)
    return f"memref<{dims}{type_.element}{layout if type_.layout is not None else ''}{space}>"


def _strided(type_: Any) -> str:
    offset = f", offset: {_size(type_.offset)}" if type_.offset else ""
    return f"strided<[{', '.join(map(_size, type_.strides))}]{offset}>"


def types_text(types: Sequence[Type]) -> str:
    """`(a, b)`."""
    return f"({', '.join(map(type_text, types))})"


def signature_text(inputs: Sequence[Type], results: Sequence[Type]) -> str:
    """`(a, b) -> c`, the result list in parentheses unless it is one type that is no function."""
    single = len(results) == 1 and not isinstance(results[0], FunctionType)
    return f"{types_text(inputs)} -> {type_text(results[0]) if single else types_text(results)}"


_TYPE_PRINTERS: dict[type, Callable[[Any], str]] = {
    IntegerType: _integer,
    IndexType: lambda t: "index",
    FloatType: _float,
    ComplexType: lambda t: f"complex<{t.element}>",
    NoneType: lambda t: "none",
    TensorType: _tensor,
    MemRefType: _memref,
    StridedLayout: _strided,
    VectorType: lambda t: f"vector<{''.join(f'{dim}x' for dim in t.shape)}{t.element}>",
    FunctionType: lambda t: signature_text(t.inputs, t.results),
    OpaqueType: lambda t: t.text,
}


# Attributes


def attribute_text(attribute: Attribute) -> str:
    """The text of an attribute, its type included where the syntax needs it."""
    printer = _ATTRIBUTE_PRINTERS.get(type(attribute))
    if printer is not None:
        return printer(attribute)
    return f"#{attribute.mnemonic}{_parameters(attribute)}"


def float_text(value: float, type_: Type) -> str:
    """A float literal that reads back to the same bits: the shortest decimal, or the bits in hexadecimal for NaN and
    infinity. `value` is a Python float or a NumPy scalar of the type."""
    scalar = value if isinstance(value, np.generic) else numpy_dtype(type_).type(value)
    if not math.isfinite(value):
        raw = scalar.tobytes()
        return f"0x{int.from_bytes(raw, 'little'):0{2 * len(raw)}X}"
    text, exact = str(scalar), repr(float(value))
    if len(text) >= len(exact) or float(scalar.dtype.type(float(text))) != float(value):
        text = exact
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exponent}{power}"


def _integer_attr(attribute: Any) -> str:
    if attribute.type is I1:
        return "true" if attribute.value else "false"
    return str(attribute.value) if attribute.type is I64 else f"{attribute.value} : {attribute.type}"


def _float_attr(attribute: Any) -> str:
    text = float_text(attribute.value, attribute.type)
    return text if attribute.type is F64 and not text.startswith("0x") else f"{text} : {attribute.type}"


def _scalar_text(value: Any, type_: Type) -> str:
    if isinstance(type_, FloatType):
        return float_text(value, type_)
    if isinstance(type_, ComplexType):
        return f"({float_text(value.real, type_.element)}, {float_text(value.imag, type_.element)})"
    return ("true" if value else "false") if type_ is I1 else str(int(value))


def _nested(flat: Sequence[Any], shape: Sequence[int], text: Callable[[Any], str]) -> str:
    """Row-major elements as nested lists."""
    if not shape:
        return text(flat[0])
    step = len(flat) // shape[0]
    rows = (flat[i * step : (i + 1) * step] for i in range(shape[0]))
    return f"[{', '.join(_nested(row, shape[1:], text) for row in rows)}]"


def _dense(attribute: Any) -> str:
    type_, array = attribute.type, attribute.numpy()
    if array.size == 0:
        return f"dense<> : {type_}"
    splat = array.size > 1 and attribute.data == attribute.data[: array.itemsize] * array.size
    body = _nested(array.reshape(-1), () if splat else array.shape, lambda value: _scalar_text(value, type_.element))
    return f"dense<{body}> : {type_}"


def _dense_array(attribute: Any) -> str:
    values = ", ".join(_scalar_text(value, attribute.type) for value in attribute.values)
    return f"array<{attribute.type}{': ' if values else ''}{values}>"


def key_text(name: str) -> str:
    """A dictionary key or symbol name: bare where the syntax allows it, else quoted."""
    return name if _BARE.match(name) else quoted(name)


def dict_text(items: Sequence[tuple[str, Attribute]]) -> str:
    """`{a = 1, unit}`."""
    shown = [key_text(k) if isinstance(v, UnitAttr) else f"{key_text(k)} = {attribute_text(v)}" for k, v in items]
    return "{" + ", ".join(shown) + "}"


def _string_elements(attribute: Any) -> str:
    body = _nested(attribute.values, attribute.type.static_shape, quoted) if attribute.values else ""
    return f"dense<{body}> : {attribute.type}"


_ATTRIBUTE_PRINTERS: dict[type, Callable[[Any], str]] = {
    UnitAttr: lambda a: "unit",
    IntegerAttr: _integer_attr,
    FloatAttr: _float_attr,
    StringAttr: lambda a: quoted(a.value),
    TypeAttr: lambda a: type_text(a.type),
    SymbolRefAttr: lambda a: f"@{key_text(a.name)}",
    ArrayAttr: lambda a: f"[{', '.join(map(attribute_text, a.values))}]",
    DictAttr: lambda a: dict_text(a.items),
    DenseArrayAttr: _dense_array,
    AffineMapAttr: lambda a: f"affine_map<{a.map}>",
    DenseAttr: _dense,
    DenseResourceAttr: lambda a: f"dense_resource<{resource_key(a.blob)}> : {a.type}",
    StringElementsAttr: _string_elements,
    OpaqueAttr: lambda a: a.text,
}


def resource_key(blob: Blob) -> str:
    """A blob's name as a resource key: MLIR wants an identifier."""
    key = re.sub(r"[^A-Za-z0-9_]", "_", blob.name)
    return key if _BARE.match(key) else f"_{key}"


def location_text(loc: loc_.Location) -> str:
    """`"name"`, `"file":3:5`, `fused[...]` or `unknown`."""
    if isinstance(loc, loc_.NameLoc):
        return quoted(loc.name)
    if isinstance(loc, loc_.FileLoc):
        return f"{quoted(loc.file)}:{loc.line}:{loc.column}"
    if isinstance(loc, loc_.FusedLoc):
        return f"fused[{', '.join(map(location_text, loc.locations))}]"
    return "unknown"


# Operations


@attrs.frozen
class PrintOptions:
    """How a module is printed."""

    generic: bool = False
    locations: bool = False


class Printer:
    """Prints operations into a list of strings. Custom forms use `emit`, `value`, `type` and their like."""

    def __init__(self, options: PrintOptions = PrintOptions()) -> None:
        self.options = options
        self.parts: list[str] = []
        self.indent = 0
        self._names: dict[Value, str] = {}
        self._used: set[str] = set()
        self._counter = 0
        self._block_names: dict[Block, str] = {}
        self._isolated: Operation | None = None

    def text(self) -> str:
        """What has been printed."""
        return "".join(self.parts)

    def emit(self, text: str) -> None:
        """Append text."""
        self.parts.append(text)

    def newline(self) -> None:
        """Start a line at the current indentation."""
        self.parts.append("\n" + "  " * self.indent)

    def name_of(self, value: Value) -> str:
        """`%name`, chosen at the first mention."""
        name = self._names.get(value)
        if name is None:
            name = self._names[value] = self._fresh_name(value.name)
        return name

    def _fresh_name(self, hint: str | None) -> str:
        if hint:
            base = re.sub(r"[^A-Za-z0-9_$.-]", "_", hint)
            base = base if _SUFFIX.match(base) else f"_{base}"
            name, count = base, 0
            while name in self._used:
                count += 1
                name = f"{base}_{count}"
        else:
            name = str(self._counter)
            self._counter += 1
        self._used.add(name)
        return f"%{name}"

    def values(self, values: Sequence[Value]) -> None:
        """`%a, %b`."""
        self.emit(", ".join(map(self.name_of, values)))

    def block_name(self, block: Block) -> str:
        """`^bb0`."""
        return self._block_names.setdefault(block, f"^bb{len(self._block_names)}")

    def op(self, op: Operation) -> None:
        """One operation, without the line around it."""
        if op.results:
            self.values(op.results)
            self.emit(" = ")
        if isinstance(op, Op) and not self.options.generic:
            from stepwell.ir.assembly import print_custom

            print_custom(self, op)
        else:
            self._generic(op)
        if self.options.locations:
            self.emit(f" loc({location_text(op.loc)})")

    def _generic(self, op: Operation) -> None:
        self.emit(f"{quoted(op.op_name)}(")
        self.values(op.operands)
        self.emit(")")
        if op.successors:
            self.emit(f"[{', '.join(map(self.block_name, op.successors))}]")
        if op.properties:
            self.emit(f" <{dict_text(sorted(op.properties.items()))}>")
        if op.regions:
            self.emit(" (")
            for index, region in enumerate(op.regions):
                self.emit(", " if index else "")
                self.region(op, region)
            self.emit(")")
        if op.attributes:
            self.emit(f" {dict_text(sorted(op.attributes.items()))}")
        types = signature_text([value.type for value in op.operands], [result.type for result in op.results])
        self.emit(f" : {types}")

    def region(self, op: Operation, region: Region, *, header: bool = True) -> None:
        """`{ blocks }`; with `header` false the entry block's arguments were printed by the op itself."""
        if has_trait(op, Trait.ISOLATED) and self._isolated is not op:
            with self.isolated(op):
                self.region(op, region, header=header)
            return
        self.emit("{")
        self.indent += 1
        for index, block in enumerate(region.blocks):
            empty = len(region.blocks) == 1 and block.is_empty
            if index or (header and (block.arguments or empty)) or (len(region.blocks) > 1 and self._is_target(block)):
                self.indent -= 1
                self.newline()
                self.indent += 1
                self.emit(self.block_name(block) + self._block_arguments(block) + ":")
            for inner in block:
                self.newline()
                self.op(inner)
        self.indent -= 1
        self.newline()
        self.emit("}")

    @staticmethod
    def _is_target(block: Block) -> bool:
        assert block.parent is not None
        return any(block in op.successors for other in block.parent.blocks for op in other)

    def _block_arguments(self, block: Block) -> str:
        if not block.arguments:
            return ""
        return "(" + ", ".join(f"{self.name_of(a)}: {type_text(a.type)}" for a in block.arguments) + ")"

    @contextmanager
    def isolated(self, op: Operation) -> Iterator[None]:
        """Names chosen inside are forgotten afterwards. An op that names its arguments itself enters early.

        The names in use around it are avoided: a reader that does not know the op takes its region for an open one."""
        outer = (self._names, self._used, self._counter, self._block_names, self._isolated)
        self._names, self._used, self._block_names, self._isolated = {}, set(self._used), {}, op
        yield
        self._names, self._used, self._counter, self._block_names, self._isolated = outer

    def attr_dict(self, attributes: Sequence[tuple[str, Attribute]], keyword: str = "") -> None:
        """` {a = 1}` unless empty."""
        if attributes:
            self.emit(f" {keyword}{dict_text(sorted(attributes, key=lambda item: item[0]))}")


def print_op(op: Operation, options: PrintOptions = PrintOptions()) -> str:
    """The text of an operation and all inside it."""
    printer = Printer(options)
    printer.op(op)
    return printer.text()


def blobs_of(op: Operation) -> dict[str, Blob]:
    """Every resource blob that an operation's text names, by key. Raises IRError where two blobs have one key, which
    `resources.unique_blob_names` repairs."""
    found: dict[str, Blob] = {}
    for inner in op.walk():
        for attribute in (*inner.properties.values(), *inner.attributes.values()):
            if isinstance(attribute, DenseResourceAttr):
                key = resource_key(attribute.blob)
                if found.setdefault(key, attribute.blob) is not attribute.blob:
                    raise IRError(f"two resources have the key {key!r}")
    return found


def resources_text(entries: dict[str, str]) -> str:
    """The trailing section that says where the blobs' bytes lie: key -> `file:offset:size:hash`."""
    lines = [f"      {key}: {quoted(place)}" for key, place in entries.items()]
    body = ",\n".join(lines)
    return "{-#\n  external_resources: {\n    stepwell: {\n" + body + "\n    }\n  }\n#-}\n"
