"""Where a meter is and how to speak with it, as one URL: `dlms+tcp://10.0.0.7:4059?client=48`.

The scheme is the protocol (`dlms` or `modbus`) and the line (`tcp`, `udp`, `serial`, `optical`, `rtu+tcp`);
the query holds settings by their names. Keys are never part of a URL: they come from a key file.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from protocols.dlms.companion import companion
from protocols.errors import MeterConfigError, SecretMissing
from protocols.meters.key_file import PAIRS, KeyFile
from protocols.meters.lines import LineSettings
from protocols.meters.titles import TITLE_OCTETS, client_title, system_title
from protocols.session import (
    DLMS_SETTINGS,
    MODBUS_SETTINGS,
    Auth,
    DlmsSettings,
    MeterSpec,
    ModbusSettings,
    SettingType,
)

DLMS_PORT, MODBUS_PORT = 4059, 502
"""Registered ports: DLMS/COSEM wrapper, Modbus."""
LINE_FORMS = (
    "tcp://host:port, udp://host:port, rtu+tcp://host:port, serial:///dev/ttyUSB0 or "
    "optical:///dev/ttyUSB0 (mode E)"
)
"""How lines are written."""
_LINE_SETTINGS = {
    "baud": SettingType(plain=int),
    "parity": SettingType(plain=str),
    "stop_bits": SettingType(plain=int),
    "data_bits": SettingType(plain=int),
    "rs485": SettingType(plain=bool),
    "mode_e_address": SettingType(plain=str),
}
_METER_SETTINGS = {"meter": SettingType(plain=str), "zone": SettingType(plain=str)}
_OF_THE_SITE = {"trusted", "sanctioned_load", "vouched_at"}
_MODBUS_SETTINGS = {name: kind for name, kind in MODBUS_SETTINGS.items() if name not in _OF_THE_SITE}
_PAIR_REFS = {f"{name}_ref": name for name in PAIRS}
_OF_THE_KEY_FILE = {
    "password_ref",
    "encryption_key_ref",
    "authentication_key_ref",
    *_PAIR_REFS,
}
_DLMS_SETTINGS = {name: kind for name, kind in DLMS_SETTINGS.items() if name not in _OF_THE_KEY_FILE}


def parse_address(url: str, keys: KeyFile | None = None) -> tuple[LineSettings, MeterSpec]:
    """Read the URL of a meter; return where its line leads, and how to speak with it.

    `keys` is the key file that holds its secrets; settings that are not in the URL follow from it, from the
    line and from IS 15959: `auth` from the client address, ciphering where both keys are there, HDLC on serial
    lines. Raises MeterConfigError, which says what is allowed; SecretMissing when the key file lacks a secret
    that the settings need.

    >>> line, spec = parse_address("modbus+tcp://10.0.0.9?unit=1&model=sdm120&zone=Asia/Kolkata")
    >>> line.port, spec.modbus.unit, spec.zone
    (502, 1, 'Asia/Kolkata')
    """
    _refuse_password(url)
    head, mark, _ = url.partition("://")
    protocol, _, line_scheme = head.partition("+")
    if not mark or protocol not in ("dlms", "modbus") or not line_scheme:
        raise MeterConfigError(
            f"`{_without_query(url)}` is not the address of a meter: write dlms+ or modbus+ before {LINE_FORMS}"
        )
    own = _DLMS_SETTINGS if protocol == "dlms" else _MODBUS_SETTINGS
    line = parse_line(url.partition("+")[2], tcp_port=DLMS_PORT if protocol == "dlms" else MODBUS_PORT)
    given = _settings(url, {**_METER_SETTINGS, **_LINE_SETTINGS, **own})
    line = replace(line, **_taken(given, _LINE_SETTINGS))
    of_meter = _taken(given, _METER_SETTINGS)
    spec = MeterSpec(meter=of_meter.get("meter"), zone=of_meter.get("zone", "Asia/Kolkata"))
    if protocol == "modbus":
        return line, replace(spec, modbus=modbus_settings(line, given))
    program = "library" if keys is None else f"library/{keys.counters.resolve()}"
    return line, replace(spec, dlms=dlms_settings(line, given, keys, program=program))


def parse_line(
    url: str, *, tcp_port: int = DLMS_PORT, otherwise: str = "is not the address of a line"
) -> LineSettings:
    """Read the URL of a line, without a protocol before it; its query is left out.

    `tcp_port` is meant where a `tcp` or `udp` URL names none; RTU over TCP has Modbus's. MeterConfigError says
    what is allowed; `otherwise` is what it says of a text that is no such URL.
    """
    _refuse_password(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise MeterConfigError(f"`{_without_query(url)}`: {error}") from error
    match parts.scheme:
        case "tcp" | "udp" if parts.hostname:
            return LineSettings(kind=parts.scheme, host=parts.hostname, port=port or tcp_port)
        case "rtu+tcp" if parts.hostname:
            return LineSettings(kind="rtu-over-tcp", host=parts.hostname, port=port or MODBUS_PORT)
        case "serial" | "optical" if parts.path:
            return LineSettings(kind="serial", device=parts.path, mode_e=parts.scheme == "optical")
    raise MeterConfigError(f"`{_without_query(url)}` {otherwise}: write {LINE_FORMS}")


def modbus_settings(line: LineSettings, given: Mapping[str, Any]) -> ModbusSettings:
    """Return the Modbus settings from those that were given; framing follows from the line.

    MeterConfigError when `unit` or `model` is not given.
    """
    for name, example in (("unit", "1"), ("model", "abb-b23")):
        if name not in given:
            raise MeterConfigError(f"a Modbus meter needs `{name}`, for example {name}={example}")
    framing = "tcp" if line.kind in ("tcp", "udp") else "rtu"
    return ModbusSettings(**{"framing": framing, **_taken(given, _MODBUS_SETTINGS)})


def dlms_settings(
    line: LineSettings, given: Mapping[str, Any], keys: KeyFile | None, *, program: str = "library"
) -> DlmsSettings:
    """Return the DLMS settings from those that were given, the line and the key file.

    `auth` is that of the client address in the companion; `ciphered` holds where both keys are known and the
    client authenticates. References (`password_ref` …) that are given come before those of the key file. The
    system title, where none is given, is made from machine, user and `program`, since two clients with one key must
    differ in it.
    SecretMissing when a secret is neither given nor in the key file.
    """
    defaults = DlmsSettings()
    clients = companion(given.get("companion", defaults.companion)).associations
    known = clients.get(given.get("client", defaults.client))
    auth: Auth = given.get("auth") or (known.auth if known else Auth.NONE)
    password, encryption, authentication = (
        given.get(name) for name in ("password_ref", "encryption_key_ref", "authentication_key_ref")
    )
    if keys is not None:
        password = password or keys.password_name(auth)
        if keys.has_keys:
            encryption, authentication = (
                encryption or "encryption_key",
                authentication or "authentication_key",
            )
    pairs = {
        ref: given.get(ref) or (name if keys and name in keys else None) for ref, name in _PAIR_REFS.items()
    }
    if auth is Auth.HLS_ECDSA and pairs["signing_key_ref"] is None:
        raise SecretMissing(f"auth {auth}", "signing_key")
    if auth.needs_secret and password is None:
        raise SecretMissing(f"auth {auth}", "password" if auth is Auth.LLS else "hls_key")
    both = encryption is not None and authentication is not None
    ciphered = given.get("ciphered", both and auth is not Auth.NONE)
    if (ciphered or auth is Auth.HLS_GMAC) and not both:
        why = f"auth {auth}" if auth is Auth.HLS_GMAC else "ciphered"
        raise SecretMissing(why, "encryption_key and authentication_key")
    settings = _taken(given, _DLMS_SETTINGS)
    settings.setdefault("suite", (keys.suite if keys else 0) or int(auth is Auth.HLS_ECDSA))
    settings |= pairs
    settings |= {
        "auth": auth,
        "ciphered": ciphered,
        "password_ref": password,
        "encryption_key_ref": encryption,
        "authentication_key_ref": authentication,
        "system_title": given.get("system_title")
        or client_title(f"{socket.gethostname()}/{getpass.getuser()}/{program}"),
        "framing": _framing(line, given),
    }
    return DlmsSettings(**settings)


def _framing(line: LineSettings, given: Mapping[str, Any]) -> str:
    if line.kind == "udp":
        return "wrapper-udp"
    hdlc = given.get("physical") is not None or line.kind == "serial"
    return str(given.get("framing") or ("hdlc" if hdlc else "wrapper"))


def _settings(url: str, kinds: Mapping[str, SettingType]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, text in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if name not in kinds:
            raise MeterConfigError(f"`{name}` is no setting of an address; known: {', '.join(sorted(kinds))}")
        given[name] = _value(name, text, kinds[name])
    return given


def _value(name: str, text: str, kind: SettingType) -> Any:
    if kind.plain is bool:
        if text not in ("true", "false"):
            raise MeterConfigError(f"{name} = `{text}`: true or false is allowed")
        return text == "true"
    try:
        if kind.plain is bytes:
            return system_title(text)
        return kind.plain(text)
    except ValueError as error:
        allowed = f"one of {', '.join(kind.plain)}" if issubclass(kind.plain, Enum) else "a number"
        if kind.plain is bytes:
            allowed = f"{2 * TITLE_OCTETS} hex digits"
        raise MeterConfigError(f"{name} = `{text}`: {allowed} is allowed") from error


def _taken(given: Mapping[str, Any], kinds: Mapping[str, SettingType]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in kinds}


def _refuse_password(url: str) -> None:
    """Raise MeterConfigError for `user:password@host`: it would stand in every log and error text."""
    if "@" in _without_query(url).partition("://")[2].partition("/")[0]:
        raise MeterConfigError("an address holds no user and no password: put secrets into a key file")


def _without_query(url: str) -> str:
    return url.partition("?")[0]
