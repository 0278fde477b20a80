"""Which meter a command means, by name or by address, and how it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from gateway.cli.meter.address import MODBUS_MANNERS, NO_OPTION, AddressOptions
from gateway.cli.meter.lines import is_address, line_at, with_trace
from gateway.cli.options import nearest, purpose
from gateway.cli.output import print_problem
from gateway.config import file as configuration
from gateway.config.meters import LineSection
from gateway.edge.field.client import EdgeCounters
from gateway.edge.keys.ring import KeyRing
from gateway.errors import UsageError
from gateway.roles.beside_edge import client_beside_edge
from gateway.roles.key_ring import key_ring
from gateway.roles.lines import settings_of
from gateway.roles.reach import Way, as_configured, way_to
from gateway.timekeeping.clock import EvidenceClock
from protocols.dlms.companion import DEFAULT, Companion, companion
from protocols.errors import SecretMissing
from protocols.line import Line
from protocols.meters.address import dlms_settings, modbus_settings
from protocols.meters.counters import CountersOnDemand
from protocols.meters.key_file import KeyFile
from protocols.meters.open import open_session
from protocols.meters.secrets import FileSecrets
from protocols.meters.titles import TITLE_OCTETS, system_title
from protocols.modbus.framing.frames import FRAMINGS
from protocols.session import (
    DLMS_SETTINGS,
    Choices,
    Clock,
    DlmsSettings,
    MeterSession,
    MeterSpec,
    ModbusSettings,
    SecretSource,
    SessionContext,
)
from protocols.unused import unused_frames

LINE_OPTIONS = ("baud", "parity", "stop_bits", "data_bits", "rs485", "mode_e_address")
"""Options that say how a serial line is opened."""
_REFERENCES = tuple(name for name in DLMS_SETTINGS if name.endswith("_ref"))
"""Options that name secrets in the folder of --secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterAccess:
    """All that opening one meter takes; `counters` is the file of its invocation counters.

    Where `ask_edge` is set that file is the running edge's, which is asked for them at this socket.
    """

    way: Way
    spec: MeterSpec
    secrets: SecretSource
    counters: Path
    clock: Clock
    ask_edge: Path | None = None

    @property
    def companion(self) -> Companion:
        """The companion of a DLMS meter; of any other the default one."""
        return companion(DEFAULT if self.spec.dlms is None else self.spec.dlms.companion)


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
    if ignored := [name for name in DLMS_SETTINGS if name not in NO_OPTION and _differs(options, name)]:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in ignored)
        print_problem(f"{flags}: for an address only; {meter} is met as the configuration says")
    client = client_beside_edge(config, found, "cli")
    clock = config.clock()
    return MeterAccess(
        way=with_trace(client.way, options.trace, plain=options.trace_plain),
        spec=client.spec,
        secrets=key_ring(config, clock),
        counters=client.counters,
        clock=clock,
        ask_edge=client.ask_edge,
    )


def _by_address(address: str, options: AddressOptions) -> MeterAccess:
    """Return the DLMS meter at an address, or with --unit the Modbus meter there."""
    given = _given(options, *LINE_OPTIONS)
    line, models = line_at(address, given), None
    way = Way(section=line)
    if options.config is not None:
        loaded = configuration.load(options.config)
        line, models = as_configured(loaded, line, given), loaded.modbus.models
        way = way_to(loaded, line)
    zone = options.zone or "Asia/Kolkata"
    keys = KeyFile(options.key_file) if options.key_file and options.unit is None else None
    counters = keys.counters if keys else options.secrets / "counters-cli.json"
    if options.unit is not None:
        spec = MeterSpec(meter=options.identity, zone=zone, modbus=_modbus(line, options, models))
    else:
        spec = MeterSpec(meter=options.identity, zone=zone, dlms=_dlms(line, options, keys, counters))
    return MeterAccess(
        way=with_trace(way, options.trace, plain=options.trace_plain),
        spec=spec,
        secrets=keys or FileSecrets(options.secrets),
        counters=counters,
        clock=EvidenceClock(),
    )


def _modbus(line: LineSection, options: AddressOptions, models: Path | None) -> ModbusSettings:
    if options.model is None:
        raise UsageError("a Modbus meter needs --model, for example --model abb-b23")
    given = _given(options, "unit", "model", "timeout", "worst_latency", "framing", *MODBUS_MANNERS)
    if "framing" in given:
        given["framing"] = _one_of("--framing", given["framing"], FRAMINGS)
    if models is not None:
        given["models"] = models
    return replace(modbus_settings(settings_of(line), given), trusted=line.trusted)


def _dlms(line: LineSection, options: AddressOptions, keys: KeyFile | None, counters: Path) -> DlmsSettings:
    """Return what the options say, and for the rest what line, keys and IS 15959 suggest."""
    given = {
        name: _checked(name, value)
        for name, value in _given(options, *(n for n in DLMS_SETTINGS if n not in NO_OPTION)).items()
    }
    if keys is not None and not given.keys().isdisjoint(_REFERENCES):
        raise UsageError("give either --key-file or the names of secrets (--…-ref), not both")
    try:
        return dlms_settings(settings_of(line), given, keys, program=f"cli/{counters.resolve()}")
    except SecretMissing as error:
        raise UsageError(f"--{error}".replace("a key file", "a file for --key-file")) from error


def _checked(name: str, value: Any) -> Any:
    """Return an option's value as its setting has it; UsageError says what is allowed."""
    setting, option = DLMS_SETTINGS[name], f"--{name.replace('_', '-')}"
    kind: Callable[[str], Any] = setting.plain
    if issubclass(setting.plain, StrEnum):
        return kind(_one_of(option, value, tuple(map(str, setting.plain))))
    if isinstance(setting.limit, Choices):
        return kind(_one_of(option, str(value), tuple(map(str, setting.limit))))
    if setting.plain is bytes:
        try:
            return system_title(value)
        except ValueError:
            raise UsageError(f"{option}: `{value}` is not {2 * TITLE_OCTETS} hex digits") from None
    return value


def _given(options: AddressOptions, *names: str) -> dict[str, Any]:
    """Return the options of these names that were given."""
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _differs(options: AddressOptions, name: str) -> bool:
    """Say whether an option was given another value than it has by itself."""
    return bool(getattr(options, name) != getattr(AddressOptions(), name))


def _one_of(option: str, given: str, allowed: tuple[str, ...]) -> str:
    if given not in allowed:
        raise UsageError(f"{option}: `{given}` is not one of {', '.join(allowed)}." + nearest(given, allowed))
    return given


@asynccontextmanager
async def open_meter(access: MeterAccess, *, changes: bool = False) -> AsyncIterator[MeterSession]:
    """Open a session on a line of its own, or in a turn of the running edge's; both are closed afterwards.

    `changes` says that something in the meter is changed: the edge records who did that.
    """
    meter = access.spec.meter
    line = access.way.line(purpose(meter), meter=meter, tell=print_problem, changes=changes)
    try:
        async with open_over(access, line) as session:
            yield session
    finally:
        await line.close()
        if unused := str(unused_frames(line)):
            print_problem(f"not used: {unused}")


@asynccontextmanager
async def open_over(access: MeterAccess, line: Line) -> AsyncIterator[MeterSession]:
    """Open a session over a line of the caller's; what it takes beside the line is closed afterwards."""
    counters = CountersOnDemand(access.counters) if access.ask_edge is None else EdgeCounters(access.ask_edge)
    context = SessionContext(secrets=access.secrets, counters=counters, clock=access.clock)
    try:
        async with open_session(line, access.spec, context) as session:
            yield session
    finally:
        counters.close()
        if isinstance(access.secrets, KeyRing):
            access.secrets.close()
