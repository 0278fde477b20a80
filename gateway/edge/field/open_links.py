"""Which conversations a turn has opened on a line and not ended, so that they can be ended for a command that died."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.dlms.framing import hdlc
from protocols.errors import ProtocolError
from protocols.modbus.framing.write_requests import is_write


@dataclass(frozen=True, slots=True)
class _Link:
    server: hdlc.Address
    client: hdlc.Address


class OpenLinks:
    """Looks at what is sent: HDLC links that SNRM opened and no DISC ended, and whether a Modbus meter was written to.

    What is no HDLC and no Modbus frame passes unseen: the line is hung up behind it, or kept quiet.
    """

    def __init__(self) -> None:
        self._decoder = hdlc.FrameDecoder()
        self._links: dict[_Link, None] = {}
        self.wrote = False

    def sent(self, octets: bytes) -> None:
        """Take note of octets that are sent."""
        self.wrote = self.wrote or is_write(octets)
        try:
            events = self._decoder.receive_data(octets)
        except ProtocolError:
            return
        for event in events:
            if not isinstance(event, hdlc.Frame):
                continue
            link = _Link(event.destination, event.source)
            if event.kind == hdlc.SNRM:
                self._links[link] = None
            elif event.kind == hdlc.DISC:
                self._links.pop(link, None)

    def farewells(self) -> list[bytes]:
        """Return the DISC frames that end what is open."""
        return [
            hdlc.Frame(destination=link.server, source=link.client, control=hdlc.DISC | hdlc.POLL).encode()
            for link in self._links
        ]
