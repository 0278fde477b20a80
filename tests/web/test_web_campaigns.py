"""The staff's page about campaigns: what it shows, who may see it, and a slip ticked off."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.central.campaign.slips import Slips
from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.targets import Reach, Targets
from tests.support.web.client import TestClient
from tests.support.web.seed import NOW, Town, town
from tests.support.web.steps import device, form_token


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[CampaignStore]:
    with CampaignStore(tmp_path / "campaign.db") as made:
        yield made


@pytest.fixture
def office(tmp_path: Path, seeded_files: Path, campaign: CampaignStore) -> Iterator[Town]:
    shutil.copytree(seeded_files, tmp_path / "town")
    with town(tmp_path / "town", seed=False, campaign=campaign) as built:
        Targets(campaign).plan(
            "rekey", built.directory.snapshot(), lambda *_: Reach(), lambda *_: set(), by="test", now=NOW
        )
        yield built


@pytest.fixture
def staff(office: Town) -> Iterator[TestClient]:
    with device(office, "127.0.0.1") as made:
        yield made


@pytest.mark.parametrize(("language", "told"), [("en", "know their new number"), ("hi", "को नया नंबर पता है")])
def test_the_page_shows_who_is_told(staff: TestClient, language: str, told: str) -> None:
    page = staff.get(f"/operator/campaigns?lang={language}")
    assert page.status_code == 200
    assert told in page.text
    assert "0 / 4" in page.text
    assert "1234567890" not in page.text


def test_a_slip_is_ticked_off(staff: TestClient, campaign: CampaignStore) -> None:
    slips = Slips(campaign)
    (sheet,) = slips.sheets()
    slips.mark_made(sheet[:1], NOW)
    form = form_token(staff.get("/operator/campaigns"))

    def tick(slip: str, verdict: str = "delivered") -> tuple[int, str]:
        answer = staff.post("/operator/campaigns", data={"slip": slip, "verdict": verdict, "form": form})
        return answer.status_code, answer.text

    status, page = tick(sheet[0].slip_number)
    assert status == 200
    assert "is noted." in page
    assert "1 / 4" in page
    assert "noted before" in tick(sheet[0].slip_number)[1]
    assert tick(sheet[0].slip_number, "locked")[0] == 422
    for wrong in ("0000 0000", "<b>", ""):
        status, page = tick(wrong)
        assert (status, "<b>" in page.split("<main")[1].split("<h2>")[0]) == (422, False)
    assert tick(sheet[1].slip_number)[0] == 422  # never printed
    foreign = {"slip": sheet[0].slip_number, "verdict": "delivered", "form": "0" * 64}
    assert staff.post("/operator/campaigns", data=foreign).status_code == 403


def test_strangers_see_nothing(office: Town) -> None:
    with device(office, "203.0.113.9") as stranger:
        assert stranger.get("/operator/campaigns").status_code == 403
        assert stranger.post("/operator/campaigns", data={"slip": "1"}).status_code == 403
