"""The gateway's prefix (Green Book 10.5): many meters behind one concentrator, each APDU with its meter's address.

E6 network, length, address, APDU     to the meter; also what a meter sends by itself
E7 network, length, address, APDU     its answer
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.dlms.data.cursor import Cursor, encode_length
from protocols.dlms.framing.link import ApduReceived, ClientLink, LinkEvent
from protocols.errors import LocalError, MeterProtocolError
from protocols.unused import Unused, UnusedCounter

REQUEST, RESPONSE = 0xE6, 0xE7
MAX_ADDRESS = 64
"""Octets of a physical device address; serial numbers have some ten."""


@dataclass(frozen=True, slots=True)
class Behind:
    """Which meter behind a gateway: the number of its network there, and its physical device address."""

    network: int
    address: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.network <= 0xFF or not 1 <= len(self.address) <= MAX_ADDRESS:
            raise LocalError(f"a network is 0 to 255, an address has 1 to {MAX_ADDRESS} octets")

    def prefix(self, tag: int) -> bytes:
        """Return what stands before an APDU."""
        return bytes((tag, self.network)) + encode_length(len(self.address)) + self.address

    def __str__(self) -> str:
        shown = self.address.decode("latin-1")
        return f"network {self.network}, {shown if shown.isprintable() else self.address.hex()}"


def parted(octets: bytes) -> tuple[int, Behind, bytes]:
    """Return tag, meter and APDU; MeterProtocolError for octets without a whole prefix, or nothing behind it."""
    cursor = Cursor(octets)
    tag, network = cursor.u8(), cursor.u8()
    length = cursor.length()
    if tag not in (REQUEST, RESPONSE) or not 1 <= length <= MAX_ADDRESS:
        raise cursor.error("no gateway prefix")
    meter = Behind(network, cursor.take(length))
    apdu = cursor.rest()
    if not apdu:
        raise MeterProtocolError("a gateway prefix without an APDU")
    return tag, meter, apdu


class GatewayLink:
    """A `ClientLink` to one meter behind a gateway: what comes from another meter, or from nobody, is never used.

    A meter that answers late, after another was asked, is told by its address alone: nothing else in the
    wrapper differs. What is passed over is counted, and named where silence follows.
    """

    def __init__(self, inner: ClientLink, meter: Behind) -> None:
        self._inner = inner
        self._meter = meter
        self._strays = 0
        self._complaint = ""

    @property
    def unused(self) -> UnusedCounter:
        """See `ClientLink`."""
        return self._inner.unused

    @property
    def progress(self) -> int:
        """See `ClientLink`; what another meter sent is no progress of ours."""
        return self._inner.progress - self._strays

    @property
    def busy(self) -> bool:
        """See `ClientLink`."""
        return self._inner.busy

    @property
    def noise(self) -> int:
        """See `ClientLink`."""
        return self._inner.noise + self._strays

    @property
    def complaint(self) -> str:
        """See `ClientLink`."""
        return self._complaint or self._inner.complaint

    def open(self) -> list[LinkEvent]:
        """See `ClientLink`: the link is that to the gateway."""
        return self._ours(self._inner.open())

    def close(self) -> list[LinkEvent]:
        """See `ClientLink`."""
        return self._ours(self._inner.close())

    def send(self, apdu: bytes) -> None:
        """Queue one APDU with the meter's prefix."""
        self._inner.send(self._meter.prefix(REQUEST) + apdu)

    def expect(self) -> None:
        """See `ClientLink`."""
        self._inner.expect()

    def data_to_send(self) -> bytes:
        """See `ClientLink`."""
        return self._inner.data_to_send()

    def timed_out(self) -> bool:
        """See `ClientLink`."""
        return self._inner.timed_out()

    def receive_data(self, data: bytes) -> list[LinkEvent]:
        """Take octets and return the APDUs of this meter alone."""
        return self._ours(self._inner.receive_data(data))

    def _ours(self, events: list[LinkEvent]) -> list[LinkEvent]:
        found: list[LinkEvent] = []
        for event in events:
            if not isinstance(event, ApduReceived):
                found.append(event)
            elif (apdu := self._own(event)) is not None:
                found.append(apdu)
        return found

    def _own(self, event: ApduReceived) -> ApduReceived | None:
        try:
            tag, meter, apdu = parted(event.apdu)
        except MeterProtocolError:
            self._pass_over(f"the gateway itself answered {event.apdu[:4].hex()}")
            return None
        if meter != self._meter:
            self._pass_over(f"an APDU of another meter came ({meter})")
            return None
        return ApduReceived(apdu, unasked=event.unasked or tag == REQUEST)

    def _pass_over(self, complaint: str) -> None:
        self._strays += 1
        self._complaint = complaint
        self.unused[Unused.OTHER_METER] += 1
