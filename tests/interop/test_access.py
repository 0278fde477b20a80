"""A gurux-dlms client reads our served meter by the access service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.interop.peers import PeerProcess
from tests.support.interop.served import CLOCK_NOW, client_task, served_meter
from tests.support.interop.table import ACCESS, Case


@pytest.fixture(scope="module")
def peer() -> Iterator[PeerProcess]:
    process = PeerProcess("gurux_client.py")
    yield process
    process.close()


@pytest.mark.parametrize("case", ACCESS, ids=str)
async def test_a_gurux_client_reads_our_meter_by_the_access_service(case: Case, peer: PeerProcess) -> None:
    async with served_meter(case) as served:
        task = client_task(case, served.port, b"GRXPEER1") | {
            "services": ["associate", "access"],
            "dedicated_key": "",
            "general": case.ciphered,
            "general_blocks": False,
            "address_octets": 2,
        }
        found = await peer.ask(task)
    assert "failed" not in found, found.get("failed")
    assert found["access"] == [[0, b"00000007".hex()], [0, 1234], [0, CLOCK_NOW.hex()], [4, None]]
