"""What a push holds: device id, push setup and clock where its grammar has them, and the payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from protocols.dlms.apdu.notification import DataNotification, EventNotification
from protocols.dlms.companion import EventLog, PushForm, PushGrammar, companion
from protocols.dlms.data.types import Data, Tag
from protocols.dlms.push.forms import taken_apart
from protocols.dlms.push.places import PushedBuffer, PushedValue
from protocols.errors import MeterProtocolError
from protocols.reading import Obis, ProfileName

ESW = Obis(0, 0, 94, 91, 18)
"""Event status word: 128 bits, first bit first."""
ESW_BITS = 128
MAX_ROWS = 4_096
ALERT_SETUP = Obis(0, 4, 25, 9, 0)
_TAKEN = (ProfileName.INSTANTANEOUS, ProfileName.BLOCK_LOAD, ProfileName.DAILY, ProfileName.BILLING)
PROFILE_OF_SETUP: Mapping[Obis, ProfileName] = MappingProxyType(
    {obis: setup.profile for obis, setup in companion().push_setups.items() if setup.profile in _TAKEN}
)
"""Which profile a push setup sends, of those that are taken."""
LOG_OF_SETUP: Mapping[Obis, EventLog] = MappingProxyType(
    {
        obis: companion().event_logs[setup.log]
        for obis, setup in companion().push_setups.items()
        if setup.log is not None
    }
)
"""Which event log a push setup sends rows of."""
PROFILE_OF_BUFFER: Mapping[Obis, ProfileName] = MappingProxyType(
    {companion().profiles[profile].obis: profile for profile in PROFILE_OF_SETUP.values()}
    | {log.obis: ProfileName.EVENTS for log in LOG_OF_SETUP.values()}
)
"""What rows under these OBIS codes are of, as IS 15959 has it and many others."""


@dataclass(frozen=True, slots=True)
class Alert:
    """An event status word: 128 characters `0` or `1`. A set bit says that it happened, not the state."""

    bits: str

    @property
    def set_bits(self) -> tuple[int, ...]:
        """Numbers of the bits that are set."""
        return tuple(i for i, bit in enumerate(self.bits) if bit == "1")


@dataclass(frozen=True, slots=True)
class PushedRows:
    """Rows of a profile as its buffer has them; each is a structure."""

    rows: tuple[Data, ...]


@dataclass(frozen=True, slots=True)
class PushedCells:
    """Values one after another in the order of the meter's push object list, after the clock."""

    cells: tuple[Data, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedValues:
    """Values that say themselves what they are of, or that a form of the companion names, in the push's order.

    `buffers` are rows of profiles and event logs that came beside them.
    """

    values: tuple[PushedValue, ...]
    grammar: PushGrammar
    form: PushForm
    buffers: tuple[PushedBuffer, ...] = ()

    @property
    def says_something(self) -> bool:
        """Say whether there is more in the values than who pushed."""
        return any(value.quantity.obis not in self.grammar.device for value in self.values)


Payload = Alert | PushedRows | PushedCells | PushedValues


@dataclass(frozen=True, slots=True, kw_only=True)
class PushBody:
    """A push taken apart: device id (`""` when none), push setup, the meter's clock as twelve octets."""

    payload: Payload
    device: str = ""
    setup: Obis | None = None
    clock: bytes = b""


def body_of(apdu: DataNotification, grammar: PushGrammar | None = None) -> PushBody:
    """Take a data-notification apart by a grammar, IS 15959's by default.

    NoForm when it fits no form of it; MeterProtocolError when it does and its payload is none. A push without a
    clock of its own has the notification's time.
    """
    grammar = grammar or companion().push
    parts = taken_apart(grammar, apdu.body)
    payload = (
        _payload(list(parts.rest))
        if parts.rest is not None
        else PushedValues(
            values=parts.values, grammar=grammar, form=parts.form, buffers=_bounded(parts.buffers)
        )
    )
    return PushBody(
        device=parts.device, setup=parts.setup, clock=parts.clock or apdu.date_time, payload=payload
    )


def event_of(apdu: EventNotification) -> PushBody:
    """Take an event-notification: only the event status word says anything by itself."""
    if (apdu.obis, apdu.attribute) != (ESW, 2):
        raise MeterProtocolError(f"an event-notification of {apdu.obis}#{apdu.attribute} is not understood")
    return PushBody(setup=ALERT_SETUP, clock=apdu.time, payload=_alert(apdu.value))


def _payload(items: list[Data]) -> Payload:
    match items:
        case []:
            raise MeterProtocolError("a push without a payload")
        case [Data(tag=Tag.BIT_STRING) as word]:
            return _alert(word)
        case [Data(tag=Tag.ARRAY | Tag.COMPACT_ARRAY) as buffer]:
            if not 0 < len(buffer.items) <= MAX_ROWS:
                raise MeterProtocolError(f"a push of {len(buffer.items)} rows")
            return PushedRows(buffer.items)
        case [Data(tag=Tag.STRUCTURE) as row]:
            return PushedRows((row,))
    return PushedCells(tuple(items))


def _bounded(buffers: tuple[PushedBuffer, ...]) -> tuple[PushedBuffer, ...]:
    if (rows := sum(len(one.rows) for one in buffers)) > MAX_ROWS:
        raise MeterProtocolError(f"a push of {rows} rows")
    return buffers


def _alert(word: Data) -> Alert:
    if word.tag is not Tag.BIT_STRING or not isinstance(word.value, str) or len(word.value) != ESW_BITS:
        raise MeterProtocolError(f"an event status word is a bit-string of {ESW_BITS}")
    return Alert(word.value)
