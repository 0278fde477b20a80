"""Change sets that a master system sends: signed by it, in its order, each done once."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.central.office.actors import StaffRole
from gateway.central.office.change_sets import ChangeSetDesk
from gateway.central.office.inbox import SystemsInbox
from gateway.central.office.office import Office
from gateway.contract.envelope import TYPE_OF, wrap
from gateway.contract.messages import ChangesAnswered, ChangesAsked, Signed
from gateway.contract.signing import CHANGES_TYP, ORDER_TYP, new_key_pair, sign, verify_key_of
from gateway.errors import ContractError
from mapping.changes import Change, Install, MoveIn
from mapping.directory import Role
from mapping.store import DirectoryStore
from tests.support.central.office import AT, BOX, office_in, person
from tests.support.databases import ON_BOTH, database

OLD = AT - timedelta(days=100)
PRIVATE, _ = new_key_pair()
OTHER, _ = new_key_pair()


@dataclass
class Sap:
    """A system that sends, and central's inbox."""

    inbox: SystemsInbox
    office: Office
    store: DirectoryStore
    desk: ChangeSetDesk
    root: str = "kesco"
    more: dict[str, Any] = field(default_factory=dict)

    def message(
        self, sequence: int, *points: int, key: bytes = PRIVATE, typ: str = CHANGES_TYP, **more: Any
    ) -> bytes:
        moves = [
            {"kind": "move_out", "usage_point": f"UP-{number}", "at": "2026-11-20T10:00:00+05:30"}
            for number in points
        ]
        asked = ChangesAsked.model_validate(
            {"system": "sap", "root": self.root, "sequence": sequence, "changes": moves, "at": AT, **more}
        )
        jws = sign(asked.model_dump_json(exclude_none=True).encode(), key=key, typ=typ)
        return wrap(Signed(jws=jws), id=f"sap/{sequence}", source="/sap", time=AT, type=TYPE_OF[ChangesAsked])

    def send(self, sequence: int, *points: int, **more: Any) -> ChangesAnswered:
        return self.inbox.answer("sap", self.message(sequence, *points, **more))


@contextmanager
def sap(folder: Path, where: Path | str | None = None) -> Iterator[Sap]:
    with DirectoryStore(where or folder / "directory.db") as store, office_in(folder, where) as office:
        changes: list[Change] = []
        for number in range(1, 8):
            changes.append(Install(f"GEN:{number}", f"UP-{number}", Role.CONSUMER, OLD))
            changes.append(MoveIn(f"UP-{number}", f"acc-{number}", OLD))
        store.apply(changes, by="test", source="test", at=OLD)
        public = base64.b64encode(verify_key_of(PRIVATE)).decode()
        office.machines.add_key(
            "sap", public, [StaffRole.CLERK], expires=AT + timedelta(days=30), by=BOX, at=AT
        )
        desk = ChangeSetDesk(office, store, now=lambda: AT, sure=lambda: True, approve_above=2)
        yield Sap(SystemsInbox(office, desk, root="kesco", now=lambda: AT), office, store, desk)


@ON_BOTH
def test_messages_are_done_in_order_and_once(kind: str, tmp_path: Path) -> None:
    with database(kind, tmp_path) as where, sap(tmp_path, where) as system:
        first = system.send(1, 1, reference="order 1")
        assert (first.state, first.directory_version) == ("applied", 2)
        assert system.send(1, 1, reference="order 1") == first  # a replay: the same answer, nothing more
        assert system.store.version == 2
        hole = system.send(4, 2)
        assert (hole.state, hole.expected, system.store.version) == ("hole", 2, 2)
        assert system.send(2, 2).state == "applied"
        assert system.send(3, 3).state == "applied"
        reused = system.send(3, 4)
        assert (reused.state, reused.refusals[0].code) == ("refused", "SEQUENCE_REUSED")
        assert system.store.version == 4
        last = system.store.snapshot().changes[1]
        assert (last.by, last.source.endswith("(order 1)")) == ("machine:sap", True)
        assert system.office.trail.verify().whole


def test_a_refused_message_uses_its_sequence_up_and_says_where(tmp_path: Path) -> None:
    with sap(tmp_path) as system:
        refused = system.send(1, 1, 99)
        assert (refused.state, system.store.version) == ("refused", 1)
        assert [(one.place, one.code) for one in refused.refusals] == [(1, "NOT_HELD")]
        assert system.send(1, 1, 99) == refused
        wrong = system.send(2, 1, changes=[{"kind": "explode"}])
        assert (wrong.state, wrong.refusals[0].code, wrong.refusals[0].place) == ("refused", "DOCUMENT", 0)
        assert system.send(3, 1).state == "applied"


def test_a_large_one_waits_and_its_decision_is_told_once(tmp_path: Path) -> None:
    with sap(tmp_path) as system:
        waiting = system.send(1, 1, 2, 3)
        assert (waiting.state, system.store.version) == ("waiting", 1)
        assert system.inbox.decided() == []
        boss = person(system.office, "verma", StaffRole.APPROVER).actor(system.office, AT)
        record = system.desk.get(boss, waiting.change_set or "")
        system.desk.approve(boss, record.id, record.fingerprint)
        (told,) = system.inbox.decided()
        assert (told.state, told.directory_version, told.sequence) == ("applied", 2, 1)
        assert system.inbox.decided() == []
        assert system.send(1, 1, 2, 3).state == "applied"


def test_a_crash_before_the_answer_was_kept_applies_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sap(tmp_path) as system:

        def killed(*_given: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(system.inbox, "_keep", killed)
            with pytest.raises(KeyboardInterrupt):
                system.send(1, 1)
        assert system.store.version == 2
        assert system.send(1, 1).directory_version == 2
        assert system.store.version == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": OTHER},
        {"typ": ORDER_TYP},
        {"system": "mdm"},
        {"root": "elsewhere"},
    ],
)
def test_what_the_system_did_not_sign_for_this_place_is_answered_by_nobody(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with sap(tmp_path) as system:
        with pytest.raises(ContractError):
            system.send(1, 1, **wrong)
        assert system.store.version == 1
        assert system.send(1, 1).state == "applied"


def test_a_revoked_key_and_an_unknown_system_are_nobody(tmp_path: Path) -> None:
    with sap(tmp_path) as system:
        with pytest.raises(ContractError, match="no key"):
            system.inbox.answer("mdm", system.message(1, 1))
        system.office.machines.revoke("sap", by=BOX, at=AT)
        with pytest.raises(ContractError, match="no key"):
            system.send(1, 1)


def test_no_octets_break_it(tmp_path: Path) -> None:
    with sap(tmp_path) as system:
        good = system.message(1, 1)

        @settings(max_examples=150, suppress_health_check=list(HealthCheck))
        @given(st.integers(0, len(good) - 1), st.binary(max_size=4))
        def harmed(place: int, octets: bytes) -> None:
            payload = good[:place] + octets + good[place + len(octets) :]
            try:
                answered = system.inbox.answer("sap", payload)
            except ContractError:
                return
            assert answered.state == "applied"  # what was signed was not touched

        harmed()
        assert system.store.version in (1, 2)
