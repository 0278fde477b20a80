"""Framing of served meters: one TCP connection in the wrapper, one HDLC bus with several meters; sans-IO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from protocols.dlms.framing import hdlc, wrapper
from protocols.dlms.framing.hdlc import Address, BadFrame, Frame, FrameDecoder, Parameters
from protocols.dlms.framing.hdlc_channel import MAX_INFO, MAX_QUEUED, Channel
from protocols.dlms.server.connection import SendCounter, ServerConnection, ServerSettings
from protocols.dlms.server.model import CosemModel
from protocols.errors import LocalError, MeterProtocolError

MAX_CLIENTS = 16
"""Clients with state on one connection or, for each meter, on one bus; a further one gets no answer."""
MANAGEMENT = 1
"""Logical device that Indian meters serve."""


class ServedAssociation(Protocol):
    """One client's association as the framing sees it."""

    def handle(self, octets: bytes) -> list[bytes]:
        """Answer one APDU: the APDUs to send, none when no answer is to be sent."""


@dataclass(frozen=True, kw_only=True)
class ServedMeter:
    """A model with the counter that all its associations share.

    With `one_client` a second client's HDLC connection is refused until the first is disconnected.
    """

    model: CosemModel
    counter: SendCounter = field(default_factory=SendCounter)
    one_client: bool = False

    def limits(self, common: ServerSettings) -> ServerSettings:
        """Return this meter's own limits where they differ from the port's."""
        return common

    def associate(self, client: int, settings: ServerSettings) -> ServedAssociation:
        """Return the association of one client address, which has not begun."""
        return ServerConnection(self.model, client, settings, self.counter)


class Served(Protocol):
    """What is served at one wPort: a meter, or a gateway with meters behind it."""

    def limits(self, common: ServerSettings) -> ServerSettings:
        """Return its own limits where they differ from the port's."""

    def associate(self, client: int, settings: ServerSettings) -> ServedAssociation:
        """Return the association of one client address, which has not begun."""


class WrapperServer:
    """Meters behind one TCP connection or UDP peer, by server wPort. After an error TCP must be closed."""

    def __init__(self, meters: Mapping[int, Served], settings: ServerSettings) -> None:
        self._meters = meters
        self._settings = settings
        self._decoder = wrapper.WrapperDecoder()
        self._connections: dict[tuple[int, int], ServedAssociation] = {}

    def receive_data(self, data: bytes) -> bytes:
        """Return the answers to what `data` completed; MeterProtocolError for a wrong header."""
        return b"".join(
            answer for request in self._decoder.receive_data(data) for answer in self._answers(request)
        )

    def receive_datagram(self, data: bytes) -> list[bytes]:
        """Return the datagrams that answer one; MeterProtocolError when it is not exactly one APDU."""
        return list(self._answers(wrapper.decode_datagram(data)))

    def quiet(self) -> None:
        """TCP keeps every octet, so silence means nothing here (see `HdlcBus.quiet`)."""

    def _answers(self, request: wrapper.WrapperApdu) -> Iterator[bytes]:
        connection = self._connection(request.source, request.destination)
        if connection is not None:
            for answer in connection.handle(request.apdu):
                yield wrapper.encode(request.destination, request.source, answer)

    def _connection(self, client: int, server: int) -> ServedAssociation | None:
        meter = self._meters.get(server)
        known = self._connections.get((client, server))
        if known is None and meter is not None and len(self._connections) < MAX_CLIENTS:
            known = meter.associate(client, meter.limits(self._settings))
            self._connections[client, server] = known
        return known


@dataclass(slots=True)
class _Station:
    own: Address
    peer: Address
    max_send: int
    channel: Channel
    connection: ServedAssociation


class HdlcBus:
    """Meters on one HDLC bus, by physical address; frames that are damaged or for others draw no answer.

    Set `busy` to make every meter answer RNR, as one does that has no time for its line.
    """

    def __init__(self, meters: Mapping[int, ServedMeter], settings: ServerSettings) -> None:
        self._meters = meters
        self._settings = settings
        self._decoder = FrameDecoder()
        self._stations: dict[tuple[int, int], _Station] = {}
        self.bad_frames = 0
        self.busy = False

    def receive_data(self, data: bytes) -> bytes:
        """Return the frames that answer what `data` completed."""
        out = bytearray()
        for frame in self._decoder.receive_data(data):
            if isinstance(frame, BadFrame):
                self.bad_frames += 1
            else:
                out += self._answer(frame)
        return bytes(out)

    def quiet(self) -> None:
        """Drop what is incomplete: the line fell silent, and the rest will not come."""
        self._decoder.reset()

    def notification(self, physical: int, client: int, apdu: bytes) -> bytes:
        """Return the UI frame that carries a data-notification to a connected client, "" when it is not.

        LocalError when the APDU does not fit the information field that was agreed: UI frames have no segments.
        """
        station = self._stations.get((physical, client))
        if station is None:
            return b""
        info = hdlc.LLC_RESPONSE + apdu
        if len(info) > station.max_send:
            raise LocalError(f"a UI frame takes {station.max_send - 3} octets of APDU, not {len(apdu)}")
        return Frame(destination=station.peer, source=station.own, control=hdlc.UI, info=info).encode()

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
            return _reply(frame, hdlc.DM) if frame.final else b""
        match frame.kind:
            case 0 | hdlc.RR | hdlc.RNR | hdlc.REJ:
                return self._exchange(key, station, frame)
            case hdlc.UI:
                return self._unconfirmed(station, frame)
        return self._reject(key, frame, station.channel.rejection_of(frame, hdlc.CONTROL_UNKNOWN))

    def _exchange(self, key: tuple[int, int], station: _Station, frame: Frame) -> bytes:
        channel = station.channel
        channel.busy = self.busy
        try:
            request = channel.receive(frame)
        except MeterProtocolError:
            return self._reject(key, frame, channel.rejection)
        if request is not None:
            if channel.waiting > MAX_QUEUED:  # asked on and on, and took nothing
                return self._reject(key, frame, channel.rejection_of(frame, hdlc.INFO_TOO_LONG))
            for answer in station.connection.handle(request):
                channel.queue(answer)
        channel.transmit()
        return channel.data_to_send()

    def _unconfirmed(self, station: _Station, frame: Frame) -> bytes:
        """Serve an APDU in a UI frame; it is answered (in a UI frame) only when the client polls for it."""
        request = hdlc.without_llc(frame.info)
        answers = station.connection.handle(request) if request and frame.final else []
        info = hdlc.LLC_RESPONSE + (answers[0] if answers else b"")
        return _reply(frame, hdlc.UI, info) if 3 < len(info) <= station.max_send else b""

    def _reject(self, key: tuple[int, int], frame: Frame, info: bytes) -> bytes:
        self._stations.pop(key, None)
        return _reply(frame, hdlc.FRMR, info)

    def _physical(self, address: Address) -> int | None:
        if address.is_group or address.upper != MANAGEMENT:
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
            rejected = hdlc.encode_rejection(frame, send=0, receive=0, reasons=hdlc.INFO_NOT_ALLOWED)
            return _reply(frame, hdlc.FRMR, rejected)
        meter = self._meters[key[0]]
        if meter.one_client and any(k[0] == key[0] and k != key for k in self._stations):
            return _reply(frame, hdlc.DM)
        limits = meter.limits(self._settings)
        own, window = min(limits.max_info, MAX_INFO), limits.window
        granted = Parameters(
            transmit=min(own, offer.receive),
            receive=min(own, offer.transmit),
            window_transmit=min(window, offer.window_receive),
            window_receive=min(window, offer.window_transmit),
        )
        channel = Channel(
            own=frame.destination,
            peer=frame.source,
            is_client=False,
            max_send=granted.transmit,
            window_send=granted.window_transmit,
            window_receive=granted.window_receive,
        )
        connection = meter.associate(key[1], limits)
        self._stations[key] = _Station(frame.destination, frame.source, granted.transmit, channel, connection)
        return _reply(frame, hdlc.UA, granted.encode())


def _reply(frame: Frame, control: int, info: bytes = b"") -> bytes:
    answer = Frame(destination=frame.source, source=frame.destination, control=control | hdlc.POLL, info=info)
    return answer.encode()
