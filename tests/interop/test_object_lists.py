"""Meters of the public object lists of IDIS and SPODES, made of gurux-dlms in its own process, read by companion."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from protocols.lines.tcp import TcpLine
from protocols.meters.open import open_session
from protocols.reading import Number, ProfileName, ReadingSet
from protocols.session import Auth, DlmsSettings, MeterSpec, SessionContext
from tests.support.dlms.bench import AK, EK, PASSWORD
from tests.support.dlms.object_lists import IDIS, LISTED, MIDNIGHT, NOW, for_peer, utc
from tests.support.fakes import Counters, HandClock, Secrets
from tests.support.interop.peers import PeerProcess
from tests.support.interop.served import MAX_PDU
from tests.support.interop.table import GURUX_AUTH

SECRETS = Secrets({"lls": PASSWORD, "ek": EK, "ak": AK})


@pytest.fixture(scope="module")
def peer() -> Iterator[PeerProcess]:
    process = PeerProcess("gurux_server.py")
    yield process
    process.close()


async def _read(name: str, framing: str, peer: PeerProcess) -> dict[ProfileName, list[ReadingSet]]:
    listed = LISTED[name]
    ciphered = listed is IDIS
    auth = Auth.HLS_GMAC if ciphered else Auth.LLS
    told = await peer.ask(
        {
            "do": "serve",
            "framing": framing,
            "auth": GURUX_AUTH[auth],
            "protection": "authenticated-encrypted" if ciphered else "plain",
            "general": False,
            "general_blocks": False,
            "address_octets": 1,
            "password": PASSWORD.hex(),
            "title": b"ABC\x00\x00\x00\x00\x07".hex(),
            "encryption_key": EK.hex(),
            "authentication_key": AK.hex(),
            "answer_key": AK.hex(),
            "suite": 0,
            "counter": 77,
            "counter_object": listed.counter.replace("-", ".").replace(":", ".").replace("*", "."),
            "max_pdu": MAX_PDU,
            "now": NOW.replace(tzinfo=None).isoformat(),
            "begin": MIDNIGHT.replace(tzinfo=None).isoformat(),
            "objects": for_peer(listed),
        }
    )
    settings = DlmsSettings(
        client=listed.client,
        framing=framing,
        auth=auth,
        ciphered=ciphered,
        max_list=1,
        address_octets=1 if framing == "hdlc" else 0,
        password_ref=None if ciphered else "lls",
        encryption_key_ref="ek" if ciphered else None,
        authentication_key_ref="ak" if ciphered else None,
        companion=name,
    )
    line = TcpLine("gurux", "127.0.0.1", told["port"])
    context = SessionContext(secrets=SECRETS, counters=Counters(), clock=HandClock(utc(NOW)))
    try:
        async with open_session(line, MeterSpec(meter=None, dlms=settings), context) as session:
            since = utc(MIDNIGHT - timedelta(days=3))
            wanted = [one for one in ProfileName if one is not ProfileName.PREPAYMENT]
            return {one: [row async for row in session.read(one, since)] for one in wanted}
    finally:
        await line.close()
        seen = await peer.ask({"do": "stop"})
        assert seen["failed"] == []


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("name", LISTED)
async def test_our_client_reads_a_gurux_meter_of_a_public_object_list(
    name: str, framing: str, peer: PeerProcess
) -> None:
    found = await _read(name, framing, peer)
    blocks = found[ProfileName.BLOCK_LOAD]
    assert [row.at for row in blocks] == [utc(MIDNIGHT + timedelta(minutes=15 * n)) for n in range(1, 49)]
    assert [row.value("1-0:1.8.0*255") for row in blocks] == [Number(1000 + n, 0, "Wh") for n in range(1, 49)]
    daily = found[ProfileName.DAILY]
    assert [row.value("1-0:1.8.0*255") for row in daily] == [Number(500 + n, 0, "Wh") for n in range(3)]
    assert [row.value("1-0:1.8.0*255") for row in found[ProfileName.BILLING]] == [Number(502, 0, "Wh")]
    (now,) = found[ProfileName.INSTANTANEOUS]
    assert now.value("1-0:1.8.0*255") == Number(123_456, 0, "Wh")
    assert len(found[ProfileName.EVENTS]) == (9 if name == "idis" else 5)
