"""The golden scenarios: what happens to readings in a city, and what a billing system must make of it.

In all of them one meter stands at one usage point on one day. Expectations are written by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.contract.scenario import (
    FIRST,
    GATEWAY,
    SECOND,
    Holds,
    Row,
    Scenario,
    Teller,
    expected,
)
from mapping.directory import AttributionRole, Unattributed

OLD = Holds(account_id="acc-17", account_number="0012345678", legacy_number="KE0012345")
NEW = Holds(account_id="acc-99", account_number="1009876543", legacy_number="KE0099999")
_FINAL, _OPENING, _PARTIAL = AttributionRole.FINAL, AttributionRole.OPENING, AttributionRole.PARTIAL
_NO_ACCOUNT, _VACANT = Unattributed.NO_ACCOUNT, Unattributed.NOT_A_CONSUMER


def stories() -> list[Scenario]:
    """Return all scenarios, in the order in which a newcomer should read them."""
    return [told().told() for told in _STORIES]


def part(holder: Holds, since: str, until: str) -> Holds:
    """Return what an account held of an interval."""
    return replace(holder, role=_PARTIAL, since=since, until=until)


def final(holder: Holds) -> Holds:
    """Return an account that a snapshot closes."""
    return replace(holder, role=_FINAL)


def opening(holder: Holds) -> Holds:
    """Return an account that a snapshot begins."""
    return replace(holder, role=_OPENING)


def told_early() -> Teller:
    """The directory knew the hand-over before the readings came: the stamps say all."""
    story = Teller("hand-over-told-early", "A hand-over at 10:10 that was known before the meter was read")
    version = (FIRST, 2)
    parts = (part(OLD, "10:00", "10:10"), part(NEW, "10:10", "10:30"))
    before = Row(seq=1, end="10:00", value="400", accounts=(OLD,), directory=version)
    across = Row(seq=2, end="10:30", value="412", accounts=parts, directory=version)
    after = Row(seq=3, end="11:00", value="398", accounts=(NEW,), directory=version)
    register = Row(
        seq=4, end="10:10", value="120400", accounts=(final(OLD), opening(NEW)), directory=version, daily=True
    )
    story.changed(2, "10:10", None, OLD, NEW)
    story.readings(before, across, after)
    story.readings(register)
    story.ledger(
        "An interval that straddles the hand-over goes to both, each with its piece, and is never summed; the "
        "register at that instant closes the one account and opens the other. The change says nothing new.",
        expected(before, OLD),
        expected(across, *parts),
        expected(after, NEW),
        expected(register, final(OLD), opening(NEW)),
    )
    return story


def told_late() -> Teller:
    """The readings came first, stamped by a directory that did not know; then the date was wrong, too."""
    story = Teller(
        "hand-over-told-late", "A hand-over that was told after the readings, then with another time"
    )
    before = Row(seq=1, end="10:30", value="412", accounts=(OLD,))
    after = Row(seq=2, end="11:00", value="398", accounts=(OLD,))
    register = Row(seq=3, end="10:30", value="120400", accounts=(OLD,), daily=True)
    story.readings(before, after)
    story.readings(register)
    story.ledger("All is the old holder's.", *(expected(row, OLD) for row in (before, after, register)))
    story.changed(2, "10:30", None, OLD, NEW)
    story.ledger(
        "The hand-over was at 10:30. What ends at the boundary belongs to the old holder, what begins there to the "
        "new one; the register on the boundary closes and opens.",
        expected(before, OLD),
        expected(after, NEW),
        expected(register, final(OLD), opening(NEW)),
    )
    story.changed(3, "10:30", "10:40", NEW, OLD)
    story.ledger(
        "It was at 10:40 in truth. Now the second half hour straddles it, and the register is the old holder's alone.",
        expected(before, OLD),
        expected(after, part(OLD, "10:30", "10:40"), part(NEW, "10:40", "11:00")),
        expected(register, OLD),
    )
    return story


def taken_back() -> Teller:
    """The stamp knew a hand-over that was a mistake."""
    story = Teller("hand-over-taken-back", "A hand-over that the stamp knew, and that was entered by mistake")
    parts = (part(OLD, "10:00", "10:10"), part(NEW, "10:10", "10:30"))
    across = Row(seq=1, end="10:30", value="412", accounts=parts, directory=(FIRST, 2))
    story.changed(2, "10:10", None, OLD, NEW)
    story.readings(across)
    story.ledger("As stamped.", expected(across, *parts))
    story.changed(3, "10:10", None, NEW, OLD)
    story.ledger(
        "Nobody moved. The change covers the second piece only; the first stays as stamped, and both are the old "
        "holder's: so the whole is.",
        expected(across, OLD),
    )
    return story


def vacant_earlier() -> Teller:
    """A vacancy that began before the interval, told after a stamp with a piece."""
    story = Teller("vacant-earlier-than-told", "A house was vacant from 10:10 on; in truth from 09:00 on")
    across = Row(
        seq=1,
        end="10:30",
        value="412",
        accounts=(part(OLD, "10:00", "10:10"),),
        directory=(FIRST, 2),
    )
    story.changed(2, "10:10", None, OLD, _VACANT)
    story.readings(across)
    story.ledger("The rest of the interval is nobody's.", expected(across, part(OLD, "10:00", "10:10")))
    story.changed(3, "09:00", "10:10", OLD, _VACANT)
    story.changed(3, "10:10", None, None, _VACANT)
    story.ledger(
        "The piece is nobody's, too. Central tells on as long as it stays nobody's, so the reason is known at the "
        "capture's end.",
        expected(across, reason="not_a_consumer"),
    )
    return story


def moved_meter() -> Teller:
    """The meter goes to another usage point of the same account."""
    story = Teller(
        "moved-between-usage-points", "A meter moves at 10:30 between two usage points of one account"
    )
    there = replace(OLD, usage_point="up-18")
    half_hour = Row(seq=1, end="11:00", value="398", accounts=(OLD,))
    register = Row(seq=2, end="10:30", value="120400", accounts=(OLD,), daily=True)
    story.readings(half_hour)
    story.readings(register)
    story.changed(2, "10:30", None, OLD, there)
    story.ledger(
        "Two usage points are two holders: the register closes the one and opens the other.",
        expected(half_hour, there),
        expected(register, final(OLD), opening(there)),
    )
    return story


def paper_later() -> Teller:
    """A reading comes before its paper, then its number; an older naming comes last."""
    story = Teller(
        "paper-comes-later", "A reading without account, then its account, then its number, and an old one"
    )
    unnamed = replace(NEW, account_number=None)
    first = Row(seq=1, end="10:30", value="412", reason=_NO_ACCOUNT)
    second = Row(
        seq=2,
        end="11:00",
        value="398",
        accounts=(replace(NEW, account_number="2222222222"),),
        directory=(FIRST, 9),
    )
    story.readings(first)
    story.ledger("It is delivered at once, under nobody.", expected(first, reason="no_account"))
    story.changed(3, "00:00", None, None, unnamed)
    story.ledger(
        "Its account is known, which has no 10-digit number yet: it waits for that.",
        expected(first, unnamed, reason="no_account"),
    )
    story.readings(second)
    story.named(5, unnamed, "1111111111")
    story.ledger(
        "Its number of version 5 is told late. The second reading was stamped in version 9, which knew a newer one: a "
        "name never goes back.",
        expected(first, replace(NEW, account_number="1111111111")),
        expected(second, replace(NEW, account_number="2222222222")),
    )
    story.named(9, replace(NEW, account_number="1111111111"), "2222222222")
    story.named(5, unnamed, "1111111111")
    story.ledger(
        "The newer number is told, and the older one once more.",
        *(expected(row, replace(NEW, account_number="2222222222")) for row in (first, second)),
    )
    return story


def replayed() -> Teller:
    """Messages are lost, asked for, and come again in other batches."""
    story = Teller("replay", "Numbers are missing, are asked for, and come in other batches than before")
    ends = ("08:00", "08:30", "09:00", "09:30", "10:00", "10:30")
    rows = [
        Row(seq=seq, end=end, value=str(400 + seq), accounts=(OLD,)) for seq, end in enumerate(ends, start=1)
    ]
    story.readings(*rows[:2])
    story.readings(rows[5])
    story.ledger(
        "3 to 5 have not come: ask for a replay of them, and acknowledge no more than 2.",
        *(expected(row, OLD) for row in (*rows[:2], rows[5])),
        missing=[(3, 5)],
    )
    story.readings(*rows[1:4])
    story.ledger(
        "Part of them came, with one that was there already: it is no second reading.",
        *(expected(row, OLD) for row in (*rows[:4], rows[5])),
        missing=[(5, 5)],
    )
    story.readings(*rows[3:])
    story.ledger("All is there: acknowledge 6.", *(expected(row, OLD) for row in rows))
    return story


def revised_reading() -> Teller:
    """Revisions in the wrong order, and another gateway that counts from 1 again."""
    story = Teller(
        "revisions", "A revision overtakes its forerunner; then the meter was another gateway's for a while"
    )
    second = Row(seq=2, end="10:30", value="415", accounts=(OLD,), rev=2, epoch=1)
    first = Row(seq=1, end="10:30", value="412", accounts=(OLD,), epoch=1)
    third = Row(seq=3, end="10:30", value="416", accounts=(OLD,), epoch=3)
    story.readings(second)
    story.ledger("The revision came first.", expected(second, OLD), missing=[(1, 1)])
    story.readings(first)
    story.ledger("What it revised does not undo it.", expected(second, OLD))
    story.readings(third)
    story.ledger(
        "The meter went to another gateway and came back: revisions count from 1 again, and the epoch decides first.",
        expected(third, OLD),
    )
    return story


def stranger() -> Teller:
    """Another edge's login delivers readings of a meter that is not its own; later the meter is moved to it."""
    story = Teller(
        "stranger", "Another gateway delivers the meter's readings, and only later the meter is its own"
    )
    other, journal = "edge-9", "7f0e2a64-91a2-4e1c-8a57-53c0b7d0a0de"
    mine = Row(seq=1, end="10:00", value="400", accounts=(OLD,))
    forged = replace(mine, value="1", rev=9)
    bold = replace(mine, seq=2, value="2", epoch=7)
    late = Row(seq=3, end="11:00", value="398", accounts=(OLD,))
    story.allocated(1, GATEWAY, "00:00")
    story.readings(mine)
    story.readings(forged, bold, late, gateway=other, journal=journal)
    story.ledger(
        "The meter is edge-1's: what edge-9 says of it does not count, whatever revision or epoch it names.",
        expected(mine, OLD),
    )
    story.allocated(1, GATEWAY, "00:00", "10:30")
    story.allocated(2, other, "10:30")
    story.ledger(
        "From 10:30 on edge-9 reads the meter. What it delivered counts now, as far as it names no epoch or its own; "
        "of one instant the higher revision counts, and of edge-1 what lies before 10:30.",
        expected(forged, OLD),
        expected(late, OLD),
    )
    return story


def directory_set_back() -> Teller:
    """Central's directory is restored from a copy, and all is told anew under a new generation."""
    story = Teller(
        "directory-set-back", "The directory was restored from a copy; version 2 of its next life counts more"
    )
    copied = replace(OLD, account_number=None)
    half_hour = Row(seq=1, end="10:30", value="412", accounts=(OLD,), directory=(FIRST, 3))
    story.named(3, copied, "0012345678")
    story.readings(half_hour)
    story.changed(4, "09:00", None, OLD, NEW)
    story.ledger("The house was handed over in version 4.", expected(half_hour, NEW))
    story.changed(2, None, "00:00", None, _NO_ACCOUNT, generation=SECOND)
    story.changed(2, "00:00", None, None, copied, generation=SECOND)
    story.ledger(
        "The copy was of version 2: it knew neither the hand-over nor the number. Whose the meter is over all time is "
        "told, so nothing of the former life is left.",
        expected(half_hour, copied, reason="no_account"),
    )
    story.named(3, copied, "0055555555", generation=SECOND)
    story.ledger(
        "The number was given otherwise this time.",
        expected(half_hour, replace(OLD, account_number="0055555555")),
    )
    return story


def journal_set_back() -> Teller:
    """An edge's box died: its journal begins anew under another uuid, and the meter is read again."""
    story = Teller("journal-set-back", "An edge lost its journal: a new one begins at 1, and rows come again")
    first = Row(seq=1, end="10:00", value="400", accounts=(OLD,))
    second = Row(seq=2, end="10:30", value="412", accounts=(OLD,))
    again = replace(second, seq=1)
    fresh = Row(seq=2, end="11:00", value="398", accounts=(OLD,))
    story.readings(first, second)
    story.readings(again, fresh, journal="7f0e2a64-91a2-4e1c-8a57-53c0b7d0a0de")
    story.ledger(
        "A row that was read again has the capture_id that it had: it is there once. Numbers count by journal.",
        expected(first, OLD),
        expected(second, OLD),
        expected(fresh, OLD),
    )
    return story


def judged_time() -> Teller:
    """A meter's clock was wrong by a zone; central's verdict puts its rows right."""
    story = Teller(
        "verdict-on-time",
        "A meter's clock was 5 h 30 min fast: two verdicts put its rows right",
    )
    doubted = Row(seq=1, end="16:00", value="412", reason=Unattributed.UNTRUSTED_TIME)
    story.readings(doubted)
    story.ledger(
        "The time is not trusted: no account, whatever the directory says.",
        expected(doubted, reason="untrusted_time"),
    )
    story.changed(3, None, "00:00", None, _NO_ACCOUNT)
    story.changed(3, "00:00", "10:10", None, OLD)
    story.changed(3, "10:10", None, None, NEW)
    story.ledger(
        "Whose the meter is does not settle when it was.", expected(doubted, reason="untrusted_time")
    )
    story.verdict(2, 1, 1, "trusted", "-19800")
    story.ledger(
        "The verdict moves it to 10:00 to 10:30, and there a hand-over parts it. Its capture_id stays.",
        expected(doubted, part(OLD, "10:00", "10:10"), part(NEW, "10:10", "10:30"), shift="-19800"),
    )
    story.verdict(1, 1, 1, "untrusted")
    story.ledger(
        "An older verdict arrives late and changes nothing.",
        expected(doubted, part(OLD, "10:00", "10:10"), part(NEW, "10:10", "10:30"), shift="-19800"),
    )
    story.verdict(3, 1, 1, "trusted", "-18000")
    story.ledger("A newer one knows better.", expected(doubted, NEW, shift="-18000"))
    return story


def set_aside() -> Teller:
    """Damage on the way, and two values under one revision."""
    story = Teller(
        "quarantine",
        "A digit was flipped on the way; then two values stand under one revision",
        any_order=False,
    )
    first = Row(seq=1, end="10:00", value="308", accounts=(OLD,))
    second = Row(seq=2, end="10:30", value="412", accounts=(OLD,))
    other = replace(second, seq=3, value="999")
    story.readings(first, damage=(b'"308"', b'"908"'))
    story.readings(second)
    story.ledger(
        "The checksum is not that of 908: the capture is not taken, and its number is missing.",
        expected(second, OLD),
        missing=[(1, 1)],
    )
    story.readings(first)
    story.ledger("It came again, unharmed.", expected(first, OLD), expected(second, OLD))
    story.readings(other)
    story.ledger(
        "Two values under one epoch and revision cannot both be right: the first stays, the other is set aside for a "
        "person. Its number has come, all the same.",
        expected(first, OLD),
        expected(second, OLD),
        set_aside=[3],
    )
    return story


_STORIES: tuple[Callable[[], Teller], ...] = (
    told_early,
    told_late,
    taken_back,
    vacant_earlier,
    moved_meter,
    paper_later,
    replayed,
    revised_reading,
    stranger,
    directory_set_back,
    journal_set_back,
    judged_time,
    set_aside,
)
