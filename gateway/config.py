"""The one TOML file: its shape, its limits, and mistakes explained in place."""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from gateway.config_locate import locate
from gateway.config_push import MeterPushSection, PushSection
from gateway.config_types import MeterText, Name, Port, Section
from gateway.errors import ConfigError
from protocols.reading import Obis, ProfileName
from protocols.session import Auth, DlmsSettings, MeterSpec, ModbusSettings, Protection, ReleaseMode


def system_title(client: str) -> bytes:
    """Give a client's own system title: `MGW` and five octets of its name's hash.

    Two clients with one key must differ in it, since nonce = system title + counter (Green Book, suite 0).
    """
    return b"MGW" + hashlib.sha256(client.encode()).digest()[:5]


class GatewaySection(Section):
    """Who this gateway is and where it keeps its data."""

    name: Name
    data: Path
    roles: tuple[Literal["edge", "central", "portal"], ...] = ("edge",)
    secrets: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class LineSection(Section):
    """One communication path.

    `mode_e` opens an optical probe with the IEC 62056-21 hand-shake, `baud` being the fastest speed wanted; leave
    it out for meters that speak HDLC at once. With `kind = "dial-in"` the meter opens the TCP connection to the
    [push] port; `address`, its own IP address, makes it known at once (else by its first push, or by being asked).
    `trace` is a file into which every frame is written with its time; passwords in it are masked unless
    `trace_plain`.
    """

    name: Name
    kind: Literal["tcp", "udp", "serial", "rtu-over-tcp", "dial-in"]
    host: str | None = None
    port: Port | None = None
    address: str | None = None
    device: str | None = None
    baud: Annotated[int, Field(ge=300, le=921600)] = 9600
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1
    mode_e: bool = False
    mode_e_address: Annotated[str, Field(pattern=r"^[0-9A-Za-z ]{0,32}$")] = ""
    trace: Path | None = None
    trace_plain: bool = False

    @model_validator(mode="after")
    def _address(self) -> LineSection:
        if self.mode_e and self.kind != "serial":
            raise ValueError("`mode_e` is the opening of an optical probe: a serial line")
        if self.kind == "serial" and self.device is None:
            raise ValueError('a serial line needs `device`, for example device = "/dev/ttyUSB0"')
        if self.kind == "dial-in":
            if self.trace is not None:
                raise ValueError("a dial-in line is not traced: take `trace` out")
            if self.address is not None:
                ip_address(self.address)
            return self
        if self.kind != "serial" and (self.host is None or self.port is None):
            raise ValueError(f"a {self.kind} line needs `host` and `port`")
        return self


class DlmsSection(Section):
    """How to associate with a DLMS meter; secrets by reference only.

    `ciphered` asks for suite 0 ciphering as `protection` says. `dedicated_key` sends a fresh key for each
    association, `general` uses general-glo-ciphering, `accept_plain` lets plain answers through where
    ciphering was agreed (a downgrade: only for models known to need it). `max_list` attributes go into one
    request; `release` ends it plainly, with a ciphered
    Initiate inside, or not at all; `counter_object` is where the public client reads the
    invocation counter (empty: nowhere); `keep_open` keeps an idle association for the next poll, in seconds.
    """

    client: Annotated[int, Field(ge=1, le=127)] = 16
    server: Annotated[int, Field(ge=1, le=16383)] = 1
    physical: Annotated[int, Field(ge=0, le=16383)] | None = None
    framing: Literal["wrapper", "wrapper-udp", "hdlc"] = "wrapper"
    auth: Auth = Auth.NONE
    ciphered: bool = False
    protection: Protection = Protection.AUTHENTICATED_ENCRYPTED
    dedicated_key: bool = False
    general: bool = False
    accept_plain: bool = False
    password_ref: Name | None = None
    encryption_key_ref: Name | None = None
    authentication_key_ref: Name | None = None
    system_title: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{16}$")] | None = None
    timeout: Annotated[float, Field(gt=0, le=120)] = 5.0
    max_pdu: Annotated[int, Field(ge=64, le=65535)] = 65535
    max_info: Annotated[int, Field(ge=16, le=2030)] = 128
    window: Annotated[int, Field(ge=1, le=7)] = 1
    address_octets: Literal[0, 1, 2, 4] = 0
    max_list: Annotated[int, Field(ge=1, le=32)] = 1
    release: ReleaseMode = ReleaseMode.PLAIN
    counter_object: str | None = None
    hls_object: str = "0-0:40.0.0*255"
    companion: Literal["is15959", "generic"] = "is15959"
    keep_open: Annotated[float, Field(ge=0, le=3600)] = 0.0

    @model_validator(mode="after")
    def _secrets(self) -> DlmsSection:
        if self.auth.needs_secret and self.password_ref is None:
            raise ValueError(
                f'auth = "{self.auth}" needs `password_ref`, the name of a file in the secrets folder'
            )
        if (self.ciphered or self.auth is Auth.HLS_GMAC) and None in (
            self.encryption_key_ref,
            self.authentication_key_ref,
        ):
            raise ValueError("ciphering needs `encryption_key_ref` and `authentication_key_ref`")
        return self

    @field_validator("release", mode="before")
    @classmethod
    def _release(cls, given: object) -> object:
        """Read the yes and no of earlier files too."""
        if isinstance(given, bool):
            return ReleaseMode.PLAIN if given else ReleaseMode.NONE
        return given

    @field_validator("counter_object", "hls_object")
    @classmethod
    def _obis(cls, text: str | None) -> str | None:
        if text:
            Obis.parse(text)
        return text


class ModbusSection(Section):
    """How to ask a Modbus meter."""

    unit: Annotated[int, Field(ge=1, le=247)]
    model: Name
    framing: Literal["tcp", "rtu"] = "tcp"
    timeout: Annotated[float, Field(gt=0, le=60)] = 1.0
    worst_latency: Annotated[float, Field(ge=0, le=60)] = 0.5


class MeterSection(Section):
    """One meter: which line, which profiles, one of `dlms` or `modbus`."""

    meter: MeterText
    line: Name
    profiles: tuple[ProfileName, ...] = (ProfileName.INSTANTANEOUS,)
    zone: str = "Asia/Kolkata"
    dlms: DlmsSection | None = None
    modbus: ModbusSection | None = None
    push: MeterPushSection | None = None

    @model_validator(mode="after")
    def _protocol(self) -> MeterSection:
        if self.push is not None and self.dlms is None:
            raise ValueError("only DLMS meters push: [meters.push] needs [meters.dlms]")
        if (
            self.push is not None
            and self.dlms is not None
            and self.push.protection != "plain"
            and None in (self.dlms.encryption_key_ref, self.dlms.authentication_key_ref)
        ):
            raise ValueError(
                "ciphered pushes need `encryption_key_ref` and `authentication_key_ref` in [meters.dlms]"
            )
        if (self.dlms is None) == (self.modbus is None):
            raise ValueError("a meter has exactly one of [meters.dlms] and [meters.modbus]")
        return self

    def spec(self, client: str) -> MeterSpec:
        """Give the driver's view of this meter for the client named `client` (the gateway's name)."""
        dlms = modbus = None
        if self.dlms is not None:
            fields = self.dlms.model_dump(exclude={"system_title"})
            given = self.dlms.system_title
            title = bytes.fromhex(given) if given is not None else system_title(client)
            dlms = DlmsSettings(**fields, system_title=title)
        if self.modbus is not None:
            modbus = ModbusSettings(**self.modbus.model_dump())
        return MeterSpec(meter=self.meter, zone=self.zone, dlms=dlms, modbus=modbus)


class MqttSection(Section):
    """The broker. Use TLS and a password or a client certificate off this machine."""

    host: str = "127.0.0.1"
    port: Port = 1883
    root: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")] = "kesco"
    username: str | None = None
    password_ref: Name | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    version: Literal["auto", "5", "3.1.1"] = "auto"
    window: Annotated[int, Field(ge=1, le=1000)] = 20
    batch_count: Annotated[int, Field(ge=1, le=5000)] = 200
    batch_bytes: Annotated[int, Field(ge=1024, le=4_194_304)] = 131_072


class InfluxSection(Section):
    """A v2 write endpoint; `server` says how points are read back and retired when they change account."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    org: str = "kesco"
    bucket: str = "meters"
    token_ref: Name | None = None
    server: Literal["influxdb2", "influxdb1", "victoriametrics"] = "influxdb2"


class JournalSection(Section):
    """Bounds of the edge's journal and what happens at the bound.

    With `billing_acks` entries are kept until every one of `ack_consumers` has stored them (central's name
    is `central`); what others acknowledge, such as `listen --ack`, releases nothing.
    """

    max_bytes: Annotated[int, Field(ge=1_048_576)] = 2_147_483_648
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 45
    policy: Literal["stop_reading", "drop_oldest_acknowledged"] = "stop_reading"
    billing_acks: bool = True
    ack_consumers: Annotated[tuple[Name, ...], Field(min_length=1, max_length=16)] = ("central",)


class ScheduleSection(Section):
    """How often each profile is read, in seconds of meter time, and how far back the first read goes."""

    instantaneous: Annotated[int, Field(ge=1, le=86400)] = 900
    block_load: Annotated[int, Field(ge=1, le=86400)] = 1800
    daily: Annotated[int, Field(ge=1, le=604800)] = 21600
    billing: Annotated[int, Field(ge=1, le=2678400)] = 86400
    prepayment: Annotated[int, Field(ge=1, le=86400)] = 900
    events: Annotated[int, Field(ge=1, le=86400)] = 1800
    nameplate: Annotated[int, Field(ge=1, le=2678400)] = 604800
    backfill_days: Annotated[int, Field(ge=0, le=400)] = 35


class DirectorySection(Section):
    """Signing of the directory: central signs, edges verify. References name key files."""

    signing_key_ref: Name | None = None
    verify_key_ref: Name | None = None


class WebSection(Section):
    """The pages; on loopback unless told otherwise.

    `codes` says where one-time codes go: `console` shows them in the log of this machine (demonstrations
    only); with `none` nobody can log in until an SMS adapter is there.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    operator_token_ref: Name | None = None
    session_secret_ref: Name | None = None
    codes: Literal["none", "console"] = "none"


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
    directory: DirectorySection = DirectorySection()
    web: WebSection = WebSection()
    metrics: MetricsSection | None = None
    simulation: SimulationSection | None = None

    @property
    def secrets(self) -> Path:
        """Folder of the secret files."""
        return self.gateway.secrets or self.gateway.data / "keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One mistake: where it stands, what is wrong, what is allowed, the nearest valid name."""

    file: str
    line: int | None
    field: str
    problem: str
    nearest: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        hint = f" Did you mean `{self.nearest}`?" if self.nearest else ""
        return f"{place}: {self.field}: {self.problem}{hint}"


class ConfigMistakes(ConfigError):
    """A configuration file with mistakes; `mistakes` lists every one of them."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(str(m) for m in mistakes))
        self.mistakes = mistakes


def load(path: Path) -> Config:
    """Read and validate a file; ConfigMistakes lists every mistake with file, line and field."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigMistakes([_whole(path, "there is no such file")]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigMistakes([_whole(path, f"cannot be read: {error}")]) from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigMistakes([_whole(path, f"not TOML: {error}")]) from error
    mistakes: list[Mistake] = []
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        mistakes = [_mistake(path, text, e) for e in error.errors()]
        raise ConfigMistakes(mistakes) from error
    mistakes = list(_cross_checks(path, text, config))
    if mistakes:
        raise ConfigMistakes(mistakes)
    return config


def _whole(path: Path, problem: str) -> Mistake:
    return Mistake(file=str(path), line=None, field="(file)", problem=problem)


def _mistake(path: Path, text: str, error: Any) -> Mistake:
    trail = tuple(p for p in error["loc"])
    nearest = None
    problem = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        allowed = _fields_at(trail[:-1])
        close = difflib.get_close_matches(str(trail[-1]), allowed, n=1)
        nearest = close[0] if close else None
        problem = "unknown key; allowed here: " + ", ".join(sorted(allowed))
    elif error["type"] in ("literal_error", "enum") and isinstance(error.get("input"), str):
        choices = [
            c.strip(" '")
            for c in str(error.get("ctx", {}).get("expected", "")).replace(" or ", ",").split(",")
        ]
        close = difflib.get_close_matches(error["input"], choices, n=1)
        nearest = close[0] if close else None
        problem = f"`{error['input']}` is not allowed; allowed: {', '.join(choices)}"
    elif error["type"] == "missing":
        problem = "required and not there"
    return Mistake(
        file=str(path), line=locate(text, trail), field=_dotted(trail), problem=problem, nearest=nearest
    )


def _dotted(trail: tuple[Any, ...]) -> str:
    text = ""
    for part in trail:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(file)"


def _fields_at(trail: tuple[Any, ...]) -> list[str]:
    model: Any = Config
    for part in trail:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def _unfit(line: LineSection, meter: MeterSection) -> str:
    """Say why a meter cannot be on a line; "" when it can."""
    framing = meter.dlms.framing if meter.dlms is not None else None
    if (line.kind == "udp") != (framing == "wrapper-udp"):
        return f'line `{line.name}` is {line.kind}: a udp line and `framing = "wrapper-udp"` go together'
    if line.mode_e and framing != "hdlc":
        return f'line `{line.name}` has `mode_e`, which needs a DLMS meter with `framing = "hdlc"`'
    return ""


def _cross_checks(path: Path, text: str, config: Config) -> list[Mistake]:
    found: list[Mistake] = []

    def add(trail: tuple[Any, ...], problem: str, nearest: str | None = None) -> None:
        found.append(
            Mistake(
                file=str(path),
                line=locate(text, trail),
                field=_dotted(trail),
                problem=problem,
                nearest=nearest,
            )
        )

    names: dict[str, int] = {}
    for i, line in enumerate(config.lines):
        if line.name in names:
            add(
                ("lines", i, "name"),
                f"line `{line.name}` is defined twice (first as lines[{names[line.name]}])",
            )
        names.setdefault(line.name, i)
    seen: dict[str, int] = {}
    for i, meter in enumerate(config.meters):
        if meter.line not in names:
            close = difflib.get_close_matches(meter.line, names, n=1)
            add(("meters", i, "line"), f"there is no line `{meter.line}`", close[0] if close else None)
        elif why := _unfit(config.lines[names[meter.line]], meter):
            add(("meters", i, "line"), why)
        if meter.meter in seen:
            add(
                ("meters", i, "meter"),
                f"meter `{meter.meter}` is listed twice (first as meters[{seen[meter.meter]}])",
            )
        seen.setdefault(meter.meter, i)
    for trail, problem in _push_checks(config):
        add(trail, problem)
    return found


def _push_checks(config: Config) -> Iterator[tuple[tuple[Any, ...], str]]:
    dial_in = {line.name for line in config.lines if line.kind == "dial-in"}
    for i, line in enumerate(config.lines):
        if line.kind == "dial-in" and config.push is None:
            yield ("lines", i, "kind"), "a line that the meter opens needs a [push] section to listen for it"
    for i, meter in enumerate(config.meters):
        if meter.push is not None and config.push is None:
            yield ("meters", i, "push"), "a meter that pushes needs a [push] section to listen for it"
        if meter.line not in dial_in or config.push is None:
            continue
        if meter.dlms is None:
            yield ("meters", i, "line"), "only DLMS meters dial in"
        elif meter.dlms.auth is Auth.LLS and not config.push.networks:
            yield (
                ("meters", i, "dlms", "auth"),
                "a password would go to anybody who dials in: name `networks` in [push], or use HLS",
            )
