"""A meter that keeps a block load and answers in the ways that real ones do, and an exchange without a wire to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.companion import companion
from protocols.dlms.core.outcomes import object_refusal
from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.types import Data, array
from protocols.dlms.reading.layout_cache import LayoutCache, Layouts
from protocols.dlms.reading.reader import ProfileReader
from protocols.dlms.server.model import AccessDenied
from protocols.errors import MeterRefused, NotSupported, ProtocolError
from protocols.reading import Obis, ProfileName, ReadingSet
from tests.support.dlms.bench import START, SmallMeter
from tests.support.fakes import ManualClock

NOW = START + timedelta(hours=48, minutes=10)
IST = ZoneInfo("Asia/Kolkata")
BLOCKS = Obis(1, 0, 99, 1, 0)
Answer = Callable[[list[Data], RangeSelection | EntrySelection | None], list[Data]]
"""What a scripted meter makes of the rows of a profile for a selection; AccessDenied refuses."""


def wall(octets: bytes) -> datetime:
    """Read a range's end as a meter does that heeds the wall clock alone."""
    return cosem_time.decode(octets[:9] + b"\x80\x00" + octets[11:], IST).at or datetime.max.replace(
        tzinfo=UTC
    )


def stamp_of(row: Data) -> datetime:
    return cosem_time.decode(row.items[0].octets or b"").at or datetime.min.replace(tzinfo=UTC)


def in_range(rows: list[Data], selection: RangeSelection) -> list[Data]:
    return [row for row in rows if wall(selection.since) <= stamp_of(row) <= wall(selection.until)]


def plain(rows: list[Data], selection: RangeSelection | EntrySelection | None) -> list[Data]:
    """Answer as a good meter does."""
    if isinstance(selection, RangeSelection):
        return in_range(rows, selection)
    if isinstance(selection, EntrySelection):
        return rows[selection.first - 1 : selection.last or None]
    return rows


class ScriptedExchange:
    """Stands for `ResumingExchange` on a line without faults.

    It asks the model itself, through A-XDR, and counts what was asked.
    """

    def __init__(self, meter: SmallMeter, answer: Answer = plain, only: Obis | None = BLOCKS) -> None:
        self.meter = meter
        self.answer = answer
        self.only = only
        self.asked: Counter[str] = Counter()
        self.buffers: list[RangeSelection | EntrySelection | None] = []

    def holds(self, target: Target) -> bool:
        return False

    async def get(self, target: Target) -> Data:
        return axdr.decode(await self.get_octets(target))

    async def get_octets(self, target: Target) -> bytes:
        obis, selection = target.obis, target.selection
        self.asked[str(target)] += 1
        try:
            if (target.class_id, target.index) == (7, 2) and self.only in (None, obis):
                self.buffers.append(selection)
                rows = list(self.meter.get(48, Target(7, obis)).items)
                value = array(*self.answer(rows, selection))
            else:
                value = self.meter.get(48, target)
        except AccessDenied as denied:
            raise object_refusal(denied.code, f"read of {target}") from denied
        return axdr.encode(value)

    partial = b""
    get_octets_once = get_octets

    async def recover(self, error: ProtocolError, *, progress: bool = False) -> None:
        raise error

    async def get_many(self, targets: Sequence[Target]) -> list[Data | ProtocolError]:
        found: list[Data | ProtocolError] = []
        for target in targets:
            try:
                found.append(await self.get(target))
            except (NotSupported, MeterRefused) as error:
                found.append(error)
        return found


def reader_of(
    exchange: ScriptedExchange,
    *,
    cache: Layouts | None = None,
    meter: str = "7",
    name: str = "is15959",
    now: datetime = NOW,
    zone: ZoneInfo = IST,
) -> ProfileReader:
    """Make a reader of that meter; a cache of its own unless one is given."""
    shared = LayoutCache({} if cache is None else cache, f"GEN:{meter}", "F1")
    return ProfileReader(exchange, zone, ManualClock(now), shared, companion(name))  # type: ignore[arg-type]


async def collect(
    reader: ProfileReader, profile: ProfileName, since: datetime | None = None, until: datetime | None = None
) -> list[ReadingSet]:
    return [row async for row in reader.read(profile, since, until)]
