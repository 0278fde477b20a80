"""The parts of the configuration that say which lines and meters there are, and how to talk to them."""

from __future__ import annotations

import hashlib
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from gateway.config.push import MeterPushSection
from gateway.config.types import MeterText, Name, Port, Section
from protocols.reading import Obis, ProfileName
from protocols.session import Auth, DlmsSettings, MeterSpec, ModbusSettings, Protection, ReleaseMode


def system_title(client: str) -> bytes:
    """Return a client's own system title: `MGW` and five octets of its name's hash.

    Two clients with one key must differ in it, since nonce = system title + counter (Green Book, suite 0).
    """
    return b"MGW" + hashlib.sha256(client.encode()).digest()[:5]


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
        """Return the driver's view of this meter for the client named `client` (the gateway's name)."""
        dlms = modbus = None
        if self.dlms is not None:
            fields = self.dlms.model_dump(exclude={"system_title"})
            given = self.dlms.system_title
            title = bytes.fromhex(given) if given is not None else system_title(client)
            dlms = DlmsSettings(**fields, system_title=title)
        if self.modbus is not None:
            modbus = ModbusSettings(**self.modbus.model_dump())
        return MeterSpec(meter=self.meter, zone=self.zone, dlms=dlms, modbus=modbus)
