"""Key transfer with gurux-dlms in a process of its own, both ways: it wraps for our meter, and unwraps what we send."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.edge.keys.change import Stage
from gateway.roles.keys import key_work
from gateway.roles.keys_wanted import wanted
from protocols.dlms.acts.keys import KeySlot
from protocols.session import Auth
from tests.support.dlms.bench import HLS_KEY, KEYS
from tests.support.dlms.trap_site import SECRETS
from tests.support.fakes import HandClock
from tests.support.interop.peers import PeerProcess
from tests.support.interop.table import GURUX_AUTH
from tests.support.keys_site import FILES, MASTER, MemoryEscrow, keys_config, keys_site, write_secrets

NEW = {0: b"N" * 16, 2: b"n" * 16}
COMMON = {
    "framing": "wrapper",
    "auth": GURUX_AUTH[Auth.HLS2],
    "protection": "authenticated-encrypted",
    "general": False,
    "general_blocks": False,
    "address_octets": 2,
    "suite": 0,
    "counter": 100,
    "dedicated_key": "",
}


@pytest.fixture(scope="module")
def client() -> Iterator[PeerProcess]:
    process = PeerProcess("gurux_client.py")
    yield process
    process.close()


@pytest.fixture(scope="module")
def meter() -> Iterator[PeerProcess]:
    process = PeerProcess("gurux_server.py")
    yield process
    process.close()


@pytest.mark.parametrize("good", [True, False])
async def test_our_meter_takes_keys_that_gurux_wrapped(
    client: PeerProcess, tmp_path: Path, good: bool
) -> None:
    async with keys_site(tmp_path) as site:
        host, port = site.config.lines[0].host, site.config.lines[0].port
        told = await client.ask(
            {
                **COMMON,
                "services": ["associate", "keys", "release"],
                "host": host,
                "port": port,
                "password": SECRETS["hls"].hex(),
                "title": b"GRX\x00\x00\x00\x00\x09".hex(),
                "encryption_key": SECRETS["ek"].hex(),
                "authentication_key": SECRETS["ak"].hex(),
                "keys": {
                    "setup": "0.0.43.0.3.255",
                    "master_key": (MASTER if good else b"x" * 16).hex(),
                    "new": [[kind, key.hex()] for kind, key in NEW.items()],
                },
            }
        )
        held = site.held()
    if good:
        assert "failed" not in told
        assert (held[KeySlot.ENCRYPTION], held[KeySlot.AUTHENTICATION]) == (NEW[0], NEW[2])
    else:
        assert told["failed"]["service"] == "keys"
        assert (held[KeySlot.ENCRYPTION], held[KeySlot.AUTHENTICATION]) == (SECRETS["ek"], SECRETS["ak"])


@pytest.mark.parametrize("what", ["global", "master"])
async def test_gurux_unwraps_what_we_rotate_and_proves_it(
    meter: PeerProcess, tmp_path: Path, what: str
) -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    told = await meter.ask(
        {
            **COMMON,
            "do": "serve",
            "password": HLS_KEY.hex(),
            "title": b"GRX\x00\x00\x00\x00\x07".hex(),
            "encryption_key": KEYS.encryption.hex(),
            "authentication_key": KEYS.authentication.hex(),
            "answer_key": KEYS.authentication.hex(),
            "master_key": MASTER.hex(),
            "counter": 77,
            "max_pdu": 1024,
            "now": now.replace(tzinfo=None).isoformat(),
            "begin": (now - timedelta(days=1)).replace(tzinfo=None).isoformat(),
        }
    )
    try:
        secrets = tmp_path / "keys"
        given = {"hls": HLS_KEY, "ek": KEYS.encryption, "ak": KEYS.authentication}
        write_secrets(secrets, {**FILES, **given})
        name = "GRX:00000007"
        config = keys_config(tmp_path, secrets, told["port"], {"master_key_ref": "mk"}, meter=name)
        escrow = MemoryEscrow()
        async with key_work(config, HandClock(now), escrow=escrow) as work:
            for _ in range(2):  # the second time under the keys of the first
                change = await work.rotate(wanted(config, name, None, what))
                assert change.stage is Stage.PROVEN, change.note
        assert len(escrow.kept) == 2
    finally:
        await meter.ask({"do": "stop"})
