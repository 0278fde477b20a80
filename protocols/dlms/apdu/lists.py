"""Services on several attributes or methods at once, and SET and ACTION in blocks (Green Book 9.5)."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.dlms.apdu.fields import (
    ANSWER,
    ATTRIBUTE,
    DATA_OR_RESULT,
    INVOKE,
    METHOD,
    NO_SELECTION,
    RESULT,
    SELECTION,
    VALUE,
    Selection,
)
from protocols.dlms.data import axdr
from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.syntax import Field, Record, Sequence, T
from protocols.dlms.data.types import Data
from protocols.errors import MeterProtocolError
from protocols.obis import Obis


@dataclass(frozen=True, slots=True)
class Target:
    """One attribute of one object, with a selection where a GET asks for rows; or one method.

    `index` 2 is the value of most classes.
    """

    class_id: int
    obis: Obis
    index: int = 2
    selection: Selection | None = None

    def __str__(self) -> str:
        return f"{self.obis}#{self.index}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one target of a list gave: `result` 0 and perhaps a value, or why not."""

    result: int
    data: Data | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetListRequest:
    """GET of several attributes."""

    targets: tuple[Target, ...]
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class GetListResponse:
    """The values in the order asked for."""

    outcomes: tuple[Outcome, ...]
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class SetListRequest:
    """SET of several attributes; as many values as targets."""

    targets: tuple[Target, ...]
    values: tuple[Data, ...] = field(repr=False)
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class SetListResponse:
    """One data-access-result for each target; 0 is success."""

    results: tuple[int, ...]
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionListRequest:
    """ACTION on several methods; null-data where a method takes nothing."""

    targets: tuple[Target, ...]
    parameters: tuple[Data, ...] = field(repr=False)
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionListResponse:
    """One outcome for each method."""

    outcomes: tuple[Outcome, ...]
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBlock:
    """A block of the value of a SET, or of the parameter of an ACTION.

    The first one names its target (`listed` False) or its targets (`listed` True), the others none.
    """

    action: bool
    last: bool
    number: int
    raw: bytes = field(repr=False)
    targets: tuple[Target, ...] = ()
    listed: bool = False
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAck:
    """The far side has block `number` of a request; results come with the last block of a SET."""

    action: bool
    number: int
    results: tuple[int, ...] = ()
    listed: bool = False
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionBlock:
    """One block of an encoded answer to an ACTION."""

    last: bool
    number: int
    raw: bytes = field(repr=False)
    invoke: int = INVOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionNext:
    """Ask for the block after `block` of the answer to an ACTION."""

    block: int
    invoke: int = INVOKE


# fields of these APDUs, and of what their blocks hold


class GetOutcome(Field[Outcome]):
    """Get-Data-Result of one target of a list; success has a value."""

    def read(self, cursor: Cursor) -> Outcome:
        data, error = cursor.field(DATA_OR_RESULT)
        if error == 0:
            cursor.refuse("success without a value")
        return Outcome(error or 0, data)

    def write(self, value: Outcome) -> bytes:
        return DATA_OR_RESULT.write((value.data, value.result or None))


class ActionOutcome(Field[Outcome]):
    """Action-result of one target of a list, with what the method returned."""

    def read(self, cursor: Cursor) -> Outcome:
        result = cursor.field(RESULT)
        data, error = cursor.field(ANSWER)
        return Outcome(result or error or 0, data)

    def write(self, value: Outcome) -> bytes:
        return RESULT.write(value.result) + ANSWER.write((value.data, None))


SELECTED = Record(Target, ("class_id obis index", ATTRIBUTE), ("selection", SELECTION))
"""An attribute, with the selection that GET may ask for."""
METHOD_TARGET = Record(Target, ("class_id obis index", METHOD))
UNSELECTED = Record(Target, ("class_id obis index", ATTRIBUTE), ("", NO_SELECTION))
"""An attribute that is written whole."""
GET_OUTCOME = GetOutcome()
ACTION_OUTCOME = ActionOutcome()
OUTCOMES = Sequence("results", GET_OUTCOME)
ACTION_OUTCOMES = Sequence("results", ACTION_OUTCOME)
VALUES = Sequence("values", VALUE)


def as_many_values(apdu: SetListRequest | ActionListRequest) -> str:
    """Return the complaint about a list with another number of values than of targets."""
    values = apdu.values if isinstance(apdu, SetListRequest) else apdu.parameters
    wrong = len(values) != len(apdu.targets)
    return f"{len(values)} values for {len(apdu.targets)} targets" if wrong else ""


def encode_outcomes(outcomes: tuple[Outcome, ...]) -> bytes:
    """Return the octets of a list of Get-Data-Result: what the blocks of a long get-response hold."""
    return OUTCOMES.write(outcomes)


def decode_outcomes(octets: bytes) -> tuple[Outcome, ...]:
    """Return the list of Get-Data-Result that fills `octets`; MeterProtocolError otherwise."""
    return filling(octets, OUTCOMES, "the list of results")


def encode_action_outcomes(outcomes: tuple[Outcome, ...], *, listed: bool) -> bytes:
    """Return what the blocks of a long action-response hold: what one method returned, or a list of outcomes.

    What one method returned stands alone, as a value does in the blocks of a long get-response: its result
    is success, or the answer would not be long.
    """
    if listed:
        return ACTION_OUTCOMES.write(outcomes)
    (one,) = outcomes
    return b"" if one.data is None else axdr.encode(one.data)


def decode_action_outcomes(octets: bytes, *, listed: bool) -> tuple[Outcome, ...]:
    """Return the outcomes in such blocks; MeterProtocolError unless they fill `octets`.

    The standard leaves open how much goes into the blocks for one method, so beside the data alone two more
    forms are read: the data with its choice before it, and the whole outcome. Both begin with a zero, which
    long data never does.
    """
    what = "the answer of a method"
    if listed:
        return filling(octets, ACTION_OUTCOMES, what)
    if octets[:1] != b"\0":
        return (Outcome(0, axdr.decode(octets)),)
    try:
        return (filling(octets, ACTION_OUTCOME, what),)
    except MeterProtocolError:
        return (filling(octets, GET_OUTCOME, what),)


def encode_values(values: tuple[Data, ...]) -> bytes:
    """Return what the blocks of a request on a list hold."""
    return VALUES.write(values)


def decode_values(octets: bytes) -> tuple[Data, ...]:
    """Return the values in such blocks; MeterProtocolError unless they fill `octets`."""
    return filling(octets, VALUES, "the values of a list")


def filling(octets: bytes, field: Field[T], what: str) -> T:
    """Return the field that fills `octets`; MeterProtocolError otherwise."""
    cursor = Cursor(octets)
    value = cursor.field(field)
    cursor.finish(what)
    return value
