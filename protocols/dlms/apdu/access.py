"""The access service (Green Book 9.3.9): attributes read and written and methods run, in one request, in this order."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from protocols.dlms.apdu.fields import ATTRIBUTE, METHOD, RESULT, SELECTOR, VALUE
from protocols.dlms.apdu.lists import Outcome, Target
from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.syntax import Field, OctetString, Record, Sequence, UnsignedNumber
from protocols.dlms.data.types import NULL, Data

REQUEST, RESPONSE = 0xD9, 0xDA
CONFIRMED, HIGH = 0x40000000, 0x80000000
INVOKE_MASK = 0x00FFFFFF


class AccessKind(IntEnum):
    """What is done with a target."""

    GET = 1
    SET = 2
    ACTION = 3


_SELECTED = 3
"""Added to GET and SET where a selection follows."""
_NAMES = {1: "get", 2: "set", 3: "action", 4: "get with selection", 5: "set with selection"}


@dataclass(frozen=True, slots=True)
class Access:
    """One target, what is done with it, and the value that is written or given (null-data for none)."""

    kind: AccessKind
    target: Target
    value: Data = field(default=NULL, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequest:
    """Several accesses. `invoke` is the long invoke id with its flags; `date_time` when it was sent, or nothing."""

    accesses: tuple[Access, ...]
    invoke: int = CONFIRMED
    date_time: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessResponse:
    """An outcome for each access; `repeated` are the targets, where the meter repeats what it was asked."""

    kinds: tuple[AccessKind, ...]
    outcomes: tuple[Outcome, ...]
    invoke: int = CONFIRMED
    date_time: bytes = b""
    repeated: tuple[tuple[AccessKind, Target], ...] = ()


class LongInvokeId(Field[int]):
    """Long-invoke-id-and-priority: 24 bits of id; self-descriptive 10, processing option 20, confirmed 40, high 80."""

    name = "invoke id"

    def read(self, cursor: Cursor) -> int:
        return cursor.unsigned(4)

    def write(self, value: int) -> bytes:
        return value.to_bytes(4, "big")

    def show(self, value: int) -> str:
        flags = {30: "confirmed", 31: "high", 28: "self-descriptive", 29: "break on error"}
        named = [name for bit, name in flags.items() if value >> bit & 1]
        return ", ".join([str(value & INVOKE_MASK), *named])


class SpecificationField(Field[tuple[AccessKind, Target]]):
    """Access-Request-Specification: what is done with which attribute or method."""

    _choice = UnsignedNumber("access", 1, _NAMES)

    def read(self, cursor: Cursor) -> tuple[AccessKind, Target]:
        choice = cursor.field(self._choice)
        if choice not in _NAMES:
            raise cursor.error(f"access {choice} is not known")
        kind = AccessKind(choice - _SELECTED if choice > _SELECTED else choice)
        class_id, obis, index = cursor.field(METHOD if kind is AccessKind.ACTION else ATTRIBUTE)
        selection = cursor.field(SELECTOR) if choice > _SELECTED else None
        return kind, Target(class_id, obis, index, selection)

    def write(self, value: tuple[AccessKind, Target]) -> bytes:
        kind, target = value
        selected = target.selection is not None
        head = bytes((kind + _SELECTED * selected,))
        name = ATTRIBUTE.write((target.class_id, target.obis, target.index))
        return head + name + (b"" if target.selection is None else SELECTOR.write(target.selection))


class ResultField(Field[tuple[AccessKind, int]]):
    """Access-Response-Specification: the result of one access."""

    _choice = UnsignedNumber("access", 1, {1: "get", 2: "set", 3: "action"})

    def read(self, cursor: Cursor) -> tuple[AccessKind, int]:
        choice = cursor.field(self._choice)
        if not 1 <= choice <= _SELECTED:
            raise cursor.error(f"the result of access {choice} is not known")
        return AccessKind(choice), cursor.field(RESULT)

    def write(self, value: tuple[AccessKind, int]) -> bytes:
        return bytes((value[0],)) + RESULT.write(value[1])


_SPECIFICATIONS = Sequence("accesses", SpecificationField())
_VALUES = Sequence("values", VALUE)
_RESULTS = Sequence("results", ResultField())


class RequestBody(Field[tuple[Access, ...]]):
    """What is asked for, then the values, of which there are as many."""

    def read(self, cursor: Cursor) -> tuple[Access, ...]:
        asked, values = cursor.field(_SPECIFICATIONS), cursor.field(_VALUES)
        if len(asked) != len(values):
            cursor.refuse(f"{len(values)} values for {len(asked)} accesses")
        return tuple(
            Access(kind, target, value) for (kind, target), value in zip(asked, values, strict=False)
        )

    def write(self, value: tuple[Access, ...]) -> bytes:
        asked = _SPECIFICATIONS.write(tuple((one.kind, one.target) for one in value))
        return asked + _VALUES.write(tuple(one.value for one in value))


class ResponseBody(
    Field[tuple[tuple[AccessKind, ...], tuple[Outcome, ...], tuple[tuple[AccessKind, Target], ...]]]
):
    """What was asked for, where it is repeated; the values; the results."""

    _repeated = UnsignedNumber("accesses repeated", 1, {0: "no", 1: "yes"})

    def read(
        self, cursor: Cursor
    ) -> tuple[tuple[AccessKind, ...], tuple[Outcome, ...], tuple[tuple[AccessKind, Target], ...]]:
        repeated = cursor.field(_SPECIFICATIONS) if cursor.field(self._repeated) else ()
        values, results = cursor.field(_VALUES), cursor.field(_RESULTS)
        if len(values) != len(results):
            cursor.refuse(f"{len(values)} values for {len(results)} results")
        outcomes = tuple(
            _outcome(kind, result, value) for value, (kind, result) in zip(values, results, strict=False)
        )
        return tuple(kind for kind, _ in results), outcomes, repeated

    def write(
        self,
        value: tuple[tuple[AccessKind, ...], tuple[Outcome, ...], tuple[tuple[AccessKind, Target], ...]],
    ) -> bytes:
        kinds, outcomes, repeated = value
        head = b"\x01" + _SPECIFICATIONS.write(repeated) if repeated else b"\x00"
        values = _VALUES.write(tuple(NULL if one.data is None else one.data for one in outcomes))
        results = tuple((kind, one.result) for kind, one in zip(kinds, outcomes, strict=True))
        return head + values + _RESULTS.write(results)


def _outcome(kind: AccessKind, result: int, value: Data) -> Outcome:
    """Null-data is a value where an attribute was read, and none anywhere else."""
    nothing = result or (kind is not AccessKind.GET and value == NULL)
    return Outcome(result, None if nothing else value)


_DATE_TIME = OctetString("time")
APDUS: dict[int, tuple[str, Record[AccessRequest] | Record[AccessResponse]]] = {
    REQUEST: (
        "access-request",
        Record(
            AccessRequest, ("invoke", LongInvokeId()), ("date_time", _DATE_TIME), ("accesses", RequestBody())
        ),
    ),
    RESPONSE: (
        "access-response",
        Record(
            AccessResponse,
            ("invoke", LongInvokeId()),
            ("date_time", _DATE_TIME),
            ("kinds outcomes repeated", ResponseBody()),
        ),
    ),
}
"""Name and field of each APDU by its tag."""
