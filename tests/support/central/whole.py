"""The whole of it in one place, without a broker: the office's desk, directory, ledger, edges, and a billing system."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.central.directory.messages import allocation_message, change_messages
from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.ledger.ledger import Ledger
from gateway.central.office.actors import Actor, Proof, StaffRole
from gateway.central.office.change_documents import ChangeSetRequest
from gateway.central.office.change_records import ChangeSetRecord
from gateway.central.office.change_sets import ChangeSetDesk
from gateway.central.office.office import Office
from gateway.contract.blocks import READINGS_TYPE, NumberedBlock, Sender, assemble_blocks
from gateway.contract.messages import rfc3339
from gateway.contract.messages.generation import Generation
from gateway.contract.topics import Topics
from gateway.edge.stamping.directory_part import StampingPart
from gateway.edge.stamping.stamp import stamp
from mapping.changes import Change, Name
from mapping.directory import NumberKind
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from mapping.timeline import MeterTimeline
from mapping.undo import undo
from protocols.reading import Number, ProfileName, Quantity, ReadingSet
from tests.support.central.naive_lists import Lists, Whose
from tests.support.text_consumer import TextConsumer

ORIGIN = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=10)
KNOWN = ORIGIN + timedelta(days=30)
TOPICS = Topics("kesco")
ENERGY = Quantity.of("1-0:1.8.0*255")
LIFE = Generation(1, "00000001")
CLERK = Actor(
    name="meera", roles=frozenset({StaffRole.CLERK, StaffRole.APPROVER}), proof=Proof.SESSION, source="desk"
)


def at(step: int) -> datetime:
    """Give the instant of a step of ten minutes."""
    return ORIGIN + STEP * step


@dataclass(frozen=True)
class Read:
    """A row that an edge journaled: `steps` is what the interval spans, or None and the end of a register's."""

    meter: str
    start: int | None
    end: int
    capture_id: str


@dataclass
class EdgeBox:
    """An edge: its part of the directory as it last got it, and a journal of numbered blocks."""

    name: str
    part: StampingPart
    online: bool = True
    blocks: list[NumberedBlock] = field(default_factory=list)
    rows: dict[int, Read] = field(default_factory=dict)
    delivered: int = 0
    """Up to which number everything was delivered."""

    def read(self, meter: str, spans: Sequence[tuple[int | None, int]]) -> None:
        """Read rows of a meter, stamp and journal them; those that are there already change nothing."""
        known = {row.capture_id for row in self.rows.values()}
        readings = [_reading(start, end) for start, end in dict.fromkeys(spans)]
        asked = iter(dict.fromkeys(spans))
        for block in stamp(readings, meter, self.part):
            rows = [(row, next(asked)) for row in block.rows]
            if any(row.capture_id in known for row, _ in rows):
                continue
            first = len(self.rows) + 1
            last = first + len(rows) - 1
            layout, holders = block.template.layout.keyed, block.template.holders
            self.blocks.append(
                NumberedBlock(first=first, last=last, body=block.body(), layout=layout, holders=holders)
            )
            for number, (row, (start, end)) in enumerate(rows, start=first):
                self.rows[number] = Read(meter, start, end, row.capture_id)

    def profile(self, block: NumberedBlock) -> str:
        """Give the profile of a block's rows."""
        return "daily" if self.rows[block.first].start is None else "block_load"

    def batch(self, blocks: Iterable[NumberedBlock]) -> bytes:
        """Give a message of some of its blocks."""
        sender = Sender(journal=f"journal-of-{self.name}", generation=LIFE, gateway=self.name)
        return assemble_blocks(list(blocks), sender, type=READINGS_TYPE, time=rfc3339(KNOWN))


def _reading(start: int | None, end: int) -> ReadingSet:
    """A row whose occurrence tells its length: so ids differ."""
    return ReadingSet(
        profile=ProfileName.DAILY if start is None else ProfileName.BLOCK_LOAD,
        at=at(end),
        start=None if start is None else at(start),
        values=((ENERGY, Number(end, 0, "Wh")),),
        received_at=KNOWN,
        occurrence=0 if start is None else end - start,
    )


class Whole:
    """Central with its stores at one place, edges, and a billing system; messages wait until they are heard."""

    def __init__(self, folder: Path, where: Path | str) -> None:
        self._folder = folder
        self._url = where if isinstance(where, str) else None
        self._now = KNOWN
        self._messages: list[dict[str, Any]] = []
        self.billing = TextConsumer()
        self.edges: dict[str, EdgeBox] = {}
        self.home: dict[str, str] = {}
        self.given: dict[str, list[tuple[str, int]]] = {}
        """To which edge a meter was given from which step on."""
        self.believed: dict[str, Read] = {}
        self._open()

    def _open(self) -> None:
        with ExitStack() as stack:
            self.directory = stack.enter_context(DirectoryStore(self._url or self._folder / "directory.db"))
            self.office = stack.enter_context(Office(self._url or self._folder / "office.db", self._folder))
            self.ledger = Ledger(self._url or self._folder / "ledger.db")
            stack.callback(self.ledger.close)
            self._stack = stack.pop_all()
        self.desk = ChangeSetDesk(
            self.office, self.directory, now=self.now, sure=lambda: True, approve_above=1_000
        )
        self._intake = MessageStore(self.ledger, TOPICS)

    def close(self) -> None:
        """Close all stores."""
        self._stack.close()

    def reopen(self) -> None:
        """Let central end and start again on the same stores."""
        self.close()
        self._open()

    def now(self) -> datetime:
        """Give the present, a second later each time."""
        self._now += timedelta(seconds=1)
        return self._now

    @property
    def snapshot(self) -> DirectorySnapshot:
        """The directory now."""
        return self.directory.snapshot()

    # --- the office -------------------------------------------------------------------------------

    def make_accounts(self, accounts: Iterable[str]) -> None:
        """Let accounts be known by their old numbers: over the API they get ids that nobody chooses."""
        names = [Name(account, NumberKind.LEGACY, f"KE-{account.upper()}") for account in accounts]
        self.directory.apply(names, by="meera", source="desk", at=self.now())

    def submit(self, forms: Sequence[dict[str, Any]], id: str) -> ChangeSetRecord:
        """Ask the desk for a change set, and let billing and the edges be told what it changed."""
        before = self.directory.version
        done = self.desk.submit(CLERK, ChangeSetRequest.model_validate({"changes": list(forms)}), id)
        self._tell_since(before)
        return done

    def undo(self, version: int) -> None:
        """Undo a change set."""
        before = self.directory.version
        changes: list[Change] = undo(self.snapshot, version)
        self.directory.apply(changes, by="meera", source="undo", at=self.now())
        self._tell_since(before)

    def _tell_since(self, before: int) -> None:
        for version in range(before + 1, self.directory.version + 1):
            spans, names = self.directory.differences(version - 1, version)
            told = change_messages(spans, names, self.snapshot, KNOWN, generation=LIFE)
            self._messages += map(json.loads, told)
        for edge in self.edges.values():
            if edge.online:
                self._give_part(edge)

    def allocate(self, meter: str, edge: str, step: int) -> None:
        """Let an edge read a meter from a step on."""
        self.given.setdefault(meter, []).append((edge, step))
        self.home[meter] = edge
        self.edges.setdefault(edge, EdgeBox(edge, StampingPart(DirectorySnapshot())))
        self.ledger.allocations.give([meter], edge, by="meera", note="", since=at(step), at=self.now())
        for one in self.ledger.allocations.history(meter):
            self._messages.append(json.loads(allocation_message(one, KNOWN)))
        self._tell_since(self.directory.version)

    def _give_part(self, edge: EdgeBox) -> None:
        current = {one.meter: one.epoch for one in self.ledger.allocations.current(edge.name)}
        edge.part = StampingPart(self.snapshot.part(set(current)), LIFE, current)

    # --- edges ------------------------------------------------------------------------------------

    def meters_of(self, edge: str) -> list[str]:
        """Give the meters that an edge believes to be its own."""
        return sorted(self.edges[edge].part.epochs)

    def may_read_from(self, edge: str, meter: str) -> int:
        """Give the step from which on an edge reads a meter: the former edge had what was before."""
        return max((since for one, since in self.given[meter] if one == edge), default=0)

    def come_back(self, edge: str) -> None:
        """Connect an edge again: it gets its part, and delivers what waited."""
        box = self.edges[edge]
        box.online = True
        self._give_part(box)
        self.deliver(edge, random.Random(0))

    def deliver(self, edge: str, rng: random.Random) -> None:
        """Deliver what an edge journaled, some of it again, in any order and in messages of any size."""
        box = self.edges[edge]
        if not box.online or not box.blocks:
            return
        fresh = [block for block in box.blocks if block.first > box.delivered]
        again = rng.sample(box.blocks, rng.randrange(len(box.blocks) + 1) // 3)
        parcels: list[list[NumberedBlock]] = [[block] for block in again]
        for profile in ("daily", "block_load"):
            left = [block for block in fresh if box.profile(block) == profile]
            while left:
                size = rng.randrange(1, 4)
                parcels.append(left[:size])
                left = left[size:]
        rng.shuffle(parcels)
        for parcel in parcels:
            octets = box.batch(parcel)
            topic = TOPICS.readings(edge, box.profile(parcel[0]))
            self._intake.handle([ReceivedMessage(topic, octets, self.now())])
            self._messages.append(json.loads(octets))
        box.delivered = len(box.rows)
        for row in box.rows.values():
            if self._counts(edge, row):
                self.believed[row.capture_id] = row

    def _counts(self, edge: str, row: Read) -> bool:
        given = self.given[row.meter]
        own = [number for number, (one, _) in enumerate(given) if one == edge]
        return bool(own) and (own[-1] == len(given) - 1 or row.end <= given[own[-1] + 1][1])

    # --- agreeing ---------------------------------------------------------------------------------

    def disagreements(self, lists: Lists, rng: random.Random) -> list[str]:
        """Let billing hear what waits, in any order; say where ledger, billing and lists differ."""
        waiting, self._messages = self._messages, []
        rng.shuffle(waiting)
        for message in waiting:
            self.billing.take(message)
        stored = {one.capture_id: one for one in self.ledger.captures.each()}
        heard = {one["capture_id"]: one for one in self.billing.ledger()["captures"]}
        found = [f"lost by the ledger: {id}" for id in self.believed.keys() - stored.keys()]
        found += [f"invented by the ledger: {id}" for id in stored.keys() - self.believed.keys()]
        found += [f"lost by billing: {id}" for id in self.believed.keys() - heard.keys()]
        found += [f"invented by billing: {id}" for id in heard.keys() - self.believed.keys()]
        timelines: dict[str, MeterTimeline] = {}
        for id, row in self.believed.items():
            timeline = timelines.setdefault(row.meter, MeterTimeline(self.snapshot, row.meter))
            start = None if row.start is None else at(row.start)
            answers = timeline.attributions(start, at(row.end)).accounts
            ours = {(a.account_id, a.usage_point, str(a.role), a.account_number) for a in answers}
            theirs = _heard(heard[id]) if id in heard else set()
            right = lists.whose(row.meter, row.start, row.end)
            if not ours == theirs == right:
                found.append(f"{id}: lists {sorted(right, key=str)}, ledger {ours}, billing {theirs}")
        return found


def _heard(entry: dict[str, Any]) -> Whose:
    return {
        (one["account_id"], one["usage_point"], one["role"], one.get("account_number"))
        for one in entry["accounts"]
    }
