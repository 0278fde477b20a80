"""General block transfer (Green Book 9.4.6.13): one long APDU each way in numbered blocks, with windows; sans-IO.

A block says how many blocks its sender can take in a row (window), whether more follow at once (streaming),
and up to which block it has everything (acknowledged). What was lost is sent again from there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.syntax import Field, OctetString, Record, UnsignedNumber
from protocols.errors import LocalError, MeterProtocolError

TAG = 0xE0
MAX_WINDOW = 63
MAX_APDU = 1 << 20
"""Octets of one APDU put together from blocks: the same bound as a value's."""
MAX_ROUNDS = 20
"""Windows in a row that may bring nothing new before the transfer is given up."""
OVERHEAD = 9
"""Octets of a block beside its data: tag, control, two numbers, and a length of up to four octets."""
_LAST, _STREAMING = 0x80, 0x40


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralBlock:
    """One general-block-transfer APDU."""

    number: int
    acknowledged: int
    window: int = 1
    last: bool = False
    streaming: bool = False
    data: bytes = field(default=b"", repr=False)


class Control(Field[tuple[int, bool, bool]]):
    """Window, streaming and last in one octet."""

    name = "control"

    def read(self, cursor: Cursor) -> tuple[int, bool, bool]:
        octet = cursor.u8()
        return octet & MAX_WINDOW, bool(octet & _STREAMING), bool(octet & _LAST)

    def write(self, value: tuple[int, bool, bool]) -> bytes:
        return bytes((self._octet(value),))

    def show(self, value: tuple[int, bool, bool]) -> str:
        window, streaming, last = value
        return f"{self._octet(value):#04x} (window {window}{', streaming' * streaming}{', last' * last})"

    @staticmethod
    def _octet(value: tuple[int, bool, bool]) -> int:
        window, streaming, last = value
        if not 0 <= window <= MAX_WINDOW:
            raise LocalError(f"a window of {window} blocks does not fit")
        return window | streaming * _STREAMING | last * _LAST


BLOCK = Record(
    GeneralBlock,
    ("window streaming last", Control()),
    ("number", UnsignedNumber("block number", 2)),
    ("acknowledged", UnsignedNumber("block number acknowledged", 2)),
    ("data", OctetString("block")),
)


def encode(block: GeneralBlock) -> bytes:
    """Return the octets of a block; LocalError for numbers that do not fit."""
    return bytes((TAG,)) + BLOCK.write(block)


def decode(octets: bytes) -> GeneralBlock:
    """Return the block that fills `octets`; MeterProtocolError otherwise."""
    cursor = Cursor(octets)
    cursor.expect(TAG)
    block = cursor.field(BLOCK)
    cursor.finish("the block")
    return block


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferStep:
    """What a block led to: blocks to send now, and an APDU when one is complete."""

    send: tuple[GeneralBlock, ...] = ()
    apdu: bytes | None = field(default=None, repr=False)


class BlockTransfer:
    """One exchange in blocks as either side sees it: `send` what is long, `take` what comes.

    `size` is the most octets of data in a block that the far side accepts, `window` how many blocks in a row
    we take, and send at the most: 1 keeps to one at a time where the medium is half-duplex. Numbers run over
    the whole exchange, one count for each way.
    """

    def __init__(self, *, size: int, window: int = 1) -> None:
        if size < 1 or not 1 <= window <= MAX_WINDOW:
            raise LocalError(f"blocks of {size} octets in windows of {window}")
        self._size = size
        self._window = window
        self._peer_window = 1
        self._queue: deque[GeneralBlock] = deque()  # blocks not yet acknowledged
        self._sent = 0
        self._expected = 1
        self._incoming = bytearray()
        self._empty = 0
        self._complete = False
        self._acknowledged: GeneralBlock | None = None
        self._idle_rounds = self._idle_blocks = 0
        self.repeated = 0
        """Blocks that brought nothing new: known already, or behind a gap."""

    @property
    def sending(self) -> bool:
        """Whether blocks of ours still await their acknowledgement."""
        return bool(self._queue)

    def send(self, apdu: bytes) -> tuple[GeneralBlock, ...]:
        """Begin to send an APDU; returns the blocks to send now (one, until the far side's window is known)."""
        pieces = [apdu[i : i + self._size] for i in range(0, len(apdu), self._size)]
        if len(pieces) > 0xFFFF - self._sent:
            raise LocalError(f"an APDU of {len(apdu)} octets needs more blocks than can be numbered")
        first = self._sent + 1
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1
            self._queue.append(GeneralBlock(number=first + index, acknowledged=0, last=last, data=piece))
        self._sent += len(pieces)
        return self._next_window()

    def take(self, block: GeneralBlock) -> TransferStep:
        """Take a block of the far side; MeterProtocolError when it cannot belong to this exchange."""
        if block.acknowledged > self._sent:
            raise MeterProtocolError(f"block {block.acknowledged} is acknowledged, {self._sent} were sent")
        before = len(self._queue), self._expected
        # What the far side has goes first: blocks that it lost are sent again from the oldest that is left.
        while self._queue and self._queue[0].number <= block.acknowledged:
            self._queue.popleft()
        self._peer_window = max(1, min(block.window, self._window))
        apdu = self._receive(block)
        progress = (len(self._queue), self._expected) != before
        self._count_idle(block, progress)
        if block.streaming:  # more comes at once; an answer now would collide with it
            return TransferStep(apdu=apdu)
        self._progressed(progress)
        if self._queue:
            return TransferStep(send=self._next_window(), apdu=apdu)
        if apdu is not None or self._complete:
            # No acknowledgement: the answer to a whole APDU, or the next request, says that it came.
            return TransferStep(apdu=apdu)
        return TransferStep(send=(self._acknowledgement(),), apdu=apdu)

    def again(self) -> tuple[GeneralBlock, ...]:
        """Return what to send when nothing came in time: our last window, or the acknowledgement once more."""
        self._progressed(False)
        if self._queue:
            return self._next_window()
        return (self._acknowledged or self._acknowledgement(),)

    def _count_idle(self, block: GeneralBlock, progress: bool) -> None:
        """Count blocks of a row that bring nothing: no window ends while a far side goes on streaming them."""
        if progress:
            self._idle_blocks = 0
            return
        self._idle_blocks += 1
        self.repeated += bool(block.data)
        if self._idle_blocks > MAX_ROUNDS * self._window:
            raise MeterProtocolError(
                f"general block transfer: {self._idle_blocks} blocks in a row brought nothing new"
            )

    def _progressed(self, progress: bool) -> None:
        self._idle_rounds = 0 if progress else self._idle_rounds + 1
        if self._idle_rounds > MAX_ROUNDS:
            raise MeterProtocolError(f"general block transfer: {MAX_ROUNDS} windows brought nothing new")

    def _receive(self, block: GeneralBlock) -> bytes | None:
        """Take data in order; what is ahead of a gap or known already is passed over, and comes again."""
        if self._complete:
            return None
        if not block.data and not (block.last and self._incoming):  # an acknowledgement only
            # Most count it like any block: the data behind it then has the next number.
            if block.number == self._expected:
                self._empty, self._expected = block.number, block.number + 1
            return None
        if not self._incoming and block.number == self._empty:
            # Some meters do not count acknowledgements: their first data has the same number again.
            self._expected = block.number
        if block.number != self._expected:
            return None
        self._expected += 1
        self._incoming += block.data
        if len(self._incoming) > MAX_APDU:
            raise MeterProtocolError(f"general block transfer of more than {MAX_APDU} octets")
        if not block.last:
            return None
        self._complete = True
        return bytes(self._incoming)

    def _next_window(self) -> tuple[GeneralBlock, ...]:
        ready = list(islice(self._queue, self._peer_window))
        return tuple(
            GeneralBlock(
                number=block.number,
                acknowledged=self._expected - 1,
                window=self._window,
                last=block.last,
                streaming=index < len(ready) - 1,
                data=block.data,
            )
            for index, block in enumerate(ready)
        )

    def _acknowledgement(self) -> GeneralBlock:
        self._sent += 1  # a block without data has a number too
        self._acknowledged = GeneralBlock(
            number=self._sent, acknowledged=self._expected - 1, window=self._window, last=True
        )
        return self._acknowledged
