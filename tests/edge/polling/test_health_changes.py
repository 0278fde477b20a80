"""Changes of health are numbered; what is asked of them costs what changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.polling.changes import Change, HealthChanges, Subject
from tests.support.steps import steps_of

METER, LINE = Subject.METER, Subject.LINE


def of_meters(count: int) -> HealthChanges:
    return HealthChanges((METER, f"GEN:{n}", "ok") for n in range(count))


def test_counts_and_changes() -> None:
    changes = HealthChanges([(LINE, "bus", "idle"), (METER, "GEN:1", "new"), (METER, "GEN:2", "new")])
    assert (changes.number, changes.counts(METER), changes.counts(LINE)) == (3, {"new": 2}, {"idle": 1})
    assert changes.note(METER, "GEN:1", "ok")
    assert not changes.note(METER, "GEN:1", "ok")
    assert changes.counts(METER) == {"new": 1, "ok": 1}
    assert changes.since(3) == [Change(4, METER, "GEN:1", "ok")]
    assert changes.since(4) == []
    assert [change.number for change in changes.all()] == [1, 3, 4]


def test_nothing_is_looked_at_where_nothing_changed() -> None:
    few, many = of_meters(10), of_meters(3_000)
    for changes in (few, many):
        changes.note(METER, "GEN:7", "meter_silent")

    def tick(changes: HealthChanges) -> int:
        def ask() -> None:
            changes.counts(METER)
            changes.since(changes.number)
            changes.since(changes.number - 1)

        return steps_of(ask)

    assert tick(many) == tick(few)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["ok", "meter_silent", "refused"])), max_size=60),
    st.integers(0, 60),
)
def test_whoever_follows_the_changes_knows_the_whole(notes: list[tuple[int, str]], asked_at: int) -> None:
    changes, told, known = HealthChanges(), dict[str, str](), 0
    truth: dict[str, str] = {}
    for step, (meter, health) in enumerate(notes):
        changes.note(METER, f"GEN:{meter}", health)
        truth[f"GEN:{meter}"] = health
        if step % (asked_at + 1) == 0:
            told |= {change.name: truth[change.name] for change in changes.since(known)}
            known = changes.number
    told |= {change.name: truth[change.name] for change in changes.since(known)}
    assert told == truth
    assert {change.name for change in changes.all()} == truth.keys()
    assert sum(changes.counts(METER).values()) == len(truth)
