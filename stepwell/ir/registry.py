"""The loaded dialects: which class stands behind an op's, a type's or an attribute's name."""

from __future__ import annotations

import builtins
import importlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from stepwell.errors import IRError
from stepwell.ir.origins import note

if TYPE_CHECKING:
    from stepwell.ir.attributes import Attribute
    from stepwell.ir.opdef import Op
    from stepwell.ir.types import Type

# Dialects that come with Stepwell, imported when their name is first met.
BUILTIN_DIALECTS = (
    "builtin", "func", "arith", "math", "isa", "check", "vector", "graph", "tensor", "quant", "loop", "buffer", "heap",
    "kernel", "host", "cpu", "gpu",
)  # fmt: skip


def _as_tuple(classes: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(classes)


@attrs.frozen(eq=False)
class Dialect:
    """A named family of ops, types and attributes. Creating one does not load it: `register` does.

    `landing` names the landing at which its ops stand; empty for a dialect that several landings use."""

    name: str
    ops: tuple[type[Op], ...] = attrs.field(converter=_as_tuple, default=())
    types: tuple[type[Type], ...] = attrs.field(converter=_as_tuple, default=())
    attributes: tuple[type[Attribute], ...] = attrs.field(converter=_as_tuple, default=())
    doc: str = ""
    landing: str = ""

    @staticmethod
    def of_module(name: str, members: Iterable[object], doc: str | None = "", landing: str = "") -> Dialect:
        """The dialect made of all op, type and attribute classes of that name among `members`."""
        from stepwell.ir.attributes import Attribute
        from stepwell.ir.opdef import Op
        from stepwell.ir.types import Type

        prefix = f"{name}."
        classes = list(dict.fromkeys(member for member in members if isinstance(member, type)))
        return Dialect(
            name,
            tuple(cls for cls in classes if issubclass(cls, Op) and cls.name.startswith(prefix)),
            tuple(cls for cls in classes if issubclass(cls, Type) and cls.mnemonic.startswith(prefix)),
            tuple(cls for cls in classes if issubclass(cls, Attribute) and cls.mnemonic.startswith(prefix)),
            doc or "",
            landing,
        )


class Registry:
    """Name -> class, for ops, types and attributes; a name has one owner."""

    def __init__(self) -> None:
        self.dialects: dict[str, Dialect] = {}
        self.ops: dict[str, type[Op]] = {}
        self.types: dict[str, type[Type]] = {}
        self.attributes: dict[str, type[Attribute]] = {}
        self._searched: set[str] = set()  # names of dialects that were looked for among those installed

    def register(self, dialect: Dialect) -> None:
        """Load a dialect. Raises IRError, naming both owners, where a name is taken by another class."""
        if dialect.name in BUILTIN_DIALECTS:
            self.load(dialect.name)  # so that its own ops are there first
        self._add(dialect)

    def _add(self, dialect: Dialect) -> None:
        tables: tuple[tuple[dict[str, Any], Sequence[Any], str], ...] = (
            (self.ops, dialect.ops, "name"),
            (self.types, dialect.types, "mnemonic"),
            (self.attributes, dialect.attributes, "mnemonic"),
        )
        for table, classes, key in tables:
            for cls in classes:
                note(cls)
                other = table.setdefault(getattr(cls, key), cls)
                if other is not cls:
                    raise IRError(f"{getattr(cls, key)!r} is defined by both {_owner(other)} and {_owner(cls)}")
        if self.dialects.setdefault(dialect.name, dialect) is not dialect:
            raise IRError(f"two dialects are named {dialect.name!r}; their names must differ")

    def load(self, name: str) -> Dialect | None:
        """The dialect of that name, importing it if it comes with Stepwell or an installed plug-in."""
        if name not in self.dialects:
            if name in BUILTIN_DIALECTS:
                self._import(f"stepwell.dialects.{name}")
            elif name not in self._searched:
                self._searched.add(name)
                self._load_entry_point(name)
        return self.dialects.get(name)

    def landing(self, name: str) -> str:
        """The landing of the dialect of that name; empty where there is none."""
        dialect = self.load(name)
        return dialect.landing if dialect is not None else ""

    def op(self, name: str) -> type[Op] | None:
        """The class of an op name."""
        self.load(name.partition(".")[0])
        return self.ops.get(name)

    def type(self, mnemonic: str) -> builtins.type[Type] | None:
        """The class of a type mnemonic."""
        self.load(mnemonic.partition(".")[0])
        return self.types.get(mnemonic)

    def attribute(self, mnemonic: str) -> builtins.type[Attribute] | None:
        """The class of an attribute mnemonic."""
        self.load(mnemonic.partition(".")[0])
        return self.attributes.get(mnemonic)

    def _import(self, module: str) -> None:
        try:
            dialect = importlib.import_module(module).DIALECT
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            return
        self._add(dialect)

    def _load_entry_point(self, name: str) -> None:
        from importlib.metadata import entry_points

        for entry in entry_points(group="stepwell.dialects", name=name):
            loaded = entry.load()
            self.register(loaded if isinstance(loaded, Dialect) else loaded.DIALECT)


def _owner(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


REGISTRY = Registry()
