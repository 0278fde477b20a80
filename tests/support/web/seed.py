"""A small neighbourhood in a real directory and a real ledger, for the tests of the pages."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from fastapi import FastAPI

from gateway.central.campaign.store import CampaignStore
from gateway.central.directory.places import follow_places
from gateway.central.ledger.ledger import Ledger
from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleStore
from gateway.central.portal.asking import AskingLimits
from gateway.central.portal.otp import CodeMessage, OneTimeCodes, SendKind
from gateway.central.portal.view_models import MeterChoice, Overview
from gateway.central.portal.views import Views
from gateway.contract.messages import (
    Alarm,
    Batch,
    Capture,
    CaptureValue,
    ClockStatus,
    Gap,
    LineStatus,
    MessageMeterTime,
    MeterStatus,
    Status,
)
from gateway.web.app import THIS_MACHINE, create_app
from gateway.web.site import Site
from mapping.changes import Change, Install, MoveIn, MoveOut, Name
from mapping.directory import NumberKind, Role
from mapping.store import DirectoryStore
from tests.support.central.samples import received, tell_status
from tests.support.fakes import ManualClock

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)  # 14:30 in Kanpur
OLD_DAYS = datetime(2026, 1, 1, tzinfo=UTC)
MOVE = datetime(2026, 11, 20, 18, 30, tzinfo=UTC)  # midnight in Kanpur
SECRET = b"only for the tests of the pages!"
HALF = timedelta(minutes=30)
NUMBERS = {"asha": "1234567890", "birju": "2345678901", "chand": "3456789012", "devi": "4567890123"}
LEGACY = {
    "asha": "KE0012345",
    "birju": "KE0012346",
    "chand": "KE0012347",
    "devi": "KE0012348",
    "esha": "KE0012349",
}


@dataclass
class Writer:
    """Writes captures of one edge's journal into the ledger."""

    ledger: Ledger
    journal: str = field(default_factory=lambda: str(uuid.uuid4()))
    seq: int = 0

    def write(self, *captures: Capture, gaps: tuple[Gap, ...] = ()) -> None:
        numbered = []
        for capture in captures:
            self.seq += 1
            numbered.append(capture.model_copy(update={"seq": self.seq}))
        holes = []
        for gap in gaps:
            self.seq += 1
            holes.append(gap.model_copy(update={"seq": self.seq}))
        if not numbered and not holes:
            return
        first = self.seq - len(numbered) - len(holes) + 1
        batch = Batch(
            journal=self.journal,
            gateway="edge-1",
            first_seq=first,
            last_seq=self.seq,
            captures=tuple(numbered),
            gaps=tuple(holes),
        )
        self.ledger.ingest([received(batch, NOW)])


def value(
    q: str, number: str | Decimal | None = None, unit: str | None = None, **more: object
) -> CaptureValue:
    told = None if number is None else str(number)
    return CaptureValue.model_validate({"q": q, "name": q, "unit": unit, "value": told, **more})


def capture(
    meter: str,
    profile: str,
    at: datetime,
    *values: CaptureValue,
    start: datetime | None = None,
    **more: object,
) -> Capture:
    return Capture.model_validate(
        {
            "capture_id": f"{meter}/{profile}/{at.isoformat()}/0",
            "value_rev": 1,
            "meter": meter,
            "profile": profile,
            "at": at,
            "start": start,
            "meter_time": None,
            "received_at": at,
            "quality": "1.0.0",
            "values": values,
            "attributions": (),
            "reason": None,
            "directory_version": 0,
            **more,
        }
    )


def block(meter: str, end: datetime, wh: int) -> Capture:
    return capture(meter, "block_load", end, value("1-0:1.29.0*255", str(wh), "Wh"), start=end - HALF)


def live(meter: str, at: datetime, wh: int, relay: str | None = None) -> Capture:
    values = [value("1-0:1.8.0*255", str(wh), "Wh"), value("1-0:12.7.0*255", "231.4", "V")]
    if relay is not None:
        values.append(value("0-0:96.3.10*255", text=relay))
    return capture(meter, "instantaneous", at, *values)


def wallet(meter: str, at: datetime, rupees: str, recharge: str = "500.00") -> Capture:
    return capture(
        meter,
        "prepayment",
        at,
        value("0-0:94.96.24*255", rupees, "INR"),
        value("0-0:94.96.25*255", instant=at),
        value("0-0:94.96.21*255", recharge, "INR"),
        value("0-0:94.96.22*255", instant=NOW - timedelta(days=6, hours=3)),
    )


def load_wh(at: datetime) -> int:
    """Plausible energy of a half-hour that ends at `at`: low at night, high in the evening."""
    hour = (at + timedelta(hours=5, minutes=30)).hour
    shape = [
        60,
        50,
        45,
        45,
        60,
        110,
        210,
        260,
        230,
        170,
        150,
        160,
        190,
        180,
        150,
        150,
        190,
        290,
        410,
        460,
        420,
        330,
        190,
        90,
    ]
    return shape[hour] + (at.day * 7 + at.hour * 3) % 40


def history(meter: str, until: datetime, days: int = 9) -> list[Capture]:
    ends = [until - i * HALF for i in range(days * 48)]
    return [block(meter, end, load_wh(end)) for end in reversed(ends)]


@dataclass
class Town:
    """The seeded world and the application over it; `codes` receives what the console sender shows."""

    folder: Path
    clock: ManualClock
    directory: DirectoryStore
    ledger: Ledger
    writer: Writer
    contacts: ContactStore
    views: Views
    codes: list[str]
    app: FastAPI
    otp: OneTimeCodes

    def reverify(self, account: str, at: datetime | None) -> None:
        """Put a mobile that was verified then (None: never) in place of the account's."""
        for held in self.contacts.of_account(account):
            self.contacts.remove(held.id, by="t", why="t", at=NOW)
        self.contacts.add(account, "9876543210", by="t", source="t", at=NOW, verified_at=at)


def accounts(directory: DirectoryStore) -> None:
    changes: list[Change] = []
    for index, who in enumerate(("asha", "birju", "chand", "devi", "esha")):
        make = "ELM" if who == "devi" else "GEN"
        changes.append(Install(f"{make}:1000000{index + 1}", f"UP-{who}", Role.CONSUMER, OLD_DAYS))
        changes.append(MoveIn(f"UP-{who}", f"acc-{who}", OLD_DAYS))
        changes.append(Name(f"acc-{who}", NumberKind.LEGACY, LEGACY[who]))
        if who in NUMBERS:
            changes.append(Name(f"acc-{who}", NumberKind.ACCOUNT, NUMBERS[who]))
    changes.append(Install("FDR:90000001", "FEEDER-7", Role.FEEDER, OLD_DAYS))
    changes.append(Install("GEN:10000099", "STORE", Role.STOCK, OLD_DAYS))
    directory.apply(changes, by="test", source="seed", at=OLD_DAYS)


def readings(writer: Writer) -> None:
    half = NOW
    hours = [NOW - timedelta(hours=i) for i in range(24 * 8, -1, -1)]
    spent = Decimal("186.00")
    writer.write(*[b for b in history("GEN:10000001", half) if not _hole(b.at)])
    writer.write(
        *[
            wallet("GEN:10000001", at - HALF, f"{spent + Decimal('2.58') * i:.2f}")
            for i, at in enumerate(reversed(hours))
        ]
    )
    writer.write(live("GEN:10000001", NOW - timedelta(minutes=4), 4_812_350, "closed"))
    writer.write(*history("GEN:10000002", half))
    writer.write(wallet("GEN:10000002", NOW - timedelta(minutes=9), "-412.50"))
    writer.write(live("GEN:10000002", NOW - timedelta(minutes=9), 1_204_110, "open"))
    stale = NOW - timedelta(hours=26)
    writer.write(*history("GEN:10000003", stale), wallet("GEN:10000003", stale, "123456.78"))
    writer.write(live("GEN:10000003", stale, 903_771, "closed"))
    energy = 700_000
    polled = []
    for at in (NOW - timedelta(minutes=15) * i for i in range(4 * 24 * 9, -1, -1)):
        energy += load_wh(at) // 2
        polled.append(live("ELM:10000004", at, energy))
    writer.write(*polled)
    writer.write(live("GEN:10000005", NOW - timedelta(minutes=3), 55_000, "closed"))
    writer.write(live("FDR:90000001", NOW - timedelta(minutes=3), 99_000_000))
    drifted = MessageMeterTime(wall="2000-01-01 00:10:00", deviation=330, status=2, trusted=False)
    writer.write(
        capture(
            "GEN:10000006",
            "instantaneous",
            NOW - HALF,
            value("1-0:1.8.0*255", "10", "Wh"),
            reason="untrusted_time",
            meter_time=drifted,
            quality="1.1.9",
        ),
        capture(
            "GEN:10000007",
            "instantaneous",
            NOW - HALF,
            value("1-0:1.8.0*255", "10", "Wh"),
            reason="identity_mismatch",
        ),
        live("GEN:10000008", NOW - timedelta(minutes=6), 77_000, "closed").model_copy(
            update={"reason": "no_account"}
        ),
        gaps=(
            Gap(
                gap_id="g1",
                meter="GEN:10000001",
                profile="block_load",
                after=NOW - timedelta(hours=30),
                until=NOW - timedelta(hours=28),
                state="open",
                reason="line_down",
                noticed_at=NOW,
            ),
        ),
    )


def _hole(at: datetime) -> bool:
    """No data on one whole local day and for two hours of this morning."""
    local = at + timedelta(hours=5, minutes=30)
    lost_day = datetime(2026, 11, 19, tzinfo=UTC) < local <= datetime(2026, 11, 20, tzinfo=UTC)
    return lost_day or datetime(2026, 11, 23, 8, tzinfo=UTC) < local <= datetime(2026, 11, 23, 10, tzinfo=UTC)


def status(ledger: Ledger) -> None:
    told = Status(
        gateway="edge-1",
        online=True,
        version="0.1.0",
        journal=str(uuid.uuid4()),
        last_seq=48213,
        meters={"ok": 6, "meter_silent": 1, "meter_clock": 1, "identity_mismatch": 1},
        lines={"up": 1, "down": 1},
        backlog=1523,
        unattributed=4,
        clock=ClockStatus(disciplined=True, at=NOW),
        alarms=(
            Alarm(
                code="journal_near_full", text="journal at 91 % of its bound", since=NOW - timedelta(hours=1)
            ),
        ),
        at=NOW - timedelta(seconds=20),
    )
    lines = (
        LineStatus(name="tcp-dlms", state="up", since=NOW - timedelta(hours=7)),
        LineStatus(
            name="rs485-b",
            state="down",
            since=NOW - timedelta(hours=2),
            detail="no answer from /dev/ttyUSB1",
        ),
    )
    unwell = [
        MeterStatus(
            meter="GEN:10000098", line="tcp-dlms", health="meter_silent", detail="no answer in 3 tries"
        ),
        MeterStatus(meter="GEN:10000006", line="tcp-dlms", health="meter_clock"),
        MeterStatus(meter="GEN:10000007", line="tcp-dlms", health="identity_mismatch"),
    ]
    tell_status(ledger, told, lines, unwell, received=NOW)
    gone = told.model_copy(update={"gateway": "edge-2", "online": False, "at": NOW - timedelta(minutes=50)})
    tell_status(ledger, gone, lines, received=NOW - timedelta(minutes=50))
    ledger.alive.leave(NOW, connected=True, fault=None)


def move_in(directory: DirectoryStore) -> None:
    """Birju's flat gets a new tenant, Farha, on 21 November; the meter stays."""
    changes: list[Change] = [
        MoveOut("UP-birju", MOVE),
        MoveIn("UP-birju", "acc-farha", MOVE),
        Name("acc-farha", NumberKind.ACCOUNT, "5678901234"),
    ]
    directory.apply(changes, by="test", source="move", at=NOW)


class FollowedViews(Views):
    """Views beside a central that follows the directory: before each look it has done so."""

    def overview(self, choice: MeterChoice | None = None) -> Overview:
        follow_places(self._ledger, self._snapshot(), self.now())
        return super().overview(choice)


class ShownCodes:
    """Shows codes and notices in place of sending them."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    async def send(self, message: CodeMessage) -> None:
        if message.kind is SendKind.CODE:
            self._show(f"code for account ending {message.ending}: {message.code}")
        elif message.kind is SendKind.NUMBER:
            ending = f"old number ending {message.ending}"
            self._show(f"new number of the connection with {ending}: {message.number}")
        else:
            self._show(f"old number ending {message.ending}: mobile must be verified again, call 1912")


@contextmanager
def town(
    folder: Path,
    *,
    token: str | None = None,
    number_token: str | None = None,
    show: Callable[[str], None] | None = None,
    seed: bool = True,
    site: Site = THIS_MACHINE,
    limits: AskingLimits | None = None,
    campaign: CampaignStore | None = None,
) -> Iterator[Town]:
    """Open everything on files in `folder`."""
    clock = ManualClock(NOW)
    codes: list[str] = []
    ledger = Ledger(folder / "ledger.sqlite3")
    people = PeopleStore(folder / "contacts.sqlite3")
    contacts = ContactStore(people)
    with DirectoryStore(folder / "directory.sqlite3") as directory:
        writer = Writer(ledger)
        if seed:
            accounts(directory)
            readings(writer)
            status(ledger)
        for who in LEGACY if seed else ():
            contacts.add(
                f"acc-{who}", "9876543210", by="t", source="t", at=NOW, verified_at=NOW - timedelta(days=30)
            )
        views = FollowedViews(
            ledger,
            directory.snapshot,
            clock,
            protocol_of=lambda m: "modbus" if m.startswith("ELM") else "dlms",
        )
        otp = OneTimeCodes(clock=clock, sender=ShownCodes(show or codes.append))
        app = create_app(
            views,
            contacts,
            otp,
            clock=clock,
            secret=SECRET,
            operator_token=token,
            number_token=number_token,
            site=site,
            limits=limits,
            campaign=campaign,
        )
        try:
            yield Town(folder, clock, directory, ledger, writer, contacts, views, codes, app, otp)
        finally:
            people.close()
            ledger.close()
