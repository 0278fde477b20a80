"""The image target of a simulated meter (class 18): it keeps blocks, verifies, activates, and shows another version.

An image for simulated meters is any octets whose first line is `SIMFW MAKER VERSION`: a meter of that maker runs
that version once the image is activated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from protocols.clock import NowSource
from protocols.dlms.data.types import (
    Data,
    Tag,
    array,
    boolean,
    double_long_unsigned,
    enum,
    octets,
    structure,
)
from protocols.dlms.objects.image import ImageStatus
from protocols.dlms.server.model import OTHER_REASON, TYPE_UNMATCHED, AccessDenied
from protocols.reading import Obis
from protocols.simulator.cosem.objects import Memory, Served, live
from protocols.simulator.cosem.rows import IST

IMAGE_TRANSFER = Obis(0, 0, 44, 0, 0)
IMAGE_SCHEDULE = Obis(0, 0, 15, 0, 2)
BLOCK_SIZE = 256
MAX_IMAGE = 4 << 20
MAX_IDENTIFIER = 64
TEMPORARY_FAILURE = 2
_ACTIVATED = 157
_MAGIC = "SIMFW"


def image_for(maker: str, version: str, size: int) -> bytes:
    """Return an image that makes a simulated meter run a version; `size` octets at least."""
    head = f"{_MAGIC} {maker} {version}\n".encode()
    return head + bytes(n % 251 for n in range(max(0, size - len(head))))


@dataclass(frozen=True, slots=True)
class _Transfer:
    identifier: bytes
    size: int


SIGNATURE = 16
"""Octets of an image's signature."""


class ImageTarget:
    """Implements image transfer; `version` is what the meter runs now.

    With `signs` it shows of a verified image the first octets of its SHA-256, as its signature.
    """

    signs = True

    def __init__(
        self, maker: str, version: str, clock: NowSource, memory: Memory, note: Callable[[int], None]
    ) -> None:
        self.version = version
        self.status = ImageStatus.NOT_INITIATED
        self.block_size = BLOCK_SIZE
        self.activations = 0
        self._maker = maker
        self._before = version
        self._clock = clock
        self._memory = memory
        self._note = note
        self._enabled = False
        self._transfer: _Transfer | None = None
        self._blocks: dict[int, bytes] = {}

    def served(self) -> Served:
        """Return the object."""
        return Served(
            18,
            {
                2: live(lambda: double_long_unsigned(self.block_size)),
                3: live(self._bits),
                4: live(lambda: double_long_unsigned(self._first_missing())),
                5: live(lambda: boolean(self._enabled)),
                6: live(self._shown_status),
                7: live(self._info),
            },
            {5: self._enable},
            {1: self._initiate, 2: self._take, 3: self._verify, 4: self._activate},
        )

    # what faults do

    def forget(self) -> None:
        """Lose the transfer that goes on, as a meter without a place to keep it does in a power cut."""
        if self.status is ImageStatus.INITIATED:
            self._transfer, self.status = None, ImageStatus.NOT_INITIATED
            self._blocks.clear()

    def change_block_size(self, size: int) -> None:
        """Want blocks of another size from now on."""
        if size != self.block_size:
            self.block_size = size
            self.forget()

    def fail(self, status: ImageStatus) -> None:
        """Come to a bad end."""
        self.status = status

    def roll_back(self) -> None:
        """Come back on the version of before."""
        self.version = self._before

    def activate_now(self) -> None:
        """Activate what was verified."""
        self.activations += 1
        self._before = self.version
        found = self._parsed()
        if found is not None:
            self.version = found
        self.status = ImageStatus.ACTIVATED
        self._note(_ACTIVATED)

    def tick(self) -> None:
        """Activate the image when its time in the schedule has come."""
        if self.status is not ImageStatus.VERIFIED:
            return
        written = self._memory.get(IMAGE_SCHEDULE, 4)
        now = self._clock.now()
        if written is not None and any(
            (at := _instant(one)) is not None and at <= now for one in written.items
        ):
            self.activate_now()

    # attributes

    def _count(self) -> int:
        return 0 if self._transfer is None else -(-self._transfer.size // self.block_size)

    def _bits(self) -> Data:
        return Data(Tag.BIT_STRING, "".join("1" if n in self._blocks else "0" for n in range(self._count())))

    def _first_missing(self) -> int:
        count = self._count()
        return next((n for n in range(count) if n not in self._blocks), count)

    def _shown_status(self) -> Data:
        self.tick()
        return enum(self.status)

    def _info(self) -> Data:
        if self._transfer is None or self.status not in (ImageStatus.VERIFIED, ImageStatus.ACTIVATED):
            return array()
        signature = hashlib.sha256(self.content).digest()[:SIGNATURE] if self.signs else b""
        return array(
            structure(
                double_long_unsigned(self._transfer.size),
                octets(self._transfer.identifier),
                octets(signature),
            )
        )

    def _enable(self, value: Data) -> None:
        if not isinstance(value.value, bool):
            raise AccessDenied(TYPE_UNMATCHED)
        self._enabled = value.value

    # methods

    def _initiate(self, parameter: Data | None) -> None:
        identifier, size = _two(parameter)
        if not self._enabled or not isinstance(identifier, bytes) or not isinstance(size, int):
            raise AccessDenied(TYPE_UNMATCHED if self._enabled else OTHER_REASON)
        if not 0 < size <= MAX_IMAGE or not 0 < len(identifier) <= MAX_IDENTIFIER:
            raise AccessDenied(OTHER_REASON)
        self._transfer = _Transfer(identifier, size)
        self._blocks.clear()
        self.status = ImageStatus.INITIATED

    def _take(self, parameter: Data | None) -> None:
        number, value = _two(parameter)
        if not isinstance(number, int) or not isinstance(value, bytes):
            raise AccessDenied(TYPE_UNMATCHED)
        if self._transfer is None or self.status is not ImageStatus.INITIATED or number >= self._count():
            raise AccessDenied(OTHER_REASON)
        if len(value) != min(self.block_size, self._transfer.size - number * self.block_size):
            raise AccessDenied(TYPE_UNMATCHED)
        self._blocks[number] = value

    def _verify(self, _parameter: Data | None) -> None:
        if self._transfer is None or self._first_missing() < self._count():
            raise AccessDenied(OTHER_REASON)
        self.status = ImageStatus.VERIFICATION_FAILED if self._parsed() is None else ImageStatus.VERIFIED
        if self.status is ImageStatus.VERIFICATION_FAILED:
            raise AccessDenied(OTHER_REASON)

    def _activate(self, _parameter: Data | None) -> None:
        if self.status is not ImageStatus.VERIFIED:
            raise AccessDenied(OTHER_REASON)
        self.activate_now()

    @property
    def content(self) -> bytes:
        """The blocks that are there, in their order."""
        return b"".join(value for _, value in sorted(self._blocks.items()))

    def _parsed(self) -> str | None:
        """Return the version that the image holds; None when it is no image for this maker's meters."""
        words = self.content[:200].partition(b"\n")[0].decode("ascii", "replace").split()
        right = len(words) == 3 and words[:2] == [_MAGIC, self._maker]
        return words[2] if right else None


def _two(parameter: Data | None) -> tuple[object, object]:
    items = () if parameter is None else parameter.items
    return (items[0].value, items[1].value) if len(items) == 2 else (None, None)


def _instant(entry: Data) -> datetime | None:
    """Return when an entry of execution_time runs, None where a part of it is open."""
    time, date = (item.octets or b"" for item in entry.items[:2]) if len(entry.items) == 2 else (b"", b"")
    if len(time) != 4 or len(date) != 5:
        return None
    try:
        year = int.from_bytes(date[:2], "big")
        return datetime(year, date[2], date[3], time[0], time[1], time[2] % 0xFF, tzinfo=IST)
    except ValueError:
        return None
