"""The parts of the configuration that say which lines and meters there are, and how to talk to them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, model_validator

from gateway.config.dlms import NO_TITLE, DlmsTable
from gateway.config.keys import MeterKeysSection
from gateway.config.push import MeterPushSection
from gateway.config.types import MeterText, Name, Port, Section
from protocols.meters.titles import client_title
from protocols.reading import ProfileName
from protocols.session import DlmsSettings, MeterSpec, ModbusSettings


class LineSection(Section):
    """One communication path.

    `device` is best a name below `/dev/serial/by-id`, which stays the adapter's. `data_bits` are 7 for Modbus ASCII on
    most meters; `rs485` lets the UART's driver switch the transceiver, where a board has it on RTS.
    Of all lines to one `host` at most `host_connections` are connected when this one is (0: any number), for serial
    servers and gateways that take few at once: lines on which nobody talks are hung up for it.
    `mode_e` opens an optical probe with the IEC 62056-21 hand-shake, `baud` being the fastest speed wanted; leave
    it out for meters that speak HDLC at once. With `kind = "dial-in"` the meter opens the TCP connection to the
    [push] port; `address`, its own IP address, makes it known at once (else by its first push, or by being asked).
    `segment` names what this line shares with others on the way to its meters (a concentrator, a radio segment):
    [admission] bounds the sessions of each; without it, lines of one /24 (IPv6: /64) are one segment.
    `trusted` says that nobody else can talk on it: only there a Modbus meter's relay is moved, for Modbus proves
    nothing.
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
    data_bits: Literal[7, 8] = 8
    host_connections: Annotated[int, Field(ge=0, le=10_000)] = 0
    rs485: bool = False
    mode_e: bool = False
    mode_e_address: Annotated[str, Field(pattern=r"^[0-9A-Za-z ]{0,32}$")] = ""
    segment: Name | None = None
    trusted: bool = False
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


class ModbusSection(Section):
    """How to ask a Modbus meter.

    `sanctioned_load` in kW: an energy that grew by more than three times of it is suspect. `vouched_at` is when
    somebody saw that this meter is the one that `meter` names, with a zone: what it showed before counts for nothing.
    `model` is the name of a shipped model, or of one in the folder that [modbus] names (docs/modbus.md). `framing`
    follows from the line where nothing is said: `tcp` on tcp and udp lines, `rtu` on serial and rtu-over-tcp lines.
    `timeout` is the wait for an answer at first contact; later it follows what the meter takes. After a request without
    answer the line is quiet for `worst_latency`, and for `late_answer_max` nothing is asked of that meter whose answer
    would look the same (seconds, both). `unit` may be 0 or 255 over TCP; `answer_unit` is what a gateway writes in all
    its answers instead, `own_transactions` is for one that numbers its answers itself, `one_request` for one that takes
    one request a connection.
    """

    unit: Annotated[int, Field(ge=0, le=255)]
    model: Name
    framing: Literal["tcp", "rtu", "ascii"] | None = None
    timeout: Annotated[float, Field(gt=0, le=60)] = 1.0
    worst_latency: Annotated[float, Field(ge=0, le=60)] = 0.5
    late_answer_max: Annotated[float, Field(ge=0, le=120)] = 10.0
    answer_unit: Annotated[int, Field(ge=0, le=255)] | None = None
    own_transactions: bool = False
    one_request: bool = False
    sanctioned_load: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    vouched_at: AwareDatetime | None = None


class MeterSection(Section):
    """One meter: which line, which profiles, one of `dlms` or `modbus`.

    [meters.firmware] has what [meters.dlms] has, for the association that takes firmware images (client 80 on Indian
    meters); without it they go through that of [meters.dlms].
    """

    meter: MeterText
    line: Name
    profiles: tuple[ProfileName, ...] = (ProfileName.INSTANTANEOUS,)
    zone: str = "Asia/Kolkata"
    dlms: DlmsTable | None = None
    firmware: DlmsTable | None = None
    modbus: ModbusSection | None = None
    push: MeterPushSection | None = None
    keys: MeterKeysSection | None = None

    @model_validator(mode="after")
    def _protocol(self) -> MeterSection:
        if self.keys is not None and self.dlms is None:
            raise ValueError("only DLMS meters have keys to change: [meters.keys] needs [meters.dlms]")
        if self.push is not None and self.dlms is None:
            raise ValueError("only DLMS meters push: [meters.push] needs [meters.dlms]")
        if self.push is not None and self.dlms is not None:
            self.push.check_keys(self.dlms.encryption_key_ref, self.dlms.authentication_key_ref)
        if self.firmware is not None and self.dlms is None:
            raise ValueError("only DLMS meters take images: [meters.firmware] needs [meters.dlms]")
        if (self.dlms is None) == (self.modbus is None):
            raise ValueError("a meter has exactly one of [meters.dlms] and [meters.modbus]")
        return self

    def associations(self) -> dict[int, DlmsSettings]:
        """Return how to associate as each client that is known, the one that reads first; none for Modbus."""
        if self.dlms is None:
            return {}
        others = () if self.keys is None else self.keys.associations
        known = {self.dlms.client: self.dlms, **{one.client: one.settings(self.dlms) for one in others}}
        return known if self.firmware is None else {**known, self.firmware.client: self.firmware}

    def spec(
        self, client: str, *, framing: str = "tcp", models: Path | None = None, trusted: bool = False
    ) -> MeterSpec:
        """Return the driver's view of this meter for the client named `client` (`Config.spec` names it).

        `framing` is the usual one of the meter's line, `models` the user's folder, `trusted` as the line says.
        """
        dlms, modbus = self.dlms, None
        if dlms is not None and dlms.system_title == NO_TITLE:
            dlms = replace(dlms, system_title=client_title(client))
        if self.modbus is not None:
            given = self.modbus.model_dump()
            given["framing"] = self.modbus.framing or framing
            modbus = ModbusSettings(**given, models=models, trusted=trusted)
        return MeterSpec(meter=self.meter, zone=self.zone, dlms=dlms, modbus=modbus)
