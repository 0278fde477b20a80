"""What sessions learned survives a restart; a lost or damaged file costs round trips, never a reading."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.edge.polling.known_meters import KnownMeters
from protocols.dlms.objects.object_list import ObjectEntry
from protocols.dlms.reading.known_meter import KnownMeter
from protocols.dlms.reading.layout_cache import Layouts
from protocols.event_marks import LogMark, TakenLog, TakenLogs
from protocols.modbus.belief.meter_memory import Believed, MeterMemory, Rival
from protocols.modbus.planning.known_meter import KnownModbusMeter, Refusal
from protocols.modbus.planning.plan import RegisterRange
from protocols.reading import Nameplate, Number, Obis, ProfileName
from protocols.simulator.faults.script import FaultScript
from tests.support.dlms.bench import SmallMeter
from tests.support.dlms.reader_bench import NOW, ScriptedExchange, collect, reader_of
from tests.support.edge.half_hour import PolledSite, polled


async def test_every_kind_comes_back_as_it_was(tmp_path: Path) -> None:
    plain: Layouts = {}
    known = KnownMeters(tmp_path / "known.db")
    for cache in (plain, known):
        for profile in (ProfileName.BLOCK_LOAD, ProfileName.EVENTS):
            await collect(reader_of(ScriptedExchange(SmallMeter()), cache=cache), profile)
        cache["GEN:7", "F1", "objects/48"] = (
            ObjectEntry(
                class_id=7,
                version=1,
                obis=Obis(1, 0, 99, 1, 0),
                attributes={2: 1, 3: 1},
                methods={1: 0},
                selectors={2: (1, 2)},
                bits=True,
            ),
        )
        cache["GEN:7", "", "events"] = TakenLogs(
            journal="j",
            logs=(TakenLog(log=Obis(0, 0, 99, 98, 1), mark=LogMark(entries=3, sequence=7), read_at=NOW),),
            words={"0-0:94.91.0*255": 3, "0-0:94.91.18*255": "00100"},
        )
        cache["GEN:7", "", "meter"] = KnownMeter(
            nameplate=Nameplate(manufacturer="GEN", serial="7", year=2025),
            named_at=NOW,
            places={"0-0:94.96.24*255": 1},
            range_form=2,
            without=frozenset({"0-0:96.15.0*255#2"}),
        )
        seen = Believed(value=Number(23140, -2, "V"), at=NOW)
        cache["EAS:7", "", "memory"] = MeterMemory(model="sdm120")
        cache["EAS:8", "", "memory"] = MeterMemory(
            model="sdm120",
            believed={"1-0:12.7.0*255": replace(seen, rival=Rival(value=Number(0), since=NOW, at=NOW))},
            doubted={"1-0:12.7.0*255": "limits"},
            asked_at=NOW,
            marks={"CT": "60"},
        )
        cache["EAS:7", "sdm120", "modbus"] = KnownModbusMeter(
            latency=0.03,
            measured_at=NOW,
            refusals=(Refusal(range=RegisterRange(4, 2, 6), since=NOW, asked=NOW, doubtful=True),),
        )
    known.close()
    again = KnownMeters(tmp_path / "known.db")
    assert dict(again) == plain
    assert len(again) == len(plain)
    for key in list(again):
        del again[key]
    assert len(again) == 0
    assert list(again) == []
    again.close()


async def _restart(p: PolledSite, path: Path) -> tuple[int, int]:
    """Poll with a new program over the same file; return round trips and rows."""
    known: Any = KnownMeters(path)
    p.site.layouts = known
    p.forget()
    report, cost = await p.poll()
    assert report.ok
    known.close()
    return cost.trips, sum(report.captures.values())


@pytest.mark.virtual_time
@pytest.mark.parametrize("harm", ["none", "garbage", "truncated", "version", "row", "digit"])
async def test_a_restarted_edge_asks_for_nothing_that_it_knows(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "known.db"
    async with polled(FaultScript()) as p:
        first, _ = await _restart(p, path)
        p.pass_time()
        match harm:
            case "garbage":
                path.write_bytes(b"no database" * 999)
            case "truncated":
                path.write_bytes(path.read_bytes()[:5000])
            case "version" | "row":
                with sqlite3.connect(path) as db:
                    db.execute(
                        "pragma user_version = 9" if harm == "version" else "update known set learned = '{'"
                    )
                db.close()
            case "digit":
                with sqlite3.connect(path) as db:
                    db.execute("update known set learned = cast(replace(learned, '2', '3') as blob)")
                db.close()
        trips, rows = await _restart(p, path)
        assert rows == 3, "a block, a look, the money; events were there"
        if harm == "none":
            assert trips <= 5, "no event log without news is read either"
        else:
            assert trips > 14
            p.pass_time()
            assert (await _restart(p, path))[0] <= 5
        assert first > 60
