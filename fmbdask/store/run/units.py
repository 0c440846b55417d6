"""Units of work, and the records that a run keeps of them: the vocabulary of journals, ledger and workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

#: Regions of a unit that are no regions of the item: what is shared by them, and what is made of them.
PREPARE, REDUCE = -1, -2
#: The item of a unit that reduces the whole run.
WHOLE_RUN = -1


class Unit(NamedTuple):
    """The smallest thing that is done, resumed and fails by itself.

    ``region`` counts the regions of an item from 0; :data:`PREPARE` comes before them, :data:`REDUCE`
    after. ``item`` is the item's place in the run, or :data:`WHOLE_RUN`; ``stage`` counts the stages.
    """

    stage: int
    item: int
    region: int

    @property
    def kind(self) -> str:
        """``prepare``, ``map`` or ``reduce``."""
        return {PREPARE: "prepare", REDUCE: "reduce"}.get(self.region, "map")


@dataclass(frozen=True)
class Part:
    """Where the result of a unit lies: a span of a file below the run's folder, and its checksum.

    A product has the length of all its files together; its offset is the time when it was published
    [ns since 1970], which tells it from an earlier one of the same name.
    """

    path: str
    offset: int
    length: int
    checksum: str


#: Why a unit failed: its input cannot be used; a file system; too little memory; too much time; its worker's
#: death; a full disk; a mistake in a program.
Cause = Literal["data", "io", "memory", "deadline", "lost", "space", "code"]


@dataclass(frozen=True)
class Record:
    """One line of a journal.

    Attributes
    ----------
    kind : str
        ``started``, ``ended`` or ``failed`` (written by the process that does the unit); ``lost`` (written
        by the coordinator for a unit that started and did not end); ``anew``, ``retry``, ``void`` (decisions
        that make earlier records count no more); ``event`` (what happened to the run: ``note`` says it).
    unit : Unit
    generation : int
        How often the item was begun anew because its input or configuration changed.
    epoch : int
        Which coordinator's reign the record belongs to.
    time : float
        Seconds since 1970 on the clock of the host.
    worker : str
        Who wrote it: host, process, and the worker's address.
    seconds : float
        Wall time of the unit; ``read``, ``write`` and ``cpu`` are parts of it [s].
    nbytes : int
        Bytes of input read.
    peak : int
        Largest anonymous memory of the process while the unit ran [byte].
    part : Part, optional
        Result of an ended unit.
    inputs : str
        Checksum of the bytes that were read.
    cause : str
        Why it failed.
    final : bool
        Whether trying again is of no use.
    counted : bool
        Whether a failure counts as an attempt of this unit.
    note : str
        Sentence for the user.
    log : str
        Excerpt of a traceback or log.
    extra : mapping
        Numbers of the pipeline (events found, say), or what an event is about.
    """

    kind: str
    unit: Unit
    generation: int = 0
    epoch: int = 0
    time: float = 0.0
    worker: str = ""
    seconds: float = 0.0
    read: float = 0.0
    write: float = 0.0
    cpu: float = 0.0
    nbytes: int = 0
    peak: int = 0
    part: Part | None = None
    inputs: str = ""
    cause: str = ""
    final: bool = False
    counted: bool = True
    note: str = ""
    log: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The record as JSON values; fields that hold their default are left out."""
        fields: dict[str, Any] = {"kind": self.kind, "unit": list(self.unit)}
        for name, default in DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                fields[name] = vars(value) if name == "part" else value
        return fields

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> Record:
        """Inverse of :meth:`as_json`; fields of a later version are left out.

        Raises
        ------
        ValueError, TypeError, KeyError
            If the fields are no record.
        """
        values = dict(fields)
        stage, item, region = values.pop("unit")
        kind, part = values.pop("kind"), values.pop("part", None)
        if not type(stage) is type(item) is type(region) is int or type(kind) is not str:
            raise TypeError("no unit")
        if not (0 <= stage < _LARGEST and WHOLE_RUN <= item < _LARGEST and REDUCE <= region < _LARGEST):
            raise ValueError("no unit")
        if part is not None:
            bytes.fromhex(part["checksum"])
            part = Part(**part)
            if not (type(part.path) is str and type(part.offset) is type(part.length) is int):
                raise TypeError("no part")
            if not (0 <= part.offset < _LARGEST and 0 <= part.length < _LARGEST):
                raise ValueError("no part")
        for name in values.keys() - _TYPES.keys():
            del values[name]
        for name, value in values.items():
            allowed = _TYPES[name]
            if type(value) not in allowed or (allowed is _REAL and not abs(value) < _LARGEST):
                raise TypeError(name)
        # a million of them make a ledger: as Record(...) would, in half the time
        record = object.__new__(Record)
        vars(record).update(DEFAULTS, kind=kind, unit=Unit(stage, item, region), part=part, **values)
        return record


#: Numbers beyond are damage, and do not fit into an index.
_LARGEST = 2**62
_REAL, _TEXT, _FLAG = (int, float), (str,), (bool,)
_TYPES: dict[str, tuple[type, ...]] = {
    "generation": _REAL, "epoch": _REAL, "time": _REAL, "worker": _TEXT, "seconds": _REAL, "read": _REAL,
    "write": _REAL, "cpu": _REAL, "nbytes": _REAL, "peak": _REAL, "inputs": _TEXT, "cause": _TEXT,
    "final": _FLAG, "counted": _FLAG, "note": _TEXT, "log": _TEXT, "extra": (dict,),
}  # fmt: skip


DEFAULTS: dict[str, Any] = {
    name: f.default
    for name, f in Record.__dataclass_fields__.items()
    if name not in ("kind", "unit", "extra")
} | {"extra": {}}
