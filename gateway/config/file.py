"""The one TOML file: its sections with their limits, and how it is read."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator

from gateway.config.checks import check_meters
from gateway.config.clocks import ClocksSection
from gateway.config.field import FieldSection
from gateway.config.influx import InfluxSection
from gateway.config.keys import KeysSection
from gateway.config.meters import LineSection, MeterSection
from gateway.config.mistakes import ConfigMistakes, Source
from gateway.config.modbus import ModelsSection, check_modbus, usual_framing
from gateway.config.privacy import PrivacySection
from gateway.config.push import PushSection
from gateway.config.slips import SlipsSection
from gateway.config.sms import SmsSection, check_sms
from gateway.config.targets import parse_target
from gateway.config.types import Name, Port, Section
from gateway.config.web import WebSection, check_web
from gateway.timekeeping.clock import EvidenceClock, EvidenceSettings
from gateway.timekeeping.saved import FILE as CLOCK_FILE
from protocols.clock import SimulatedClock, SystemClock
from protocols.modbus.format.library import forget_models
from protocols.session import Clock, MeterSpec

UNHEARD = (
    "no meter is read before central's signed answer has come,"
    " and without `verify_key_ref` in [directory] none is believed"
)
UNPROVEN = (
    'a host whose clock is taken on trust (`trust = "host"` in [time]) corrects no other clock:'
    ' take this section out, or say trust = "evidence"'
)


class GatewaySection(Section):
    """Who this gateway is and where it keeps its data.

    `replacement` says that this box takes the place of one that died: it reads no meter before central has told which
    invocation counters the old one had used, and up to where its meters are in the ledger.
    """

    name: Name
    data: Path
    replacement: bool = False
    roles: tuple[Literal["edge", "central", "portal"], ...] = ("edge",)
    secrets: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def _broker(text: str) -> str:
    found = re.fullmatch(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})", text)
    if found is None or not 0 < int(found[1]) <= 65535:
        raise ValueError(f"`{text}` is no broker: write HOST:PORT, for example mq1.internal:8883")
    return text


Broker = Annotated[str, AfterValidator(_broker)]


class MqttSection(Section):
    """The broker. Use TLS and a password or a client certificate off this machine.

    `brokers` names those of a cluster, each as `HOST:PORT`, in place of `host` and `port`: when one is lost the next
    is connected to.

    Readings go out together: at most `batch_count` captures and `batch_bytes` octets in a message, which waits for
    more of them for `batch_age` seconds at most. Small messages cost central as much as large ones.

    `username` is the gateway's name: the broker's access rules go by it. Field work (`commission`, `replace`) logs in
    as `USERNAME-field`, with `field_password_ref` or, without it, the same password.
    """

    host: str = "127.0.0.1"
    port: Port = 1883
    brokers: Annotated[tuple[Broker, ...], Field(max_length=16)] = ()
    root: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")] = "kesco"
    username: str | None = None
    password_ref: Name | None = None
    field_password_ref: Name | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    version: Literal["auto", "5", "3.1.1"] = "auto"
    window: Annotated[int, Field(ge=1, le=1000)] = 20
    batch_count: Annotated[int, Field(ge=1, le=5000)] = 200
    batch_bytes: Annotated[int, Field(ge=1024, le=4_194_304)] = 131_072
    batch_age: Annotated[float, Field(ge=0.01, le=60)] = 2.0


def _act_target(text: str) -> str:
    parse_target(text)
    return text


ActTarget = Annotated[str, AfterValidator(_act_target)]


class JournalSection(Section):
    """Bounds of the edge's journal and what happens at the bound.

    Entries stay for `retention_days` at least, also after they were acknowledged, so that a consumer that was
    restored from a copy can ask for them. With `billing_acks` they are kept until every one of
    `ack_consumers` has stored them (central's name is `central`); what others acknowledge, such as
    `listen --ack`, releases nothing. At `max_bytes` what all of them acknowledged goes before its time, oldest
    first; without `billing_acks`, `policy` says whether what the broker took does. `max_capture_bytes` bounds
    the list by which repeats are told, beside `max_bytes`; `check` says what both should be.
    """

    max_bytes: Annotated[int, Field(ge=1_048_576)] = 2_147_483_648
    max_capture_bytes: Annotated[int, Field(ge=1_048_576)] = 1_073_741_824
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 45
    policy: Literal["stop_reading", "drop_oldest_acknowledged"] = "stop_reading"
    billing_acks: bool = True
    ack_consumers: Annotated[tuple[Name, ...], Field(min_length=1, max_length=16)] = ("central",)


class ScheduleSection(Section):
    """How often each profile is read, in seconds of meter time, and how far back the first read goes.

    The meters' turns are spread over the first `spread` seconds of each period (two thirds of it at most), each
    meter always at its own place; periods below half an hour as the half hour, so that one visit reads all that is due.
    `gapless` names snapshots of which each that was due and not read is told as a gap; of a meter that is read for
    nothing that it keeps, `instantaneous` always is.
    """

    instantaneous: Annotated[int, Field(ge=1, le=86400)] = 900
    block_load: Annotated[int, Field(ge=1, le=86400)] = 1800
    daily: Annotated[int, Field(ge=1, le=604800)] = 21600
    billing: Annotated[int, Field(ge=1, le=2678400)] = 86400
    prepayment: Annotated[int, Field(ge=1, le=86400)] = 900
    events: Annotated[int, Field(ge=1, le=86400)] = 1800
    nameplate: Annotated[int, Field(ge=1, le=2678400)] = 604800
    spread: Annotated[int, Field(ge=0, le=86400)] = 1200
    backfill_days: Annotated[int, Field(ge=0, le=400)] = 35
    gapless: tuple[Literal["instantaneous", "prepayment"], ...] = ()


class AdmissionSection(Section):
    """How many sessions with meters on IP go on at once, and how many begin in a second.

    A bus carries one conversation at a time and is not counted. Of `sessions` and of `per_segment`, a quarter may be
    with meters that did not answer the last time.
    """

    sessions: Annotated[int, Field(ge=1, le=10_000)] = 64
    per_segment: Annotated[int, Field(ge=1, le=10_000)] = 24
    per_host: Annotated[int, Field(ge=1, le=10_000)] = 8
    sessions_per_second: Annotated[float, Field(gt=0, le=10_000)] = 20.0


def _postgresql_url(text: str) -> str:
    """Return a URL of a PostgreSQL without a password, which would stand in the file; ValueError otherwise."""
    scheme, _, rest = text.partition("://")
    user, at, place = rest.partition("@")
    if scheme != "postgresql" or not at or not user or "/" not in place:
        raise ValueError("write postgresql://USER@HOST/NAME")
    if ":" in user:
        raise ValueError("the password is no part of the URL: name the secret by `database_password_ref`")
    return text


class CentralSection(Section):
    """Where central keeps its stores: in files in the data folder, or in a PostgreSQL 15.

    `database` is its URL, `postgresql://USER@HOST/NAME`, the password by `database_password_ref`. Directory and ledger
    lie there in schemas of their own names. Install `meter-gateway[postgresql]` for it (docs/operator.md).
    """

    database: Annotated[str, AfterValidator(_postgresql_url)] | None = None
    database_password_ref: Name | None = None


class DirectorySection(Section):
    """Signing of the directory: central signs, edges verify. References name key files.

    Any of the keys of `verify_key_ref` and `verify_key_refs` may have signed: with the next key beside the present one,
    central's key is changed without a gap (docs/operator.md).

    A change set of more than `approve_above` changes, asked for over the API or by another system, waits for a second
    person (docs/api.md); so does a command's that touches more meters or accounts (docs/directory.md).
    """

    signing_key_ref: Name | None = None
    verify_key_ref: Name | None = None
    verify_key_refs: Annotated[tuple[Name, ...], Field(max_length=4)] = ()
    approve_above: Annotated[int, Field(ge=0, le=1_000_000)] = 100

    def verify_refs(self) -> tuple[str, ...]:
        """Return the keys of which any may have signed."""
        one = () if self.verify_key_ref is None else (self.verify_key_ref,)
        return tuple(dict.fromkeys((*one, *self.verify_key_refs)))


class MetricsSection(Section):
    """Prometheus metrics over HTTP; on loopback unless told otherwise."""

    host: str = "127.0.0.1"
    port: Port = 9464


class SimulationSection(Section):
    """Simulated time, for demonstrations only: it starts in the past and never passes the present."""

    start: datetime
    anchor: datetime
    speed: Annotated[float, Field(ge=1, le=100_000)] = 1.0

    @field_validator("start", "anchor")
    @classmethod
    def _zone(cls, at: datetime) -> datetime:
        if at.utcoffset() is None:
            raise ValueError("needs an offset, for example 2026-11-23T10:00:00+05:30")
        return at


class TimeSection(Section):
    """How this machine's clock is known to be right.

    With `trust = "evidence"` it is believed only while `sources` say so: the `kernel` (`adjtimex`, which any NTP
    program sets), `timesync` (systemd-timesyncd), `chrony`, `central` (its signed time, where it runs on another
    machine), and `meters` (the clocks of `quorum` meters at least, more than two thirds of all read). The first
    three are one voice. `max_error` is by how many seconds the clock may be off. `trust = "host"` declares that
    the clock is right and asks nobody: for a demonstration, or where something else keeps it right.
    """

    trust: Literal["evidence", "host"] = "evidence"
    sources: Annotated[
        tuple[Literal["kernel", "timesync", "chrony", "central", "meters"], ...], Field(min_length=1)
    ] = ("kernel", "timesync", "chrony", "central", "meters")
    quorum: Annotated[int, Field(ge=3, le=1000)] = 5
    max_error: Annotated[float, Field(ge=1, le=60)] = 30.0


class ActsSection(Section):
    """What commands may change in meters.

    `set` lists the attributes that the command `set` may write, `action` the methods that `action` may run, each as
    `CLASS/OBIS/NUMBER`, for example "1/1-0:0.8.0*255/2"; by default none. With `image_key_ref`, an Ed25519 public key,
    firmware images must be signed with its private key.
    """

    set: Annotated[tuple[ActTarget, ...], Field(max_length=256)] = ()
    action: Annotated[tuple[ActTarget, ...], Field(max_length=256)] = ()
    image_key_ref: Name | None = None


class Config(Section):
    """The whole file."""

    gateway: GatewaySection
    lines: tuple[LineSection, ...] = ()
    meters: tuple[MeterSection, ...] = ()
    push: PushSection | None = None
    mqtt: MqttSection = MqttSection()
    influx: InfluxSection | None = None
    journal: JournalSection = JournalSection()
    schedule: ScheduleSection = ScheduleSection()
    admission: AdmissionSection = AdmissionSection()
    field: FieldSection = FieldSection()
    central: CentralSection = CentralSection()
    directory: DirectorySection = DirectorySection()
    keys: KeysSection = KeysSection()
    modbus: ModelsSection = ModelsSection()
    web: WebSection = WebSection()
    slips: SlipsSection = SlipsSection()
    sms: SmsSection = SmsSection()
    privacy: PrivacySection = PrivacySection()
    metrics: MetricsSection | None = None
    simulation: SimulationSection | None = None
    time: TimeSection = TimeSection()
    clocks: ClocksSection | None = None
    acts: ActsSection = ActsSection()

    @property
    def secrets(self) -> Path:
        """Folder of the secret files."""
        return self.gateway.secrets or self.gateway.data / "keys"

    @property
    def edge_folder(self) -> Path:
        """Folder of the edge's journal, counters and part of the directory."""
        return self.gateway.data / "edge"

    @property
    def field_socket(self) -> Path:
        """Where the running edge serves commands."""
        return self.field.socket or self.edge_folder / "field.sock"

    @cached_property
    def shared_keys(self) -> frozenset[str]:
        """The encryption keys that several meters have."""
        refs = Counter(m.dlms.encryption_key_ref for m in self.meters if m.dlms is not None)
        return frozenset(ref for ref, meters in refs.items() if ref is not None and meters > 1)

    def spec(self, meter: MeterSection, client: str) -> MeterSpec:
        """Return the driver's view of a meter for the client named `client`.

        Where meters share a key each is met under a title, and so with counters, of its own: one of them that
        shows a false counter then spoils its own only.
        """
        shared = meter.dlms is not None and meter.dlms.encryption_key_ref in self.shared_keys
        line = next((line for line in self.lines if line.name == meter.line), None)
        return meter.spec(
            f"{client}/{meter.meter}" if shared else client,
            framing=usual_framing("" if line is None else line.kind),
            models=self.modbus.models,
            trusted=line is not None and line.trusted,
        )

    def clock(self) -> Clock:
        """Return the machine's clock with the evidence for it, or simulated time where [simulation] says so."""
        section = self.simulation
        if section is not None:
            return SimulatedClock(start=section.start, anchor=section.anchor, speed=section.speed)
        if self.time.trust == "host":
            return SystemClock()
        settings = EvidenceSettings(
            sources=frozenset(self.time.sources), max_error=self.time.max_error, quorum=self.time.quorum
        )
        folder = self.edge_folder if "edge" in self.gateway.roles else self.gateway.data
        return EvidenceClock(settings, path=folder / CLOCK_FILE)


def _echo(error: Any) -> bool:
    """Return whether a list is called too short only because the mistakes in it were not counted."""
    return bool(error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"])


def load(path: Path) -> Config:
    """Return the configuration in a file; ConfigMistakes lists every mistake with file, line and field.

    Example: `load(Path("/etc/meter-gateway/north.toml")).gateway.name`
    """
    source = Source(path)
    try:
        source.text = path.read_text(encoding="utf-8")
        document = tomllib.loads(source.text)
    except FileNotFoundError as error:
        raise ConfigMistakes([source.mistake((), "there is no such file")]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigMistakes([source.mistake((), f"cannot be read: {error}")]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigMistakes([source.mistake((), f"not TOML: {error}")]) from error
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise ConfigMistakes(
            [source.explain_in(one, Config) for one in error.errors() if not _echo(one)]
        ) from error
    # What concerns two sections is looked at when each is right by itself: else one mistake shows as many.
    findings: list[tuple[Any, ...]] = [*check_meters(config.lines, config.meters, config.push)]
    keep_models = forget_models()
    findings += check_modbus(config.lines, config.meters, config.modbus.models)
    findings += check_web(config.web, config.gateway.roles)
    findings += check_sms(config.sms, public=config.web.public_url is not None)
    if config.clocks is not None and config.time.trust == "host" and config.simulation is None:
        findings.append((("clocks",), UNPROVEN))
    if config.gateway.replacement and not config.directory.verify_refs():
        findings.append((("gateway", "replacement"), UNHEARD))
    if findings:
        keep_models()
        raise ConfigMistakes([source.mistake(*finding) for finding in findings])
    return config
