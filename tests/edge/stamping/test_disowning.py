"""Captures taken back from their accounts: every consumer of the contract ends with nobody's, whatever came before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.contract.batches import parse_batch
from gateway.contract.blocks.assemble import NumberedBlock, assemble_blocks
from gateway.contract.blocks.types import READINGS_TYPE
from gateway.contract.consumer_rule import ConsumerState
from gateway.edge.journal.entry import Entry, JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.stamping.disowning import disowned
from gateway.edge.stamping.stamp import stamp
from protocols.reading import Number, ProfileName, Quality, Quantity, ReadingSet
from tests.support.blocks import SENDER
from tests.support.edge.poller_bench import Directory
from tests.support.fakes import JumpClock

T0 = datetime(2026, 11, 23, 10, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
ENERGY = Quantity.of("1-0:1.8.0")
METER = "EAS:5"


def live(
    number: int, *, profile: ProfileName = ProfileName.INSTANTANEOUS, suspect: bool = False
) -> ReadingSet:
    at = T0 + number * QUARTER
    return ReadingSet(
        profile=profile,
        at=at,
        values=((ENERGY, Number(1_000 + number, 0, "Wh")),),
        received_at=at + timedelta(milliseconds=70),
        quality=Quality.SUSPECT if suspect else Quality.VALID,
        suspect=(ENERGY,) if suspect else (),
    )


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "j.db", clock=JumpClock(T0 + 100 * QUARTER))
    yield journal
    await journal.close()


async def journaled(journal: Journal, *rows: ReadingSet, meter: str = METER) -> None:
    for row in rows:
        await journal.append(JournalBatch(blocks=stamp([row], meter, Directory())))


def sent(entry: Entry) -> bytes:
    assert entry.layout is not None
    block = NumberedBlock(
        first=entry.seq, last=entry.last, body=entry.body, layout=entry.layout, holders=entry.holders
    )
    return assemble_blocks([block], SENDER, type=READINGS_TYPE, time="2026-11-23T19:30:43Z")


async def consumed(journal: Journal, *, backwards: bool) -> dict[str, tuple[int, str | None, int]]:
    """Return what a consumer that follows the rule has: revision, reason, how many accounts."""
    state = ConsumerState()
    entries = await journal.read(1, journal.last_seq)
    for entry in reversed(entries) if backwards else entries:
        state.apply(parse_batch(sent(entry)).data)
    return {
        capture_id: (capture.value_rev, (found := state.attribution(capture_id)).reason, len(found.accounts))
        for capture_id, capture in state.captures.items()
    }


@pytest.mark.parametrize("backwards", [False, True])
async def test_a_consumer_ends_with_nobodys(journal: Journal, backwards: bool) -> None:
    rows = [live(n, suspect=n == 3) for n in range(5)]
    await journaled(journal, *rows)
    await journaled(journal, *rows, meter="EAS:6")
    found = await journal.of_meter(METER, T0)
    await journal.append(JournalBatch(blocks=disowned(found, T0 + 2 * QUARTER)))
    told = await consumed(journal, backwards=backwards)
    own = [
        told[f"{METER}/instantaneous/2026-11-23T{at}:00Z/0"]
        for at in ("10:00", "10:15", "10:30", "10:45", "11:00")
    ]
    assert own == [(1, None, 1)] * 3 + [(2, "identity_mismatch", 0)] * 2
    assert all(one == (1, None, 1) for name, one in told.items() if name.startswith("EAS:6"))
    again = disowned(await journal.of_meter(METER, T0), T0 + 2 * QUARTER)
    assert again == (), "once is enough"


async def test_a_block_of_many_rows_is_taken_back_in_part(journal: Journal) -> None:
    rows = [live(0), live(1)]
    shared = [
        ReadingSet(**{f: getattr(r, f) for f in ("profile", "at", "values")}, received_at=T0 + QUARTER)
        for r in rows
    ]
    await journal.append(JournalBatch(blocks=stamp(shared, METER, Directory())))
    (block,) = disowned(await journal.of_meter(METER, T0 - QUARTER), T0)
    assert [row.capture_id for row in block.rows] == [f"{METER}/instantaneous/2026-11-23T10:15:00Z/0"]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1_000])
@pytest.mark.parametrize("since", [0, 1, 20, 39, 60])
async def test_the_look_back_finds_all_of_a_meter_from_an_instant_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, since: int
) -> None:
    """Whatever the size of a look: no block of the meter later than that is left out, and none comes twice."""
    monkeypatch.setattr("gateway.edge.journal.journal.LOOK_ENTRIES", chunk)
    clock = JumpClock(T0)
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    for number in range(40):
        clock.at = T0 + number * QUARTER
        await journaled(journal, live(number), meter=METER if number % 3 else "EAS:6")
    found = [entry.seq for entry in await journal.of_meter(METER, T0 + since * QUARTER)]
    await journal.close()
    assert [seq for seq in found if seq > since] == [n + 1 for n in range(40) if n % 3 and n >= since]
    assert found == sorted(set(found))
