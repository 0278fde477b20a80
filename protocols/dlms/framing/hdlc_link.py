"""HDLC as a client uses it (IEC 62056-46, normal response mode): connect, negotiate, recover, disconnect.

What is damaged or lost is asked for again: at once when a frame with a right header and the final bit is
damaged (then the turn is certainly ours), else when the shell says that the reply time is over.
"""

from __future__ import annotations

from protocols.dlms.framing import hdlc
from protocols.dlms.framing.hdlc import MAX_WINDOW, Address, BadFrame, Frame, FrameDecoder, Parameters
from protocols.dlms.framing.hdlc_channel import MAX_INFO, Channel
from protocols.dlms.framing.link import ApduReceived, LinkClosed, LinkEvent, LinkOpened
from protocols.errors import MeterConfigError, MeterProtocolError, MeterRefused, MeterSilent
from protocols.unused import Unused, UnusedCounter

MAX_RETRIES = 2
"""Repetitions after silence without any progress; the meter is silent after one reply time more than these."""
CONNECT_RETRIES = 1
"""Repetitions of SNRM and DISC: an absent station must not hold a bus for long."""
MAX_RECOVERIES = 8
"""Repetitions after damaged, missing or unacknowledged frames without any progress."""
MAX_POLLS = 300
"""Polls in a row of a meter that is busy or has no answer yet (half a minute in the asyncio shell)."""


class HdlcClientLink:
    """HDLC as one client uses it towards one logical device (see `ClientLink`).

    `max_info` (octets of an information field) and `window` (I frames in flight, 1 to 7) are what we offer and
    accept; SNRM states them only when they are not the defaults 128 and 1, as Indian readers do.
    `address_octets` is the width of the server address: 0 (as short as fits), 1 (logical device only), 2 or 4.
    `unused` counts the frames that are passed over.
    """

    def __init__(
        self,
        *,
        client: int,
        server: int,
        physical: int | None = None,
        max_info: int = hdlc.DEFAULT_INFO,
        window: int = 1,
        address_octets: int = 0,
        unused: UnusedCounter | None = None,
    ) -> None:
        if not 1 <= window <= MAX_WINDOW or max_info < hdlc.MIN_INFO:
            raise MeterConfigError(
                f"HDLC window {window} and information field {max_info}: "
                f"1 to {MAX_WINDOW} and at least {hdlc.MIN_INFO} octets are possible"
            )
        if address_octets not in (0, 1, 2, 4):
            raise MeterConfigError(f"an HDLC server address has 1, 2 or 4 octets, not {address_octets}")
        self._own = Address(client, None, 1)
        self._peer = Address.server(server, physical, address_octets)
        max_info = min(max_info, MAX_INFO)
        self._offer = Parameters(
            transmit=max_info, receive=max_info, window_transmit=window, window_receive=window
        )
        self._decoder = FrameDecoder()
        self._channel = self._new_channel(Parameters())
        self._awaiting: int | None = None  # SNRM or DISC while its UA is awaited
        self._progress_before = 0
        self._retries = 0
        self._damaged = 0
        self._ignored = 0
        self._complaint = ""
        self.unused = UnusedCounter() if unused is None else unused

    @property
    def noise(self) -> int:
        """Octets outside frames, and frames for others."""
        return self._decoder.noise + self._decoder.pending + self._ignored

    @property
    def progress(self) -> int:
        """See `ClientLink`."""
        return self._progress_before + self._channel.progress

    @property
    def busy(self) -> bool:
        """See `ClientLink`; the first poll is free, since a meter may answer RR just before its answer."""
        return self._channel.polls > 1

    @property
    def complaint(self) -> str:
        """See `ClientLink`."""
        return self._complaint

    def open(self) -> list[LinkEvent]:
        """Ask for the connection (SNRM)."""
        self._begin_command(hdlc.SNRM)
        return []

    def close(self) -> list[LinkEvent]:
        """Ask for the end of the connection (DISC)."""
        self._begin_command(hdlc.DISC)
        return []

    def send(self, apdu: bytes) -> None:
        """Queue one APDU."""
        self._retries = self._damaged = 0
        self._channel.send(apdu)

    def expect(self) -> None:
        """Poll (RR) for a further APDU when the turn is ours. See `ClientLink`."""
        if self._awaiting is None:
            self._channel.expect()

    def data_to_send(self) -> bytes:
        """Return and forget what must go out now."""
        return self._channel.data_to_send()

    def timed_out(self) -> bool:
        """Repeat SNRM or DISC; else poll with RR first, then send again what is not acknowledged.

        The poll comes first because the meter may have carried out the request already. See `ClientLink`.
        """
        self._decoder.reset()
        waiting = self._awaiting is not None or not self._channel.turn
        if not waiting or self._retries >= (MAX_RETRIES if self._awaiting is None else CONNECT_RETRIES):
            return False
        self._retries += 1
        if self._awaiting is not None:
            self._repeat_command()
        elif self._retries % 2:
            self._channel.poll()  # its N(R) tells whether the request or the answer was lost
        else:
            self._channel.resend()  # the poll was lost too, or a meter does not answer polls
        return True

    def receive_data(self, data: bytes) -> list[LinkEvent]:
        """Take octets; what is damaged or not from our meter is passed over, counted, and recovered from.

        Raises MeterRefused (DM to SNRM), MeterSilent (busy for MAX_POLLS), MeterProtocolError (FRMR, sequence
        error, MAX_RECOVERIES used up).
        """
        events: list[LinkEvent] = []
        for frame in self._decoder.receive_data(data):
            if isinstance(frame, BadFrame):
                self.unused[frame.cause] += 1
                self._recover(frame)
            elif frame.kind == hdlc.UI:
                # A push names its sender itself and goes to the push client's address: neither is compared.
                if apdu := hdlc.without_llc(frame.info):
                    events.append(ApduReceived(apdu, unasked=True, back=frame.answered))
                else:
                    self.unused[Unused.EMPTY] += 1
            elif self._is_ours(frame):
                events += self._handle(frame)
            else:
                self._ignore(Unused.WRONG_ADDRESS, f"a frame from HDLC station {frame.source} came")
        return events

    def _is_ours(self, frame: Frame) -> bool:
        return frame.destination.matches(self._own) and frame.source.matches(self._peer)

    def _ignore(self, cause: Unused, complaint: str) -> None:
        self._ignored += 1
        self.unused[cause] += 1
        self._complaint = complaint

    def _begin_command(self, command: int) -> None:
        self._replace_channel(Parameters())
        self._awaiting = command
        self._retries = self._damaged = 0
        self._repeat_command()

    def _repeat_command(self) -> None:
        assert self._awaiting is not None
        plain = self._awaiting != hdlc.SNRM or self._offer == Parameters()
        self._channel.send_frame(self._awaiting | hdlc.POLL, b"" if plain else self._offer.encode())

    def _recover(self, bad: BadFrame) -> None:
        """Act at once on a damaged frame that gave us the turn; the others are left to the reply time."""
        self._complaint = bad.reason
        head = bad.head
        waiting = self._awaiting is not None or not self._channel.turn
        if head is None or not head.final or not self._is_ours(head) or not waiting:
            # Without a right header nobody knows whose turn it is; speaking now could collide on the bus.
            return
        self._damaged += 1
        if self._damaged > MAX_RECOVERIES:
            raise MeterProtocolError(f"{self._damaged} damaged answers in a row: {bad.reason}")
        if self._awaiting is None:
            self._channel.poll()
        else:
            self._repeat_command()

    def _handle(self, frame: Frame) -> list[LinkEvent]:
        awaiting = self._awaiting
        match frame.kind:
            case hdlc.UA if awaiting == hdlc.SNRM:
                granted = Parameters.decode(frame.info)
                self._awaiting = None
                self._replace_channel(granted)
                return [LinkOpened()]
            case hdlc.UA | hdlc.DM if awaiting == hdlc.DISC:
                self._awaiting = None
                self._channel.turn = True
                return [LinkClosed()]
            case hdlc.DM if awaiting == hdlc.SNRM:
                raise MeterRefused("the meter refuses the HDLC connection (DM): busy with another client?")
            case hdlc.DM:  # the meter dropped the connection: its inactivity timeout, or a restart
                return [LinkClosed()]
            case hdlc.FRMR if awaiting != hdlc.DISC:
                detail = hdlc.rejection_text(frame.info)
                raise MeterProtocolError(
                    f"the meter rejected our HDLC frame (FRMR){detail and ': ' + detail}"
                )
            case 0 | hdlc.RR | hdlc.RNR | hdlc.REJ if awaiting is None:
                return self._exchange(frame)
        # Left of an earlier exchange: frames still come after SNRM on a slow modem.
        self._ignore(Unused.UNEXPECTED_CONTROL, f"an HDLC frame with control {frame.control:#04x} came")
        return []

    def _exchange(self, frame: Frame) -> list[LinkEvent]:
        channel = self._channel
        had_turn, progress, repeated = channel.turn, channel.progress, channel.repeated
        apdu = channel.receive(frame)
        self.unused[Unused.OUT_OF_SEQUENCE] += channel.repeated - repeated
        if channel.progress != progress:
            self._retries = self._damaged = 0
        if not had_turn:  # else the frame came unasked, and answering it would send our window twice
            channel.transmit()
        if channel.polls > MAX_POLLS:
            raise MeterSilent(f"the meter stays busy: {MAX_POLLS} polls (RR) brought no answer")
        if channel.recoveries > MAX_RECOVERIES:
            raise MeterProtocolError(f"HDLC frames were repeated {MAX_RECOVERIES} times without any progress")
        return [] if apdu is None else [ApduReceived(apdu)]

    def _replace_channel(self, granted: Parameters) -> None:
        self._progress_before += self._channel.progress + 1
        self._channel = self._new_channel(granted)

    def _new_channel(self, granted: Parameters) -> Channel:
        """Return a channel within what the meter grants and what we offered."""
        return Channel(
            own=self._own,
            peer=self._peer,
            is_client=True,
            max_send=min(granted.receive, self._offer.receive),
            window_send=min(granted.window_receive, self._offer.window_transmit),
            window_receive=min(granted.window_transmit, self._offer.window_receive),
        )
