"""Two edges of one name: each sees the other by the status on its own topic."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.contract.messages import Status
from gateway.contract.messages.generation import Generation
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.generation import Former
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks import status_report
from gateway.edge.sinks.twins import CALM, TwinWatch
from protocols.clock import SystemClock
from tests.support.check_sink import running
from tests.support.edge.mqtt_edge import Edge, settings
from tests.support.journal_records import record
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until

NOW = datetime(2026, 11, 23, tzinfo=UTC)
OURS = Generation(5, "aaaaaaaa")
BEFORE = Generation(4, "bbbbbbbb")


@dataclass
class Lived:
    """A journal's identity, and what it was told of another life of it."""

    uuid: str = "j"
    generation: Generation = OURS
    former: tuple[Former, ...] = (Former("j", BEFORE, 10), Former("old", Generation(2, "cccccccc"), 7))
    told: tuple[Generation, int] | None = None

    async def heard(self, generation: Generation, seq: int) -> bool:
        self.told = (generation, seq)
        return True


def status(journal: str, generation: Generation, *, online: bool = True, later: int = 0) -> Status:
    return Status(
        gateway="edge-1",
        online=online,
        version="1",
        journal=journal,
        generation=generation,
        last_seq=12,
        at=NOW + timedelta(seconds=later),
    )


async def hear(*said: tuple[Status, bool]) -> tuple[str | None, Lived]:
    watch, journal = TwinWatch(), Lived()
    watch.connected(journal)  # type: ignore[arg-type]
    for one, retained in said:
        await watch.heard(one, retained=retained, journal=journal)  # type: ignore[arg-type]
    return watch.fault, journal


async def test_our_own_words_and_our_past_are_no_twin() -> None:
    older = Generation(3, "dddddddd")
    fault, journal = await hear(
        (status("j", older), True),
        (status("j", BEFORE, online=False), False),
        (status("old", Generation(2, "cccccccc"), online=False), False),
        (status("j", older, online=False), False),  # the last will of a run that was killed
        (status("j", OURS), False),
    )
    assert (fault, journal.told) == (None, None)


async def test_a_strangers_status_while_we_listen_is_a_twins() -> None:
    fault, journal = await hear((status("x", Generation(1, "eeeeeeee")), False))
    assert fault is not None
    assert "journal x, generation 1.eeeeeeee" in fault
    assert journal.told is None


async def test_a_stranger_that_took_our_place_while_we_were_away_is_a_twin() -> None:
    other = Generation(9, "ffffffff")
    watch, journal = TwinWatch(), Lived()
    for later, expected in ((0, False), (0, False), (30, True)):
        watch.connected(journal)  # type: ignore[arg-type]
        await watch.heard(status("x", other, later=later), retained=True, journal=journal)  # type: ignore[arg-type]
        assert (watch.fault is not None) is expected


async def test_another_life_of_our_journal_is_told_to_it() -> None:
    for generation in (Generation(5, "eeeeeeee"), Generation(6, "eeeeeeee")):
        fault, journal = await hear((status("j", generation), True))
        assert fault is not None
        assert journal.told == (generation, 12)


async def test_a_twin_that_falls_silent_is_forgotten() -> None:
    at = 0.0
    watch = TwinWatch(lambda: at)
    await watch.heard(status("x", OURS), retained=False, journal=Lived())  # type: ignore[arg-type]
    at = CALM
    assert watch.fault is not None
    at += 1
    assert watch.fault is None


async def test_two_edges_of_one_name_both_notice_it(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is a copy of the first one's whole folder; the broker has no access rules in the way."""
    monkeypatch.setattr(status_report, "STATUS_EVERY", 0.5)
    folders = [tmp_path / "one", tmp_path / "two"]
    folders[0].mkdir()
    journals = [await Journal.open(folders[0] / "j.db", clock=SystemClock(), gateway="edge-1")]
    await journals[0].append(JournalBatch(blocks=(record(1),)))
    await journals[0]._writer.call(lambda store: store.checkpoint())
    shutil.copytree(folders[0], folders[1])
    journals.append(await Journal.open(folders[1] / "j.db", clock=SystemClock(), gateway="edge-1"))
    assert journals[0].uuid != journals[1].uuid

    edges = [Edge(broker, journal, folder) for journal, folder in zip(journals, folders, strict=True)]
    edges[1].sink._settings = settings(broker, "edge-1-again", username="edge-1")
    async with running(edges[0].sink, journals[0]), running(edges[1].sink, journals[1]):
        await until(lambda: all(edge.link.twin_fault is not None for edge in edges))
    assert journals[0].uuid in (edges[1].link.twin_fault or "")
    for journal in journals:
        await journal.close()
