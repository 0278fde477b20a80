"""Limits stay bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gateway.central.portal.limits import SlidingLimit

AT = datetime(2026, 11, 1, tzinfo=UTC)


def test_limit_slides_and_stays_bounded() -> None:
    limit = SlidingLimit(2, timedelta(minutes=10), max_keys=3)
    assert limit.hit("a", AT) is None
    assert limit.hit("a", AT + timedelta(minutes=4)) is None
    assert limit.hit("a", AT + timedelta(minutes=5)) == timedelta(minutes=5)
    assert limit.hit("a", AT + timedelta(minutes=10)) is None
    assert limit.hit("a", AT + timedelta(minutes=11)) == timedelta(minutes=3)
    for index in range(100):
        limit.hit(f"k{index}", AT)
    assert len(limit) == 3
