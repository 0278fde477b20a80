"""A running central applies a scheduled re-key on its day, by itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from gateway.roles.due_plans import apply_due_plans
from mapping.rekey_due import schedule
from protocols.clock import SystemClock
from tests.support.mapping.rekey_town import NOW, RekeyFile, consumers, filled_store, planned
from tests.support.waiting import until


async def test_a_plan_is_applied_when_its_day_has_come(tmp_path: Path) -> None:
    town, folder = consumers(30, 1), tmp_path / "rekey"
    with filled_store(tmp_path, town) as store:
        path = RekeyFile([one.cells() for one in town]).write(tmp_path / "rekey.csv")
        with planned(store, path, folder=folder) as plan:
            schedule(plan, at=NOW + timedelta(days=1), by="clerk", approver="chief")
        (folder / "0123456789abcdef.plan").write_bytes(b"no plan at all")
        central = asyncio.create_task(apply_due_plans(store, folder, SystemClock(), every=0.01))
        try:
            await until(lambda: store.version == 2)
        finally:
            central.cancel()
        assert store.snapshot().counts().account_numbers == 30
