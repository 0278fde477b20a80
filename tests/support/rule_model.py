"""Three who must agree: the directory at the end, and two consumers that heard nothing but messages.

`python -m tests.support.rule_model 100000` compares so many captures in random small worlds, says how many differ, and
ends with 1 when one does.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from gateway.central.directory.messages import change_messages, standing_messages
from gateway.contract.batches import parse_batch
from gateway.contract.blocks import READINGS_TYPE, NumberedBlock, Sender, assemble_blocks
from gateway.contract.consumer_rule import ConsumerState, Resolved
from gateway.contract.envelope import parse_change, wrap
from gateway.contract.messages import (
    AllocationChanged,
    AttributionChanged,
    Batch,
    NamingChanged,
    TimeVerdict,
    rfc3339,
)
from gateway.contract.messages.generation import Generation
from gateway.edge.stamping.directory_part import StampingPart
from gateway.edge.stamping.stamp import Trust, stamp
from mapping.changes import (
    Change,
    CorrectHoldings,
    CorrectInstallations,
    HoldingSpan,
    Install,
    InstallationSpan,
    MoveIn,
    MoveOut,
    Name,
    Remove,
)
from mapping.directory import Attributions, NumberKind, Role
from mapping.errors import ChangeRefused
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from protocols.reading import Number, ProfileName, Quantity, ReadingSet
from tests.support.text_consumer import TextConsumer

ORIGIN = datetime(2026, 1, 1, tzinfo=UTC)
KNOWN = ORIGIN + timedelta(days=30)
METERS = ("GEN:1", "GEN:2", "SEC:1")
POINTS = ("UP1", "UP2", "UP3")
ACCOUNTS = ("a", "b", "c")
STEPS = 12
STEP = timedelta(minutes=10)
"""Hand-overs happen every ten minutes, captures end every half hour: so intervals are straddled."""
ENERGY = Quantity.of("1-0:1.8.0*255")

SENDER = Sender(journal="j", generation=Generation(1, "00000001"), gateway="edge-1")

Answer = tuple[list[tuple[str, ...]], str | None]


def at(step: int) -> datetime:
    """Give the instant of a step of ten minutes."""
    return ORIGIN + STEP * step


class Asked(NamedTuple):
    """A capture whose holder is asked for; `numbers` are those under which it was sent."""

    meter: str
    start: datetime | None
    at: datetime
    doubted: bool
    numbers: list[int]


def _reading(start: datetime | None, end: datetime, doubted: bool) -> ReadingSet:
    """A row whose occurrence tells its length and whether it is doubted: so ids differ."""
    return ReadingSet(
        profile=ProfileName.DAILY if start is None else ProfileName.BLOCK_LOAD,
        at=end,
        start=start,
        values=((ENERGY, Number(1, 0, "Wh")),),
        received_at=KNOWN,
        occurrence=doubted * 100 + (0 if start is None else int((end - start) / STEP)),
    )


class World:
    """A directory with edges that stamp by it as it was at some time; every message that was sent is kept."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "directory.db"
        self._copy = folder / "copy.db"
        self._store = DirectoryStore(self._path)
        self.generation = Generation(1, "00000001")
        self.parts = [(self.generation, self._store.snapshot())]
        self.changes: list[AttributionChanged | NamingChanged] = []
        self.batches: list[Batch] = []
        self.texts: list[dict[str, Any]] = []
        self.verdicts: list[TimeVerdict] = []
        self.asked: dict[str, Asked] = {}
        self.last_seq = 0

    def close(self) -> None:
        self._store.close()

    @property
    def snapshot(self) -> DirectorySnapshot:
        """The directory now."""
        return self._store.snapshot()

    def change(self, *changes: Change) -> int:
        """Apply a change set and tell what it changed; return the version. ChangeRefused as the store says."""
        before, now = self._store.version, KNOWN + timedelta(minutes=len(self.parts))
        version = self._store.apply(changes, by="model", source="model", at=now)
        for one in range(before + 1, version + 1):
            spans, names = self._store.differences(one - 1, one)
            self._tell(change_messages(spans, names, self.snapshot, now, generation=self.generation))
        self.parts.append((self.generation, self.snapshot))
        return version

    def copy(self) -> None:
        """Keep a copy of the directory's file, as a backup does."""
        self._store.close()
        shutil.copy(self._path, self._copy)
        self._store = DirectoryStore(self._path)

    def set_back(self) -> None:
        """Restore the copy: a new life begins, and its whole state is told."""
        self._store.close()
        shutil.copy(self._copy, self._path)
        self._store = DirectoryStore(self._path)
        counter = self.generation.counter + 1
        self.generation = Generation(counter, f"{counter:08x}")
        for meter in METERS:
            self._tell(standing_messages(meter, self.snapshot, KNOWN, generation=self.generation))
        self.parts.append((self.generation, self.snapshot))

    def _tell(self, messages: Iterable[bytes]) -> None:
        for octets in messages:
            change = parse_change(octets).data
            assert not isinstance(change, AllocationChanged)
            self.changes.append(change)
            self.texts.append(json.loads(octets))

    def capture(
        self, meter: str, start: datetime | None, end: datetime, part: int = -1, *, doubted: bool = False
    ) -> str:
        """Read one row, stamp it by a part of the directory that an edge had, and send it; return its id."""
        (capture_id,) = self.poll(meter, [(start, end)], part, doubted=doubted)
        return capture_id

    def poll(
        self,
        meter: str,
        rows: Sequence[tuple[datetime | None, datetime]],
        part: int = -1,
        *,
        doubted: bool = False,
    ) -> list[str]:
        """Read rows of a meter at once, stamp them as an edge does, and send them; return their ids.

        What is doubted has other ids than what is not: an edge does not change its mind about one.
        """
        generation, snapshot = self.parts[part]
        readings = [_reading(start, end, doubted) for start, end in rows]
        trust = Trust(disciplined=not doubted)
        blocks = stamp(readings, meter, StampingPart(snapshot.part({meter}), generation), lambda _: trust)
        numbered, asked = [], iter(rows)
        for block in blocks:
            first, self.last_seq = self.last_seq + 1, self.last_seq + len(block.rows)
            template = block.template
            numbered.append(
                NumberedBlock(
                    first=first,
                    last=self.last_seq,
                    body=block.body(),
                    layout=template.layout.keyed,
                    holders=template.holders,
                )
            )
            for seq, row in enumerate(block.rows, start=first):
                start, end = next(asked)
                known = self.asked.setdefault(row.capture_id, Asked(meter, start, end, doubted, []))
                known.numbers.append(seq)
        octets = assemble_blocks(numbered, SENDER, type=READINGS_TYPE, time=rfc3339(KNOWN))
        self.batches.append(parse_batch(octets).data)
        self.texts.append(json.loads(octets))
        return [row.capture_id for block in blocks for row in block.rows]

    def judge(self, meter: str, first: int, last: int, trust: str, shift: str | None) -> None:
        """Let central judge the times of a meter's captures first..last, and tell whose the meter is."""
        verdict = TimeVerdict.model_validate(
            {
                "verdict_id": str(len(self.verdicts)),
                "meter": meter,
                "journal": SENDER.journal,
                "first_seq": first,
                "last_seq": last,
                "trust": trust,
                "shift": shift,
                "evidence": "the model says so",
                "version": len(self.verdicts) + 1,
                "at": KNOWN,
            }
        )
        self.verdicts.append(verdict)
        self.texts.append(json.loads(wrap(verdict, id="v", source="/central", time=KNOWN)))
        self._tell(standing_messages(meter, self.snapshot, KNOWN, generation=self.generation))

    def truth(self, asked: Asked) -> Answer:
        """Say whose a capture is: by the directory now, at the time that central judged last."""
        last = None
        for verdict in self.verdicts:
            if verdict.meter == asked.meter and any(
                verdict.first_seq <= seq <= verdict.last_seq for seq in asked.numbers
            ):
                last = verdict
        if (last is None and asked.doubted) or (last is not None and last.trust != "trusted"):
            return [], "untrusted_time"
        shift = (
            timedelta(seconds=int(last.shift or "0")) if last is not None and asked.doubted else timedelta()
        )
        start = None if asked.start is None else asked.start + shift
        return by_directory(self.snapshot.attributions(asked.meter, start, asked.at + shift))

    def consumer(self, rng: random.Random | None = None) -> ConsumerState:
        """Feed a consumer with all that was sent: in order, or by `rng` in any order and some of it again."""
        state = ConsumerState()
        sent: list[Batch | AttributionChanged | NamingChanged | TimeVerdict] = [
            *self.batches,
            *self.changes,
            *self.verdicts,
        ]
        if rng is not None:
            sent += rng.sample(sent, len(sent) // 2)
            rng.shuffle(sent)
        for one in sent:
            if isinstance(one, Batch):
                state.apply(one)
            elif isinstance(one, TimeVerdict):
                state.apply_verdict(one)
            else:
                state.apply_change(one)
        return state

    def text_consumer(self, rng: random.Random) -> TextConsumer:
        """Feed the consumer that was written from the documents with the same, in another order."""
        consumer = TextConsumer()
        for message in rng.sample(self.texts, len(self.texts)):
            consumer.take(message)
        return consumer

    def differences(self, state: ConsumerState | TextConsumer) -> list[str]:
        """Say of which captures the consumer says other than the directory."""
        found = []
        if isinstance(state, TextConsumer):
            answers = {one["capture_id"]: by_text(one) for one in state.ledger()["captures"]}
        else:
            answers = {one: by_consumer(state.attribution(one)) for one in self.asked}
        for capture_id, asked in self.asked.items():
            right, has = self.truth(asked), answers[capture_id]
            if right != has:
                found.append(f"{capture_id}: directory {right}, {type(state).__name__} {has}")
        return found


def by_directory(found: Attributions) -> Answer:
    """Give the directory's answer in plain words."""
    return [
        tuple(
            map(
                str,
                (a.account_id, a.usage_point, a.role, a.account_number, a.legacy_number, a.since, a.until),
            )
        )
        for a in found.accounts
    ], None if found.reason is None else found.reason.value


def by_consumer(found: Resolved) -> Answer:
    """Give the consumer's answer in plain words."""
    return [
        tuple(
            map(
                str,
                (a.account_id, a.usage_point, a.role, a.account_number, a.legacy_number, a.since, a.until),
            )
        )
        for a in found.accounts
    ], found.reason


def by_text(entry: dict[str, Any]) -> Answer:
    """Give the answer of the consumer that was written from the documents in plain words."""
    members = ("account_id", "usage_point", "role", "account_number", "legacy_number")
    return [
        (*(str(one.get(member)) for member in members), *(_instant(one.get(end)) for end in ("from", "to")))
        for one in entry["accounts"]
    ], entry.get("reason")


def _instant(text: str | None) -> str:
    return "None" if text is None else str(datetime.fromisoformat(text))


# --- random worlds ------------------------------------------------------------------------------------


def street(rng: random.Random) -> list[Change]:
    """Meters that are fitted and held: something to disturb."""
    changes: list[Change] = []
    for meter, point, account in zip(METERS, POINTS, rng.sample(ACCOUNTS, 3), strict=True):
        changes += [Install(meter, point, Role.CONSUMER, at(rng.randrange(4)))]
        changes += [MoveIn(point, account, at(rng.randrange(4)))]
    return changes


def any_change(rng: random.Random) -> Change:
    """A change that may be refused."""
    meter, point, account = rng.choice(METERS), rng.choice(POINTS), rng.choice(ACCOUNTS)
    role = rng.choice([Role.CONSUMER, Role.CONSUMER, Role.CONSUMER, Role.STOCK, Role.FEEDER])
    step = at(rng.randrange(STEPS + 1))
    number = rng.choice([None, *(f"000000000{n}" for n in range(4))])
    stays = [InstallationSpan(rng.choice(POINTS), role, *span) for span in spans(rng)]
    holds = [HoldingSpan(rng.choice(ACCOUNTS), *span) for span in spans(rng)]
    changes: list[Change] = [
        Install(meter, point, role, step),
        Remove(meter, step),
        MoveIn(point, account, step),
        MoveOut(point, step),
        Name(account, rng.choice(list(NumberKind)), number),
        CorrectInstallations(meter, tuple(stays)),
        CorrectHoldings(point, tuple(holds)),
    ]
    return rng.choice(changes)


def spans(rng: random.Random) -> list[tuple[datetime, datetime | None]]:
    """Stretches of time that do not overlap; the last may be open."""
    edges = sorted(rng.sample(range(STEPS + 1), rng.randrange(1, 5)))
    found: list[tuple[datetime, datetime | None]] = [
        (at(a), at(b)) for a, b in pairwise(edges) if rng.random() < 0.8
    ]
    return [*found, (at(edges[-1]), None)] if rng.random() < 0.6 else found


def populate(world: World, rng: random.Random) -> None:
    """Let things happen: changes, captures by whatever part, now and then a directory restored from a copy."""
    world.change(*street(rng))
    copied = False
    for _ in range(rng.randrange(2, 9)):
        disturb(world, rng)
        if rng.random() < 0.1:
            world.copy()
            copied = True
        elif copied and rng.random() < 0.2:
            world.set_back()
    for meter in METERS:
        rows: list[tuple[datetime | None, datetime]] = []
        for end in range(1, STEPS + 1):
            for start in {None, end - 1, max(0, end - 3), rng.randrange(end)}:
                rows += [(None if start is None else at(start), at(end))] * (1 + (rng.random() < 0.1))
        rng.shuffle(rows)
        while rows:
            size = rng.choice([1, 1, 2, 5])
            some, rows = rows[:size], rows[size:]
            world.poll(meter, some, rng.randrange(len(world.parts)), doubted=rng.random() < 0.15)


def disturb(world: World, rng: random.Random) -> None:
    """Change something, unless the directory refuses it."""
    with contextlib.suppress(ChangeRefused):
        world.change(*(any_change(rng) for _ in range(rng.randrange(1, 3))))


def judge(world: World, rng: random.Random) -> None:
    """Let central judge the times of some captures, some of them more than once; the directory goes on meanwhile."""
    for _ in range(rng.randrange(6)):
        disturb(world, rng)
        first = rng.randrange(1, world.last_seq + 1)
        last = min(world.last_seq, first + rng.randrange(60))
        trust = rng.choice(["trusted", "trusted", "provisional", "untrusted"])
        shift = rng.choice([None, "-600", "1800", "5400", "-19800"]) if trust == "trusted" else None
        world.judge(rng.choice(METERS), first, last, trust, shift)


def compare(seed: int) -> tuple[int, list[str]]:
    """Play one world; return how many captures it has and where the parties differ."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        try:
            populate(world, rng)
            judge(world, rng)
            different = world.differences(world.consumer(rng)) + world.differences(world.text_consumer(rng))
            return len(world.asked), different
        finally:
            world.close()


def main(arguments: Sequence[str]) -> int:
    """Compare as many captures as asked for, from seed 0 on or the one given second."""
    wanted = int(arguments[0]) if arguments else 100_000
    seed = int(arguments[1]) if len(arguments) > 1 else 0
    captures, worlds, different = 0, 0, 0
    while captures < wanted:
        count, found = compare(seed + worlds)
        for line in found[:3]:
            print(f"seed {seed + worlds}: {line}")
        captures, worlds, different = captures + count, worlds + 1, different + len(found)
    print(f"{captures} captures in {worlds} worlds from seed {seed}: {different} differences")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
