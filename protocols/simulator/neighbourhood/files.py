"""Writes a planned neighbourhood as files: keys, directory, re-key, contacts, plan and the edge's lines."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from protocols.clock import SimulatedClock
from protocols.dlms.security.key_use import KeyUse
from protocols.errors import MeterConfigError
from protocols.session import DLMS_SETTINGS, Auth, DlmsSettings, ModbusSettings
from protocols.simulator.cosem.access import FIRMWARE, UTILITY
from protocols.simulator.cosem.model import system_title
from protocols.simulator.cosem.rows import IST
from protocols.simulator.neighbourhood.authority import Authority, pem, private_pem
from protocols.simulator.neighbourhood.plan import (
    AGREEMENT_KEY,
    SIGNING_KEY,
    TRUST_ANCHOR,
    LinePlan,
    MeterPlan,
    Plan,
    plan_neighbourhood,
)
from protocols.simulator.neighbourhood.pushes import PushTo, push_senders, pushes_ciphered


def write_files(
    plan: Plan,
    folder: Path,
    *,
    time: SimulatedClock | None = None,
    unnamed: int | None = None,
    push_to: PushTo | None = None,
) -> None:
    """Write everything under `folder`.

    `keys/` (0700, files 0600), `directory.csv`, `rekey.csv`, `contacts.csv`, `plan.json` (no secrets) and
    `edge.toml` (lines, meters, and simulated time when given). In `directory.csv` the first `unnamed`
    consumers have no account number yet (None: nobody has one); `rekey.csv` names everybody. With `push_to`
    the edge listens there and its meters on TCP push.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_keys(plan, folder / "keys")
    _write(folder / "directory.csv", _directory(plan, unnamed))
    rekey = [(m.legacy_number or "", m.account_number or "") for m in plan.consumers]
    _write(folder / "rekey.csv", _table(("legacy_number", "account_number"), rekey))
    verified = plan.history_from.astimezone(IST).isoformat()
    contacts = [(m.legacy_number or "", m.mobile or "", verified) for m in plan.consumers]
    _write(folder / "contacts.csv", _table(("legacy_number", "mobile", "verified_at"), contacts))
    _write(folder / "edge.toml", edge_toml(plan, time, push_to))
    _write(folder / "plan.json", json.dumps(describe(plan, time), indent=1) + "\n")


def read_plan(folder: Path) -> Plan:
    """Plan again what `folder/plan.json` describes, with the addresses in it.

    Another process can so know what the meters record. MeterConfigError when the file is not there or not
    one of ours.
    """
    path = folder / "plan.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        cuts = raw["cuts_until"]
        plan = plan_neighbourhood(
            seed=int(raw["seed"]),
            history_from=datetime.fromisoformat(raw["history_from"]),
            cuts_until=datetime.fromisoformat(cuts) if cuts else None,
            meters=len(raw["meters"]),
            suite=int(raw.get("suite", 0)),
            concentrator=bool(raw.get("concentrator", False)),
        )
        addresses = {line["name"]: (line["port"], line["device"]) for line in raw["lines"]}
        for line in plan.lines:
            port, device = addresses[line.name]
            plan = plan.with_line(replace(line, port=port, device=device))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MeterConfigError(f"{path} does not describe a simulated neighbourhood: {error}") from error
    return plan


def edge_toml(plan: Plan, time: SimulatedClock | None = None, push_to: PushTo | None = None) -> str:
    """Return the lines and meters as the gateway's configuration reads them; with `push_to` where they push."""
    parts = []
    if time is not None:
        start, anchor = time.start.isoformat(), time.anchor.isoformat()
        parts.append(f"[simulation]\nstart = {start}\nanchor = {anchor}\nspeed = {float(time.speed)}\n")
    senders = push_senders(plan) if push_to is not None else ()
    dialling = {meter.line for meter in senders if push_to is not None and push_to.dial_in}
    own = {meter.line for meter in plan.meters if meter.spec.modbus is not None}
    parts.extend(
        _line_toml(line, dial_in=line.name in dialling, trusted=line.name in own) for line in plan.lines
    )
    make = push_to.make if push_to is not None else None
    if push_to is not None:
        listen = {"host": push_to.host, "tcp_port": push_to.port, "networks": ["127.0.0.0/8"]}
        parts.append("[push]\n" + _toml(listen))
    parts.extend(_meter_toml(meter, push=meter in senders, make=make) for meter in plan.meters)
    return "\n".join(parts)


def describe(plan: Plan, time: SimulatedClock | None = None) -> dict[str, object]:
    """Return the plan as JSON data, without secrets."""
    return {
        "seed": plan.seed,
        "suite": plan.suite,
        "concentrator": plan.concentrator,
        "history_from": plan.history_from.isoformat(),
        "cuts_until": plan.cuts_until.isoformat() if plan.cuts_until else None,
        "simulation": None
        if time is None
        else {"start": time.start.isoformat(), "anchor": time.anchor.isoformat(), "speed": time.speed},
        "lines": [_line_json(line) for line in plan.lines],
        "meters": [_meter_json(meter) for meter in plan.meters],
    }


def _write(path: Path, text: str) -> None:
    """Replace a file whole, so that a reader never sees half of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _write_keys(plan: Plan, folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    for meter in plan.meters:
        for ref, content in secret_files(meter).items():
            _write_secret(folder / ref, content)
    for ref, content in town_files(plan).items():
        _write_secret(folder / ref, content)


def _write_secret(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content + b"\n")


def town_files(plan: Plan) -> dict[str, bytes]:
    """Return the key pairs of suites 1 and 2: clients' private keys, meters' certificates, and who vouches for them."""
    if not plan.suite:
        return {}
    town = Authority(plan.seed, plan.suite)
    files = {TRUST_ANCHOR: pem(town.anchor)}
    files |= {name: private_pem(town.key(name)) for name in (SIGNING_KEY, AGREEMENT_KEY)}
    for meter in plan.meters:
        if meter.spec.dlms is not None and meter.spec.dlms.meter_agreement_ref is not None:
            key = town.key(meter.key, "agreement").public_key()
            title = system_title(meter.manufacturer, meter.serial)
            files[meter.spec.dlms.meter_agreement_ref] = pem(town.certificate(title, key, KeyUse.AGREEMENT))
    return files


def firmware_settings(meter: MeterPlan) -> DlmsSettings | None:
    """Return how a DLMS meter of suite 0 takes firmware images: as client 80, by HLS; None for another meter."""
    dlms = meter.spec.dlms
    if dlms is None or dlms.suite:
        return None
    gmac = dlms.auth is Auth.HLS_GMAC
    return replace(
        dlms,
        client=FIRMWARE,
        auth=Auth.HLS_GMAC if gmac else Auth.HLS2,
        ciphered=True,
        password_ref=None if gmac else f"{meter.key}-fw-secret",
        encryption_key_ref=f"{meter.key}-ek",
        authentication_key_ref=f"{meter.key}-ak",
    )


def secret_files(meter: MeterPlan) -> dict[str, bytes]:
    """Return the content of a meter's secret files by reference: keys as `hex:`, a password as it is."""
    dlms, secrets = meter.spec.dlms, meter.secrets
    if dlms is None or secrets is None:
        return {}
    files = {
        f"{meter.key}-ek": b"hex:" + secrets.encryption_key.hex().encode(),
        f"{meter.key}-ak": b"hex:" + secrets.authentication_key.hex().encode(),
    }
    if dlms.password_ref is not None:
        lls = dlms.client == 32
        files[dlms.password_ref] = secrets.password if lls else b"hex:" + secrets.hls_key.hex().encode()
    files[master_key_ref(meter)] = b"hex:" + secrets.master_key.hex().encode()
    if (utility := utility_association(meter)) is not None:
        known = {
            "password_ref": secrets.hls_key,
            "encryption_key_ref": secrets.encryption_key,
            "authentication_key_ref": secrets.authentication_key,
        }
        files |= {str(utility[name]): b"hex:" + key.hex().encode() for name, key in known.items()}
    firmware = firmware_settings(meter)
    if firmware is not None and firmware.password_ref is not None:
        files[firmware.password_ref] = b"hex:" + secrets.firmware_key.hex().encode()
    return files


def master_key_ref(meter: MeterPlan) -> str:
    """Name the file of a meter's master key."""
    return f"{meter.manufacturer}{meter.serial}-mk"


def utility_association(meter: MeterPlan) -> dict[str, object] | None:
    """Return the association that may write, of a meter that is read as another client; None where that is it."""
    dlms = meter.spec.dlms
    if dlms is None or dlms.client == UTILITY:
        return None
    key = f"{meter.manufacturer}{meter.serial}"
    return {
        "client": UTILITY,
        "auth": str(Auth.HLS2),
        "password_ref": f"{key}-utility",
        "encryption_key_ref": f"{key}-ek",
        "authentication_key_ref": f"{key}-ak",
    }


def _directory(plan: Plan, unnamed: int | None) -> str:
    header = ("meter", "usage_point", "role", "legacy_number", "account_number", "valid_from")
    valid_from = plan.history_from.astimezone(IST).isoformat()
    late = len(plan.consumers) if unnamed is None else unnamed
    known = {meter.meter for meter in plan.consumers[late:]}
    rows = [
        (
            meter.meter,
            meter.usage_point,
            meter.role,
            meter.legacy_number or "",
            (meter.account_number or "") if meter.meter in known else "",
            valid_from,
        )
        for meter in plan.meters
    ]
    return _table(header, rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _line_toml(line: LinePlan, *, dial_in: bool, trusted: bool) -> str:
    """Return the line's table; `trusted` where Modbus meters are on it, with whom nobody else can talk."""
    if dial_in:
        return "[[lines]]\n" + _toml({"name": line.name, "kind": "dial-in"})
    fields: dict[str, object] = {"name": line.name, "kind": line.kind}
    if line.kind == "serial":
        fields |= {"device": line.device or "", "baud": line.baud, "parity": line.parity}
    else:
        fields |= {"host": line.host or "", "port": line.port or 0}
    if trusted:
        fields["trusted"] = True
    return "[[lines]]\n" + _toml(fields)


def _meter_toml(meter: MeterPlan, *, push: bool = False, make: str | None = None) -> str:
    fields: dict[str, object] = {
        "meter": meter.meter,
        "line": meter.line,
        "profiles": [*map(str, meter.profiles)],
    }
    text = "[[meters]]\n" + _toml(fields)
    if meter.spec.dlms is not None:
        text += "[meters.dlms]\n" + _toml(_dlms_fields(meter.spec.dlms))
        text += "[meters.keys]\n" + _toml({"master_key_ref": master_key_ref(meter)})
        if (utility := utility_association(meter)) is not None:
            text += "[[meters.keys.associations]]\n" + _toml(utility)
    if (firmware := firmware_settings(meter)) is not None:
        text += "[meters.firmware]\n" + _toml(_dlms_fields(firmware))
    if push:
        given: dict[str, object] = {}
        if not pushes_ciphered(meter):
            given["protection"] = "plain"
        if make is not None:
            given["companion"] = make
        text += "[meters.push]\n" + _toml(given)
    if meter.spec.modbus is not None:
        text += "[meters.modbus]\n" + _toml(_modbus_fields(meter.spec.modbus))
    return text


def _dlms_fields(dlms: DlmsSettings) -> dict[str, object]:
    """Return the settings that are not the usual ones, as TOML and JSON write them."""
    usual = DlmsSettings()
    given = {name: getattr(dlms, name) for name in DLMS_SETTINGS}
    return {
        name: str(value) if isinstance(value, StrEnum) else value
        for name, value in given.items()
        if value != getattr(usual, name)
    }


def _modbus_fields(modbus: ModbusSettings) -> dict[str, object]:
    return {"unit": modbus.unit, "model": modbus.model, "framing": modbus.framing}


def _toml(fields: dict[str, object]) -> str:
    """Write plain fields as TOML; JSON's strings, numbers, booleans and lists are TOML's too."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())


def _line_json(line: LinePlan) -> dict[str, object]:
    return {
        "name": line.name,
        "kind": line.kind,
        "serves": str(line.serves),
        "host": line.host,
        "port": line.port,
        "device": line.device,
    }


def _meter_json(meter: MeterPlan) -> dict[str, object]:
    spec = meter.spec
    return {
        "meter": meter.meter,
        "kind": str(meter.kind),
        "line": meter.line,
        "role": meter.role,
        "usage_point": meter.usage_point,
        "locality": meter.locality,
        "legacy_number": meter.legacy_number,
        "account_number": meter.account_number,
        "mobile": meter.mobile,
        "profiles": [str(p) for p in meter.profiles],
        "dlms": _dlms_fields(spec.dlms) if spec.dlms else None,
        "modbus": _modbus_fields(spec.modbus) if spec.modbus else None,
    }
