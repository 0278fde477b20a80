"""Two programs with titles and counters of their own at one meter that counts per key: neither shuts the other out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.dlms.session import DlmsSession
from protocols.lines.tcp import TcpLine
from protocols.meters.titles import client_title
from protocols.simulator.faults.script import FaultScript
from tests.support.dlms.trap_site import energies, site
from tests.support.fakes import Counters

pytestmark = pytest.mark.virtual_time


async def test_an_edge_and_a_command_take_turns() -> None:
    async with site(FaultScript()) as edge:
        beside = replace(edge, counters=Counters())
        for _ in range(4):
            for one, title in ((edge, "north"), (beside, "north/cli")):
                async with one.open(system_title=client_title(title)) as session:
                    assert isinstance(session, DlmsSession)
                    assert energies(await one.blocks(session)) == one.true_blocks()
                    assert session.resumes == 0


async def test_a_command_that_comes_while_the_edge_is_associated_costs_it_one_association_at_most() -> None:
    async with site(FaultScript()) as edge:
        line = TcpLine("cli", "127.0.0.1", edge.port)
        beside = replace(edge, counters=Counters(), line=line)
        async with edge.open(system_title=client_title("north")) as session:
            assert isinstance(session, DlmsSession)
            assert energies(await edge.blocks(session)) == edge.true_blocks()
            async with beside.open(system_title=client_title("north/cli")) as other:
                assert energies(await beside.blocks(other)) == edge.true_blocks()
            assert energies(await edge.blocks(session)) == edge.true_blocks()
            assert session.resumes <= 1
        await line.close()
