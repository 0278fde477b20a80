"""A gurux-dlms client reads meters behind our served gateway, each by its prefix."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from protocols.dlms.data.types import double_long_unsigned, octets
from protocols.dlms.framing.gateway import Behind
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.gateway import ServedGateway
from protocols.dlms.server.links import ServedMeter, WrapperServer
from tests.support.dlms.bench import POLICIES, SmallMeter
from tests.support.interop.peers import PeerProcess
from tests.support.interop.served import CLOCK_NOW, client_task
from tests.support.interop.table import BEHIND_A_GATEWAY, Case
from tests.support.tcp_server import tcp_server


@pytest.fixture(scope="module")
def peer() -> Iterator[PeerProcess]:
    process = PeerProcess("gurux_client.py")
    yield process
    process.close()


@pytest.mark.parametrize("case", BEHIND_A_GATEWAY, ids=str)
async def test_a_gurux_client_reads_meters_behind_our_gateway(case: Case, peer: PeerProcess) -> None:
    names = (Behind(3, b"A1"), Behind(3, b"B22"))
    meters = {}
    for number, name in enumerate(names):
        meter = SmallMeter({48: POLICIES[case.auth.value][0]})
        meter.attributes["1-0:1.8.0*255", 2] = double_long_unsigned(number)
        meter.attributes["0-0:96.1.0*255", 2] = octets(name.address)
        meters[name] = ServedMeter(model=meter)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        core = WrapperServer({1: ServedGateway(meters=meters)}, ServerSettings())
        while data := await reader.read(4096):
            writer.write(core.receive_data(data))

    async with tcp_server(serve) as port:
        for number, name in enumerate(names):
            task = client_task(case, port, b"GRXPEER%d" % number) | {
                "services": ["associate", "get", "get_list"],
                "gateway": name.address.decode(),
                "network": name.network,
                "dedicated_key": "",
                "general": False,
                "general_blocks": False,
                "address_octets": 2,
            }
            found = await peer.ask(task)
            assert "failed" not in found, found.get("failed")
            assert found["get"] == found["get_list"] == [name.address.hex(), number, CLOCK_NOW.hex()]
