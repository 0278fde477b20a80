"""A gurux-dlms client reads our served meter by short names, on both framings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protocols.dlms.data.types import double_long_unsigned
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.ports import serve_hdlc_tcp, serve_wrapper
from tests.support.dlms.bench import POLICIES
from tests.support.dlms.named_meter import named_meter
from tests.support.interop.peers import PeerProcess
from tests.support.interop.served import CLOCK_NOW, client_task
from tests.support.interop.table import SHORT_NAMES, Case

TITLE = b"GRXPEER1"


@pytest.fixture(scope="module")
def peer() -> Iterator[PeerProcess]:
    process = PeerProcess("gurux_client.py")
    yield process
    process.close()


@pytest.mark.parametrize("case", SHORT_NAMES, ids=str)
async def test_a_gurux_client_reads_our_meter_by_short_names(case: Case, peer: PeerProcess) -> None:
    meter = named_meter(POLICIES[case.auth.value][0])
    meter.attributes["1-0:1.8.0*255", 2] = double_long_unsigned(1234)
    limits = ServerSettings(max_pdu=1024)
    if case.framing == "hdlc":
        server = await serve_hdlc_tcp({17: meter}, settings=limits)
    else:
        server = await serve_wrapper(meter, settings=limits)
    async with server:
        task = client_task(case, server.sockets[0].getsockname()[1], TITLE)
        steps = ["associate", "names", "get", "entries", "get_list"]
        found = await peer.ask(
            task
            | {
                "reference": "sn",
                "services": steps,
                "dedicated_key": "",
                "general": False,
                "general_blocks": False,
                "address_octets": 2,
            }
        )
    assert "failed" not in found, found.get("failed")
    assert found["names"]["0.0.96.1.0.255"] == 0x0100
    assert found["get"] == [b"00000007".hex(), 1234, CLOCK_NOW.hex()]
    assert found["get_list"] == found["get"]
    assert len(found["entries"]) == 5
