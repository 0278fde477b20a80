"""A process that changes keys is ended with SIGKILL after each step; another goes on, and the meter is never lost."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from gateway.contract.key_text import key_text, sealing_context
from gateway.contract.sealing import open_sealed
from gateway.edge.keys.change import Stage
from protocols.dlms.acts.keys import KeySlot
from tests.support.dlms.trap_site import SECRETS
from tests.support.keys_site import ESCROW_PRIVATE, FILES, METER, keys_site, write_secrets

STEPS = 7
"""Made, escrowed, noted, noted as sent, sent, proved, adopted."""


def escrowed(folder: Path) -> set[bytes]:
    """Every encryption key that the escrow's owner can name."""
    return {
        entry.key
        for path in folder.iterdir()
        for entry in key_text(
            open_sealed(path.read_bytes(), private=ESCROW_PRIVATE, context=sealing_context(METER, path.name))
        ).keys
        if entry.slot == "48/encryption"
    }


@pytest.mark.parametrize("step", range(1, STEPS + 1))
async def test_a_killed_change_is_gone_on_with(tmp_path: Path, step: int) -> None:
    async with keys_site(tmp_path) as site:
        write_secrets(tmp_path / "keys", FILES)
        (tmp_path / "escrow").mkdir()
        port = site.config.lines[0].port
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.keys_process", str(tmp_path), str(port), str(step))
        )
        assert await child.wait() == -9
        held = site.held()[KeySlot.ENCRYPTION]
        assert held == SECRETS["ek"] or held in escrowed(tmp_path / "escrow")
        async with site.poll() as session:  # the running edge reads on
            await session.identify()
        changes = site.store().changes()
        change = await site.rotate()
        assert change.stage is Stage.PROVEN
        assert site.store().held(METER, 48)[KeySlot.ENCRYPTION] == site.held()[KeySlot.ENCRYPTION]
        assert [change.key_id] == [one.key_id for one in changes] or not changes
