"""A foreign meter on the command line: its companion names events, status bits, clients and objects."""

from __future__ import annotations

import asyncio
from pathlib import Path

from protocols.dlms.server.ports import serve_wrapper
from tests.support.cli import Cli
from tests.support.dlms.bench import AK, EK, POLICIES
from tests.support.dlms.object_lists import IDIS, served_as


async def test_a_foreign_meter_is_named_by_its_companion(cli: Cli, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'encryption_key = "{EK.hex()}"\nauthentication_key = "{AK.hex()}"\n')
    keys.chmod(0o600)
    async with await serve_wrapper(served_as(IDIS, POLICIES["gmac"][0])) as server:
        address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        words = (address, "--client", 1, "--key-file", keys, "--companion")

        rows = (await asyncio.to_thread(cli, "events", *words, "idis", "--json")).json
        named = {(row["log"], row["code"], row["event"]) for row in rows}
        assert {
            ("standard", 2, "power up"),
            ("fraud detection", 40, "terminal cover removed"),
            ("disconnector control", 62, "disconnected remotely"),
        } <= named
        span = ("--since", "2026-06-01T00:00+05:30", "--until", "2026-06-01T00:20+05:30")
        read = ("read", address, "block_load", *words[1:], "idis", *span)
        said = (await asyncio.to_thread(cli, *read)).out
        assert "clock invalid, power down" in said
        objects = (await asyncio.to_thread(cli, "explore", *words, "idis")).out
        assert "fraud detection events" in objects
        other = ("--auth", "hls-gmac", "--counter-object", "0-0:43.1.0*255")
        unnamed = (await asyncio.to_thread(cli, "events", *words, "generic", *other, "--json")).json
        assert {row["event"] for row in unnamed if row["code"] == 2} == {"event 2"}
