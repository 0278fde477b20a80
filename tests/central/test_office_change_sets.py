"""The desk for change sets: done once, whatever crashes; and never on another directory than was looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from gateway.central.ledger.ledger import Ledger
from gateway.central.office.actors import Actor, Proof, StaffRole
from gateway.central.office.answers import KEPT, TAKEN_OVER, Answers, Kept, KeyReused, TooManyKeys, UnderWay
from gateway.central.office.audit_checks import content_faults, not_in_the_trail
from gateway.central.office.change_documents import ChangeSetRequest, changes_by_place
from gateway.central.office.change_errors import (
    AlreadyDecided,
    ChangesRefused,
    MovedOn,
    NoSuchChangeSet,
    OtherChanges,
)
from gateway.central.office.change_records import ChangeSetState
from gateway.central.office.change_sets import ChangeSetDesk
from gateway.central.office.office import Office
from gateway.central.office.tables import change_set
from gateway.errors import AccessDenied
from mapping.changes import Change, Install, MoveIn
from mapping.directory import Role
from mapping.proposals import Proposal, Proposals, asked_undo
from mapping.store import DirectoryStore
from tests.support.central.office import AT, BOX, office_in, person
from tests.support.central.samples import batch, capture, received
from tests.support.databases import ON_BOTH, database

OLD = AT - timedelta(days=100)
SAP = Actor(name="machine:sap", roles=frozenset({StaffRole.CLERK}), proof=Proof.TOKEN, source="10.0.0.1")


@dataclass
class Site:
    desk: ChangeSetDesk
    store: DirectoryStore
    office: Office
    now: datetime = AT


@contextmanager
def site(folder: Path, where: Path | str | None = None, approve_above: int = 2) -> Iterator[Site]:
    place = where or folder / "directory.db"
    with DirectoryStore(place) as store, office_in(folder, where) as office:
        changes: list[Change] = []
        for number in range(1, 6):
            changes.append(Install(f"GEN:{number}", f"UP-{number}", Role.CONSUMER, OLD))
            changes.append(MoveIn(f"UP-{number}", f"acc-{number}", OLD))
        store.apply(changes, by="test", source="test", at=OLD)
        desk = ChangeSetDesk(office, store, now=lambda: AT, sure=lambda: True, approve_above=approve_above)
        yield Site(desk, store, office)


def out(*points: int, **more: Any) -> ChangeSetRequest:
    changes = [
        {"kind": "move_out", "usage_point": f"UP-{number}", "at": "2026-11-20T10:00:00+05:30"}
        for number in points
    ]
    return ChangeSetRequest.model_validate({"changes": changes, **more})


@ON_BOTH
def test_a_change_set_is_applied_once_however_often_it_is_asked_for(kind: str, tmp_path: Path) -> None:
    with database(kind, tmp_path) as where, site(tmp_path, where) as here:
        done = here.desk.submit(SAP, out(1), "cs-1")
        assert (done.state, done.version) == (ChangeSetState.APPLIED, 2)
        assert here.desk.submit(SAP, out(1), "cs-1") == here.desk.get(SAP, "cs-1")
        assert here.store.version == 2
        with pytest.raises(OtherChanges):
            here.desk.submit(SAP, out(2), "cs-1")
        assert here.office.trail.verify().whole
        assert content_faults(here.office) == []


@pytest.mark.parametrize("after_apply", [False, True])
def test_what_a_crash_broke_off_is_finished_once(tmp_path: Path, *, after_apply: bool) -> None:
    with site(tmp_path) as here:
        if after_apply:
            here.desk.submit(SAP, out(1), "cs-1")
        else:
            request = out(1)
            with pytest.raises(KeyboardInterrupt), monkeypatched(here.store):
                here.desk.submit(SAP, request, "cs-1")
        with here.office.database.writing("as a crash leaves it") as db:
            db.execute(update(change_set).values(state="asked", version=None, decided_at=None))
        again = here.desk.submit(SAP, out(1), "cs-1")
        assert (again.state, again.version, here.store.version) == (ChangeSetState.APPLIED, 2, 2)


@contextmanager
def monkeypatched(store: DirectoryStore) -> Iterator[None]:
    """Have the process die where it begins to write the directory."""

    def killed(*_given: Any, **_more: Any) -> int:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "apply", killed)
        yield


def test_all_refused_changes_are_named_with_their_places(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        with pytest.raises(ChangesRefused) as refused:
            here.desk.submit(SAP, out(1, 77, 2, 88), "cs-1")
        assert [fault.place for fault in refused.value.faults] == [1, 3]
        assert here.store.version == 1
        assert here.desk.records.get("cs-1") is None
        last = here.office.trail.entries(limit=1)[0]
        assert (last.act, last.detail["codes"]) == ("change_set.refused", "NOT_HELD")


def test_a_fingerprint_holds_for_these_changes_on_this_version_alone(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        seen = here.desk.preview(SAP, out(1))
        with pytest.raises(OtherChanges):
            here.desk.submit(SAP, out(2, fingerprint=seen.fingerprint), "cs-1")
        here.desk.submit(SAP, out(3), "cs-2")
        with pytest.raises(MovedOn):
            here.desk.submit(SAP, out(1, fingerprint=seen.fingerprint), "cs-3")
        fresh = here.desk.preview(SAP, out(1))
        assert here.desk.submit(SAP, out(1, fingerprint=fresh.fingerprint), "cs-4").version == 3


def test_whoever_asks_in_the_middle_of_others_is_applied_after_them(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        apply, once = here.store.apply, [True]

        def slow(*given: Any, **more: Any) -> int:
            if once:
                once.clear()
                others, _ = changes_by_place(out(5).changes, here.store.snapshot())
                apply([change for _, change in others], by="other", source="other", at=AT)
            return apply(*given, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(here.store, "apply", slow)
            assert here.desk.submit(SAP, out(1), "cs-1").version == 3


def test_an_approval_is_somebody_elses_logged_in_and_of_the_role(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        clerk = person(here.office, "meera", StaffRole.CLERK, StaffRole.APPROVER).actor(here.office, AT)
        boss = person(here.office, "verma", StaffRole.APPROVER).actor(here.office, AT)
        asked = here.desk.submit(clerk, out(1, 2, 3), "cs-1")
        assert (asked.state, here.store.version) == (ChangeSetState.WAITING, 1)
        for nobody in (clerk, SAP, BOX):
            with pytest.raises((AccessDenied, Exception), match=r"somebody else|there is no|only a person"):
                here.desk.approve(nobody, "cs-1", asked.fingerprint)
        assert here.store.version == 1
        done = here.desk.approve(boss, "cs-1", asked.fingerprint)
        assert (done.version, here.store.snapshot().changes[-1].by) == (2, "meera, approved by verma")
        acts = [entry.act for entry in reversed(here.office.trail.entries(subject="change_set:cs-1"))]
        assert acts == ["change_set.asked", "change_set.approved", "change_set.applied"]


@pytest.mark.parametrize("first", ["approve", "reject"])
def test_of_two_who_decide_at_once_the_trail_says_what_the_directory_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    with site(tmp_path) as here:
        clerk = person(here.office, "meera", StaffRole.CLERK).actor(here.office, AT)
        verma, khan = (
            person(here.office, name, StaffRole.APPROVER).actor(here.office, AT) for name in ("verma", "khan")
        )
        asked = here.desk.submit(clerk, out(1, 2, 3), "cs-1")
        if first == "reject":  # while the directory is being changed
            apply = here.store.apply

            def rejected_meanwhile(*given: Any, **named: Any) -> int:
                here.desk.reject(khan, "cs-1", None)
                return apply(*given, **named)

            monkeypatch.setattr(here.store, "apply", rejected_meanwhile)
            here.desk.approve(verma, "cs-1", asked.fingerprint)
        else:  # while somebody who saw it wait rejects it
            decide = here.desk.records.decide

            def approved_before(db: Any, record: Any) -> bool:
                return False if record.state is ChangeSetState.REJECTED else decide(db, record)

            monkeypatch.setattr(here.desk.records, "decide", approved_before)
            with pytest.raises(AlreadyDecided):
                here.desk.reject(khan, "cs-1", None)
            here.desk.approve(verma, "cs-1", asked.fingerprint)
        held = here.desk.get(clerk, "cs-1")
        assert (held.state, held.version, held.decided_by) == (ChangeSetState.APPLIED, 2, "verma")
        acts = [entry.act for entry in reversed(here.office.trail.entries(subject="change_set:cs-1"))]
        assert acts[-1] == "change_set.applied"
        assert ("change_set.rejected" in acts) == (first == "reject")
        assert content_faults(here.office) == []
        assert list(not_in_the_trail(here.office, here.store.snapshot().changes)) == []


def test_a_kept_change_set_that_somebody_changed_is_found(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.desk.submit(SAP, out(1), "cs-1")
        with here.office.database.writing("harming") as db:
            db.execute(update(change_set).values(actor="machine:other"))
        assert "was changed since" in content_faults(here.office)[0]
        with here.office.database.writing("harming") as db:
            db.execute(delete(change_set))
        assert content_faults(here.office) == ["change_set:cs-1 was asked for and is not kept any more"]


def test_a_version_that_another_program_made_is_told(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.desk.submit(SAP, out(1), "cs-1")
        others, _ = changes_by_place(out(2).changes, here.store.snapshot())
        here.store.apply([change for _, change in others], by="someone", source="a script", at=AT)
        here.desk.submit(SAP, out(3), "cs-2")
        found = list(not_in_the_trail(here.office, here.store.snapshot().changes))
        assert [(one.version, one.by) for one in found] == [(3, "someone")]


def test_what_touches_many_meters_waits_though_it_is_one_change(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        crossed = {
            "kind": "cross_meters",
            "meters": ["GEN:1", "GEN:2", "GEN:3"],
            "valid_from": OLD.isoformat(),
        }
        asked = here.desk.submit(SAP, ChangeSetRequest.model_validate({"changes": [crossed]}), "cs-1")
        assert asked.state is ChangeSetState.WAITING


def test_an_engineer_fits_and_names_nobody(tmp_path: Path) -> None:
    engineer = Actor(name="ravi", roles=frozenset({StaffRole.ENGINEER}), proof=Proof.SESSION, source="a")
    with site(tmp_path) as here:
        taken = {"kind": "remove", "meter": "GEN:1", "at": "2026-11-20T10:00:00Z"}
        here.desk.submit(engineer, ChangeSetRequest.model_validate({"changes": [taken]}), "cs-1")
        with pytest.raises(AccessDenied):
            here.desk.submit(engineer, out(2), "cs-2")


@ON_BOTH
def test_answers_are_kept_by_key(kind: str, tmp_path: Path) -> None:
    with database(kind, tmp_path) as where, office_in(tmp_path, where) as office:
        answers = Answers(office.database, max_keys=2)
        assert answers.begin("sap", "k", "d1", AT) is None
        with pytest.raises(UnderWay):
            answers.begin("sap", "k", "d1", AT)
        with pytest.raises(KeyReused):
            answers.begin("sap", "k", "d2", AT)
        answers.end("sap", "k", Kept(201, {"id": "x"}))
        assert answers.begin("sap", "k", "d1", AT) == Kept(201, {"id": "x"})
        assert answers.begin("other", "k", "d2", AT) is None
        answers.drop("other", "k")
        assert answers.begin("other", "k", "d3", AT) is None
        assert answers.begin("sap", "l", "d", AT) is None
        with pytest.raises(TooManyKeys) as many:
            answers.begin("sap", "m", "d", AT + timedelta(days=1))
        assert many.value.left == KEPT - timedelta(days=1)
        assert answers.begin("sap", "m", "d", AT + KEPT + timedelta(seconds=1)) is None


def test_a_request_that_another_process_left_is_taken_over(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        Answers(office.database).begin("sap", "k", "d", AT)
        restarted = Answers(office.database)
        with pytest.raises(UnderWay):
            restarted.begin("sap", "k", "d", AT + TAKEN_OVER / 2)
        assert restarted.begin("sap", "k", "d", AT + TAKEN_OVER) is None
        restarted.end("sap", "k", Kept(201, {}))
        assert restarted.begin("sap", "k", "d", AT + TAKEN_OVER) == Kept(201, {})


def test_what_is_shown_names_whose_energy_and_how_much_and_counts_as_the_commands_do(tmp_path: Path) -> None:
    with site(tmp_path) as here, closing(Ledger(tmp_path / "ledger.db")) as ledger:
        # Two half hours of 2 kWh after the tenant of UP-1 left, as the papers say now.
        half = timedelta(minutes=30)
        left = datetime(2026, 11, 20, 4, 30, tzinfo=UTC)
        captures = [
            capture(n, meter="GEN:1", at=left + half * n, start=left + half * (n - 1), value="2000")
            for n in (1, 2)
        ]
        ledger.ingest([received(batch(captures))])
        desk = ChangeSetDesk(
            here.office, here.store, now=lambda: AT, sure=lambda: True, approve_above=0, ledger=ledger
        )
        into = {"kind": "move_in", "usage_point": "UP-1", "account_id": "acc-2"}
        moved = out(1).model_dump(mode="json", exclude_unset=True)["changes"]
        request = ChangeSetRequest.model_validate(
            {"changes": [*moved, into | {"valid_from": "2026-11-20T10:00:00+05:30"}]}
        )
        told = desk.preview(SAP, request).document()
        assert told["energy"] == {
            "unit": "kWh", "moved": "4.000", "net": "0.000", "by_multiplier": "0.000", "unknown_spans": 0
        }  # fmt: skip
        [span] = told["spans"]
        assert (span["old"]["account_id"], span["old"]["kwh"]) == ("acc-1", "4.000")
        assert (span["new"]["account_id"], span["new"]["kwh"]) == ("acc-2", "4.000")
        assert desk.submit(SAP, request, "cs-1").state is ChangeSetState.WAITING
        shown = desk.shown(desk.get(SAP, "cs-1"))
        assert shown is not None
        assert shown.document()["energy"]["moved"] == "4.000"
        more = {"kind": "multiplier", "meter": "GEN:1", "multiplier": "10"}
        factor = ChangeSetRequest.model_validate(
            {"changes": [more | {"valid_from": "2026-11-20T10:00:00+05:30"}]}
        )
        told = desk.preview(SAP, factor).document()
        assert (told["counts"]["meters"], told["counts"]["accounts"]) == (1, 1)
        assert told["energy"]["by_multiplier"] == "36.000"


def person_of(name: str, role: StaffRole) -> Actor:
    return Actor(name=name, roles=frozenset({role}), proof=Proof.SESSION, source="desk")


MEERA, VERMA = person_of("meera", StaffRole.CLERK), person_of("verma", StaffRole.APPROVER)


def left(store: DirectoryStore, text: str, who: str = "meera") -> Proposal:
    """Leave a change set for a second person, as the commands do."""
    return Proposals(store).keep(
        text, by=who, at=AT, source="directory undo 1", version=store.version, meters=5, accounts=5
    )


def test_what_a_command_left_waits_in_the_same_list_and_is_decided_by_the_same_rule(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        asked = here.desk.submit(SAP, out(1, 2, 3), "cs-1")
        held = left(here.store, asked_undo(1, rest_alone=False))
        waiting = here.desk.page(MEERA, state=ChangeSetState.WAITING, limit=9)
        assert [one.id for one in waiting] == [f"plan-{held.fingerprint}", "cs-1"]
        assert waiting == [
            *here.desk.page(MEERA, limit=1),
            *here.desk.page(MEERA, before=waiting[0].id, limit=1),
        ]
        assert [one.id for one in here.desk.page(SAP, limit=9)] == ["cs-1"]  # a machine sees its own
        [record, _] = waiting
        seen = here.desk.shown(record)
        assert seen is not None
        assert (seen.meters, seen.accounts, seen.fingerprint) == (5, 5, record.fingerprint)
        assert record.fingerprint.startswith(f"1-{held.fingerprint}")
        for who in (MEERA, SAP, person_of("meera", StaffRole.APPROVER)):
            with pytest.raises((AccessDenied, NoSuchChangeSet)):
                here.desk.approve(who, record.id, record.fingerprint)
        with pytest.raises(OtherChanges):
            here.desk.approve(VERMA, record.id, asked.fingerprint)
        done = here.desk.approve(VERMA, record.id, record.fingerprint)
        assert (done.state, done.version, done.decided_by) == (ChangeSetState.APPLIED, 2, "verma")
        assert here.store.snapshot().changes[-1].by == "meera, approved by verma"
        assert Proposals(here.store).all() == []
        assert list(not_in_the_trail(here.office, here.store.snapshot().changes)) == []
        assert content_faults(here.office) == []


def test_what_a_command_left_is_refused_where_the_directory_moved_on_and_can_be_rejected(
    tmp_path: Path,
) -> None:
    with site(tmp_path) as here:
        held = left(here.store, asked_undo(1, rest_alone=False))
        record = here.desk.get(VERMA, f"plan-{held.fingerprint}")
        here.desk.submit(SAP, out(1), "cs-1")
        with pytest.raises(ChangesRefused) as refused:
            here.desk.shown(record)
        assert [fault.code for fault in refused.value.faults] == ["STALE_PLAN"]
        with pytest.raises(MovedOn):
            here.desk.approve(VERMA, record.id, record.fingerprint)
        assert here.desk.reject(MEERA, record.id, None).state is ChangeSetState.REJECTED
        assert Proposals(here.store).all() == []
        with pytest.raises(NoSuchChangeSet):
            here.desk.get(VERMA, record.id)
