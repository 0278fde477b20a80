"""What a companion declares: associations, profiles by category, events, push setups, control objects, rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protocols.dlms.companion.push_grammar import PushGrammar, PushSetupInfo
from protocols.dlms.companion.sources import (
    BufferSource,
    LogsSource,
    ObjectRead,
    ObjectsSource,
    Rule,
    Source,
)
from protocols.dlms.data.types import Tag
from protocols.dlms.data.units import UNIT_CODES
from protocols.dlms.objects.object_list import ObjectEntry
from protocols.errors import NotSupported
from protocols.reading import Obis, ProfileName, Quantity
from protocols.session import Auth


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationInfo:
    """One client of the standard: address, mechanism, association object, invocation counter object, security setup.

    `rights` name the services that it may ask for; `pre_established` says that it needs no AARQ, `changes_keys` that it
    is the client that may change the keys of all.
    """

    name: str
    client: int
    auth: Auth
    ciphered: bool
    association_object: Obis
    counter: Obis
    security_setup: Obis | None = None
    rights: tuple[str, ...] = ()
    pre_established: bool = False
    changes_keys: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnInfo:
    """One captured column. `scaler` is None where the scaler profile has no entry for it."""

    class_id: int
    quantity: Quantity
    tag: Tag
    scaler: int | None = None
    unit: str = ""

    @property
    def unit_code(self) -> int:
        """COSEM code of the unit (255 = none)."""
        return UNIT_CODES[self.unit]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileInfo:
    """One profile generic: where it is and which columns to expect.

    `also` are other places seen for it; `more` are columns that some firmware captures besides.
    """

    name: ProfileName
    obis: Obis
    scaler_profile: Obis | None
    capture_period: int
    columns: tuple[ColumnInfo, ...]
    more: tuple[ColumnInfo, ...] = ()
    also: tuple[Obis, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """One event log: profile, code object, sequence object, and its expected columns (clock, code, …)."""

    name: str
    index: int
    obis: Obis
    code: Obis
    sequence: Obis
    columns: tuple[ColumnInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """A kind of meter (IS 15959: D1 to D4): its phases, its profiles and logs; D3 and D4 have no relay."""

    name: str
    title: str
    phases: int
    relay: bool
    block_periods: tuple[int, ...]
    profiles: Mapping[ProfileName, ProfileInfo]
    event_logs: tuple[EventLog, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCode:
    """What an event code means; `kind` is occurrence, restoration, single or vendor.

    `log` is the log's index and `group` its name; a vendor's code has neither log nor meaning (None,
    "vendor"). `disputed` is another meaning that one public table gives, or "".
    """

    code: int
    log: int | None
    group: str
    name: str
    kind: str
    disputed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepaymentItem:
    """One prepayment object (class 1); `kind` is mode, amount (paise) or time; `modes` names mode values."""

    name: str
    obis: Obis
    older: Obis
    kind: str
    tag: Tag
    modes: Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusWord:
    """The event status word: its object, its filter, its length in bits, and what a set bit says."""

    word: Obis
    filter: Obis
    length: int
    bits: Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlObject:
    """One object that orders go to, its attributes and methods by Blue Book name, its values by attribute."""

    name: str
    class_id: int
    obis: Obis
    attributes: Mapping[str, int]
    methods: Mapping[str, int]
    values: Mapping[str, Mapping[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRules:
    """How the meters of a companion stamp.

    `deviations` in minutes as sent are accepted where the wall clock is local time; `east` says that a
    deviation which we write counts minutes from UTC to local time (False: the Blue Book's other way). `local`
    deviations are written by makes that mean their wall clock by them, whatever its zone.
    """

    block_stamp: str
    daily_stamp: str
    deviations: tuple[int, ...]
    unspecified_deviation: bool
    east: bool
    deviation_on_set: str
    local: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """All declarations of one companion specification. `profiles` and `event_logs` are the D1 view.

    A companion with `rules` finds its profiles in the meter's own object list.
    """

    name: str
    associations: Mapping[int, AssociationInfo]
    identity: Mapping[str, tuple[Obis, ...]]
    categories: Mapping[str, Category]
    event_scalers: Obis | None
    logs: tuple[EventLog, ...]
    event_codes: Mapping[int, EventCode]
    esw: StatusWord | None
    push: PushGrammar
    control: Mapping[str, ControlObject]
    schedules: Mapping[str, Obis]
    clock: ClockRules
    prepayment: tuple[PrepaymentItem, ...]
    prepayment_unit: str
    prepayment_scaler: int
    rules: Mapping[str, Rule]
    status: Mapping[Obis, Mapping[int, str]]
    """Captured status words of rows, and what their bits say, the lowest being 0."""

    @property
    def profiles(self) -> Mapping[ProfileName, ProfileInfo]:
        """Profiles of a single-phase meter; empty where rules find them."""
        return self.categories["D1"].profiles if self.categories else {}

    @property
    def event_logs(self) -> tuple[EventLog, ...]:
        """Event logs of a single-phase meter; where rules find them, those that are declared."""
        return self.categories["D1"].event_logs if self.categories else self.logs

    @property
    def push_setups(self) -> Mapping[Obis, PushSetupInfo]:
        """What each push setup sends, by its logical name."""
        return self.push.setups

    @property
    def event_scaler_profile(self) -> Obis:
        """Scaler profile of all event logs; NotSupported where the companion has none."""
        if self.event_scalers is None:
            raise NotSupported(f"{self.name} declares no scaler profile of events")
        return self.event_scalers

    @property
    def by_object_list(self) -> bool:
        """Say whether `source` needs the meter's object list."""
        return bool(self.rules)

    def source(self, profile: ProfileName, listed: Sequence[ObjectEntry] = ()) -> Source:
        """Say how a profile is got from a meter; NotSupported when this companion or meter has none.

        `listed` is the meter's object list where `by_object_list` asks for it, else ().
        """
        if self.rules:
            rule = self.rules.get(profile)
            found = rule.find(listed) if rule else None
            if found is None:
                raise NotSupported(f"the meter's object list has nothing for the {profile} profile")
            return found
        if profile is ProfileName.PREPAYMENT:
            return ObjectsSource(tuple(self._prepayment_read(item) for item in self.prepayment))
        if profile is ProfileName.EVENTS:
            return LogsSource(tuple(BufferSource((log.obis,), self.event_scalers) for log in self.event_logs))
        info = self.profiles[profile]
        return BufferSource((info.obis, *info.also), info.scaler_profile)

    def load_switch(self, listed: Sequence[ObjectEntry] = ()) -> Obis | None:
        """Find the disconnect control (class 70); None when the companion or the list has none."""
        if rule := self.rules.get("load_switch"):
            found = rule.find(listed)
            return found.reads[0].places[0] if isinstance(found, ObjectsSource) else None
        switch = self.control.get("load_switch")
        return switch.obis if switch else None

    def event_name(self, code: int) -> str:
        """Name an event code: `over voltage`, `over voltage (restored)`, or `event 999` when unknown."""
        known = self.event_codes.get(code)
        if known is None:
            return f"event {code}"
        return f"{known.name} (restored)" if known.kind == "restoration" else known.name

    def status_text(self, obis: Obis, word: int) -> str:
        """Name the bits that are set in a row's status word; "" where none is, or the object is no such word."""
        named = self.status.get(obis, {})
        return ", ".join(
            named.get(bit, f"bit {bit}") for bit in range(word.bit_length()) if named and word >> bit & 1
        )

    def log_name(self, code: Obis) -> str:
        """Name the log whose rows have this code object; "" when none is declared."""
        return next((log.name for log in self.event_logs if log.code == code), "")

    def esw_bit(self, bit: int) -> str:
        """Name a bit of the event status word; `bit 90` when it is reserved or the maker's own."""
        return (self.esw.bits if self.esw else {}).get(bit, f"bit {bit}")

    def _prepayment_read(self, item: PrepaymentItem) -> ObjectRead:
        scale = (self.prepayment_scaler, self.prepayment_unit) if item.kind == "amount" else (0, "")
        return ObjectRead(
            quantity=Quantity(item.obis),
            class_id=1,
            places=(item.obis, item.older),
            scale=scale,
            time=item.kind == "time",
        )
