"""Pushes in general block transfer (Green Book 9.4.6.13), sans-IO: blocks to the APDU, and what they are answered."""

from __future__ import annotations

from protocols.dlms.apdu import gbt
from protocols.dlms.apdu.gbt import GeneralBlock
from protocols.errors import MeterProtocolError

WINDOW = 8
"""Blocks that we take in a row."""


class PushBlocks:
    """Blocks of one sender, one APDU at a time, at most `limit` octets with all that came twice.

    A block that ends a window is acknowledged up to the last one in order, so that what was lost comes again; a
    sender with a window of 0 wants no acknowledgement. `lost` counts APDUs of which the end never came, `repeated` the
    blocks that brought nothing new.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._octets = bytearray()
        self._first = b""
        self._expected = 1
        self._sent = 0
        self._spent = 0
        self._whole = True
        self.lost = 0
        self.repeated = 0

    @property
    def pending(self) -> int:
        """Octets of an APDU of which the end has not come."""
        return 0 if self._whole else len(self._octets)

    def take(self, octets: bytes) -> tuple[bytes | None, bytes | None]:
        """Take a block; return the APDU that it completes, and the block to answer with, None for neither.

        MeterProtocolError for what is no block, and above the limit.
        """
        block = gbt.decode(octets)
        if block.number == 1 and (self._whole or block.data != self._first):
            self._begin(block)
        self._spent += len(octets)
        if self._spent > 2 * self._limit:
            self._give_up()
            raise MeterProtocolError(f"general block transfer of more than {self._limit} octets")
        apdu = self._append(block)
        if block.streaming or not block.window:
            return apdu, None
        return apdu, self._acknowledgement()

    def _begin(self, block: GeneralBlock) -> None:
        self.lost += not self._whole
        self._octets.clear()
        self._first = block.data
        self._expected, self._sent, self._spent, self._whole = 1, 0, 0, False

    def _give_up(self) -> None:
        """Forget an APDU that is too long: what comes of it is counted as repeated, and the next one begins anew."""
        self._octets.clear()
        self._spent, self._whole = 0, True

    def _append(self, block: GeneralBlock) -> bytes | None:
        if self._whole or block.number != self._expected:
            self.repeated += 1  # or the rest of what is lost
            return None
        self._expected += 1
        self._octets += block.data
        if len(self._octets) > self._limit:
            self._give_up()
            raise MeterProtocolError(f"general block transfer of more than {self._limit} octets")
        if not block.last:
            return None
        self._whole = True
        return bytes(self._octets)

    def _acknowledgement(self) -> bytes:
        self._sent += 1
        return gbt.encode(
            GeneralBlock(
                number=self._sent & 0xFFFF, acknowledged=self._expected - 1, window=WINDOW, last=True
            )
        )
