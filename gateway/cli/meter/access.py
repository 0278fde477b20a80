"""Which meter a command means, by name or by address, and how it is opened."""

from __future__ import annotations

import getpass
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.cli.meter.address import AddressOptions
from gateway.cli.meter.lines import is_address, line_at, with_trace
from gateway.cli.options import nearest
from gateway.config import file as configuration
from gateway.config.meters import LineSection, system_title
from gateway.errors import UsageError
from gateway.roles.lines import make_line
from protocols.clock import SystemClock
from protocols.dlms.companion import companion
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
class MeterAccess:
    """All that opening one meter takes; `counters` is the file of its invocation counters."""

    line: LineSection
    spec: MeterSpec
    secrets: SecretSource
    counters: Path
    clock: Clock


def find_meter(meter: str, options: AddressOptions) -> MeterAccess:
    """Return how to open the meter at an address, or the one of the configuration with this name."""
    if is_address(meter):
        return _by_address(meter, options)
    if options.config is None:
        raise UsageError(f"`{meter}` is a meter's name: give the configuration with --config")
    return _by_name(configuration.load(options.config), meter, options)


def _by_name(config: configuration.Config, meter: str, options: AddressOptions) -> MeterAccess:
    found = next((m for m in config.meters if m.meter == meter), None)
    if found is None:
        raise UsageError(
            f"there is no meter `{meter}` in the configuration."
            + nearest(meter, (m.meter for m in config.meters))
        )
    line = next(item for item in config.lines if item.name == found.line)
    return MeterAccess(
        line=with_trace(line, options.trace, plain=options.trace_plain),
        spec=found.spec(f"{config.gateway.name}/cli"),
        secrets=FileSecrets(config.secrets),
        counters=config.gateway.data / "counters-cli.json",
        clock=config.clock(),
    )


def _by_address(address: str, options: AddressOptions) -> MeterAccess:
    """Return the DLMS meter at an address, or with --unit the Modbus meter there."""
    line = line_at(address)
    zone = options.zone or "Asia/Kolkata"
    if options.unit is not None:
        spec = MeterSpec(meter=None, zone=zone, modbus=_modbus(line, options))
        keys = None
    else:
        keys = KeyFile(options.key_file) if options.key_file else None
        spec = MeterSpec(meter=None, zone=zone, dlms=_dlms(line, options, keys))
    file = options.key_file
    return MeterAccess(
        line=with_trace(line, options.trace, plain=options.trace_plain),
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
    # Without --ciphered a client that has both keys ciphers, but never the public one: it has no association
    # for keys.
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
    """Return what --auth says, else what IS 15959 has this client do, else nothing."""
    if options.auth is None:
        known = companion().associations.get(options.client)
        return known.auth if known else Auth.NONE
    return Auth(_one_of("--auth", options.auth, tuple(Auth)))


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


class _LazyCounters:
    """`CounterStore` whose file is opened at the first counter: a meter read in the clear needs none."""

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
async def open_meter(access: MeterAccess) -> AsyncIterator[MeterSession]:
    """Open a session on a line of its own; both are closed afterwards."""
    line = make_line(access.line)
    counters = _LazyCounters(access.counters)
    context = SessionContext(secrets=access.secrets, counters=counters, clock=access.clock)
    try:
        async with open_session(line, access.spec, context) as session:
            yield session
    finally:
        await line.close()
        counters.close()
