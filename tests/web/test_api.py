"""The API as other systems use it: real sockets, real tokens, every answer as described."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.central.office.actors import StaffRole
from mapping.kinds import KINDS
from tests.support.central.office import BOX, token
from tests.support.web.staffed import Staffed, key, staffed

PATH = "/v1/directory/change-sets"
MOVE_OUT = {"kind": "move_out", "usage_point": "UP-asha", "at": "2026-11-22T10:00:00+05:30"}


@pytest.fixture
async def here(tmp_path: Path, seeded_files: Path) -> AsyncIterator[Staffed]:
    async with staffed(tmp_path, seeded_files, more="[directory]\napprove_above = 2") as made:
        yield made


async def test_a_dry_run_shows_and_changes_nothing_and_its_fingerprint_is_applied(here: Staffed) -> None:
    async with here.client() as http:
        seen = await http.post(PATH, json={"changes": [MOVE_OUT], "dry_run": True})
        assert seen.status_code == 200, seen.text
        shown = seen.json()
        assert shown["would_change"]
        assert shown["counts"]["changes"] == 1
        assert shown["counts"]["accounts"] == 1
        with here.directory() as store:
            assert store.version == shown["directory_version"]
        asked = {"changes": [MOVE_OUT], "fingerprint": shown["fingerprint"], "reference": "order 4711"}
        done = await http.post(PATH, json=asked, headers=key("1"))
        assert done.status_code == 201, done.text
        assert done.json()["state"] == "applied"
        assert done.json()["directory_version"] == shown["directory_version"] + 1
        again = await http.get(done.headers["Location"])
        assert again.json()["content"][0]["usage_point"] == "UP-asha"
    with here.directory() as store:
        last = store.snapshot().changes[-1]
    assert (last.by, last.source) == ("machine:sap", f"change set {done.json()['id']} (order 4711)")


async def test_a_fingerprint_is_refused_where_the_directory_moved_on(here: Staffed) -> None:
    async with here.client() as http:
        shown = (await http.post(PATH, json={"changes": [MOVE_OUT], "dry_run": True})).json()
        other = {"kind": "move_out", "usage_point": "UP-chand", "at": "2026-11-22T10:00:00+05:30"}
        assert (await http.post(PATH, json={"changes": [other]}, headers=key("2"))).status_code == 201
        asked = {"changes": [MOVE_OUT], "fingerprint": shown["fingerprint"]}
        late = await http.post(PATH, json=asked, headers=key("3"))
        assert late.status_code == 412, late.text
        assert late.json()["type"].endswith(":directory-moved-on")
        now = (await http.post(PATH, json={"changes": [MOVE_OUT], "dry_run": True})).json()
        wrong = {"changes": [MOVE_OUT, MOVE_OUT], "fingerprint": now["fingerprint"]}
        assert (await http.post(PATH, json=wrong, headers=key("4"))).status_code in (409, 422)


async def test_a_key_again_gets_the_first_answer_and_with_another_body_none(here: Staffed) -> None:
    async with here.client() as http:
        first = await http.post(PATH, json={"changes": [MOVE_OUT]}, headers=key("k"))
        again = await http.post(PATH, json={"changes": [MOVE_OUT]}, headers=key("k"))
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert again.headers["Idempotency-Replayed"] == "true"
        other = await http.post(PATH, json={"changes": [MOVE_OUT], "reference": "x"}, headers=key("k"))
        assert other.status_code == 422
        assert other.json()["type"].endswith(":key-reused")
        none = await http.post(PATH, json={"changes": [MOVE_OUT]})
        assert none.status_code == 400
        with here.directory() as store:
            assert store.version == first.json()["directory_version"]
        # The same key of somebody else is another key.
        async with here.client(here.session(here.meera)) as meera:
            hers = await meera.post(PATH, json={"changes": [MOVE_OUT]}, headers=key("k"))
    assert hers.status_code == 422
    assert hers.json()["type"].endswith(":changes-refused")


async def test_a_large_one_waits_for_a_second_person_who_approves_the_fingerprint(here: Staffed) -> None:
    points = ("UP-asha", "UP-chand", "UP-devi")
    changes = [MOVE_OUT | {"usage_point": point} for point in points]
    meera, verma = here.session(here.meera), here.session(here.verma)
    async with here.client(meera) as http, here.client(verma) as boss, here.client() as sap:
        asked = await http.post(PATH, json={"changes": changes}, headers=key("big"))
        assert asked.status_code == 202, asked.text
        place, print_ = asked.headers["Location"], asked.json()["fingerprint"]
        approve = {"decision": "approve", "fingerprint": print_}
        own = await http.post(place + "/approval", json=approve)
        assert own.status_code == 403
        assert (await sap.get(place)).status_code == 404
        assert (await sap.post(place + "/approval", json=approve)).status_code == 404
        seen = (await boss.get(place)).json()
        assert seen["preview"]["fingerprint"] == print_
        assert (await boss.post(place + "/approval", json={"decision": "approve"})).status_code == 422
        # A clerk changes something meanwhile: the approver has to look again.
        small = {"changes": [MOVE_OUT | {"usage_point": "UP-birju"}]}
        assert (await http.post(PATH, json=small, headers=key("small"))).status_code == 201
        stale = await boss.post(place + "/approval", json=approve)
        assert stale.status_code == 412
        fresh = (await boss.get(place)).json()["preview"]["fingerprint"]
        done = await boss.post(place + "/approval", json={"decision": "approve", "fingerprint": fresh})
        assert done.status_code == 200, done.text
        assert (done.json()["state"], done.json()["decided_by"]) == ("applied", "verma")
        assert (
            await boss.post(place + "/approval", json={"decision": "approve", "fingerprint": fresh})
        ).status_code == 409
        # An approver who only approves changes nothing of his own.
        assert (await boss.post(PATH, json=small, headers=key("mine"))).status_code == 403
        listed = (await boss.get(PATH, params={"state": "applied"})).json()["change_sets"]
        assert [one["asked_by"] for one in listed] == ["meera", "meera"]
    with here.directory() as store:
        assert store.snapshot().changes[-1].by == "meera, approved by verma"


async def test_a_waiting_one_is_rejected_by_an_approver_and_taken_back_by_whoever_asked(
    here: Staffed,
) -> None:
    changes = [MOVE_OUT | {"usage_point": point} for point in ("UP-asha", "UP-chand", "UP-devi")]
    async with here.client(here.session(here.meera)) as http, here.client(here.session(here.verma)) as boss:
        for number, who in enumerate((boss, http)):
            asked = await http.post(PATH, json={"changes": changes}, headers=key(str(number)))
            place = asked.headers["Location"] + "/approval"
            done = await who.post(place, json={"decision": "reject", "note": "not today"})
            assert (done.status_code, done.json()["state"]) == (200, "rejected")
            assert (await boss.post(place, json={"decision": "reject"})).status_code == 409


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ("{", 400, None),
        ('{"changes":[]}', 422, "/changes"),
        ('{"changes":[{"kind":"explode"}]}', 422, "/changes/0"),
        ('{"changes":[{"kind":"move_out","usage_point":"u","at":12}]}', 422, "/changes/0/at"),
        (
            '{"changes":[{"kind":"move_out","usage_point":"u","at":"2026-11-22T10:00:00"}]}',
            422,
            "/changes/0/at",
        ),
        ('{"changes":[{"kind":"move_out","usage_point":"nowhere","at":"2026-11-22T10:00:00Z"}]}', 422, "/changes/0"),
        ('{"changes":[{"kind":"move_out","usage_point":"u","at":"2026-11-22T10:00Z","x":1}]}', 422, "/changes/0/x"),
    ],
)  # fmt: skip
async def test_a_mistake_is_named_with_its_place(
    here: Staffed, body: str, status: int, pointer: str | None
) -> None:
    async with here.client() as http:
        got = await http.post(PATH, content=body, headers=key("m") | {"Content-Type": "application/json"})
    assert got.status_code == status, got.text
    assert got.headers["content-type"] == "application/problem+json"
    problem = got.json()
    assert problem["status"] == status
    assert problem["instance"] == PATH
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer


async def test_nobody_gets_in_without_a_proof_that_lives(here: Staffed) -> None:
    with here.office() as office:
        now = datetime.now(UTC)
        gone = token(office, "old-sap", StaffRole.CLERK, at=now)
        reader = token(office, "lamp", StaffRole.CARE, at=now)
        office.machines.revoke("old-sap", by=BOX, at=now)
    for wrong in ("", "mgt_nothing", gone, here.token[:-1]):
        async with here.client(wrong or "x") as http:
            got = await http.get(PATH)
        assert got.status_code == 401
        assert got.headers["WWW-Authenticate"].startswith("Bearer")
    async with httpx.AsyncClient(base_url=here.base) as http:
        assert (await http.get(PATH)).status_code == 401
        assert (await http.get(PATH, headers={"Authorization": "Basic eDp5"})).status_code == 401
        assert (await http.get("/v1/openapi.json")).status_code == 200
        assert (await http.get("/v1/nothing")).status_code == 404
        assert (await http.get("/v1/nothing")).headers["content-type"] == "application/problem+json"
    async with here.client(reader) as http:
        refused = await http.post(PATH, json={"changes": [MOVE_OUT]}, headers=key("r"))
        assert refused.status_code == 403
        assert "clerk" in refused.json()["detail"]


async def test_who_guesses_is_told_to_wait(here: Staffed) -> None:
    async with here.client("mgt_guess") as http:
        codes = [(await http.get(PATH)).status_code for _ in range(31)]
        assert codes == [401] * 30 + [429]
        assert int((await http.get(PATH)).headers["Retry-After"]) > 1


async def test_a_disabled_account_and_a_logout_end_the_session_at_once(here: Staffed) -> None:
    meera = here.session(here.meera)
    async with here.client(meera) as http:
        assert (await http.get(PATH)).status_code == 200
        with here.office() as office:
            office.staff.disable("meera", by=BOX, at=datetime.now(UTC))
        assert (await http.get(PATH)).status_code == 401


async def test_bodies_that_are_too_large_or_no_json_are_refused(here: Staffed) -> None:
    async with here.client() as http:
        big = b'{"changes":[' + b" " * (4 * 1024 * 1024) + b"]}"
        assert (
            await http.post(PATH, content=big, headers=key("b") | {"Content-Type": "application/json"})
        ).status_code == 413
        assert (await http.post(PATH, content=b"x=1", headers=key("b"))).status_code == 415


async def test_nothing_secret_stands_in_what_is_kept(here: Staffed) -> None:
    session = here.session(here.meera)
    async with here.client() as http:
        await http.post(PATH, json={"changes": [MOVE_OUT]}, headers=key("s"))
    octets = b"".join(
        path.read_bytes()
        for path in (here.folder / "data" / "central").iterdir()
        if path.name.startswith("office") and path.suffix != ".key"
    )
    for secret in (here.token, here.meera.seed, here.meera.password, session):
        assert secret.encode() not in octets


async def test_the_document_describes_every_kind_of_change(here: Staffed) -> None:
    async with here.client() as http:
        document = (await http.get("/v1/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert {form.__name__ for form in KINDS.values()} <= set(schemas)
    assert {"ChangeSetRequest", "Problem"} <= set(schemas)
    assert {one["$ref"].rpartition("/")[2] for one in _references(document)} <= set(schemas)


def _references(value: Any) -> list[dict[str, str]]:
    if isinstance(value, dict):
        own = [value] if "$ref" in value else []
        return own + [found for inner in value.values() for found in _references(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in _references(inner)]
    return []


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=0000500000", "limit=x", "state=lost"])
async def test_a_query_that_is_none_is_refused(here: Staffed, query: str) -> None:
    async with here.client() as http:
        got = await http.get(f"{PATH}?{query}")
    assert (got.status_code, got.json()["type"].rpartition(":")[2]) == (422, "query")


async def test_a_change_set_is_undone_by_a_later_one_and_once(here: Staffed) -> None:
    async with here.client() as http:
        done = await http.post(PATH, json={"changes": [MOVE_OUT]}, headers=key("1"))
        undo = done.headers["Location"] + "/undo"
        seen = await http.post(undo, json={"dry_run": True})
        back_to = seen.json()["spans"][0]["new"]
        assert (back_to["account_id"], back_to["usage_point"]) == ("acc-asha", "UP-asha")
        assert back_to["kwh"] == seen.json()["energy"]["moved"] != "0.000"
        assert (await http.post(undo, json={})).status_code == 400
        for _ in range(2):
            back = await http.post(undo, json={}, headers=key("2"))
            assert (back.status_code, back.json()["state"]) == (201, "applied"), back.text
            assert back.json()["reference"] == f"undo of {done.json()['id']}"
        again = await http.post(undo, json={}, headers=key("3"))
        assert again.status_code == 409, again.text
        assert "nothing of" in again.json()["detail"]
        assert (await http.post(f"{PATH}/cs-nothing/undo", json={}, headers=key("4"))).status_code == 404
    with here.directory() as store:
        snapshot = store.snapshot()
        (held,) = [row for row in snapshot.holdings("UP-asha") if row.superseded is None]
    assert (held.account_id, held.valid_to) == ("acc-asha", None)
