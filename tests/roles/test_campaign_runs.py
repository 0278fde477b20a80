"""A running gateway carries a campaign out: planned and started by command, its messages reach the provider."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.central.campaign import feeding
from gateway.central.campaign.coverage import by_route, total
from gateway.central.campaign.store import CampaignStore
from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleStore
from gateway.central.telling import pace
from gateway.config import file as configuration
from gateway.roles.central_files import central_files
from gateway.roles.telling import telling_role
from mapping.changes import Install, MoveIn, Name
from mapping.directory import NumberKind, Role
from mapping.store import DirectoryStore
from tests.support.central.telling import PaperProvider
from tests.support.cli import command_line
from tests.support.waiting import until


async def test_a_started_campaign_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "EVERY", 0.01)
    monkeypatch.setattr(pace.Pace, "is_quiet", lambda *_: False)
    files = central_files(tmp_path).made()
    at = datetime(2026, 4, 1, tzinfo=UTC)
    with DirectoryStore(files.directory) as directory:
        directory.apply(
            [
                Install("GEN:1", "UP-1", Role.CONSUMER, at),
                MoveIn("UP-1", "acc-1", at),
                Name("acc-1", NumberKind.LEGACY, "KE0000001"),
                Name("acc-1", NumberKind.ACCOUNT, "6294919105"),
            ],
            by="test", source="t", at=at,
        )  # fmt: skip
    people = PeopleStore(files.people)
    now = datetime.now(UTC)
    ContactStore(people).add(
        "acc-1", "9876543210", by="t", source="t", at=now, verified_at=now - timedelta(days=9)
    )
    people.close()
    settings = tmp_path / "gateway.toml"
    settings.write_text(f'[gateway]\nname = "central-1"\ndata = "{tmp_path}"\nroles = ["central"]\n')
    provider = PaperProvider()
    provider.reports = False
    with command_line(tmp_path) as given:
        given("campaign", "plan", "rekey", "--data", tmp_path)
        async with telling_role(configuration.load(settings), provider) as role:
            running = asyncio.create_task(role.run())
            await asyncio.to_thread(given, "campaign", "start", "rekey", "--data", tmp_path)
            await until(lambda: len(provider.got) == 1)
            assert "6294919105" in provider.got[0].rendered.text
            with CampaignStore(files.campaign) as store:
                await until(lambda: total(by_route(store, "rekey")).told_sms == 1)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        status = given("campaign", "status", "rekey", "--data", tmp_path, "--json").json
        assert (status["state"], status["total"]["left"]) == ("running", 0)
        assert "no campaign other" in given("campaign", "start", "other", "--data", tmp_path, code=2).err
        assert "no name" in given("campaign", "plan", "a b", "--data", tmp_path, code=2).err
