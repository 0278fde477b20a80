"""The waist that every meter driver implements, the settings of a meter, and what sessions are given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Protocol, Union, get_args, get_origin, get_type_hints, runtime_checkable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from protocols.errors import MeterConfigError
from protocols.event_marks import EventMarks, EventNews
from protocols.reading import MeterClock, Nameplate, ProfileName, ReadingSet, RelayState


class Clock(Protocol):
    """Where time comes from. Protocol deadlines use the event loop's own time, never this."""

    def now(self) -> datetime:
        """Return the present instant, in UTC."""

    def disciplined(self) -> bool:
        """Say whether `now` may be trusted to stamp readings."""

    async def sleep_until(self, at: datetime) -> None:
        """Return when `now()` has reached `at`."""


class SecretSource(Protocol):
    """Where keys and passwords come from; a reference is a name, never the secret."""

    def secret(self, ref: str) -> bytes:
        """Return the octets behind `ref`; MeterConfigError when there is none or it is not private."""


@runtime_checkable
class ChangingSecrets(Protocol):
    """A SecretSource that knows more than one set of keys of a meter while they are being changed."""

    def choices(self, meter: str, settings: DlmsSettings) -> Sequence[SecretSource]:
        """Return the sources to associate with: the keys in force first, then those that the meter may hold."""

    def may_try(self, meter: str, settings: DlmsSettings, chosen: SecretSource) -> bool:
        """Note that a choice after the first is tried now; False where it may not be: meters lock out who guesses."""

    def proved(self, meter: str, settings: DlmsSettings, chosen: SecretSource) -> None:
        """Take note that the meter has proved by an association to hold the keys of a choice."""


class CounterStore(Protocol):
    """Invocation counters that never repeat, even after a crash."""

    def next(self, key: str, at_least: int = 0) -> int:
        """Return a counter greater than any given for `key` before and >= `at_least`; reserved durably."""

    def believes(self, key: str, told: int) -> bool:
        """Return whether `key` may go on above a counter that somebody told without proof.

        A meter shows its last counter to whoever asks. Believed without a bound, one that lies moves a key, and
        with it every meter of that key, to the end of its counters.
        """

    def confirm(self, key: str, counter: int) -> None:
        """Note that a meter answered `counter` with proof that it holds the key."""

    def proven(self, key: str) -> bool:
        """Return whether a meter answered a counter of `key` with proof, and ours did not fail since."""

    def failed(self, key: str) -> None:
        """Note that an association with our own counter of `key` failed: `proven` is False until the next proof."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContext:
    """What sessions are given by the program that they run in: keys, invocation counters, and the time.

    `secrets` gives the octets behind the references of a spec, `counters` numbers that never repeat for a key
    (one store for all sessions with it), `clock` the instant that readings are stamped with and whether it may
    be trusted. `protocols.meters` has them in files (`KeyFile`, `FileSecrets`, `FileCounters`),
    `protocols.clock` the machine's clock.
    """

    secrets: SecretSource
    counters: CounterStore
    clock: Clock


class Auth(StrEnum):
    """How a DLMS association authenticates (Green Book 9.2.2, mechanisms 0 to 7).

    `lls` sends a password; the others prove a secret without sending it. `hls2` is the mechanism of Indian
    meters (AES), `hls-gmac` uses the ciphering keys alone, `hls-ecdsa` signs with a private key (suites 1 and 2).
    """

    NONE = "none"
    LLS = "lls"
    HLS2 = "hls2"
    HLS_MD5 = "hls-md5"
    HLS_SHA1 = "hls-sha1"
    HLS_GMAC = "hls-gmac"
    HLS_SHA256 = "hls-sha256"
    HLS_ECDSA = "hls-ecdsa"

    @property
    def needs_secret(self) -> bool:
        """Say whether it needs a password or HLS key of its own, beside the ciphering keys."""
        return self not in (Auth.NONE, Auth.HLS_GMAC, Auth.HLS_ECDSA)


class Protection(StrEnum):
    """What ciphering does to each APDU (security control 0x30, 0x10, 0x20).

    `authenticated` shows the text and proves it, `encrypted` hides it without proof; meters of IS 15959 want
    both, which is the default.
    """

    AUTHENTICATED_ENCRYPTED = "authenticated-encrypted"
    AUTHENTICATED = "authenticated"
    ENCRYPTED = "encrypted"


class KeyInfo(StrEnum):
    """Which key general-ciphering is made with, as each APDU says it (Green Book 9.2.7.2.4.8).

    The global key; a new one for each APDU, wrapped under the master key; one agreed with an ephemeral key that is
    signed (one-pass Diffie-Hellman); one agreed of both sides' certified keys (static unified model).
    """

    IDENTIFIED = "identified"
    WRAPPED = "wrapped"
    AGREED = "agreed"
    AGREED_STATIC = "agreed-static"


class ReleaseMode(StrEnum):
    """How an association ends: RLRQ, RLRQ with a ciphered Initiate inside, or the link's end alone.

    Automatic is RLRQ, but for a running edge on HDLC: there the end of the link (DISC) ends the association (Green
    Book, HDLC profile), and RLRQ is left out until the meter refuses an association.
    """

    AUTO = "auto"
    PLAIN = "plain"
    PROTECTED = "protected"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number may be: `low` (itself left out where `above`) to `high`."""

    low: float
    high: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        return f"{'more than ' if self.above else ''}{self.low:g} to {self.high:g}"


class Choices(tuple[object, ...]):
    """The values that a setting may have."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self))}"


COMPANIONS = ("is15959", "generic", "idis", "spodes", "aidon", "kamstrup", "kaifa", "iskra")
"""What may be assumed of a meter: IS 15959 Parts 1 to 3, its own object list only, or that and the pushes of a make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DlmsSettings:
    """How to reach a DLMS meter; the defaults suit most meters. MeterConfigError when one is outside its limit.

    The limits stand in the annotations, so that configuration files and commands take them from here:
    `DLMS_SETTINGS` has the type and limit of each.

    `client` is the client address (16 public, 32 reader, 48 utility), `server` the logical device,
    `physical` the HDLC lower address (None on the wrapper), `address_octets` the width of an HDLC server
    address (0 = the shortest). `*_ref` name secrets; `password_ref` is the LLS password or the HLS secret.

    `ciphered` asks for ciphering as `protection` says, under security suite `suite`; `dedicated_key` sends a
    fresh key for this association; `general` uses general-glo-ciphering. `accept_plain` lets a plain answer
    through where ciphering was agreed: a downgrade, only for models known to need it.

    Suites 1 and 2 have key pairs: `signing_key_ref` is our private key, `signing_certificate_ref` its certificate
    that the meter is shown, `meter_signing_ref` the meter's certificate or public key; certificates are checked
    against `trust_anchor_ref`. `key_info` ciphers by general-ciphering, with a key as it says (`master_key_ref`, or
    `agreement_key_ref` and `meter_agreement_ref`); `signed` signs each request and wants each answer signed.

    `timeout` is in seconds. `max_pdu` octets of an APDU that we accept, `max_info` octets of an HDLC
    information field, `window` HDLC frames in flight. At most `max_list` attributes are asked for in one request,
    where the meter grants lists and takes them (1 = one by one). `release` says how an association ends.
    `counter_object` is where the public client reads the invocation counter ("" = nowhere), None the companion's.
    `hls_object` is the association object that passes 3 and 4 of HLS use. `gateway_network` and `gateway_address`
    name the meter behind a gateway (prefix E6 and E7). `reference` is how objects are named: `ln` by logical names,
    `sn` by short names, which only read. `keep_open` seconds an idle association is kept for the next poll (0 =
    closed after each). `local_deviation` is for a meter that writes this constant (0, for one) as the deviation of
    its times and means its wall clock.
    """

    client: Annotated[int, Bounds(1, 127), "DLMS client address."] = 16
    server: Annotated[int, Bounds(1, 16383), "DLMS server (logical device)."] = 1
    physical: Annotated[int, Bounds(0, 16383), "HDLC address of the meter on a bus."] | None = None
    framing: Annotated[
        str,
        Choices(("wrapper", "wrapper-udp", "hdlc")),
        "wrapper, wrapper-udp or hdlc; by default hdlc on a serial line or with --physical.",
    ] = "wrapper"
    auth: Annotated[
        Auth,
        f"{', '.join(Auth)}; by default as IS 15959 has it.",
    ] = Auth.NONE
    ciphered: Annotated[bool, "Cipher; by default when both keys are given."] = False
    protection: Annotated[
        Protection, "What ciphering does: authenticated-encrypted, authenticated or encrypted."
    ] = Protection.AUTHENTICATED_ENCRYPTED
    dedicated_key: Annotated[bool, "Send a fresh dedicated key for the association."] = False
    general: Annotated[bool, "Use general-glo-ciphering (general-ded with a dedicated key)."] = False
    accept_plain: Annotated[bool, "Let plain answers through where ciphering was agreed: a downgrade."] = (
        False
    )
    password_ref: Annotated[str, "Name of the password or HLS key in the folder of --secrets."] | None = None
    encryption_key_ref: Annotated[str, "Name of the encryption key in that folder."] | None = None
    authentication_key_ref: Annotated[str, "Name of the authentication key in that folder."] | None = None
    suite: Annotated[int, Choices((0, 1, 2)), "Security suite: 0, 1 or 2."] = 0
    signing_key_ref: Annotated[str, "Name of our private key, suites 1 and 2."] | None = None
    signing_certificate_ref: Annotated[str, "Name of our certificate, which the meter is shown."] | None = (
        None
    )
    meter_signing_ref: Annotated[str, "Name of the meter's certificate or public key."] | None = None
    trust_anchor_ref: Annotated[str, "Name of the certificate that others are checked against."] | None = None
    key_info: (
        Annotated[KeyInfo, "General-ciphering with this key: identified, wrapped, agreed or agreed-static."]
        | None
    ) = None
    signed: Annotated[bool, "Sign each request, and want each answer signed."] = False
    agreement_key_ref: Annotated[str, "Name of our private key for key agreement."] | None = None
    meter_agreement_ref: Annotated[str, "Name of the meter's certificate for key agreement."] | None = None
    master_key_ref: Annotated[str, "Name of the master key, which wraps others."] | None = None
    system_title: Annotated[
        bytes, "Our own title as 16 hex digits, which no other program with these keys may use."
    ] = b"MGW\x00\x00\x00\x00\x01"
    timeout: Annotated[float, Bounds(0, 120, above=True), "Wait for an answer, seconds."] = 5.0
    max_pdu: Annotated[int, Bounds(64, 0xFFFF), "Octets of an APDU that we accept."] = 0xFFFF
    max_info: Annotated[int, Bounds(16, 2030), "Octets of an HDLC information field."] = 128
    window: Annotated[int, Bounds(1, 7), "HDLC frames in flight."] = 1
    address_octets: Annotated[
        int, Choices((0, 1, 2, 4)), "Octets of the HDLC server address: 1, 2 or 4; 0 is as short as fits."
    ] = 0
    max_list: Annotated[int, Bounds(1, 32), "Attributes that are asked for in one request at most."] = 32
    release: Annotated[
        ReleaseMode, "How an association ends: auto, plain, protected (a ciphered Initiate inside) or none."
    ] = ReleaseMode.AUTO
    counter_object: (
        Annotated[str, "Where the public client reads the invocation counter; empty: nowhere."] | None
    ) = None
    hls_object: Annotated[str, "The association object of HLS passes 3 and 4."] = "0-0:40.0.0*255"
    gateway_network: (
        Annotated[int, Bounds(0, 255), "Number of the meter's network behind a gateway (prefix E6)."] | None
    ) = None
    gateway_address: (
        Annotated[str, "The meter's address behind a gateway: text, or hex: and hex digits."] | None
    ) = None
    reference: Annotated[
        str, Choices(("ln", "sn")), "How objects are named: ln, or sn (short names, read only)."
    ] = "ln"
    companion: Annotated[
        str, Choices(COMPANIONS), "is15959, or generic: what the meter's own object list says."
    ] = "is15959"
    local_deviation: (
        Annotated[
            int, Bounds(-900, 900), "Deviation in minutes that the meter writes although it means local time."
        ]
        | None
    ) = None
    keep_open: Annotated[float, Bounds(0, 3600), "Seconds that an idle association is kept."] = 0.0

    def __post_init__(self) -> None:
        for name, kind in DLMS_SETTINGS.items():
            value = getattr(self, name)
            if kind.limit is not None and not (value is None and kind.optional) and value not in kind.limit:
                raise MeterConfigError(f"{name} = {value!r}: {kind.limit} is allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingType:
    """What a setting may hold: a plain type, of it what `limit` allows, and None as well where `optional`.

    `about` is its help on the command line.
    """

    plain: type
    optional: bool = False
    limit: Bounds | Choices | None = None
    about: str = ""

    @classmethod
    def of(cls, hint: Any) -> SettingType:
        """Read an annotation of `DlmsSettings`."""
        if get_origin(hint) in (UnionType, Union):
            (inner,) = (part for part in get_args(hint) if part is not NoneType)
            return replace(cls.of(inner), optional=True)
        if get_origin(hint) is Annotated:
            plain, *notes = get_args(hint)
            return cls(
                plain=plain,
                limit=next((note for note in notes if isinstance(note, Bounds | Choices)), None),
                about=next((note for note in notes if isinstance(note, str)), ""),
            )
        return cls(plain=hint)


DLMS_SETTINGS: Mapping[str, SettingType] = MappingProxyType(
    {name: SettingType.of(hint) for name, hint in get_type_hints(DlmsSettings, include_extras=True).items()}
)
"""The type of each setting of `DlmsSettings` by its name, in the order of their declaration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusSettings:
    """How to reach a Modbus meter.

    `unit` is its id (1 to 247; over TCP also 0 and 255), `model` the name of a shipped model
    (`protocols.modbus.model_names`), of one in the folder `models`, or a file; `framing` is `tcp`, `rtu` or `ascii`.
    `trusted`: nobody else can talk on the line, so the relay may be moved. Limits and meaning of the others stand in
    their annotations, so that configuration files and commands take them from here (`MODBUS_SETTINGS`).

    `timeout` seconds is the wait for an answer to begin at first contact; later it follows what the meter takes.
    After a request without answer the line is quiet for `worst_latency` seconds, so that no request collides with a
    late answer, and for `late_answer_max` seconds nothing is asked of that meter whose answer would look the same:
    both where no transaction id tells answers apart. `answer_unit`, `own_transactions` and `one_request` are manners
    of gateways; MeterConfigError where a setting is outside its limit.

    `sanctioned_load` in kW bounds by how much its energies can grow; without it the kind of meter does. `vouched_at`:
    somebody has seen that this meter is the one it is taken for, and what it showed before counts for nothing.
    """

    unit: Annotated[int, Bounds(0, 255), "Modbus unit id."]
    model: str
    models: Path | None = None
    sanctioned_load: float | None = None
    vouched_at: datetime | None = None
    trusted: bool = False
    framing: str = "tcp"
    timeout: Annotated[float, Bounds(0, 60, above=True), "Wait for an answer at first contact, seconds."] = (
        1.0
    )
    worst_latency: Annotated[
        float, Bounds(0, 60), "Modbus: quiet after a request without answer, seconds."
    ] = 0.5
    late_answer_max: Annotated[
        float, Bounds(0, 120), "Modbus: how late an answer may come at all, seconds."
    ] = 10.0
    answer_unit: (
        Annotated[int, Bounds(0, 255), "Modbus TCP: the unit in all answers, mostly 0 or 255."] | None
    ) = None
    own_transactions: Annotated[bool, "Modbus TCP: the gateway numbers its answers as it likes."] = False
    one_request: Annotated[bool, "Modbus TCP: one request a connection."] = False

    def __post_init__(self) -> None:
        for name, kind in MODBUS_SETTINGS.items():
            value = getattr(self, name)
            if kind.limit is not None and not (value is None and kind.optional) and value not in kind.limit:
                raise MeterConfigError(f"{name} = {value!r}: {kind.limit} is allowed")
        if self.framing != "tcp" and not 1 <= self.unit <= 247:
            raise MeterConfigError(f"unit = {self.unit}: 1 to 247 is allowed on a bus")


MODBUS_SETTINGS: Mapping[str, SettingType] = MappingProxyType(
    {name: SettingType.of(hint) for name, hint in get_type_hints(ModbusSettings, include_extras=True).items()}
)
"""The type of each setting of `ModbusSettings` by its name, in the order of their declaration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSpec:
    """One meter to talk to: which it is, and either `dlms` or `modbus` settings.

    `meter` is the expected identity (`GEN:12345678`), or None to accept any; `zone` the name of the time zone
    that its wall clock shows.
    """

    meter: str | None
    zone: str = "Asia/Kolkata"
    dlms: DlmsSettings | None = None
    modbus: ModbusSettings | None = None

    def time_zone(self) -> ZoneInfo:
        """Return the meter's zone; MeterConfigError when there is none of that name."""
        try:
            return ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise MeterConfigError(f"there is no time zone {self.zone!r}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What a poll is about to read, told when a session is opened, so that it can be asked for together.

    `since` are the ends from which the stored ones are wanted. `seen` is how the event logs stood when all that
    they held had been taken over; None lets every log be read.
    """

    profiles: tuple[ProfileName, ...] = ()
    since: Mapping[ProfileName, datetime] = field(default_factory=lambda: MappingProxyType({}))
    seen: EventMarks | None = None


@runtime_checkable
class ShiftsClock(Protocol):
    """A session that can move its meter's clock by a little."""

    async def shift_clock(self, by: timedelta) -> None:
        """Move the clock by `by` from where it stands, in the way in which the meter itself writes its time.

        No other way is tried. Proof is `clock()` afterwards. NotSupported where the meter or its model has no clock to
        be set, MeterRefused where this client may not; WriteNotKept where the meter made something else of it, and what
        was is put back if that can be done; WriteUnproven where no sound answer came.
        """


@runtime_checkable
class TellsEventNews(Protocol):
    """A session that found out, when it was opened for a visit, which event logs need no reading."""

    @property
    def event_news(self) -> EventNews | None:
        """What it found; None where it did not look. Logs that are quiet are left out of `read`."""


class MeterSession(Protocol):
    """An open conversation with one meter; one task uses it at a time.

    Every driver passes the same conformance suite (`tests/support/conformance.py`). Any method may raise
    LineError and MeterError; `ProtocolError.code` names what went wrong. Cancelling leaves the line usable.

    Example:
        async with open_session(line, spec, context) as session:
            async for reading in session.read(ProfileName.BLOCK_LOAD, since):
                print(reading.at, reading.value("1-0:1.29.0*255"))
    """

    async def identify(self) -> Nameplate:
        """Return who the meter is; raises IdentityMismatch when the spec names another."""

    def read(
        self, profile: ProfileName, since: datetime | None = None, until: datetime | None = None
    ) -> AsyncIterator[ReadingSet]:
        """Yield the readings of a profile, oldest first.

        Stored profiles give every row with since < at <= until (None: unbounded); snapshots of the present
        give one set. A read that fails may be taken up again from the `at` of the last set that was yielded:
        nothing older is missing. Raises NotSupported when the meter has no such profile.
        """

    async def clock(self) -> MeterClock:
        """Return the meter's clock beside ours; raises NotSupported when the meter shows none."""

    async def set_clock(self, at: datetime) -> None:
        """Set the meter's clock to an instant."""

    async def relay(self) -> RelayState:
        """Return the supply contact's state; raises NotSupported when the meter has no contact."""

    async def switch_relay(self, to: RelayState) -> None:
        """Order the contact to move. Success is acceptance; proof is `relay()` afterwards. Never repeated."""
