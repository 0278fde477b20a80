"""Who a meter is, read as cheaply as it can be: by its serial and firmware where the rest is known of before."""

from __future__ import annotations

from datetime import datetime

from protocols.dlms.apdu.lists import Target
from protocols.dlms.client.resuming_exchange import ResumingExchange
from protocols.dlms.data.types import Data
from protocols.dlms.data.values import text_of
from protocols.dlms.reading.known_meter import MeterNotes
from protocols.dlms.reading.visit_plan import FIRMWARE, IDENTITY, SERIAL
from protocols.errors import MeterProtocolError, ProtocolError
from protocols.reading import Nameplate


async def read_nameplate(
    exchange: ResumingExchange, notes: MeterNotes, title: bytes, expected: str | None, now: datetime
) -> Nameplate:
    """Return who answers, and note it; `title` is the system title that it shows, `expected` the meter that is meant.

    Raises what `ResumingExchange.get_many` raises; MeterProtocolError for a meter without a serial.
    """
    known = notes.known
    if known.nameplate is not None and known.title == title.hex() and known.named(now):
        serial, firmware = await exchange.get_many([Target(1, SERIAL), Target(1, FIRMWARE)])
        version = "" if isinstance(firmware, ProtocolError) else text_of(firmware)
        if _serial(serial) == known.nameplate.serial and version == known.nameplate.firmware:
            return known.nameplate
    plate = await _read_whole(exchange, title, expected)
    if known.nameplate is None or plate.firmware != known.nameplate.firmware:
        notes.new_firmware()
    # what it lacks, how it chooses rows and how much its logs hold is found out anew each day
    notes.note(
        nameplate=plate,
        title=title.hex(),
        named_at=now,
        without=frozenset(),
        methods={},
        capacities={},
    )
    return plate


async def _read_whole(exchange: ResumingExchange, title: bytes, expected: str | None) -> Nameplate:
    serial, *names = await exchange.get_many([Target(1, obis, 2) for obis in IDENTITY])
    number = _serial(serial)
    # beside the serial all may be missing: older meters lack objects, or refuse them to this client
    year, maker, firmware, model = ("" if isinstance(n, ProtocolError) else text_of(n) for n in names)
    makers = [n for n in (flag_letters(title), letters(maker)) if n]
    meant = (expected or "").partition(":")[0]
    return Nameplate(
        manufacturer=meant if meant in makers else next(iter(makers), ""),
        serial=number,
        firmware=firmware,
        model=model,
        year=int(year) if year.isdecimal() and year.isascii() else None,
    )


def _serial(found: Data | ProtocolError) -> str:
    """Return the serial; raises why there is none."""
    if isinstance(found, ProtocolError):
        raise found
    number = text_of(found)
    if not number:
        raise MeterProtocolError("the meter's serial (0.0.96.1.0) is empty")
    return number


def flag_letters(system_title: bytes) -> str:
    """Return the three FLAG letters that a system title begins with, or "" when it does not."""
    head = system_title[:3]
    return letters(head.decode("ascii")) if head.isalpha() and head.isascii() else ""


def letters(name: str) -> str:
    """Return the first three letters of a maker's name in upper case (`GENUS POWER` is `GEN`)."""
    return "".join(c for c in name.upper() if c.isascii() and c.isalpha())[:3]
