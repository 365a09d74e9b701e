"""Operations, blocks, regions and the values between them.

Invariants kept here: every operand knows its use; an operation is in at most one block, a block in at most one region;
results and block arguments are owned by one operation or block for life."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from stepwell.errors import IRError
from stepwell.ir.attributes import Attribute
from stepwell.ir.location import UNKNOWN, Location
from stepwell.ir.types import Type

if TYPE_CHECKING:
    from stepwell.ir.opdef import OpSpec

OpT = TypeVar("OpT", bound="Operation")


class Value:
    """An SSA value: the result of an operation or an argument of a block.

    `name` is a hint for the printer: `conv1` prints as `%conv1`. `facts` keeps what analyses found out about the value;
    since rewriting preserves meaning, what was true of a value stays true."""

    __slots__ = ("_uses", "facts", "name", "type")

    def __init__(self, type_: Type, name: str | None = None) -> None:
        self.type = type_
        self.name = name
        self.facts: dict[str, Any] = {}
        self._uses: dict[tuple[Operation, int], None] = {}

    @property
    def uses(self) -> list[tuple[Operation, int]]:
        """(operation, operand index) of every use, in the order in which they were made."""
        return list(self._uses)

    @property
    def users(self) -> list[Operation]:
        """The operations that use this value, without repeats."""
        return list(dict.fromkeys(op for op, _ in self._uses))

    @property
    def has_uses(self) -> bool:
        """Whether any operation uses this value."""
        return bool(self._uses)

    @property
    def has_one_use(self) -> bool:
        """Whether exactly one operand is this value."""
        return len(self._uses) == 1

    def replace_all_uses_with(self, other: Value) -> None:
        """Every use of this value becomes a use of `other`."""
        if other is self:
            return
        for op, index in self.uses:
            op.set_operand(index, other)

    @property
    def defining_op(self) -> Operation | None:
        """The operation that makes this value, None for a block argument."""
        return None

    @property
    def owner_block(self) -> Block | None:
        """The block in which this value is defined."""
        raise NotImplementedError


class OpResult(Value):
    """Result number `index` of `op`."""

    __slots__ = ("index", "op")

    def __init__(self, op: Operation, index: int, type_: Type) -> None:
        super().__init__(type_)
        self.op = op
        self.index = index

    @property
    def defining_op(self) -> Operation:
        return self.op

    @property
    def owner_block(self) -> Block | None:
        return self.op.parent


class BlockArgument(Value):
    """Argument number `index` of `block`."""

    __slots__ = ("block", "index")

    def __init__(self, block: Block, index: int, type_: Type) -> None:
        super().__init__(type_)
        self.block = block
        self.index = index

    @property
    def owner_block(self) -> Block:
        return self.block


class Operation:
    """The unit of the IR. An op class derives from it and declares its fields (see `opdef`); an operation of a dialect
    that is not loaded is an `UnregisteredOp`.

    `properties` are the op's own attributes, which its class declares; `attributes` are discardable ones that anyone
    may attach."""

    __slots__ = ("_next", "_operands", "_order", "_prev", "attributes", "loc", "parent", "properties", "regions",
                 "results", "successors")  # fmt: skip

    name: ClassVar[str] = ""
    spec: ClassVar[OpSpec]

    _operands: list[Value]
    results: list[OpResult]
    properties: dict[str, Attribute]
    attributes: dict[str, Attribute]
    regions: list[Region]
    successors: list[Block]
    parent: Block | None
    loc: Location

    def _setup(
        self,
        operands: Sequence[Value],
        result_types: Sequence[Type],
        properties: dict[str, Attribute],
        attributes: dict[str, Attribute],
        regions: Sequence[Region],
        successors: Sequence[Block],
        loc: Location,
    ) -> None:
        """Fill a new object; the one place where an operation's parts are set up."""
        self._operands = list(operands)
        for index, value in enumerate(self._operands):
            value._uses[self, index] = None
        self.results = [OpResult(self, index, type_) for index, type_ in enumerate(result_types)]
        self.properties = properties
        self.attributes = attributes
        self.regions = []
        for region in regions:
            self.add_region(region)
        self.successors = list(successors)
        self.parent = None
        self.loc = loc
        self._prev: Operation | None = None
        self._next: Operation | None = None
        self._order = 0

    @classmethod
    def make(
        cls: type[OpT],
        operands: Sequence[Value] = (),
        result_types: Sequence[Type] = (),
        properties: Mapping[str, Attribute] | None = None,
        attributes: Mapping[str, Attribute] | None = None,
        regions: Sequence[Region] = (),
        successors: Sequence[Block] = (),
        loc: Location = UNKNOWN,
    ) -> OpT:
        """An operation from its raw parts, unchecked; the parser's and the cloner's way in."""
        op = cls.__new__(cls)
        op._setup(operands, result_types, dict(properties or {}), dict(attributes or {}), regions, successors, loc)
        return op

    # Operands

    @property
    def operands(self) -> Sequence[Value]:
        """All operands in order; change them through `set_operand` or `set_operands`."""
        return self._operands

    def set_operand(self, index: int, value: Value) -> None:
        """Replace one operand."""
        del self._operands[index]._uses[self, index]
        self._operands[index] = value
        value._uses[self, index] = None

    def set_operands(self, values: Sequence[Value]) -> None:
        """Replace all operands."""
        for index, old in enumerate(self._operands):
            del old._uses[self, index]
        self._operands = list(values)
        for index, value in enumerate(self._operands):
            value._uses[self, index] = None

    def drop_operands(self) -> None:
        """Forget all operands, so that their definitions may go."""
        self.set_operands(())

    # Results

    @property
    def first_result(self) -> OpResult:
        """The one result. Raises IRError where there is not exactly one."""
        if len(self.results) != 1:
            raise IRError(f"{self.op_name} has {len(self.results)} results, not one")
        return self.results[0]

    @property
    def op_name(self) -> str:
        """The full name, dialect included."""
        return self.name

    @property
    def dialect(self) -> str:
        """The name's part before the first dot."""
        return self.op_name.partition(".")[0]

    # Place

    @property
    def next(self) -> Operation | None:
        """The operation behind this one in its block."""
        return self._next

    @property
    def prev(self) -> Operation | None:
        """The operation before this one in its block."""
        return self._prev

    @property
    def parent_op(self) -> Operation | None:
        """The operation whose region holds this one."""
        region = self.parent.parent if self.parent else None
        return region.parent if region else None

    def parent_of(self, kind: type[OpT]) -> OpT | None:
        """The innermost enclosing operation of a class."""
        op = self.parent_op
        while op is not None and not isinstance(op, kind):
            op = op.parent_op
        return op

    def is_before(self, other: Operation) -> bool:
        """Whether this operation comes before `other` in their common block."""
        block = self.parent
        if block is None or other.parent is not block:
            raise IRError("is_before compares operations of one block")
        block.number()
        return self._order < other._order

    def is_ancestor_of(self, other: Operation) -> bool:
        """Whether `other` is this operation or inside one of its regions."""
        node: Operation | None = other
        while node is not None and node is not self:
            node = node.parent_op
        return node is self

    def detach(self) -> None:
        """Take this operation out of its block; it stays usable."""
        if self.parent is not None:
            self.parent._unlink(self)

    def move_before(self, anchor: Operation) -> None:
        """Put this operation before another."""
        self.detach()
        assert anchor.parent is not None
        anchor.parent.insert_before(anchor, self)

    def erase(self) -> None:
        """Remove this operation for good. Raises IRError if a result is still used."""
        for result in self.results:
            if result.has_uses:
                user = result.users[0].op_name
                raise IRError(f"{self.op_name} is erased while {user} uses its result {result.index}")
        self.detach()
        self.drop_all_references()

    def drop_all_references(self) -> None:
        """Forget the operands of this operation and of all inside it."""
        for inner in self.walk():
            inner.drop_operands()
            inner.successors = []

    def replace_with(self, values: Sequence[Value]) -> None:
        """Give every result's uses to `values`, then erase."""
        if len(values) != len(self.results):
            raise IRError(f"{self.op_name} has {len(self.results)} results and was given {len(values)} replacements")
        for result, value in zip(self.results, values, strict=True):
            if value.name is None:
                value.name = result.name
            result.replace_all_uses_with(value)
        self.erase()

    # Regions

    def add_region(self, region: Region) -> None:
        """Append a region that belongs to no operation yet."""
        if region.parent is not None:
            raise IRError("a region belongs to one operation")
        region.parent = self
        self.regions.append(region)

    def walk(self) -> Iterator[Operation]:
        """This operation and all inside it, outer before inner. The one just yielded may be erased or replaced."""
        stack: list[Operation] = [self]
        while stack:
            op = stack.pop()
            if not op.regions:
                yield op
                continue
            inner = [child for region in op.regions for block in region.blocks for child in block]
            yield op
            stack.extend(reversed(inner))

    def walk_of(self, kind: type[OpT]) -> Iterator[OpT]:
        """All operations of a class, outer before inner."""
        return (op for op in self.walk() if isinstance(op, kind))

    def clone(self, mapping: dict[Value, Value] | None = None, blocks: dict[Block, Block] | None = None) -> Operation:
        """A deep copy. `mapping` gives the copies of values defined outside (default: the values themselves) and
        receives those of values defined inside."""
        mapping = {} if mapping is None else mapping
        blocks = {} if blocks is None else blocks
        copy = type(self).make(
            [mapping.get(value, value) for value in self._operands],
            [result.type for result in self.results],
            self.properties,
            self.attributes,
            successors=[blocks.get(block, block) for block in self.successors],
            loc=self.loc,
        )
        self._copy_extras(copy)
        for mine, theirs in zip(self.results, copy.results, strict=True):
            theirs.name = mine.name
            mapping[mine] = theirs
        for region in self.regions:
            copy.add_region(region.clone(mapping, blocks))
        return copy

    def _copy_extras(self, copy: Operation) -> None:
        """For subclasses with state beside the common parts."""

    # Hooks that op classes fill in

    def infer_types(self) -> Sequence[Type]:
        """The result types that follow from operands and attributes. Raises IRError where these do not fit together.
        Classes without such a rule are built with explicit `result_types`."""
        raise NotImplementedError

    def verify_op(self) -> None:
        """Check what the declared fields cannot say. Raises IRError."""

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        """The results as attributes or existing values, given the constant operands; None where it does not fold."""
        return None

    def interpret(self, frame: Any, *args: Any) -> Any:
        """The meaning of the op on NumPy arrays: one result, or a tuple of them."""
        raise NotImplementedError(f"{self.op_name} has no interpretation")

    def __str__(self) -> str:
        from stepwell.ir.printer import print_op

        return print_op(self)

    def __repr__(self) -> str:
        return f"<{self.op_name} at {self.loc}>"


class UnregisteredOp(Operation):
    """An operation whose class is not known: carried along in generic form."""

    __slots__ = ("_name",)
    _name: str

    @property
    def op_name(self) -> str:
        return self._name

    @staticmethod
    def named(name: str, **parts: Any) -> UnregisteredOp:
        """An operation of that name from its raw parts."""
        op = UnregisteredOp.make(**parts)
        op._name = name
        return op

    def _copy_extras(self, copy: Operation) -> None:
        assert isinstance(copy, UnregisteredOp)
        copy._name = self._name


class Block:
    """A list of operations behind typed arguments."""

    __slots__ = ("_first", "_last", "_numbered", "arguments", "parent")

    def __init__(self, argument_types: Iterable[Type] = (), operations: Iterable[Operation] = ()) -> None:
        self.arguments = [BlockArgument(self, index, type_) for index, type_ in enumerate(argument_types)]
        self.parent: Region | None = None
        self._first: Operation | None = None
        self._last: Operation | None = None
        self._numbered = False
        for op in operations:
            self.append(op)

    def __iter__(self) -> Iterator[Operation]:
        op = self._first
        while op is not None:
            following = op._next
            yield op
            op = following

    def __reversed__(self) -> Iterator[Operation]:
        op = self._last
        while op is not None:
            before = op._prev
            yield op
            op = before

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return True  # a block without operations is still a block

    @property
    def first(self) -> Operation | None:
        """The first operation."""
        return self._first

    @property
    def last(self) -> Operation | None:
        """The last operation; in a complete block, the terminator."""
        return self._last

    @property
    def is_empty(self) -> bool:
        """Whether there is no operation."""
        return self._first is None

    @property
    def parent_op(self) -> Operation | None:
        """The operation whose region holds this block."""
        return self.parent.parent if self.parent else None

    @property
    def terminator(self) -> Operation:
        """The last operation. Raises IRError in an empty block."""
        if self._last is None:
            raise IRError("the block is empty")
        return self._last

    def add_argument(self, type_: Type, name: str | None = None) -> BlockArgument:
        """Append an argument."""
        argument = BlockArgument(self, len(self.arguments), type_)
        argument.name = name
        self.arguments.append(argument)
        return argument

    def insert_argument(self, index: int, type_: Type, name: str | None = None) -> BlockArgument:
        """Put an argument before the one at `index`."""
        argument = BlockArgument(self, index, type_)
        argument.name = name
        self.arguments.insert(index, argument)
        for position, other in enumerate(self.arguments):
            other.index = position
        return argument

    def erase_argument(self, index: int) -> None:
        """Remove an unused argument."""
        if self.arguments[index].has_uses:
            raise IRError(f"block argument {index} is erased while it is used")
        del self.arguments[index]
        for position, argument in enumerate(self.arguments):
            argument.index = position

    def append(self, op: Operation) -> None:
        """Put an operation at the end."""
        self._link(op, self._last, None)

    def insert_before(self, anchor: Operation | None, op: Operation) -> None:
        """Put an operation before `anchor`, at the end where that is None."""
        self._link(op, anchor._prev if anchor else self._last, anchor)

    def insert_front(self, op: Operation) -> None:
        """Put an operation at the start."""
        self._link(op, None, self._first)

    def number(self) -> None:
        """Give the operations ascending order numbers, unless they have them."""
        if not self._numbered:
            for order, op in enumerate(self):
                op._order = order
            self._numbered = True

    def _link(self, op: Operation, before: Operation | None, after: Operation | None) -> None:
        if op.parent is not None:
            raise IRError(f"{op.op_name} is in a block already")
        if after is not None and after.parent is not self:
            raise IRError(f"{op.op_name} is inserted before {after.op_name}, which is not in this block")
        op.parent, op._prev, op._next = self, before, after
        if before is None:
            self._first = op
        else:
            before._next = op
        if after is None:
            self._last = op
        else:
            after._prev = op
        self._numbered = False

    def _unlink(self, op: Operation) -> None:
        if op._prev is None:
            self._first = op._next
        else:
            op._prev._next = op._next
        if op._next is None:
            self._last = op._prev
        else:
            op._next._prev = op._prev
        op.parent = op._prev = op._next = None


class Region:
    """A list of blocks owned by an operation; the first one is the entry."""

    __slots__ = ("blocks", "parent")

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self.blocks: list[Block] = []
        self.parent: Operation | None = None
        for block in blocks:
            self.append(block)

    def append(self, block: Block) -> None:
        """Add a block that belongs to no region yet."""
        if block.parent is not None:
            raise IRError("a block belongs to one region")
        block.parent = self
        self.blocks.append(block)

    def remove(self, block: Block) -> None:
        """Take a block out."""
        self.blocks.remove(block)
        block.parent = None

    @property
    def entry(self) -> Block:
        """The first block. Raises IRError in an empty region."""
        if not self.blocks:
            raise IRError("the region has no block")
        return self.blocks[0]

    @property
    def block(self) -> Block:
        """The only block. Raises IRError where there is not exactly one."""
        if len(self.blocks) != 1:
            raise IRError(f"the region has {len(self.blocks)} blocks, not one")
        return self.blocks[0]

    def clone(self, mapping: dict[Value, Value], blocks: dict[Block, Block] | None = None) -> Region:
        """A deep copy; see `Operation.clone`."""
        blocks = {} if blocks is None else blocks
        copy = Region()
        for block in self.blocks:
            twin = Block(argument.type for argument in block.arguments)
            for mine, theirs in zip(block.arguments, twin.arguments, strict=True):
                theirs.name = mine.name
                mapping[mine] = theirs
            blocks[block] = twin
            copy.append(twin)
        for block in self.blocks:
            for op in block:
                blocks[block].append(op.clone(mapping, blocks))
        # A use may come before its definition in block order; such operands still name the original.
        if len(self.blocks) > 1:
            for op in (inner for block in copy.blocks for outer in block for inner in outer.walk()):
                for index, value in enumerate(op.operands):
                    if value in mapping:
                        op.set_operand(index, mapping[value])
        return copy
