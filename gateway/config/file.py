"""The one TOML file: its shape, its limits, and mistakes explained in place."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator

from gateway.config.locate import locate
from gateway.config.meters import LineSection, MeterSection
from gateway.config.push import PushSection
from gateway.config.types import Name, Port, Section
from gateway.errors import ConfigError
from protocols.clock import SimulatedClock, SystemClock
from protocols.session import Auth, Clock


class GatewaySection(Section):
    """Who this gateway is and where it keeps its data."""

    name: Name
    data: Path
    roles: tuple[Literal["edge", "central", "portal"], ...] = ("edge",)
    secrets: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"


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

    @property
    def edge_folder(self) -> Path:
        """Folder of the edge's journal, counters and part of the directory."""
        return self.gateway.data / "edge"

    def clock(self) -> Clock:
        """Return the machine's clock, or simulated time where [simulation] says so."""
        section = self.simulation
        if section is None:
            return SystemClock()
        return SimulatedClock(start=section.start, anchor=section.anchor, speed=section.speed)


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
