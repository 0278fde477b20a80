"""Watches what edges tell of their clocks, judges captures whose time is doubted, and publishes the verdicts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic
from typing import Final, Protocol

import structlog

from gateway.central.intake.lost import LostWatch
from gateway.central.ledger.database import LedgerError
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import EdgeClock
from gateway.central.ledger.times import CLOCK_DIFFERS, SAME_RUN, DoubtedGroup, seconds_text
from gateway.central.retelling import Retelling
from gateway.central.times.judging import Finding, judge
from gateway.contract.envelope import wrap
from gateway.contract.messages import ClockStatus, Status, TimeVerdict
from gateway.contract.topics import Topics
from gateway.errors import NOT_TAKEN
from gateway.mqtt.connection import NOT_TAKEN_AGAIN
from gateway.threads import in_thread
from mapping.errors import DirectoryFault
from protocols.clock import SimulatedClock
from protocols.session import Clock

SOURCE: Final = "/central"
POLL: Final = 5.0
"""Seconds between two looks at what is doubted."""
PUBLISHED: Final = "verdicts_published"
"""Cursor of the ledger: verdicts up to this version were taken by the broker."""
AT_ONCE: Final = 100
"""Verdicts sent before the cursor moves."""
CONTRADICTS: Final = timedelta(minutes=2)
"""What an edge's sources may differ from central's clock, where that is trusted, and still be heard."""
RETOLD: Final = 20
"""How often in RETOLD_WITHIN a gateway may tell of a run otherwise: each time all that hangs on it is judged again."""
RETOLD_WITHIN: Final = timedelta(days=1)

log = structlog.get_logger("gateway.central.intake")


class Publisher(Protocol):
    """What the service needs of a connection; errors are PeerError."""

    def send(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        """Send at QoS 1; the future is the broker's receipt."""


class TimeService:
    """Issues verdicts: central alone does. They go out in their order, each at least once.

    `standing` writes whose a meter is over all time: who keeps no history of changes learns with the verdict whose
    a settled capture is.
    """

    def __init__(
        self, *, ledger: Ledger, topics: Topics, clock: Clock, standing: Callable[[str], list[bytes]]
    ) -> None:
        self._ledger = ledger
        self._topics = topics
        self._clock = clock
        self._standing = standing
        self._lost = LostWatch(ledger)
        self._judged: dict[tuple[str, str], tuple[object, ...]] = {}
        self._compared: set[str] = set()
        self._retold: dict[str, deque[datetime]] = {}
        self._unsteady: set[str] = set()
        self.fault: str | None = None
        self.published = 0

    # -- in the ledger's thread

    def told(self, status: Status, received: datetime) -> None:
        """Hear a status that was just sent: compare the clocks, and learn when a run of the machine began."""
        self._lost.told(status)
        clock = status.clock
        if clock is None or not status.online or isinstance(self._clock, SimulatedClock):
            return  # simulated time is one for all, and makes a minute of a second on the way
        ahead, sure = status.at - received, self._clock.disciplined()
        if abs(ahead) >= CLOCK_DIFFERS or status.gateway in self._compared:
            if status.gateway not in self._compared:
                log.error(
                    "clocks_differ", gateway=status.gateway, ahead=ahead.total_seconds(), central_sure=sure
                )
            self._compared.add(status.gateway)
            self._ledger.times.clock_told(
                EdgeClock(
                    gateway=status.gateway,
                    ahead=ahead,
                    trusted=clock.disciplined,
                    central_trusted=sure,
                    at=received,
                )
            )
        if clock.boot is None or clock.began is None:
            return
        if (sure and _contradicts(status.at, clock, received)) or clock.began > received + CONTRADICTS:
            log.warning("clock_evidence_refused", gateway=status.gateway, told=clock.detail)
            return
        if not self._may_tell(status.gateway, clock.boot, clock.began, received):
            return
        if self._ledger.times.run_began(status.gateway, clock.boot, clock.began, received):
            log.info("machine_run_known", gateway=status.gateway, boot=clock.boot, began=str(clock.began))

    def _may_tell(self, gateway: str, boot: str, began: datetime, now: datetime) -> bool:
        """Say whether a gateway is still heard: one that contradicts itself would have verdicts without end."""
        known = self._ledger.times.runs(gateway).get(boot)
        if known is None or abs(known - began) <= SAME_RUN:
            return True
        retold = self._retold.setdefault(gateway, deque(maxlen=RETOLD))
        if len(retold) == RETOLD and now - retold[0] < RETOLD_WITHIN:
            if gateway not in self._unsteady:
                self._unsteady.add(gateway)
                log.error("clock_contradicts_itself", gateway=gateway, told=RETOLD, boot=boot)
            return False
        self._unsteady.discard(gateway)
        retold.append(now)
        return True

    @property
    def trouble(self) -> str | None:
        """What is wrong with judging and telling of times; None when nothing is."""
        if self._unsteady:
            names = ", ".join(sorted(self._unsteady)[:3])
            return (
                f"{names}: told more than {RETOLD} times within a day otherwise when its machine began to run, and is"
                " not heard on that any more: look at its clock sources (`status` shows them)"
            )
        return self.fault

    def judge(self) -> int:
        """Judge what is doubted where anything changed since; return how many verdicts were given."""
        now = self._clock.now()
        if renewed := self._ledger.times.renew(self._ledger.identity.generation.counter):
            log.warning("verdicts_renewed", count=renewed)
        given = self._lost.give_up(now)
        groups = self._ledger.times.groups()
        runs = {gateway: self._ledger.times.runs(gateway) for gateway in {g.gateway for g in groups}}
        for group in groups:
            key = group.meter, group.journal
            state = (group.waiting, group.last_seq, tuple(sorted(runs[group.gateway].items())))
            # What is held because it is dated ahead is looked at again: its time comes by itself.
            if self._judged.get(key) == state and not group.ahead:
                continue
            given += self._judge_group(group, runs[group.gateway], now)
            self._judged[key] = state
        return given

    def _judge_group(self, group: DoubtedGroup, runs: dict[str, datetime], now: datetime) -> int:
        complete_to = self._ledger.journals.state(group.journal).contiguous
        lost = self._ledger.lost.declared(group.journal)
        doubted = self._ledger.times.doubted(group.meter, group.journal)
        findings = judge(doubted, runs, complete_to, now, lost)
        given = self._ledger.times.give([_verdict(one, now) for one in findings])
        for one in given:
            log.info(
                "verdict_given",
                meter=one.meter,
                journal=one.journal,
                first=one.first_seq,
                last=one.last_seq,
                trust=one.trust,
                shift=one.shift,
                evidence=one.evidence,
            )
        return len(given)

    # -- on a connection

    async def serve(self, publisher: Publisher) -> None:
        """Judge and publish until the connection ends (PeerError) or it is cancelled."""
        retelling = Retelling(self._ledger.cursors, PUBLISHED)
        while True:
            try:
                await in_thread(retelling.look, monotonic())
                await in_thread(self.judge)
                await self.publish(publisher)
                self.fault = None
            except (LedgerError, DirectoryFault) as error:
                self.fault = str(error)
                log.error("verdicts_failed", error=str(error))
            except NOT_TAKEN as error:  # a topic is closed to us: the cursor stays, and all others go on
                self.fault = f"verdicts are not taken: {error}"
                await asyncio.sleep(NOT_TAKEN_AGAIN)
            await asyncio.sleep(POLL)

    async def publish(self, publisher: Publisher) -> None:
        """Publish the verdicts that the broker has not taken, and whose their meters are."""
        while True:
            done = await in_thread(self._ledger.cursors.get, PUBLISHED)
            given = await in_thread(self._ledger.times.since, done, AT_ONCE)
            if not given:
                return
            for meter in sorted({one.meter for one in given if one.trust == "trusted"}):
                for payload in await in_thread(self._standing, meter):
                    await publisher.send(self._topics.attributions(), payload)
            for one in given:
                payload = wrap(one, id=one.verdict_id, source=SOURCE, time=one.at)
                await publisher.send(self._topics.verdicts(), payload)
            await in_thread(self._ledger.cursors.set, PUBLISHED, given[-1].version)
            self.published = given[-1].version


def _contradicts(at: datetime, clock: ClockStatus, received: datetime) -> bool:
    """Say whether an edge's sources tell another time than central's clock when the edge's own showed `at`."""
    offset = float(clock.sources[0].offset) if clock.sources else 0.0
    try:
        return abs(at + timedelta(seconds=offset) - received) > CONTRADICTS
    except OverflowError:
        return True


def _verdict(one: Finding, now: datetime) -> TimeVerdict:
    return TimeVerdict(
        verdict_id="not kept yet",
        meter=one.meter,
        journal=one.journal,
        first_seq=one.first_seq,
        last_seq=one.last_seq,
        profile=one.profile,
        trust="trusted" if one.trusted else "untrusted",
        shift=seconds_text(one.shift) if one.trusted and one.shift else None,
        evidence=one.evidence[:500],
        version=1,
        at=now,
    )
