"""A gurux-dlms client in a process of its own talks to our served meter; its table is docs/interop.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from protocols.dlms.data import cosem_time
from protocols.session import Auth
from tests.support.interop import wire
from tests.support.interop.peers import PeerProcess
from tests.support.interop.served import CLOCK_NOW, LONG, Served, client_task, keys_of, served_meter
from tests.support.interop.table import CASES, PLAIN, Case, Peer, Service, document
from tests.support.paths import ROOT

TITLE = b"GRXPEER1"
DEDICATED = bytes.fromhex("5A" * 16)
STREAMED = "e044"
"""General block transfer, window 4, not the last block, another follows at once."""
TABLE = ROOT / "docs" / "interop.md"
CLIENT_CASES = [case for case in CASES[Peer.GURUX_CLIENT] if case.services]


@pytest.fixture(scope="module")
def peer() -> Iterator[PeerProcess]:
    process = PeerProcess("gurux_client.py")
    yield process
    process.close()


def _task(case: Case, port: int) -> dict[str, Any]:
    long = LONG[: 400 if case.general_blocks else None]  # two blocks: see docs/interop.md
    return client_task(case, port, TITLE) | {
        "dedicated_key": (DEDICATED * (case.suite or 1)).hex() if "ded" in case.form else "",
        "general": "general" in case.form,
        "general_blocks": case.general_blocks,
        "address_octets": case.address_octets,
        "long": long.hex(),
    }


def _same_reads(found: dict[str, Any], _served: Served) -> None:
    assert found["get"] == [b"00000007".hex(), 1234, CLOCK_NOW.hex()]


def _range_in_blocks(found: dict[str, Any], served: Served) -> None:
    assert found["blocks_by_range"]["rows"] == served.rows(0, 40)
    assert served.blocks_of_long_answers() >= 2
    if served.case.general_blocks:
        streamed = [sent for who, sent in found["wire"] if who == "meter" and sent[16:20] == STREAMED]
        assert bool(streamed) == (served.case.framing == "wrapper")


def _entries(found: dict[str, Any], served: Served) -> None:
    assert found["entries"] == served.rows(2, 7)


def _list(found: dict[str, Any], served: Served) -> None:
    assert found["get_list"] == [b"00000007".hex(), 1234, CLOCK_NOW.hex()]
    assert served.asked(b"\xc0\x03")


def _clock_set(_found: dict[str, Any], served: Served) -> None:
    assert served.meter.clock_set is not None
    assert cosem_time.decode(served.meter.clock_set).at == served.meter.blocks[39][0]


def _set_in_blocks(_found: dict[str, Any], served: Served) -> None:
    assert served.meter.attributes["0-0:10.0.98*255", 2].octets == served.long
    assert served.general_blocks("client") == 2 if served.case.general_blocks else served.asked(b"\xc1\x02")


def _relay(found: dict[str, Any], _served: Served) -> None:
    assert found["action"] == [True, False, True]


def _action_in_blocks(found: dict[str, Any], served: Served) -> None:
    assert found["action_blocks"]["answer"] == served.long.hex()
    if not served.case.general_blocks:
        assert served.asked(b"\xc3\x04")
        assert served.answered(b"\xc7\x02")


def _released(found: dict[str, Any], _served: Served) -> None:
    assert found["release"] == "GXDLMSExceptionResponse"


def _ciphering(_found: dict[str, Any], served: Served) -> None:
    assert wire.problems(served.seen, control=served.control) == []
    assert served.forms("client") == served.forms("meter") == {"glo", served.case.form}


def _associated(found: dict[str, Any], served: Served) -> None:
    assert found["associate"]
    proof = served.asked(b"\xc3\x01\xc1\x00\x0f")  # pass 3, of class 15
    assert bool(proof) == ("hls" in served.case.auth.value)


CHECKS: dict[Service, Callable[[dict[str, Any], Served], None]] = {
    Service.ASSOCIATE: _associated,
    Service.GET: _same_reads,
    Service.RANGE: _range_in_blocks,
    Service.ENTRIES: _entries,
    Service.LIST: _list,
    Service.SET: _clock_set,
    Service.SET_BLOCKS: _set_in_blocks,
    Service.ACTION: _relay,
    Service.ACTION_BLOCKS: _action_in_blocks,
    Service.RELEASE: _released,
    Service.CIPHERING: _ciphering,
}


@pytest.mark.parametrize("case", CLIENT_CASES, ids=str)
async def test_gurux_client_uses_our_meter(case: Case, peer: PeerProcess) -> None:
    async with served_meter(case) as served:
        task = _task(case, served.port)
        found = await peer.ask(task)
        assert "failed" not in found, found["failed"]
        served.record(found["wire"], client=TITLE, long=bytes.fromhex(task["long"]))
        for service in case.services:
            if service is not Service.WRONG_KEY:
                CHECKS[service](found, served)


@pytest.mark.parametrize("case", [c for c in CLIENT_CASES if Service.WRONG_KEY in c.services], ids=str)
async def test_our_meter_refuses_a_gurux_client_with_another_authentication_key(
    case: Case, peer: PeerProcess
) -> None:
    async with served_meter(case) as served:
        found = await peer.ask(
            _task(case, served.port) | {"authentication_key": keys_of(case).encryption.hex()}
        )
        assert found["failed"]["service"] == "associate"
        assert "Authentication failure" in found["failed"]["error"] or "error 3" in found["failed"]["error"]
        assert served.meter.clock_set is None


@pytest.mark.parametrize("auth", [auth for auth in Auth if auth.needs_secret])
async def test_our_meter_refuses_a_gurux_client_with_another_secret(auth: Auth, peer: PeerProcess) -> None:
    case = Case(Peer.GURUX_CLIENT, "wrapper", auth, PLAIN)
    async with served_meter(case) as served:
        found = await peer.ask(_task(case, served.port) | {"password": b"another secret!!".hex()})
        assert found["failed"]["service"] == "associate"


def test_the_table_in_the_documentation_is_this_one() -> None:
    assert TABLE.read_text(encoding="utf-8") == document()
