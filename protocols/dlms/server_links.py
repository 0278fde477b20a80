"""Framing of served meters: one TCP connection in the wrapper, one HDLC bus with several meters; sans-IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocols.dlms import hdlc, wrapper
from protocols.dlms.hdlc import Address, BadFrame, Frame, FrameDecoder, Parameters
from protocols.dlms.hdlc_link import MAX_INFO, Channel
from protocols.dlms.model import CosemModel
from protocols.dlms.server import SendCounter, ServerConnection, ServerSettings
from protocols.errors import MeterProtocolError

MAX_CLIENTS = 16
"""Clients with state on one connection or bus; a further one gets no answer."""
MANAGEMENT = 1
"""Logical device that Indian meters serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedMeter:
    """A model with the counter that all its associations share."""

    model: CosemModel
    counter: SendCounter = field(default_factory=SendCounter)


class WrapperServer:
    """Meters behind one TCP connection, by server wPort. After an error the connection must be closed."""

    def __init__(self, meters: Mapping[int, ServedMeter], settings: ServerSettings) -> None:
        self._meters = meters
        self._settings = settings
        self._decoder = wrapper.WrapperDecoder()
        self._connections: dict[tuple[int, int], ServerConnection] = {}

    def receive_data(self, data: bytes) -> bytes:
        """Give the answers to what `data` completed; MeterProtocolError for a wrong header."""
        out = bytearray()
        for request in self._decoder.receive_data(data):
            connection = self._connection(request.source, request.destination)
            if connection is not None:
                for answer in connection.handle(request.apdu):
                    out += wrapper.encode(request.destination, request.source, answer)
        return bytes(out)

    def _connection(self, client: int, server: int) -> ServerConnection | None:
        meter = self._meters.get(server)
        known = self._connections.get((client, server))
        if known is None and meter is not None and len(self._connections) < MAX_CLIENTS:
            known = ServerConnection(meter.model, client, self._settings, meter.counter)
            self._connections[client, server] = known
        return known


@dataclass(slots=True)
class _Station:
    channel: Channel
    connection: ServerConnection


class HdlcBus:
    """Meters on one HDLC bus, by physical address; frames that are damaged or for others draw no answer."""

    def __init__(self, meters: Mapping[int, ServedMeter], settings: ServerSettings) -> None:
        self._meters = meters
        self._settings = settings
        self._decoder = FrameDecoder()
        self._stations: dict[tuple[int, int], _Station] = {}
        self.bad_frames = 0

    def receive_data(self, data: bytes) -> bytes:
        """Give the frames that answer what `data` completed."""
        out = bytearray()
        for frame in self._decoder.receive_data(data):
            if isinstance(frame, BadFrame):
                self.bad_frames += 1
            else:
                out += self._answer(frame)
        return bytes(out)

    def _answer(self, frame: Frame) -> bytes:
        physical = self._physical(frame.destination)
        if physical is None or frame.source.lower is not None:
            return b""
        key = (physical, frame.source.upper)
        match frame.kind:
            case hdlc.SNRM:
                return self._connect(key, frame)
            case hdlc.DISC:
                known = self._stations.pop(key, None)
                return _reply(frame, hdlc.UA if known else hdlc.DM)
        station = self._stations.get(key)
        if station is None:
            return _reply(frame, hdlc.DM)
        return self._exchange(key, station, frame)

    def _exchange(self, key: tuple[int, int], station: _Station, frame: Frame) -> bytes:
        try:
            request = station.channel.receive(frame)
        except MeterProtocolError:
            del self._stations[key]
            return _reply(frame, hdlc.FRMR)
        if request is not None:
            for answer in station.connection.handle(request):
                station.channel.send(answer)
        return station.channel.data_to_send()

    def _physical(self, address: Address) -> int | None:
        if address.upper != MANAGEMENT:
            return None
        if address.lower is None:  # one octet addresses the only meter there is
            return next(iter(self._meters), None) if len(self._meters) == 1 else None
        return address.lower if address.lower in self._meters else None

    def _connect(self, key: tuple[int, int], frame: Frame) -> bytes:
        if key not in self._stations and len(self._stations) >= MAX_CLIENTS * len(self._meters):
            return b""
        try:
            offer = Parameters.decode(frame.info)
        except MeterProtocolError:
            return _reply(frame, hdlc.FRMR)
        own = min(self._settings.max_info, MAX_INFO)
        granted = Parameters(transmit=min(own, offer.receive), receive=min(own, offer.transmit))
        meter = self._meters[key[0]]
        channel = Channel(
            own=frame.destination, peer=frame.source, is_client=False, max_send=granted.transmit
        )
        connection = ServerConnection(meter.model, key[1], self._settings, meter.counter)
        self._stations[key] = _Station(channel, connection)
        return _reply(frame, hdlc.UA, granted.encode())


def _reply(frame: Frame, control: int, info: bytes = b"") -> bytes:
    answer = Frame(destination=frame.source, source=frame.destination, control=control | hdlc.POLL, info=info)
    return answer.encode()
