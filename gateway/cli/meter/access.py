"""Which meter a command means, by name or by address, and how it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.cli.meter.address import AddressOptions
from gateway.cli.meter.lines import is_address, line_at, with_trace
from gateway.cli.options import nearest
from gateway.config import file as configuration
from gateway.config.meters import LineSection
from gateway.edge.keys.ring import KeyRing
from gateway.errors import UsageError
from gateway.roles.key_ring import key_ring
from gateway.roles.lines import make_line, settings_of
from gateway.timekeeping.clock import EvidenceClock
from protocols.errors import SecretMissing
from protocols.meters.address import dlms_settings, modbus_settings
from protocols.meters.counters import CountersOnDemand
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

_REFERENCES = ("password_ref", "encryption_key_ref", "authentication_key_ref")
"""Options that name secrets in the folder of --secrets."""


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
    clock = config.clock()
    return MeterAccess(
        line=with_trace(line, options.trace, plain=options.trace_plain),
        spec=config.spec(found, f"{config.gateway.name}/cli"),
        secrets=key_ring(config, clock),
        counters=config.gateway.data / "counters-cli.json",
        clock=clock,
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
    return MeterAccess(
        line=with_trace(line, options.trace, plain=options.trace_plain),
        spec=spec,
        secrets=keys or FileSecrets(options.secrets),
        counters=keys.counters if keys else options.secrets / "counters-cli.json",
        clock=EvidenceClock(),
    )


def _modbus(line: LineSection, options: AddressOptions) -> ModbusSettings:
    if options.model is None:
        raise UsageError("a Modbus meter needs --model, for example --model abb-b23")
    return modbus_settings(settings_of(line), _given(options, "unit", "model", "timeout"))


def _dlms(line: LineSection, options: AddressOptions, keys: KeyFile | None) -> DlmsSettings:
    """Return what the options say, and for the rest what line, keys and IS 15959 suggest."""
    given = _given(options, "client", "server", "physical", "ciphered", "timeout", *_REFERENCES)
    if keys is not None and not given.keys().isdisjoint(_REFERENCES):
        raise UsageError("give either --key-file or the names of secrets (--…-ref), not both")
    given["companion"] = _one_of("--companion", options.companion, COMPANIONS)
    if options.auth is not None:
        given["auth"] = Auth(_one_of("--auth", options.auth, tuple(Auth)))
    if options.framing is not None:
        given["framing"] = _one_of("--framing", options.framing, ("wrapper", "hdlc"))
    try:
        return dlms_settings(settings_of(line), given, keys, program="cli")
    except SecretMissing as error:
        raise UsageError(f"--{error}".replace("a key file", "a file for --key-file")) from error


def _given(options: AddressOptions, *names: str) -> dict[str, Any]:
    """Return the options of these names that were given."""
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _one_of(option: str, given: str, allowed: tuple[str, ...]) -> str:
    if given not in allowed:
        raise UsageError(f"{option}: `{given}` is not one of {', '.join(allowed)}." + nearest(given, allowed))
    return given


@asynccontextmanager
async def open_meter(access: MeterAccess) -> AsyncIterator[MeterSession]:
    """Open a session on a line of its own; both are closed afterwards."""
    line = make_line(access.line)
    counters = CountersOnDemand(access.counters)
    context = SessionContext(secrets=access.secrets, counters=counters, clock=access.clock)
    try:
        async with open_session(line, access.spec, context) as session:
            yield session
    finally:
        await line.close()
        counters.close()
        if isinstance(access.secrets, KeyRing):
            access.secrets.close()
