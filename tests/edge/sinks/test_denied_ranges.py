"""What access rules deny is remembered whole, in whatever order it is told."""

from __future__ import annotations

from gateway.edge.journal.entry import Entry, EntryKind
from gateway.edge.sinks.batching import OutgoingBatch
from gateway.edge.sinks.denied import DeniedTopics


def batch(first: int, last: int) -> OutgoingBatch:
    return OutgoingBatch("t", "x", (Entry(first, last, EntryKind.CAPTURE, "daily", b"{}"),))


def test_a_denial_that_comes_late_forgets_nothing_behind_it() -> None:
    """A batch that was refused and cut in halves is denied after the one that followed it."""
    denied = DeniedTopics()
    denied.deny(batch(11, 20))
    denied.deny(batch(1, 5))
    denied.deny(batch(6, 10))
    assert denied.ranges() == {"t": (1, 20)}
    assert not denied.taken("t", 10)
    assert denied.cursor(20) == 10
    assert denied.taken("t", 20)
    assert denied.cursor(20) == 20
