"""A gurux-dlms client in a process of its own talks to our served meter; its table is docs/interop.md."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from protocols.dlms import cosem_time
from protocols.dlms.decode import decode_trace
from protocols.dlms.model import AssociationPolicy
from protocols.dlms.server_asyncio import serve_hdlc_tcp, serve_wrapper
from protocols.dlms.types import double_long_unsigned
from tests.interop.table import CASES, Case, document
from tests.protocols.dlms.dlms_bench import AK, EK, HLS_KEY, KEYS, PASSWORD, START, SmallMeter

PEER = Path(__file__).parent / "peer" / "gurux_client.py"
TABLE = Path(__file__).parents[2] / "docs" / "interop.md"
LIMIT = 30.0
IST = timedelta(minutes=330)


def _meter(case: Case) -> SmallMeter:
    secret = {"LOW": PASSWORD, "HIGH": HLS_KEY}.get(case.gurux_auth, b"")
    keys = {"encryption_key": EK, "authentication_key": AK} if case.needs_keys else {}
    policy = AssociationPolicy(auth=case.auth, ciphered=case.ciphered, secret=secret, may_write=True, **keys)
    meter = SmallMeter({48: policy})
    meter.attributes["1-0:1.8.0*255", 2] = double_long_unsigned(1234)
    return meter


def _task(case: Case, port: int) -> dict[str, Any]:
    return {
        "framing": case.framing,
        "auth": case.gurux_auth,
        "ciphered": case.ciphered,
        "host": "127.0.0.1",
        "port": port,
        "password": {"LOW": PASSWORD, "HIGH": HLS_KEY}.get(case.gurux_auth, b"").hex(),
        "title": b"GRXPEER1".hex(),
        "encryption_key": EK.hex(),
        "authentication_key": AK.hex(),
        "counter": 100,
        "since": (START + IST + timedelta(minutes=30)).replace(tzinfo=None).isoformat(),
        "until": (START + IST + timedelta(minutes=30 * 90)).replace(tzinfo=None).isoformat(),
    }


async def _run(task: dict[str, Any]) -> tuple[int | None, bytes, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PEER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TZ": "Asia/Kolkata"},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(json.dumps(task).encode()), LIMIT)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode, out, err.decode()[-2000:]


async def _peer(task: dict[str, Any]) -> dict[str, Any]:
    code, out, err = await _run(task)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_gurux_client_reads_our_meter(case: Case) -> None:
    meter = _meter(case)
    server = await (serve_hdlc_tcp({17: meter}) if case.framing == "hdlc" else serve_wrapper(meter))
    async with server:
        found = await _peer(_task(case, server.sockets[0].getsockname()[1]))
    assert bytes.fromhex(found["serial"]) == b"00000007"
    assert found["register"] == 1234
    assert bytes.fromhex(found["clock"]) == cosem_time.encode(START + timedelta(hours=36))
    expected = [[cosem_time.encode(at).hex(), 23000 + n, n] for at, n in meter.blocks[:90]]
    assert found["rows"] == expected
    assert found["blocks"] >= 1
    assert found["relay"] == [True, False, True]
    assert meter.clock_set is not None
    assert cosem_time.decode(meter.clock_set).at == meter.blocks[89][0]
    # gurux does not check our authentication tags: the recorded octets are checked here
    trace = decode_trace(bytes.fromhex(found["wire"]), keys=KEYS)
    assert trace.problem is None, str(trace.problem)
    assert any("glo-" in line for line in trace.lines()) == case.ciphered


@pytest.mark.parametrize("case", [c for c in CASES if c.needs_keys], ids=str)
async def test_we_refuse_a_peer_with_another_authentication_key(case: Case) -> None:
    meter = _meter(case)
    server = await (serve_hdlc_tcp({17: meter}) if case.framing == "hdlc" else serve_wrapper(meter))
    async with server:
        task = _task(case, server.sockets[0].getsockname()[1])
        code, out, err = await _run(task | {"authentication_key": EK.hex()})
    assert (code, out) == (1, b"")
    assert "Authentication failure" in err or "error 3" in err  # at the AARE, or at the third pass
    assert meter.relay_closed


def test_the_table_in_the_documentation_is_this_one() -> None:
    assert TABLE.read_text(encoding="utf-8") == document()
