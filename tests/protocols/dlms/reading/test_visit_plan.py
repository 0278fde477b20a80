"""What a visit asks for at once: each attribute once, the meter's identity always, nothing that is not due; pure."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu.conformance import Conformance
from protocols.dlms.client.list_size import SMALL, ListSize
from protocols.dlms.companion import companion
from protocols.dlms.profile.layouts import CLOCK, CapturedColumn, Layout
from protocols.dlms.reading.known_meter import KnownMeter
from protocols.dlms.reading.layout_cache import CHECK_EVERY, KnownLayout
from protocols.dlms.reading.visit_plan import CLOCK_TIME, FIRMWARE, IDENTITY, SERIAL, Ground, places, plan
from protocols.reading import Nameplate, Obis, ProfileName, Quantity
from tests.support.dlms.reader_bench import IST, NOW

OURS = companion()
PROFILES = st.lists(st.sampled_from(list(ProfileName)), unique=True)
AGES = st.integers(0, 30).map(lambda hours: timedelta(hours=hours))


@cache
def everywhere() -> tuple[tuple[ProfileName, Obis], ...]:
    return tuple(places(tuple(ProfileName), OURS, ()))


@st.composite
def grounds(draw: Any) -> Ground:
    layouts = {}
    for profile, place in draw(st.lists(st.sampled_from(everywhere()), unique=True)):
        columns = (
            CapturedColumn(class_id=8, quantity=Quantity(CLOCK)),
            CapturedColumn(class_id=3, quantity=Quantity.of("1-0:1.29.0*255"), scale=(0, "Wh")),
        )
        layouts[profile, place] = KnownLayout(
            layout=Layout(profile=profile, obis=place, columns=columns, period=1800),
            fingerprint="f",
            checked_at=NOW - draw(AGES),
            scaled_at=NOW - draw(AGES),
        )
    known = KnownMeter(
        nameplate=draw(st.none() | st.just(Nameplate(manufacturer="GEN", serial="7"))),
        named_at=NOW - draw(AGES),
        range_form=draw(st.none() | st.integers(0, 2)),
        list_ranges=draw(st.booleans()),
        places=draw(
            st.dictionaries(st.sampled_from([str(i.obis) for i in OURS.prepayment]), st.integers(0, 1))
        ),
    )
    since = draw(st.dictionaries(st.just(ProfileName.BLOCK_LOAD), AGES.map(lambda age: NOW - age)))
    return Ground(companion=OURS, known=known, layouts=layouts, now=NOW, zone=IST, since=since)


@given(profiles=PROFILES, ground=grounds())
def test_a_plan_asks_each_thing_once_and_nothing_that_is_not_due(
    profiles: list[ProfileName], ground: Ground
) -> None:
    planned = plan(profiles, ground)
    asked = planned.targets
    assert planned == plan(profiles, ground), "the same ground, the same plan"
    assert len(set(asked)) == len(asked)
    assert asked[0] == CLOCK_TIME, "so that its moment is known best"
    identity = [target.obis for target in asked if target.class_id == 1 and target.obis in IDENTITY]
    assert {SERIAL, FIRMWARE} <= set(identity), "never a reading without who gave it"
    assert len(identity) == (2 if ground.known.named(NOW) else len(IDENTITY))
    due = {place for _, place in places(profiles, OURS, ())}
    scalers = {i.scaler_profile for i in OURS.profiles.values()} | {OURS.event_scaler_profile}
    assert {t.obis for t in asked if t.class_id == 7} <= due | scalers
    if ProfileName.EVENTS not in profiles:
        assert not [target for target in asked if target.obis.d == 15 and target.obis.c == 96]
    ranges = [target for target in asked if target.selection is not None]
    assert len(ranges) <= 1
    if ranges:
        assert ground.known.range_form is not None
        assert ground.known.list_ranges
        assert NOW - ground.since[ProfileName.BLOCK_LOAD] <= timedelta(hours=6)


@given(ages=st.lists(AGES, min_size=10, max_size=10), profiles=st.just(list(ProfileName)))
def test_every_layout_is_looked_at_before_it_is_too_old(
    ages: list[timedelta], profiles: list[ProfileName]
) -> None:
    """One at each visit, the oldest first: half-hourly visits look at all in time, wherever they began."""
    wanted = [place for place in everywhere() if place[0] in (ProfileName.BLOCK_LOAD, ProfileName.EVENTS)]
    columns = (CapturedColumn(class_id=8, quantity=Quantity(CLOCK)),)
    seen = {name: NOW - min(age, timedelta(hours=1)) for name, age in zip(wanted, ages, strict=False)}
    now = NOW
    for _ in range(48):
        layouts = {
            name: KnownLayout(
                layout=Layout(profile=name[0], obis=name[1], columns=columns),
                fingerprint="f",
                checked_at=at,
                scaled_at=at,
            )
            for name, at in seen.items()
        }
        assert all(known.fresh(now) for known in layouts.values())
        assert now - min(seen.values()) < CHECK_EVERY
        ground = Ground(companion=OURS, known=KnownMeter(), layouts=layouts, now=now, zone=IST)
        for check in plan((ProfileName.BLOCK_LOAD, ProfileName.EVENTS), ground).checks:
            seen[check.profile, check.place] = now
        now += timedelta(minutes=30)


LISTS = int(Conformance.GET | Conformance.MULTIPLE_REFERENCES)


@given(
    most=st.integers(1, 32),
    story=st.lists(st.sampled_from(["worked", "refused", "refused ranges", "failed", "failed ranges"])),
)
def test_lists_shrink_and_never_grow_back_in_a_session(most: int, story: list[str]) -> None:
    size = ListSize(most)
    before = size.limit(LISTS)
    assert before == most
    for what in story:
        kind, *ranges = what.split()
        match kind:
            case "worked":
                size.worked()
            case "refused":
                size.refused(size.limit(LISTS), ranges=bool(ranges))
            case _:
                size.failed(ranges=bool(ranges))
        now = size.limit(LISTS)
        assert 1 <= now <= max(before, 1)
        before = now
    assert size.learned in (0, 1, SMALL)


def test_what_is_granted_counts_unless_it_says_nothing_at_all() -> None:
    assert ListSize(32).limit(int(Conformance.GET)) == 1
    assert ListSize(32).limit(LISTS) == 32
    assert ListSize(32).limit(0) == 32, "not even GET is granted, and the meter answers"
    again = ListSize(32, learned=8, faults=0)
    assert again.limit(LISTS) == 8
    ranges = ListSize(32)
    ranges.refused(20, ranges=True)
    assert (ranges.limit(LISTS), ranges.ranges) == (32, False), "without rows it may be taken"
