"""What a simulated meter does by itself: it pushes readings and alerts, and it dials in and then serves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

from protocols.clock import NowSource
from protocols.dlms.apdu import notification
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.notification import DataNotification
from protocols.dlms.apdu.selection import RangeSelection
from protocols.dlms.companion import companion
from protocols.dlms.data.types import Data, Tag, octets, structure
from protocols.dlms.framing import hdlc, mbus, wrapper
from protocols.dlms.framing.hdlc import Address, Frame
from protocols.dlms.profile.layouts import BILLING_DATE, CLOCK
from protocols.dlms.push.body import ALERT_SETUP, ESW_BITS, PROFILE_OF_SETUP
from protocols.dlms.security.ciphered_forms import AUTHENTICATED_ENCRYPTED, Form
from protocols.dlms.security.ciphering import protect_apdu
from protocols.dlms.security.suites import Keys
from protocols.dlms.server.connection import SendCounter, ServerSettings
from protocols.dlms.server.links import MANAGEMENT, WrapperServer
from protocols.errors import LocalError, MeterProtocolError
from protocols.reading import Obis, ProfileName
from protocols.simulator.cosem.model import UTILITY, HouseholdModel
from protocols.simulator.cosem.rows import stamp
from protocols.simulator.dlms.ports import READ_OCTETS, PoweredMeters, simulated_meter
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.script import FaultPlayer

PUSH_CLIENT = 64
SETUPS = {profile: setup for setup, profile in PROFILE_OF_SETUP.items()}
_MAX_FRAME_INFO = 1_900


class PushClient:
    """Writes the pushes of one meter as APDUs: general-glo with `keys`, else plain.

    `counter` is shared with whatever else the meter ciphers with these keys. `control` is the security
    control of what it sends, `faults` what goes wrong with its pushes.
    """

    def __init__(
        self,
        model: HouseholdModel,
        clock: NowSource,
        *,
        keys: Keys | None = None,
        counter: SendCounter | None = None,
        control: int = AUTHENTICATED_ENCRYPTED,
        faults: FaultPlayer | None = None,
    ) -> None:
        self._faults = faults
        self._model = model
        self._clock = clock
        self._keys = keys
        self._counter = counter or SendCounter()
        self._control = control
        self._invoke = 0

    @property
    def device(self) -> str:
        """The device id (0.0.96.1.2) that its bodies carry."""
        return f"{self._model.household.manufacturer}{self._model.household.serial}"

    def instantaneous(self, *, flat: bool = False) -> bytes:
        """Push the registers of now as one row, or `flat`, one element a value."""
        obis = companion().profiles[ProfileName.INSTANTANEOUS].obis
        buffer = self._model.get(UTILITY, Target(7, obis))
        payload = buffer.items[0].items[1:] if flat else (buffer,)
        return self.push(SETUPS[ProfileName.INSTANTANEOUS], *payload)

    def stored(self, profile: ProfileName, since: datetime, until: datetime) -> bytes:
        """Push the rows of a stored profile with since <= stamp <= until."""
        stamped_by = BILLING_DATE if profile is ProfileName.BILLING else CLOCK
        selection = RangeSelection(stamped_by, 2, stamp(since), stamp(until))
        rows = self._model.get(UTILITY, Target(7, companion().profiles[profile].obis, 2, selection))
        return self.push(SETUPS[profile], rows)

    def alert(self, bits: Iterable[int]) -> bytes:
        """Push an event status word with these bits set."""
        wanted = set(bits)
        word = "".join("1" if i in wanted else "0" for i in range(ESW_BITS))
        return self.push(ALERT_SETUP, Data(Tag.BIT_STRING, word))

    def ciphered(self, plain: bytes) -> bytes:
        """Return a push of another form as this meter sends it: general-glo with its keys, else as it is."""
        return plain if self._keys is None else self._general_glo(self._keys, plain)

    def push(self, setup: Obis, *payload: Data) -> bytes:
        """Write one push: device id, setup, clock, payload."""
        self._invoke += 1
        head = (octets(self.device.encode()), octets(setup.to_bytes()), octets(stamp(self._clock.now())))
        plain = notification.encode(
            DataNotification(body=structure(*head, *payload), invoke=self._invoke & 0xFFFFFF)
        )
        return self.ciphered(plain)

    def _general_glo(self, keys: Keys, plain: bytes) -> bytes:
        title = self._model.system_title
        if self._faults is not None and self._faults.fires(FaultKind.PUSH_COUNTER_RESET):
            self._counter.begin_anew()
        if self._faults is not None and self._faults.fires(FaultKind.PUSH_COUNTER_STUCK):
            self._counter.begin_anew(max(self._counter.last - 1, 0))
        counter, form = self._counter(), Form.GENERAL_GLO
        return protect_apdu(keys, title, counter, plain, control=self._control, form=form)


def framed(apdu: bytes, framing: str = "wrapper") -> bytes:
    """Frame a push for the push client.

    `wrapper`, `hdlc` (UI frames, in segments when long), `i-frame` (HDLC I frames, as Kaifa does), `mbus` (wired
    M-Bus long frames) or `bare`.
    """
    match framing:
        case "wrapper":
            return wrapper.encode(MANAGEMENT, PUSH_CLIENT, apdu)
        case "hdlc":
            return _frames(hdlc.LLC_RESPONSE + apdu, hdlc.UI | hdlc.POLL)
        case "i-frame":
            return _frames(hdlc.LLC_RESPONSE + apdu, hdlc.POLL)
        case "mbus":
            return mbus.encode(apdu)
        case "bare":
            return apdu
    raise LocalError(f"framing {framing!r}: wrapper, hdlc, i-frame, mbus or bare")


def _frames(info: bytes, control: int) -> bytes:
    parts = [info[i : i + _MAX_FRAME_INFO] for i in range(0, len(info), _MAX_FRAME_INFO)]
    frames = [
        Frame(
            destination=Address(PUSH_CLIENT),
            source=Address(MANAGEMENT, 16),
            control=control,
            info=part,
            segmented=part is not parts[-1],
        )
        for part in parts
    ]
    return b"".join(frame.encode() for frame in frames)


async def push_tcp(host: str, port: int, *apdus: bytes, framing: str = "wrapper") -> None:
    """Open a connection, push, close. OSError when the far end is not there."""
    _, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"".join(framed(apdu, framing) for apdu in apdus))
        await writer.drain()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def push_udp(host: str, port: int, *apdus: bytes, framing: str = "wrapper") -> None:
    """Send each push in a datagram of its own."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(host, port))
    try:
        for apdu in apdus:
            transport.sendto(framed(apdu, framing))
    finally:
        transport.close()


class DialIn:
    """A meter that opens the TCP connection (wrapper) and answers on it; `push` sends on the same one.

    `open` connects, `run` serves until the far end closes, `close` hangs up: whoever opened it does that, since a
    `run` that is cancelled before its first step closes nothing. Without supply it is silent.
    """

    def __init__(self, model: HouseholdModel, counter_start: int = 0) -> None:
        meter = simulated_meter(model, counter_start=counter_start)
        self._core = WrapperServer(PoweredMeters({MANAGEMENT: meter}), ServerSettings())
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.push_before_answer: bytes | None = None
        """A push that is sent just before the next answer, in the middle of an exchange."""
        self.confirmed: list[int] = []
        """Long invoke ids of its pushes that were confirmed to it in the plain."""

    async def open(self, host: str, port: int) -> None:
        """Connect; OSError when nobody listens."""
        self._reader, self._writer = await asyncio.open_connection(host, port)

    async def run(self) -> None:
        """Answer requests until the far end closes the connection."""
        assert self._reader is not None
        assert self._writer is not None
        try:
            with suppress(MeterProtocolError, OSError):
                while data := await self._reader.read(READ_OCTETS):
                    answer = self._core.receive_data(self._without_confirmations(data))
                    if answer and self.push_before_answer is not None:
                        answer = framed(self.push_before_answer) + answer
                        self.push_before_answer = None
                    self._writer.write(answer)
                    await self._writer.drain()
        finally:
            self._writer.close()

    def _without_confirmations(self, data: bytes) -> bytes:
        """Return what is left of whole frames that came together, after noting what confirms a push."""
        rest = b""
        while len(data) >= wrapper.HEADER_OCTETS:
            end = wrapper.HEADER_OCTETS + int.from_bytes(data[6:8], "big")
            apdu = data[wrapper.HEADER_OCTETS : end]
            if apdu[:1] == bytes((notification.CONFIRM,)) and len(apdu) >= 5:
                self.confirmed.append(int.from_bytes(apdu[1:5], "big"))
            else:
                rest += data[:end]
            data = data[end:]
        return rest + data

    async def push(self, apdu: bytes) -> None:
        """Push on the connection that is polled, too; OSError while there is none."""
        if self._writer is None or self._writer.is_closing():
            raise OSError("not connected")
        self._writer.write(framed(apdu))
        await self._writer.drain()

    async def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()
