"""Which meter a command means: by name in the configuration, or by address with options."""

from __future__ import annotations

import getpass
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from gateway.cli.address import AddressOptions
from gateway.cli.common import load_config, nearest
from gateway.config.file import Config
from gateway.config.meters import LineSection, system_title
from gateway.errors import UsageError
from gateway.roles.app import clock_of
from gateway.roles.lines import make_line
from gateway.roles.trace_log import new_trace
from protocols.clock import SystemClock
from protocols.dlms.companion import companion
from protocols.line import Line
from protocols.meters.counters import FileCounters
from protocols.meters.key_file import KeyFile
from protocols.meters.open import open_session
from protocols.meters.secrets import FileSecrets
from protocols.session import (
    COMPANIONS,
    Auth,
    Clock,
    DlmsSettings,
    MeterSession,
    MeterSpec,
    ModbusSettings,
    SecretSource,
    SessionContext,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One meter to talk to from the command line."""

    line: LineSection
    spec: MeterSpec
    secrets: SecretSource
    counters: Path
    clock: Clock


def find(meter: str, options: AddressOptions) -> Target:
    """Return the meter of the configuration with this name, or the one at this address."""
    if is_address(meter):
        return by_address(meter, options)
    if options.config is None:
        raise UsageError(f"`{meter}` is a meter's name: give the configuration with --config")
    return by_name(load_config(options.config), meter, options)


def by_name(config: Config, meter: str, options: AddressOptions) -> Target:
    """Find a meter of the configuration; UsageError names the nearest one."""
    found = next((m for m in config.meters if m.meter == meter), None)
    if found is None:
        raise UsageError(
            f"there is no meter `{meter}` in the configuration."
            + nearest(meter, (m.meter for m in config.meters))
        )
    line = next(item for item in config.lines if item.name == found.line)
    return Target(
        line=traced(line, options.trace, plain=options.trace_plain),
        spec=found.spec(f"{config.gateway.name}/cli"),
        secrets=FileSecrets(config.secrets),
        counters=config.gateway.data / "counters-cli.json",
        clock=clock_of(config),
    )


def by_address(address: str, options: AddressOptions) -> Target:
    """Read an address as `line_at` does; `--unit` means Modbus."""
    line = line_at(address)
    zone = options.zone or "Asia/Kolkata"
    if options.unit is not None:
        spec = MeterSpec(meter=None, zone=zone, modbus=_modbus(line, options))
        keys = None
    else:
        keys = KeyFile(options.key_file) if options.key_file else None
        spec = MeterSpec(meter=None, zone=zone, dlms=_dlms(line, options, keys))
    file = options.key_file
    return Target(
        line=traced(line, options.trace, plain=options.trace_plain),
        spec=spec,
        secrets=keys or FileSecrets(options.secrets),
        counters=file.with_suffix(".counters.json") if file else options.secrets / "counters-cli.json",
        clock=SystemClock(),
    )


def _modbus(line: LineSection, options: AddressOptions) -> ModbusSettings:
    if options.model is None:
        raise UsageError("a Modbus meter needs --model, for example --model abb-b23")
    assert options.unit is not None
    framing = "tcp" if line.kind == "tcp" else "rtu"
    settings = ModbusSettings(unit=options.unit, model=options.model, framing=framing)
    return settings if options.timeout is None else replace(settings, timeout=options.timeout)


def _dlms(line: LineSection, options: AddressOptions, keys: KeyFile | None) -> DlmsSettings:
    auth = _auth(options)
    encryption, authentication = options.encryption_key_ref, options.authentication_key_ref
    password = options.password_ref
    if keys is not None:
        if password or encryption or authentication:
            raise UsageError("give either --key-file or the names of secrets (--…-ref), not both")
        password = keys.password_name(auth)
        if keys.has_keys:
            encryption, authentication = "encryption_key", "authentication_key"
    if auth.needs_secret and password is None:
        what = "password" if auth is Auth.LLS else "hls_key"
        raise UsageError(f"--auth {auth} needs {what}: put it into a file for --key-file")
    both = encryption is not None and authentication is not None
    ciphered = (both and auth is not Auth.NONE) if options.ciphered is None else options.ciphered
    if (ciphered or auth is Auth.HLS_GMAC) and not both:
        why = f"--auth {auth}" if auth is Auth.HLS_GMAC else "--ciphered"
        raise UsageError(
            f"{why} needs encryption_key and authentication_key: put them into a file for --key-file"
        )
    return DlmsSettings(
        client=options.client,
        server=options.server,
        system_title=system_title(f"{socket.gethostname()}/{getpass.getuser()}/cli"),
        physical=options.physical,
        framing=_framing(line, options),
        auth=auth,
        ciphered=ciphered,
        password_ref=password,
        encryption_key_ref=encryption,
        authentication_key_ref=authentication,
        companion=_one_of("--companion", options.companion, COMPANIONS),
        timeout=options.timeout or DlmsSettings().timeout,
    )


def _auth(options: AddressOptions) -> Auth:
    if options.auth is None:
        known = companion().associations.get(options.client)
        return known.auth if known else Auth.NONE
    try:
        return Auth(options.auth)
    except ValueError as error:
        raise UsageError(
            f"--auth: `{options.auth}` is not one of {', '.join(Auth)}." + nearest(options.auth, Auth)
        ) from error


def _framing(line: LineSection, options: AddressOptions) -> str:
    if line.kind == "udp":
        return "wrapper-udp"
    if options.framing is None:
        return "hdlc" if options.physical is not None or line.kind == "serial" else "wrapper"
    return _one_of("--framing", options.framing, ("wrapper", "hdlc"))


def _one_of(option: str, given: str, allowed: tuple[str, ...]) -> str:
    if given not in allowed:
        raise UsageError(f"{option}: `{given}` is not one of {', '.join(allowed)}." + nearest(given, allowed))
    return given


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


def traced(line: LineSection, trace: Path | None, *, plain: bool = False) -> LineSection:
    """Return the line with a trace, which begins anew; without one it stays as the configuration has it."""
    if trace is None:
        return line
    new_trace(trace)
    return line.model_copy(update={"trace": trace, "trace_plain": plain})


def traced_config(config: Config, trace: Path | None) -> Config:
    """Return the configuration with a trace, which begins anew, on all its lines."""
    if trace is None:
        return config
    new_trace(trace)
    return config.model_copy(
        update={"lines": tuple(line.model_copy(update={"trace": trace}) for line in config.lines)}
    )


class _Counters:
    """`CounterStore` whose file is opened at the first counter: plain reading needs none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store: FileCounters | None = None

    def next(self, key: str, at_least: int = 0) -> int:
        """Return a counter greater than any given for `key` before and >= `at_least`."""
        if self._store is None:
            self._store = FileCounters(self._path)
        return self._store.next(key, at_least)

    def close(self) -> None:
        """Let go of the file."""
        if self._store is not None:
            self._store.close()


@asynccontextmanager
async def opened(target: Target) -> AsyncIterator[tuple[MeterSession, Line]]:
    """Open a session on a line of its own; both are closed afterwards."""
    line = make_line(target.line)
    counters = _Counters(target.counters)
    context = SessionContext(secrets=target.secrets, counters=counters, clock=target.clock)
    try:
        async with open_session(line, target.spec, context) as session:
            yield session, line
    finally:
        await line.close()
        counters.close()
