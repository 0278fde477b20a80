"""Accounts and tokens: who gets in, how often one may be wrong, and what ends a login."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.central.office.actors import ALLOWED, Actor, Proof, Right, StaffRole
from gateway.central.office.office import HEAD_FILE, KEY_FILE, Office
from gateway.central.office.proofs import STEP_SECONDS, code_at, step_of
from gateway.central.office.staff import MOST_WAIT, SESSION, LoginRefused
from gateway.errors import AccessDenied, ConfigError, UsageError
from tests.support.central.office import AT, BOX, PASSWORD, office_in, person, token
from tests.support.databases import ON_BOTH, database

STEP = timedelta(seconds=STEP_SECONDS)


@ON_BOTH
def test_a_password_and_a_code_let_somebody_in_once_for_each_code(kind: str, tmp_path: Path) -> None:
    with database(kind, tmp_path) as where, office_in(tmp_path, where) as office:
        meera = person(office, "meera", StaffRole.CLERK)
        code = meera.code(AT)
        office.staff.login("Meera ", PASSWORD, code, kind="terminal", source="desk", at=AT)
        with pytest.raises(LoginRefused, match="not right"):
            office.staff.login("meera", PASSWORD, code, kind="terminal", source="desk", at=AT)
        later = AT + STEP
        held_token = meera.login(office, later)
        actor = office.staff.of_session(held_token, kind="terminal", source="x", at=later)
        assert actor is not None
        assert (actor.name, set(actor.roles), actor.proof) == ("meera", {StaffRole.CLERK}, Proof.SESSION)
        # A login at a terminal is none in a browser, and it ends with the shift.
        assert office.staff.of_session(held_token, kind="web", source="x", at=later) is None
        assert office.staff.of_session(held_token, kind="terminal", source="x", at=later + SESSION) is None


def test_a_code_counts_one_step_to_either_side_and_never_an_earlier_one() -> None:
    seed = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    now = int(AT.timestamp()) // STEP_SECONDS
    for away, counts in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        found = step_of(code_at(seed, now + away), seed, AT, used=0)
        assert (found == now + away) == counts
        spaced = f" {code_at(seed, now + away)[:3]} {code_at(seed, now + away)[3:]} "
        assert step_of(spaced, seed, AT, used=0) == found
    assert step_of(code_at(seed, now - 1), seed, AT, used=now) is None
    for wrong in ("", "000000x", "१२३४५६", "0" * 1000):
        assert step_of(wrong, seed, AT, used=0) is None


def test_the_codes_are_those_of_rfc_6238() -> None:
    """Appendix B, SHA-1, the last six digits of the eight there."""
    seed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # 12345678901234567890
    for seconds, code in ((59, "287082"), (1111111109, "081804"), (20000000000, "353130")):
        assert code_at(seed, seconds // STEP_SECONDS) == code


def test_wrong_logins_wait_longer_and_longer_and_who_is_right_begins_anew(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        meera = person(office, "meera", StaffRole.CLERK)
        now, waits = AT, []
        for _ in range(12):
            with pytest.raises(LoginRefused) as wrong:
                office.staff.login("meera", "not the word at all", "000000", kind="web", source="a", at=now)
            if wrong.value.left is not None:
                waits.append(wrong.value.left)
                now += wrong.value.left
        assert waits == sorted(waits)
        assert waits[0] == timedelta(seconds=30)
        assert all(left <= MOST_WAIT for left in waits)
        # Right is right only when the wait is over; the same words stand for a wrong password and a wrong code.
        with pytest.raises(LoginRefused):
            office.staff.login("meera", PASSWORD, "000000", kind="web", source="a", at=now)
        now += MOST_WAIT
        meera.login(office, now)
        for _ in range(4):
            with pytest.raises(LoginRefused, match="not right"):
                office.staff.login("meera", PASSWORD, "000000", kind="web", source="a", at=now)


def test_a_name_that_nobody_has_is_answered_alike(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        person(office, "meera", StaffRole.CLERK)
        said = []
        for name in ("meera", "nobody"):
            told = []
            for _ in range(7):
                with pytest.raises(LoginRefused) as wrong:
                    office.staff.login(name, "not the word at all", "000000", kind="web", source="a", at=AT)
                told.append(str(wrong.value))
            said.append(told)
        assert said[0] == said[1]


def test_a_rest_does_not_tell_a_name_that_nobody_has(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        person(office, "meera", StaffRole.CLERK)
        said = []
        for name in ("meera", "nobody"):
            told = []
            for later in (*[timedelta(0)] * 6, timedelta(hours=2), timedelta(hours=2), timedelta(hours=5)):
                with pytest.raises(LoginRefused) as wrong:
                    office.staff.login(
                        name, "not the word at all", "000000", kind="web", source="a", at=AT + later
                    )
                told.append(str(wrong.value))
            said.append(told)
        assert said[0] == said[1]


def test_a_login_ends_when_its_account_is_changed(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        meera = person(office, "meera", StaffRole.CLERK)
        held = meera.login(office, AT + STEP)
        office.staff.give_roles("meera", [StaffRole.CARE], by=BOX, at=AT)
        at = AT + 2 * STEP
        assert office.staff.of_session(held, kind="terminal", source="x", at=at) is None
        held = meera.login(office, at)
        office.staff.disable("meera", by=BOX, at=at)
        assert office.staff.of_session(held, kind="terminal", source="x", at=at) is None
        with pytest.raises(LoginRefused, match="not right"):
            meera.login(office, at + STEP)
        fresh = office.staff.reset("meera", "quite another sentence", by=BOX, at=at)
        old = meera.code(at)
        with pytest.raises(LoginRefused):
            office.staff.login("meera", "quite another sentence", old, kind="web", source="a", at=at)
        code = code_at(fresh.seed, int(at.timestamp()) // STEP_SECONDS)
        assert office.staff.login("meera", "quite another sentence", code, kind="web", source="a", at=at)


def test_a_logout_ends_one_login_and_too_many_end_the_oldest(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        meera = person(office, "meera", StaffRole.CLERK)
        held = [meera.login(office, AT + number * STEP) for number in range(21)]
        at = AT + 21 * STEP

        def lives(one: str) -> bool:
            return office.staff.of_session(one, kind="terminal", source="x", at=at) is not None

        assert [lives(one) for one in held] == [False] + [True] * 20
        actor = office.staff.of_session(held[-1], kind="terminal", source="x", at=at)
        assert actor is not None
        office.staff.logout(held[-1], by=actor, at=at)
        assert not lives(held[-1])
        assert lives(held[-2])


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("m", PASSWORD),
        ("-meera", PASSWORD),
        ("meera verma", PASSWORD),
        ("मीरा", PASSWORD),
        ("m" * 33, PASSWORD),
        ("meera", "short"),
        ("meera", "x" * 257),
        ("meera", "i am MEERA of kanpur"),
        ("meera", "aaaaaaaaaaaaaaaa"),
    ],
)
def test_a_bad_name_or_password_makes_no_account(tmp_path: Path, name: str, password: str) -> None:
    with office_in(tmp_path) as office:
        with pytest.raises(UsageError):
            office.staff.add(name, password, [StaffRole.CLERK], by=BOX, at=AT)
        assert not office.staff.exists()


@ON_BOTH
def test_a_token_lives_until_it_expires_or_is_revoked(kind: str, tmp_path: Path) -> None:
    with database(kind, tmp_path) as where, office_in(tmp_path, where) as office:
        held = token(office, "sap", StaffRole.CLERK, days=2)
        found = office.machines.of_token(held, source="10.0.0.1", at=AT)
        assert found is not None
        assert (found.name, found.source) == ("machine:sap", "10.0.0.1")
        assert office.machines.of_token(held, source="a", at=AT + timedelta(days=2)) is None
        assert office.machines.of_token(held[:-1] + "x", source="a", at=AT) is None
        (shown,) = office.machines.all()
        assert (shown.proof, shown.last_used) == ("", AT)
        office.machines.revoke("sap", by=BOX, at=AT)
        assert office.machines.of_token(held, source="a", at=AT) is None
        with pytest.raises(UsageError):
            token(office, "sap", StaffRole.CLERK)
        with pytest.raises(UsageError, match="second person"):
            token(office, "robot", StaffRole.APPROVER)


def test_no_role_changes_and_approves() -> None:
    for role in StaffRole:
        assert not ALLOWED[role] >= {Right.CHANGE, Right.APPROVE}
    with pytest.raises(AccessDenied, match=r"meera \(care\) may not change the directory: that is for clerk"):
        Actor(name="meera", roles=frozenset({StaffRole.CARE}), proof=Proof.BOX, source="x").need(Right.CHANGE)


def test_what_is_kept_is_private_and_the_key_belongs_to_its_office(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        meera = person(office, "meera", StaffRole.CLERK)
    for name in ("office.db", KEY_FILE, HEAD_FILE):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    kept = (tmp_path / "office.db").read_bytes()
    assert meera.seed.encode() not in kept
    assert PASSWORD.encode() not in kept
    key = (tmp_path / KEY_FILE).read_bytes()
    for other in (b"", b"zz\n", b"00" * 32 + b"\n"):
        (tmp_path / KEY_FILE).write_bytes(other)
        with pytest.raises(ConfigError, match=r"office\.key"):
            Office(tmp_path / "office.db", tmp_path)
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(ConfigError, match="restore it"):
        Office(tmp_path / "office.db", tmp_path)
    (tmp_path / KEY_FILE).write_bytes(key)
    with office_in(tmp_path) as office:
        meera.login(office, AT)
