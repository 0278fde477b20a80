"""I frames of one HDLC connection in normal response mode: windows, segments, recovery (IEC 62056-46 6.4).

The client speaks and passes the turn with P=1, the meter answers and gives it back with F=1; only the last
frame of a window has that bit. Whoever gets the turn sends again what the other side did not acknowledge
(checkpoint recovery), so a lost frame needs no clock as long as the turn itself arrives. A frame with a number
that is not expected is never taken: a request that is sent twice is carried out once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from protocols.dlms.framing import hdlc
from protocols.dlms.framing.hdlc import MAX_WINDOW, MODULUS, Address, Frame
from protocols.errors import MeterProtocolError

MAX_APDU = 0x10000
"""Octets of one APDU put together from segments."""
MAX_QUEUED = MAX_APDU
"""Octets of answers that may wait for their acknowledgement when a further request comes."""
MAX_INFO = 2030
"""Largest information field that fits a frame with four-octet addresses."""


@dataclass(frozen=True, slots=True)
class _InformationField:
    info: bytes
    more: bool


class Channel:
    """The I-frame machinery that both ends share; the owner calls `transmit` after each `receive`."""

    def __init__(
        self,
        *,
        own: Address,
        peer: Address,
        is_client: bool,
        max_send: int = hdlc.DEFAULT_INFO,
        window_send: int = 1,
        window_receive: int = 1,
    ) -> None:
        self._own = own
        self._peer = peer
        self._is_client = is_client
        self._llc = hdlc.LLC_REQUEST if is_client else hdlc.LLC_RESPONSE
        self._max_send = min(max_send, MAX_INFO)
        self._window_send = min(window_send, MAX_WINDOW)
        self._window_receive = min(window_receive, MAX_WINDOW)
        self._oldest = 0  # V(A): number of the oldest frame that is not acknowledged
        self._expected = 0  # V(R)
        self._unacknowledged: deque[_InformationField] = deque()
        self._segments: deque[_InformationField] = deque()
        self._incoming = bytearray()
        self._gap = False
        self._peer_busy = False
        self._answer_due = False
        self._sent_before = 0  # of the unacknowledged frames, how many were on the wire already
        self._out = bytearray()
        self.turn = is_client
        """Whether it is ours to speak."""
        self.busy = False
        """Set it to take no I frames and send none (RNR) until it is cleared."""
        self.progress = 0
        """Counts frames taken in order and frames acknowledged."""
        self.polls = 0
        """Turns in a row that only asked whether the other side is ready."""
        self.recoveries = 0
        """Turns in a row that repeated frames or asked for a repetition."""
        self.repeated = 0
        """I frames dropped because of their number."""
        self.rejection = b""
        """Information field of the FRMR that the error raised by `receive` deserves."""

    @property
    def waiting(self) -> int:
        """Octets of APDUs that the other side has not acknowledged yet."""
        return sum(len(one.info) for queue in (self._unacknowledged, self._segments) for one in queue)

    def data_to_send(self) -> bytes:
        """Return and forget what must go out now."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def send(self, apdu: bytes) -> None:
        """Queue one APDU; a window of it goes out now if the turn is ours, the rest as it is acknowledged."""
        self.queue(apdu)
        self.expect()

    def expect(self) -> None:
        """Use the turn, if it is ours, also to poll for an APDU that has not come yet."""
        self._answer_due = self._is_client
        self.transmit()

    def queue(self, apdu: bytes) -> None:
        """Put one APDU behind those that wait to be sent."""
        whole = self._llc + apdu
        size = self._max_send
        parts = [whole[i : i + size] for i in range(0, len(whole), size)]
        self._segments.extend(_InformationField(part, more=True) for part in parts[:-1])
        self._segments.append(_InformationField(parts[-1], more=False))

    def send_frame(self, control: int, info: bytes = b"") -> None:
        """Queue a frame that is not an I frame."""
        frame = Frame(destination=self._peer, source=self._own, control=control, info=info)
        self._out += frame.encode()

    def receive(self, frame: Frame) -> bytes | None:
        """Take an I, RR, RNR or REJ frame; returns an APDU when it is complete.

        MeterProtocolError for an N(R) that was never sent, an empty I frame or an APDU of more than MAX_APDU
        octets: the connection is over then.
        """
        information = frame.kind == 0
        if information and self._is_stale(frame):
            # Neither its N(R) nor its F bit counts: both speak of a time that is over.
            self.repeated += 1
            return None
        # N(R) comes first: an I frame acknowledges too, also one that is then not taken.
        self._acknowledged(frame)
        self._peer_busy = frame.kind == hdlc.RNR
        apdu = self._take(frame) if information and not self.busy else None
        if frame.final:
            self.turn = True
        return apdu

    def transmit(self) -> None:
        """Use the turn, if it is ours: send a window, ask for a repetition, acknowledge, or poll."""
        if not self.turn:
            return
        if self.busy:
            self._supervise(hdlc.RNR)
        elif self._peer_busy:
            # After RNR no I frame may go out, not even a repeated one, until RR comes.
            self.polls += 1
            self._supervise(hdlc.RR)
        elif self._unacknowledged or self._segments:
            # Before REJ: our I frames carry N(R), which asks for the missing one as well.
            self._send_window()
        elif self._gap:
            self.recoveries += 1
            self._supervise(hdlc.REJ)
        elif self._incoming or not self._is_client:
            # More segments are to come, or a meter has nothing to say and must hand the turn back.
            self._supervise(hdlc.RR)
        elif self._answer_due:
            # The meter has our request and answered RR: it is still at work (a long buffer, a relay).
            self.polls += 1
            self._supervise(hdlc.RR)

    def poll(self) -> None:
        """Ask where the other side stands (REJ after a gap, else RR): the answer was lost or damaged."""
        self.turn = True
        self._supervise(hdlc.REJ if self._gap else hdlc.RR)

    def resend(self) -> None:
        """Take the turn back and send again what is not acknowledged."""
        self.turn = True
        self._peer_busy = False
        self.transmit()

    def _is_stale(self, frame: Frame) -> bool:
        """A client's rule: a meter never repeats unasked, so a frame taken before is a late copy.

        Answering it would make two conversations of one. A meter must answer, since a client repeats when
        the answer was lost.
        """
        ahead = (frame.number - self._expected) % MODULUS
        return self._is_client and ahead >= self._window_receive

    def _acknowledged(self, frame: Frame) -> None:
        count = (frame.expects - self._oldest) % MODULUS
        if count > len(self._unacknowledged):
            self.rejection = self.rejection_of(frame, hdlc.NUMBER_OUT_OF_RANGE)
            raise MeterProtocolError(
                f"HDLC N(R) {frame.expects} acknowledges frames that were not sent "
                f"({self._oldest} to {self._next_number} are possible)"
            )
        if count:
            self._oldest = frame.expects
            self._sent_before = max(0, self._sent_before - count)
            for _ in range(count):
                self._unacknowledged.popleft()
            self._advance()

    @property
    def _next_number(self) -> int:
        """V(S)."""
        return (self._oldest + len(self._unacknowledged)) % MODULUS

    def _take(self, frame: Frame) -> bytes | None:
        ahead = (frame.number - self._expected) % MODULUS
        self._gap = 0 < ahead < self._window_receive
        if ahead:
            # Behind a gap, or taken before: it is dropped either way, since only what is in order is taken.
            self.repeated += 1
            return None
        if not frame.info:
            self.rejection = self.rejection_of(frame, hdlc.INFO_NOT_ALLOWED)
            raise MeterProtocolError("an I frame without information")
        self._expected = (self._expected + 1) % MODULUS
        self._advance()
        self._incoming += frame.info
        if len(self._incoming) > MAX_APDU:
            # A meter whose last segment never comes would fill the memory.
            self._incoming.clear()
            self.rejection = self.rejection_of(frame, hdlc.INFO_TOO_LONG)
            raise MeterProtocolError(f"segments of more than {MAX_APDU} octets for one APDU")
        return None if frame.segmented else self._whole()

    def _whole(self) -> bytes:
        self._answer_due = False
        whole = hdlc.without_llc(bytes(self._incoming))
        self._incoming.clear()
        if not whole:
            raise MeterProtocolError("an I frame without an APDU")
        return whole

    def rejection_of(self, frame: Frame, reasons: int) -> bytes:
        """Return the information field of an FRMR to `frame`."""
        return hdlc.encode_rejection(frame, send=self._next_number, receive=self._expected, reasons=reasons)

    def _advance(self) -> None:
        self.progress += 1
        self.polls = self.recoveries = 0

    def _send_window(self) -> None:
        """Send what is not acknowledged, oldest first, and new segments up to the window."""
        if self._sent_before:  # what was on the wire and is not acknowledged goes out once more
            self.recoveries += 1
        while self._segments and len(self._unacknowledged) < self._window_send:
            self._unacknowledged.append(self._segments.popleft())
        last = len(self._unacknowledged) - 1
        for offset, segment in enumerate(self._unacknowledged):
            number = (self._oldest + offset) % MODULUS
            frame = Frame(
                destination=self._peer,
                source=self._own,
                control=self._expected << 5 | (hdlc.POLL if offset == last else 0) | number << 1,
                info=segment.info,
                segmented=segment.more,
            )
            self._out += frame.encode()
        self._sent_before = len(self._unacknowledged)
        self.turn = False

    def _supervise(self, kind: int) -> None:
        self.send_frame(self._expected << 5 | hdlc.POLL | kind)
        self.turn = False
