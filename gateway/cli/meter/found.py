"""What a scan found, as a row for people and as a configuration that `check` accepts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.cli.output import milliseconds
from gateway.config import file as configuration
from gateway.config.meters import LineSection
from protocols.durable import replace_file
from protocols.meters.scan import FoundStation, SerialSetting
from protocols.modbus.scan import FoundUnit

HEAD = """# What a scan found. Look at it, then: meter-gateway check --config THIS_FILE
[gateway]
name = "site"
data = "data"
secrets = "keys"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMeter:
    """One address that answers. `setting` of a serial line; `note` says what a person should look at."""

    protocol: str
    setting: str | None = None
    unit: int | None = None
    server: int | None = None
    physical: int | None = None
    address_octets: int = 0
    framing: str | None = None
    meter: str | None = None
    model: str | None = None
    latency: float | None = None
    note: str | None = None
    serial: SerialSetting | None = None

    @classmethod
    def of_unit(cls, unit: FoundUnit, setting: str | None, serial: SerialSetting | None) -> FoundMeter:
        """Return a Modbus unit."""
        return cls(
            protocol="modbus",
            setting=setting,
            unit=unit.unit,
            meter=unit.meter,
            model=unit.model,
            latency=unit.latency,
            note=_unit_note(unit),
            serial=serial,
        )

    @classmethod
    def of_station(cls, found: FoundStation, setting: str | None, serial: SerialSetting | None) -> FoundMeter:
        """Return an HDLC station."""
        at = found.station
        return cls(
            protocol="dlms",
            setting=setting,
            server=at.upper,
            physical=at.lower,
            address_octets=at.octets,
            framing="hdlc",
            latency=found.latency,
            note="two meters answer here, or noise does" if found.collision else None,
            serial=serial,
        )

    @property
    def address(self) -> str:
        """Where it is on the line, in words."""
        if self.unit is not None:
            return f"unit {self.unit}"
        if self.framing != "hdlc":
            return "wrapper"
        where = f"{self.server}" if self.physical is None else f"{self.server}/{self.physical}"
        return f"HDLC {where}" + (f" in {self.address_octets} octets" if self.address_octets == 4 else "")

    def row(self) -> dict[str, Any]:
        """Return it as a row of a table for people."""
        return {
            "protocol": self.protocol,
            "setting": self.setting,
            "address": self.address,
            "meter": self.meter,
            "model": self.model,
            "latency": milliseconds(self.latency),
            "note": self.note,
        }

    def document(self) -> dict[str, Any]:
        """Return it for JSON; `latency` in seconds."""
        return {name: value for name, value in asdict(self).items() if name != "serial"}

    def text(self) -> str:
        """Return it in one line."""
        return " ".join(str(value) for value in self.row().values() if value is not None)


def _unit_note(unit: FoundUnit) -> str | None:
    if unit.collision:
        return f"two meters answer at {unit.unit}, or noise does"
    if unit.model is None:
        return "no known model fits: `models`, docs/modbus.md"
    if unit.also:
        return f"{', '.join(unit.also)} fits as well: look at the nameplate"
    return None


def write_found(path: Path, line: LineSection, found: Sequence[FoundMeter]) -> None:
    """Write a configuration of what was found, and load it once: what is written is what `check` accepts."""
    text = "\n".join([HEAD, *_parts(line, found)])
    replace_file(path, text.encode())
    configuration.load(path)


def _parts(line: LineSection, found: Sequence[FoundMeter]) -> Iterator[str]:
    names: dict[SerialSetting | None, str] = {}
    for one in found:
        if one.serial in names:
            continue
        name = "line-1" if not names else f"line-{len(names) + 1}"
        names[one.serial] = name
        yield _line(name, line, one.serial)
    seen: set[str] = set()
    for one in found:
        usable = (
            one.meter is not None and (one.unit is None or one.model is not None) and one.meter not in seen
        )
        if one.meter is not None:
            seen.add(one.meter)
        yield _meter(names[one.serial], one) if usable else f"# {one.text()}\n"


def _line(name: str, line: LineSection, serial: SerialSetting | None) -> str:
    fields: dict[str, Any] = {"name": name, "kind": line.kind}
    if serial is not None:
        fields |= {"device": line.device, "baud": serial.baud, "parity": serial.parity}
        fields |= {"stop_bits": serial.stop_bits} if serial.stop_bits != 1 else {}
    else:
        fields |= {"host": line.host, "port": line.port}
    return "[[lines]]\n" + _toml(fields)


def _meter(line: str, one: FoundMeter) -> str:
    profiles = ["instantaneous"] if one.unit is not None else ["nameplate"]
    head = {"meter": one.meter, "line": line, "profiles": profiles}
    note = f"# {one.note}\n" if one.note else ""
    if one.unit is not None:
        framing = {"framing": "rtu"} if one.serial is not None else {}
        settings = {"unit": one.unit, "model": one.model, **framing}
        return f"{note}[[meters]]\n{_toml(head)}\n[meters.modbus]\n{_toml(settings)}"
    where: dict[str, Any] = {"framing": one.framing}
    where |= {"server": one.server} if one.server not in (None, 1) else {}
    where |= {"physical": one.physical} if one.physical is not None else {}
    where |= {"address_octets": one.address_octets} if one.address_octets == 4 else {}
    hint = "# the public client reads the nameplate; for more: client, password_ref and keys (docs/dlms.md)\n"
    return f"{note}{hint}[[meters]]\n{_toml(head)}\n[meters.dlms]\n{_toml({'client': 16, **where})}"


def _toml(fields: dict[str, Any]) -> str:
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items())
