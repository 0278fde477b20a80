"""HDLC connections in normal response mode: sequence numbers, segmentation, connect and disconnect."""

from __future__ import annotations

from collections import deque

from protocols.dlms import hdlc
from protocols.dlms.hdlc import Address, BadFrame, Frame, FrameDecoder, Parameters
from protocols.dlms.link import ApduReceived, LinkClosed, LinkEvent, LinkOpened
from protocols.errors import MeterProtocolError, MeterRefused

MAX_APDU = 0x10000
"""Octets of one APDU put together from segments."""
MAX_INFO = 2030
"""Largest information field that fits a frame with four-octet addresses."""


class Channel:
    """The I-frame machinery that both ends share: window 1, one APDU at a time each way."""

    def __init__(self, *, own: Address, peer: Address, is_client: bool, max_send: int = 128) -> None:
        self._own = own
        self._peer = peer
        self._llc = hdlc.LLC_REQUEST if is_client else hdlc.LLC_RESPONSE
        self._max_send = min(max_send, MAX_INFO)
        self._send_number = 0
        self._receive_number = 0
        self._segments: deque[bytes] = deque()
        self._last: Frame | None = None
        self._incoming = bytearray()
        self._out = bytearray()

    def data_to_send(self) -> bytes:
        """Give and forget what must go out now."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def send(self, apdu: bytes) -> None:
        """Queue one APDU; its first segment goes out now, the next ones as they are acknowledged."""
        whole = self._llc + apdu
        size = self._max_send
        self._segments.extend(whole[i : i + size] for i in range(0, len(whole), size))
        self._send_segment()

    def send_frame(self, control: int, info: bytes = b"") -> None:
        """Queue a frame that is not an I frame."""
        frame = Frame(destination=self._peer, source=self._own, control=control, info=info)
        self._out += frame.encode()

    def receive(self, frame: Frame) -> bytes | None:
        """Take an I, RR, RNR or REJ frame; gives an APDU when it is complete."""
        if frame.kind == 0:
            return self._receive_information(frame)
        acknowledged = frame.control >> 5 == self._send_number
        if not acknowledged and self._last is not None:
            self._out += self._last.encode()  # it was lost: once more
        elif self._segments and frame.kind == hdlc.RR:
            self._send_segment()
        return None

    def _send_segment(self) -> None:
        info = self._segments.popleft()
        control = self._receive_number << 5 | hdlc.POLL | self._send_number << 1
        self._send_number = (self._send_number + 1) % 8
        frame = Frame(
            destination=self._peer,
            source=self._own,
            control=control,
            info=info,
            segmented=bool(self._segments),
        )
        self._last = frame
        self._out += frame.encode()

    def _receive_information(self, frame: Frame) -> bytes | None:
        if (frame.control >> 1) & 7 != self._receive_number:
            self._repeated(frame)
            return None
        self._receive_number = (self._receive_number + 1) % 8
        self._incoming += frame.info
        if len(self._incoming) > MAX_APDU:
            self._incoming.clear()
            raise MeterProtocolError(f"segments of more than {MAX_APDU} octets for one APDU")
        if frame.segmented:
            self._acknowledge()
            return None
        whole = bytes(self._incoming)
        self._incoming.clear()
        whole = hdlc.without_llc(whole)
        if not whole:
            raise MeterProtocolError("an I frame without an APDU")
        return whole

    def _repeated(self, frame: Frame) -> None:
        """A frame that was taken already: its sender missed our answer, so give that again."""
        if self._last is not None and self._last.control >> 5 == self._receive_number and not frame.segmented:
            self._out += self._last.encode()
        else:
            self._acknowledge()

    def _acknowledge(self) -> None:
        self.send_frame(self._receive_number << 5 | hdlc.POLL | hdlc.RR)


class HdlcClientLink:
    """HDLC as one client uses it towards one logical device (see `ClientLink`).

    `max_info` is the information field that we offer and accept; 128 is the default of the standard and
    is then not stated in SNRM, as Indian readers do.
    """

    def __init__(self, *, client: int, server: int, physical: int | None = None, max_info: int = 128) -> None:
        self._own = Address(client, None, 1)
        self._peer = Address(server, physical)
        self._max_info = min(max_info, MAX_INFO)
        self._decoder = FrameDecoder()
        self._channel = self._new_channel(128)
        self._expect: str | None = None
        self._ignored = 0

    @property
    def noise(self) -> int:
        """Octets outside frames, and frames for others."""
        return self._decoder.noise + self._ignored

    def open(self) -> list[LinkEvent]:
        """Ask for the connection (SNRM)."""
        self._channel = self._new_channel(128)
        self._expect = "connect"
        offer = Parameters(transmit=self._max_info, receive=self._max_info)
        self._channel.send_frame(hdlc.SNRM | hdlc.POLL, b"" if self._max_info == 128 else offer.encode())
        return []

    def close(self) -> list[LinkEvent]:
        """Ask for the end of the connection (DISC)."""
        self._expect = "disconnect"
        self._channel.send_frame(hdlc.DISC | hdlc.POLL)
        return []

    def send(self, apdu: bytes) -> None:
        """Queue one APDU."""
        self._channel.send(apdu)

    def data_to_send(self) -> bytes:
        """Give and forget what must go out now."""
        return self._channel.data_to_send()

    def receive_data(self, data: bytes) -> list[LinkEvent]:
        """Take octets; a bad frame is an error at once, a frame for another station is passed over."""
        events: list[LinkEvent] = []
        for frame in self._decoder.receive_data(data):
            if isinstance(frame, BadFrame):
                raise MeterProtocolError(frame.reason)
            if frame.kind == hdlc.UI and (unasked := hdlc.without_llc(frame.info)):
                events.append(ApduReceived(unasked, unasked=True))
                continue
            if not (frame.destination.matches(self._own) and frame.source.matches(self._peer)):
                self._ignored += 1
                continue
            events += self._frame(frame)
        return events

    def _frame(self, frame: Frame) -> list[LinkEvent]:
        match frame.kind:
            case hdlc.UA if self._expect == "connect":
                self._expect = None
                limits = Parameters.decode(frame.info)
                self._channel = self._new_channel(min(limits.receive, self._max_info))
                return [LinkOpened()]
            case hdlc.UA | hdlc.DM if self._expect == "disconnect":
                self._expect = None
                return [LinkClosed()]
            case hdlc.DM if self._expect == "connect":
                raise MeterRefused("the meter refuses the HDLC connection (DM): busy with another client?")
            case hdlc.DM:
                return [LinkClosed()]
            case hdlc.FRMR:
                raise MeterProtocolError("the meter rejected our HDLC frame (FRMR)")
            case 0 | hdlc.RR | hdlc.RNR | hdlc.REJ if self._expect is None:
                apdu = self._channel.receive(frame)
                return [] if apdu is None else [ApduReceived(apdu)]
        self._ignored += 1  # what is left of an earlier exchange
        return []

    def _new_channel(self, max_send: int) -> Channel:
        return Channel(own=self._own, peer=self._peer, is_client=True, max_send=max_send)
