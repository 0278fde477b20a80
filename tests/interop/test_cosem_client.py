"""A dlms-cosem client in a process and an environment of its own talks to our served meter (docs/interop.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from protocols.dlms.data import cosem_time
from protocols.session import Auth
from tests.support.dlms.bench import EK, START
from tests.support.interop import wire
from tests.support.interop.peers import PeerProcess
from tests.support.interop.served import CLOCK_NOW, Served, client_task, served_meter
from tests.support.interop.table import CASES, Case, Peer, Service
from tests.support.paths import ROOT

TITLE = b"CSMPEER1"
PYTHON = ROOT / ".venv-peers" / "bin" / "python"
SET_TO = START + timedelta(hours=37)
COSEM_CASES = [case for case in CASES[Peer.COSEM_CLIENT] if case.services]
EXCEPTION = "d80101"

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def peer() -> Iterator[PeerProcess]:
    assert PYTHON.exists(), "dlms-cosem is not set up: deploy/setup.sh peers"
    process = PeerProcess("cosem_client.py", str(PYTHON))
    yield process
    process.close()


def _task(case: Case, port: int) -> dict[str, Any]:
    return client_task(case, port, TITLE) | {
        "since": (START + timedelta(minutes=30)).isoformat(),
        "until": (START + timedelta(minutes=30 * 40)).isoformat(),
        "clock": cosem_time.encode(SET_TO).hex(),
        "mended": True,
    }


def _associated(found: dict[str, Any], served: Served) -> None:
    assert found["associate"] == "done"
    proof = [one for one in served.asked(b"\xc3\x01") if one.plain[3:5] == b"\0\x0f"]
    assert bool(proof) == (served.case.auth in (Auth.HLS2, Auth.HLS_GMAC))


def _reads(found: dict[str, Any], _served: Served) -> None:
    assert found["get"] == [b"00000007".hex(), 1234, CLOCK_NOW.hex()]


def _range_in_blocks(found: dict[str, Any], served: Served) -> None:
    assert found["blocks_by_range"] == served.rows(0, 40)
    assert served.blocks_of_long_answers() >= 2


def _list(found: dict[str, Any], served: Served) -> None:
    assert found["get_list"] == [b"00000007".hex(), 1234, CLOCK_NOW.hex()]
    assert served.asked(b"\xc0\x03")


def _clock_set(found: dict[str, Any], served: Served) -> None:
    assert found["set"] == "SUCCESS"
    assert served.meter.clock_set == cosem_time.encode(SET_TO)


def _relay(found: dict[str, Any], _served: Served) -> None:
    assert found["action"] == [True, False, True]


def _released(found: dict[str, Any], served: Served) -> None:
    assert found["release"] == EXCEPTION
    assert served.answered(b"\x63")


def _ciphering(_found: dict[str, Any], served: Served) -> None:
    *conversation, _after_release = served.seen_by("client")
    assert wire.problems([*conversation, *served.seen_by("meter")], control=served.control) == []
    assert served.forms("client") == served.forms("meter") == {"glo", served.case.form}


CHECKS: dict[Service, Callable[[dict[str, Any], Served], None]] = {
    Service.ASSOCIATE: _associated,
    Service.GET: _reads,
    Service.RANGE: _range_in_blocks,
    Service.LIST: _list,
    Service.SET: _clock_set,
    Service.ACTION: _relay,
    Service.RELEASE: _released,
    Service.CIPHERING: _ciphering,
}


@pytest.mark.parametrize("case", COSEM_CASES, ids=str)
async def test_dlms_cosem_client_uses_our_meter(case: Case, peer: PeerProcess) -> None:
    async with served_meter(case) as served:
        found = await peer.ask(_task(case, served.port))
        assert "failed" not in found, found["failed"]
        served.record(found["wire"], client=TITLE)
        for service in case.services:
            if service is not Service.WRONG_KEY:
                CHECKS[service](found, served)


@pytest.mark.parametrize("case", [c for c in COSEM_CASES if Service.WRONG_KEY in c.services], ids=str)
async def test_our_meter_refuses_a_dlms_cosem_client_with_another_authentication_key(
    case: Case, peer: PeerProcess
) -> None:
    async with served_meter(case) as served:
        found = await peer.ask(_task(case, served.port) | {"authentication_key": EK.hex()})
        assert found["failed"]["service"] == "associate"
        assert served.meter.clock_set is None
        assert served.meter.frame_counter(48) == 0


async def test_our_meter_refuses_a_proof_whose_counter_comes_twice(peer: PeerProcess) -> None:
    case = next(c for c in COSEM_CASES if c.auth is Auth.HLS_GMAC)
    async with served_meter(case) as served:
        found = await peer.ask(_task(case, served.port) | {"mended": False})
        assert found["failed"]["service"] == "associate"
        assert "READ_WRITE_DENIED" in found["failed"]["error"]
