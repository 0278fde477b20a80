"""Keys of a lot of meters: a plan that stops without central, goes on, and reports; never the same work twice."""

from __future__ import annotations

from pathlib import Path

from gateway.cli.keys.lots import KIND, NOT_TAKEN, STOP_ON, visited
from gateway.errors import PeerUnavailable
from gateway.lots import orders
from gateway.lots.core import Item, ItemState, Lot, LotState, Outcome
from gateway.lots.runner import LotRunner, Visit
from gateway.lots.store import LotStore
from gateway.lots.terms import Terms
from protocols.dlms.acts.keys import KeySlot
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.script import Fault, FaultScript
from tests.support.keys_site import METER, KeysSite, keys_site


def planned(site: KeysSite, folder: Path) -> LotStore:
    lot = Lot(
        name="july",
        kind=KIND,
        created=site.clock.now(),
        by="t",
        terms=Terms(pause=0, stop_on=frozenset(STOP_ON)),
        facts={"what": ["global", "secret"], "client": None},
    )
    return LotStore.create(folder / "july.lot", lot, [Item(position=0, meter=METER)])


async def run(site: KeysSite, store: LotStore) -> Lot:
    async with site.work() as work:

        async def visit(one: Visit) -> Outcome:
            return await visited(site.config, work, one)

        return await LotRunner(store, visit, site.clock).run()


async def test_a_lot_stops_without_central_and_goes_on_with_the_same_keys(tmp_path: Path) -> None:
    async with keys_site(tmp_path) as site:
        with planned(site, tmp_path) as store:
            before = site.held()
            site.escrow.fails = PeerUnavailable("no broker")
            lot = await run(site, store)
            assert (lot.state, site.held()) == (LotState.STOPPED, before), "at once, not after every attempt"
            assert [item.tries for item in store.items()] == [1]
            (change,) = site.store().changes()
            site.escrow.fails = None
            orders.retry(store, at=site.clock.now(), by="t")
            assert (await run(site, store)).state is LotState.FINISHED
            (item,) = store.items()
            assert (item.state, item.note) == (ItemState.DONE, "global secret")
        assert change.keys[KeySlot.ENCRYPTION] == site.held()[KeySlot.ENCRYPTION]
        assert site.held()[KeySlot.SECRET] != before[KeySlot.SECRET]


async def test_a_meter_that_refuses_fails_and_keeps_its_keys(tmp_path: Path) -> None:
    script = FaultScript(faults=(Fault(kind=FaultKind.KEYS_REFUSED, on="0-0:40.0.3*255"),))
    async with keys_site(tmp_path, script) as site:
        with planned(site, tmp_path) as store:
            before = site.held()
            await run(site, store)
            (item,) = store.items()
            assert (item.state, item.reason) == (ItemState.FAILED, NOT_TAKEN)
            assert "refuses" in item.note
            assert site.held()[KeySlot.SECRET] == before[KeySlot.SECRET]
            # What was done is done: a later run changes the other keys only.
            taken = site.held()[KeySlot.ENCRYPTION]
            assert taken != before[KeySlot.ENCRYPTION]
            orders.retry(store, at=site.clock.now(), by="t")
            await run(site, store)
            assert site.held()[KeySlot.ENCRYPTION] == taken
