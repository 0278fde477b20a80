"""Which meter a command means: by name in the configuration, or by address with options."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.cli.common import nearest
from gateway.clock import SystemClock
from gateway.config import Config, LineSection, system_title
from gateway.edge.counters import FileCounters
from gateway.errors import UsageError
from gateway.lines import make_line
from gateway.secrets import FileSecrets
from protocols.line import Line
from protocols.open import open_session
from protocols.session import Auth, Clock, DlmsSettings, MeterSession, MeterSpec, ModbusSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One meter to talk to from the command line."""

    line: LineSection
    spec: MeterSpec
    secrets: Path
    counters: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressOptions:
    """What an address needs beside host and port."""

    client: int = 16
    auth: str = "none"
    ciphered: bool = False
    password_ref: str | None = None
    encryption_key_ref: str | None = None
    authentication_key_ref: str | None = None
    unit: int | None = None
    model: str | None = None
    physical: int | None = None
    secrets: Path = Path("keys")


def by_name(config: Config, meter: str) -> Target:
    """Find a meter of the configuration; UsageError names the nearest one."""
    found = next((m for m in config.meters if m.meter == meter), None)
    if found is None:
        raise UsageError(
            f"there is no meter `{meter}` in the configuration."
            + nearest(meter, (m.meter for m in config.meters))
        )
    line = next(item for item in config.lines if item.name == found.line)
    return Target(
        line=line,
        spec=found.spec(f"{config.gateway.name}/cli"),
        secrets=config.secrets,
        counters=config.gateway.data / "counters-cli.json",
    )


def by_address(address: str, options: AddressOptions) -> Target:
    """Read an address as `line_at` does; `--unit` means Modbus."""
    line = line_at(address)
    if options.unit is not None:
        if options.model is None:
            raise UsageError("a Modbus meter needs --model, for example --model abb-b23")
        framing = "tcp" if line.kind == "tcp" else "rtu"
        spec = MeterSpec(
            meter=None, modbus=ModbusSettings(unit=options.unit, model=options.model, framing=framing)
        )
    else:
        try:
            auth = Auth(options.auth)
        except ValueError as error:
            raise UsageError(
                f"--auth: `{options.auth}` is not one of {', '.join(Auth)}." + nearest(options.auth, Auth)
            ) from error
        spec = MeterSpec(
            meter=None,
            dlms=DlmsSettings(
                client=options.client,
                system_title=system_title("address/cli"),
                physical=options.physical,
                framing=_framing(line, options),
                auth=auth,
                ciphered=options.ciphered,
                password_ref=options.password_ref,
                encryption_key_ref=options.encryption_key_ref,
                authentication_key_ref=options.authentication_key_ref,
            ),
        )
    return Target(
        line=line, spec=spec, secrets=options.secrets, counters=options.secrets / "counters-cli.json"
    )


def _framing(line: LineSection, options: AddressOptions) -> str:
    if line.kind == "udp":
        return "wrapper-udp"
    return "hdlc" if options.physical is not None or line.kind == "serial" else "wrapper"


def line_at(address: str) -> LineSection:
    """Read the address of a line; UsageError says what is allowed."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"`{address}`: {error}") from error
    if parts.scheme in ("tcp", "rtu+tcp") and parts.hostname:
        kind = "tcp" if parts.scheme == "tcp" else "rtu-over-tcp"
        default = 4059 if kind == "tcp" else 502
        return LineSection.model_validate(
            {"name": "address", "kind": kind, "host": parts.hostname, "port": port or default}
        )
    if parts.scheme == "udp" and parts.hostname:
        return LineSection.model_validate(
            {"name": "address", "kind": "udp", "host": parts.hostname, "port": port or 4059}
        )
    if parts.scheme in ("serial", "optical") and parts.path:
        mode_e = parts.scheme == "optical"
        return LineSection.model_validate(
            {"name": "address", "kind": "serial", "device": parts.path, "mode_e": mode_e}
        )
    raise UsageError(
        f"`{address}` is neither a meter of the configuration (give --config) nor an address: "
        "write tcp://host:port, udp://host:port, rtu+tcp://host:port, serial:///dev/ttyUSB0 or "
        "optical:///dev/ttyUSB0 (mode E)"
    )


def is_address(text: str) -> bool:
    """Say whether the text is meant as an address."""
    return "://" in text


@asynccontextmanager
async def opened(target: Target, clock: Clock | None = None) -> AsyncIterator[tuple[MeterSession, Line]]:
    """Open a session on a line of its own; both are closed afterwards."""
    line = make_line(target.line)
    counters = FileCounters(target.counters)
    try:
        async with open_session(
            line,
            target.spec,
            secrets=FileSecrets(target.secrets),
            counters=counters,
            clock=clock or SystemClock(),
        ) as session:
            yield session, line
    finally:
        await line.close()
        counters.close()
