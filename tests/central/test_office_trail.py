"""The audit trail: whatever is done to it is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, insert, select, update

from gateway.central.office.actors import StaffRole
from gateway.central.office.office import HEAD_FILE, Office
from gateway.central.office.tables import trail
from gateway.central.office.trail import Head
from gateway.errors import UsageError
from tests.support.central.office import AT, BOX, office_in, person
from tests.support.databases import ON_BOTH, database


def filled(office: Office, count: int = 12) -> None:
    for number in range(count):
        office.trail.record(
            BOX, "readings.seen", f"account:acc-{number % 3}", at=AT + timedelta(seconds=number)
        )


def changed(db: Connection) -> None:
    db.execute(update(trail).where(trail.c.number == 5).values(actor="somebody else"))


def changed_detail(db: Connection) -> None:
    db.execute(update(trail).where(trail.c.number == 5).values(detail='{"x":1}'))


def removed(db: Connection) -> None:
    db.execute(delete(trail).where(trail.c.number == 5))


def removed_first(db: Connection) -> None:
    db.execute(delete(trail).where(trail.c.number == 1))


def removed_and_closed_up(db: Connection) -> None:
    db.execute(delete(trail).where(trail.c.number == 5))
    for number in range(6, 13):
        db.execute(update(trail).where(trail.c.number == number).values(number=number - 1))


def exchanged(db: Connection) -> None:
    for old, new in ((5, 100), (6, 5), (100, 6)):
        db.execute(update(trail).where(trail.c.number == old).values(number=new))


def put_in(db: Connection) -> None:
    row = db.execute(select(trail).where(trail.c.number == 12)).one()._asdict()
    for number in range(12, 6, -1):
        db.execute(update(trail).where(trail.c.number == number).values(number=number + 1))
    db.execute(insert(trail).values(**row | {"number": 7}))


def cut_off(db: Connection) -> None:
    db.execute(delete(trail).where(trail.c.number == 12))


def cut_off_much(db: Connection) -> None:
    db.execute(delete(trail).where(trail.c.number > 3))


def emptied(db: Connection) -> None:
    db.execute(delete(trail))


@ON_BOTH
@pytest.mark.parametrize(
    "harm",
    [
        changed,
        changed_detail,
        removed,
        removed_first,
        removed_and_closed_up,
        exchanged,
        put_in,
        cut_off,
        cut_off_much,
        emptied,
    ],
)
def test_every_harm_is_found(kind: str, tmp_path: Path, harm: Callable[[Connection], None]) -> None:
    with database(kind, tmp_path) as where, office_in(tmp_path, where) as office:
        filled(office)
        good = office.trail.verify()
        assert (good.whole, good.entries, good.faults) == (True, 12, ())
        with office.database.writing("harming") as db:
            harm(db)
        assert not office.trail.verify().whole
        # It stays found after others have gone on writing.
        filled(office, 3)
        assert not office.trail.verify().whole


def test_a_chain_that_was_computed_anew_is_found_by_its_head(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        filled(office)
        exported = office.trail.head()
        rows = [entry for entry in reversed(office.trail.entries()) if entry.number != 5]
        with office.database.writing("harming") as db:
            db.execute(delete(trail))
            for entry in rows:
                office.trail.add(db, BOX, entry.act, entry.subject, at=entry.at)
        assert not office.trail.verify().whole
        filled(office, 3)
        assert not office.trail.verify().whole
        # Whoever changes the file beside it, too, is found by what was exported.
        (tmp_path / HEAD_FILE).write_text(f"{office.trail.head()}\n")
        assert office.trail.verify().whole
        found = office.trail.verify(exported)
        assert not found.whole
        assert str(exported) in found.faults[0]


def test_without_the_file_beside_only_an_exported_head_vouches(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        filled(office)
        (tmp_path / HEAD_FILE).unlink()
        assert "--head" in office.trail.verify().faults[0]
        assert office.trail.verify(office.trail.head()).whole


def test_a_crash_before_the_head_was_noted_is_no_fault(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        filled(office)
        with office.database.writing("being killed after this") as db:
            office.trail.add(db, BOX, "readings.seen", "account:acc-1", at=AT)
        assert office.trail.verify().whole
        filled(office, 1)
        assert office.trail.verify().head == office.trail.noted()


def test_entries_are_found_by_subject_actor_and_time(tmp_path: Path) -> None:
    with office_in(tmp_path) as office:
        person(office, "meera", StaffRole.CLERK)
        filled(office)
        assert [e.number for e in office.trail.entries(subject="account:acc-1")] == [12, 9, 6, 3]
        assert len(office.trail.entries(limit=4)) == 4
        since, until = AT + timedelta(seconds=3), AT + timedelta(seconds=6)
        assert [e.number for e in office.trail.entries(since=since, until=until)] == [7, 6, 5]
        assert office.trail.entries(actor="meera") == []


@pytest.mark.parametrize("text", ["", "12", "12:xyz", ":", "-1:" + "0" * 64, "1" * 30 + ":" + "0" * 64])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="NUMBER:HASH"):
        Head.parse(text)
