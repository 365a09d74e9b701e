"""Files of tuned schedules: JSON that can be read, shipped and continued.

    {"format": "stepwell tuned schedules", "version": 1,
     "targets": {"5f2b...": "x86_64 +avx2 +fma ... L1d 48K L2 1024K L3 32768K"},
     "entries": [{"kernel": "9c1d...", "target": "5f2b...", "label": "node_Conv_1", "schedule": "#tensor.schedule<...>",
                  "seconds": 4.1e-4, "usual": "#tensor.schedule<...>", "usual_seconds": 4.4e-4, "cycles": 1.7e6,
                  "tried": 24, "threads": 2, "finished": true, "machine": "...", "version": "0.1.0"}]}

An entry belongs to a kernel's canonical text and to what a target can do, so that a file holds any number of models and
machines. Nothing in a file is believed: everything is checked when it is read, schedules again for the kernel that they
are used for."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from stepwell.dialects.schedule import ScheduleAttr
from stepwell.errors import ParseError, StepwellError, TuningError
from stepwell.ir.parser import Parser
from stepwell.lowering.tensor.tuned import TunedSchedules
from stepwell.outputs import Outputs, naming

FORMAT, VERSION = "stepwell tuned schedules", 1
MOST_BYTES = 256 << 20
MOST_TEXT = 20_000  # characters of a schedule
MOST_NESTED = 64  # schedules in one


@attrs.frozen
class Entry:
    """What was found for one kernel on one target. Times are medians of one call; `usual` is the cost model's choice,
    `cycles` what the model expects of `schedule`, `tried` how many schedules were timed, `threads` the team (0: all
    cores). Not `finished` is a search that the end of its time cut short."""

    kernel: str
    target: str
    label: str
    schedule: ScheduleAttr
    seconds: float
    usual: ScheduleAttr
    usual_seconds: float
    cycles: float
    tried: int
    threads: int
    finished: bool
    machine: str
    version: str

    def as_json(self) -> dict[str, Any]:
        """The entry as it stands in a file."""
        return {name: str(value) if isinstance(value, ScheduleAttr) else value
                for name, value in attrs.asdict(self, recurse=False).items()}  # fmt: skip

    @staticmethod
    def of_json(given: Any, where: str) -> Entry:
        """The inverse. Raises TuningError."""
        if not isinstance(given, dict):
            raise TuningError(f"{where} is no object")
        fields: dict[str, Any] = {}
        for field in attrs.fields(Entry):
            kind = str(field.type)
            if field.name not in given:
                raise TuningError(f"{where} has no {field.name!r}")
            value = given[field.name]
            fields[field.name] = _CHECKED[kind](value, f"{where}: {field.name!r}")
        return Entry(**fields)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise TuningError(f"{where} is no text of up to {MOST_TEXT} characters")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise TuningError(f"{where} is {value!r}, no number of at least 0")
    return float(value)


def _count(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TuningError(f"{where} is {value!r}, no count")
    return value


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise TuningError(f"{where} is {value!r}, neither true nor false")
    return value


def _schedule(value: Any, where: str) -> ScheduleAttr:
    text = _text(value, where)
    if text.count("<") > MOST_NESTED:
        raise TuningError(f"{where} has schedules in schedules")
    parser = Parser(text, where)
    try:
        found = parser.attribute()
        if parser.peek().text:
            raise parser.unexpected("the end of the schedule")
    except ParseError as error:
        raise TuningError(f"{where} does not parse:\n{error}") from None
    except StepwellError as error:
        raise TuningError(f"{where}: {error}") from None
    if not isinstance(found, ScheduleAttr):
        raise TuningError(f"{where} is no #tensor.schedule")
    return found


_CHECKED = {"str": _text, "float": _number, "int": _count, "bool": _truth, "ScheduleAttr": _schedule}


def target_text(target: Any) -> str:
    """What a schedule depends on of a target: what code may use, and the caches."""
    features = " ".join(f"+{name}" for name in sorted(target.enabled_features))
    caches = f"L1d {target.l1d_bytes >> 10}K L2 {target.l2_bytes >> 10}K L3 {target.l3_bytes >> 10}K"
    return f"{target.arch} {features} {caches}"


def target_key(target: Any) -> str:
    """A short name of `target_text`."""
    return hashlib.sha256(target_text(target).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _alone_in(path: Path) -> Iterator[None]:
    """No other tuner writes a file of this folder meanwhile, where the file system has locks."""
    with naming(path, TuningError):
        descriptor = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@attrs.define
class TuneFile:
    """The content of a file: texts of targets, and entries by (kernel, target)."""

    path: Path
    targets: dict[str, str] = attrs.Factory(dict)
    entries: dict[tuple[str, str], Entry] = attrs.Factory(dict)
    _added: set[tuple[str, str]] = attrs.field(factory=set, init=False, eq=False, repr=False)

    @staticmethod
    def read(path: str | os.PathLike[str], *, must_exist: bool = True) -> TuneFile:
        """Read a file; an empty one where it is missing and need not exist. Raises TuningError."""
        path = Path(path)
        try:
            if not must_exist and not path.exists():
                return TuneFile(path)
            if path.stat().st_size > MOST_BYTES:
                raise TuningError(f"{path} is larger than any file of tuned schedules")
            given = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise TuningError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise TuningError(f"{path} is no JSON: {error}") from None
        return TuneFile.of_json(given, path)

    @staticmethod
    def of_json(given: Any, path: Path) -> TuneFile:
        """What JSON says. Raises TuningError."""
        if not isinstance(given, dict) or given.get("format") != FORMAT:
            raise TuningError(f"{path} is no file of tuned schedules: make one with lower --tune")
        if given.get("version") != VERSION:
            raise TuningError(f"{path} has version {given.get('version')!r}; this Stepwell reads version {VERSION}")
        targets, entries = given.get("targets"), given.get("entries")
        if not isinstance(targets, dict) or not isinstance(entries, list):
            raise TuningError(f"{path} lacks its 'targets' or its 'entries'")
        made = TuneFile(path, {key: _text(text, f"{path}: target {key}") for key, text in targets.items()})
        for number, entry in enumerate(entries):
            read = Entry.of_json(entry, f"{path}: entry {number}")
            made.entries[read.kernel, read.target] = read
        return made

    def add(self, entry: Entry, target: Any) -> None:
        """Add or replace what is known of a kernel."""
        self.targets[entry.target] = target_text(target)
        self.entries[entry.kernel, entry.target] = entry
        self._added.add((entry.kernel, entry.target))

    def write(self) -> None:
        """Write the file in one step, with what others have written meanwhile: of one kernel, a search that was
        finished counts more than one that was not, and what was added here more than what is there. Raises TuningError;
        the file is then as it was."""
        with _alone_in(self.path):
            self.refresh()
            content = {"format": FORMAT, "version": VERSION, "targets": self.targets,
                       "entries": [entry.as_json() for entry in self.entries.values()]}  # fmt: skip
            with Outputs(TuningError) as files:
                files.new(self.path).write((json.dumps(content, indent=1) + "\n").encode())

    def refresh(self) -> None:
        """Take in what others have written meanwhile. Raises TuningError."""
        there = TuneFile.read(self.path, must_exist=False)
        for key, entry in there.entries.items():
            mine = self.entries[key] if key in self._added else None
            if mine is None or (entry.finished and not mine.finished):
                self.entries[key] = entry
        self.targets = {**there.targets, **self.targets}

    def schedules(self, target: Any) -> TunedSchedules:
        """What the `schedule` pass looks up when it compiles for a target."""
        key = target_key(target)
        mine: Mapping[str, ScheduleAttr] = {
            kernel: entry.schedule for (kernel, of), entry in self.entries.items() if of == key
        }
        return TunedSchedules(mine, str(self.path), len(self.entries) - len(mine))
