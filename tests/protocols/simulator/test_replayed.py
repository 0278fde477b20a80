"""A meter explored, saved and replayed: the same file again, the same readings, writes kept, hostile files refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.client.resuming_exchange import ResumingExchange
from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.types import (
    NULL,
    Data,
    array,
    capture_object,
    double_long_unsigned,
    enum,
    octets,
    structure,
)
from protocols.dlms.explore.saved_meter import SavedAttribute, SavedMeter, SavedObject, from_text, to_text
from protocols.dlms.explore.walk import Walk
from protocols.dlms.objects import parse_object_list
from protocols.dlms.server.model import AccessDenied, AssociationPolicy, CosemModel
from protocols.dlms.server.ports import serve_hdlc_tcp, serve_wrapper
from protocols.dlms.session import DlmsSession, open_dlms
from protocols.errors import MeterConfigError, MeterSilent
from protocols.lines.tcp import TcpLine
from protocols.reading import Obis, ProfileName, ReadingSet
from protocols.session import Auth, DlmsSettings, MeterSpec, SessionContext
from protocols.simulator.cosem.model import HouseholdModel
from protocols.simulator.cosem.saved_meter import SavedMeterModel
from protocols.simulator.neighbourhood.neighbourhood import household_of
from protocols.simulator.neighbourhood.plan import plan_neighbourhood
from tests.support.dlms.bench import AK, EK, HLS_KEY
from tests.support.fakes import Counters, HandClock, Secrets

pytestmark = pytest.mark.virtual_time

NOW = datetime(2026, 11, 20, 6, 10, tzinfo=UTC)
SECRETS = {"secret": HLS_KEY, "ek": EK, "ak": AK}
CLOCK, RELAY, BLOCK = Obis(0, 0, 1, 0, 0), Obis(0, 0, 96, 3, 10), Obis(1, 0, 99, 1, 0)


def household(auth: Auth = Auth.HLS2) -> HouseholdModel:
    plan = plan_neighbourhood(
        seed=3, meters=13, history_from=NOW - timedelta(days=3), cuts_until=NOW - timedelta(days=1)
    )
    meter = next(m for m in plan.meters if m.spec.dlms is not None)
    own = AssociationPolicy(
        auth=auth, ciphered=True, secret=HLS_KEY, encryption_key=EK, authentication_key=AK, may_write=True
    )
    policies = {16: AssociationPolicy(auth=Auth.NONE), 48: own}
    return HouseholdModel(household_of(plan, meter), HandClock(NOW), policies)


def spec(auth: Auth = Auth.HLS2, *, framing: str = "wrapper") -> MeterSpec:
    return MeterSpec(
        meter=None,
        dlms=DlmsSettings(
            client=48,
            auth=auth,
            ciphered=True,
            framing=framing,
            physical=17 if framing == "hdlc" else None,
            password_ref="secret",
            encryption_key_ref="ek",
            authentication_key_ref="ak",
        ),
    )


async def explored(
    model: CosemModel, auth: Auth = Auth.HLS2, *, entries: int | None = 4, framing: str = "wrapper"
) -> tuple[SavedMeter, list[ReadingSet]]:
    """Explore a served meter and read its block load."""
    serve = serve_wrapper(model) if framing == "wrapper" else serve_hdlc_tcp({17: model})
    server = await serve
    line = TcpLine("one", "127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        async with open_dlms(
            line,
            spec(auth, framing=framing),
            SessionContext(secrets=Secrets(SECRETS), counters=Counters(), clock=HandClock(NOW)),
        ) as session:
            assert isinstance(session, DlmsSession)
            walk = Walk(entries=entries)
            await walk.run(session.exchange)
            assert walk.finished
            plate = await session.identify()
            rows = [
                row
                async for row in session.read(
                    ProfileName.BLOCK_LOAD, NOW - timedelta(hours=30), NOW - timedelta(hours=1)
                )
            ]
            title = session.system_title
    finally:
        await line.close()
        server.close()
    saved = SavedMeter(
        manufacturer=plate.manufacturer,
        serial=plate.serial,
        firmware=plate.firmware,
        system_title=title,
        client=48,
        auth=auth,
        ciphered=True,
        explored_at=NOW,
        object_list=walk.object_list,
        objects=walk.objects(),
    )
    return saved, rows


def replayed(saved: SavedMeter, **options: Any) -> SavedMeterModel:
    return SavedMeterModel(saved, secret=HLS_KEY, encryption_key=EK, authentication_key=AK, **options)


@cache
def saved_once() -> tuple[SavedMeter, list[ReadingSet]]:
    return asyncio.run(explored(household(), entries=None))


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize(("auth", "entries"), [(Auth.HLS2, 4), (Auth.HLS_GMAC, None), (Auth.HLS_SHA256, 1)])
def test_explore_save_replay_explore_gives_the_same_file(
    auth: Auth, entries: int | None, framing: str
) -> None:
    saved, _ = asyncio.run(explored(household(auth), auth, entries=entries, framing=framing))
    text = to_text(saved)
    assert from_text(text) == saved
    again, _ = asyncio.run(
        explored(replayed(from_text(text), frozen=True), auth, entries=entries, framing=framing)
    )
    assert to_text(again) == text
    assert len(saved.objects) > 60
    for secret in (HLS_KEY, EK, AK):
        assert secret.hex() not in text


def test_block_load_of_the_replayed_meter_is_that_of_the_original() -> None:
    saved, rows = saved_once()
    _, again = asyncio.run(explored(replayed(saved)))
    assert len(rows) > 40
    assert [(r.at, r.start, r.values) for r in again] == [(r.at, r.start, r.values) for r in rows]


def test_the_clock_runs_on_from_the_saved_time_unless_frozen() -> None:
    saved, _ = saved_once()
    present = [NOW]
    model = replayed(saved, now=lambda: present[0])
    still = replayed(saved, now=lambda: present[0], frozen=True)

    def shows(of: SavedMeterModel) -> datetime | None:
        return cosem_time.decode(of.get(48, Target(8, CLOCK)).octets or b"").at

    first = shows(model)
    present[0] += timedelta(minutes=5)
    assert first is not None
    assert (shows(model), shows(still)) == (first + timedelta(minutes=5), first)


def test_what_is_written_is_kept_where_the_meter_allows_it() -> None:
    model = replayed(saved_once()[0])
    model.set(48, Target(71, Obis(0, 0, 17, 0, 0), 4), double_long_unsigned(777))
    assert model.get(48, Target(71, Obis(0, 0, 17, 0, 0), 4)).integer == 777
    attempts: tuple[Callable[[], object], ...] = (
        lambda: model.set(48, Target(71, Obis(0, 0, 17, 0, 0), 3), double_long_unsigned(1)),
        lambda: model.set(48, Target(71, Obis(0, 0, 17, 0, 0), 4), octets(b"x")),
        lambda: model.set(16, Target(71, Obis(0, 0, 17, 0, 0), 4), double_long_unsigned(1)),
        lambda: model.set(32, Target(71, Obis(0, 0, 17, 0, 0), 4), double_long_unsigned(1)),
        lambda: model.action(48, Target(8, CLOCK, 1), NULL),
        lambda: model.get(48, Target(1, CLOCK)),
        lambda: model.get(48, Target(8, CLOCK, 99)),
        lambda: model.get(16, Target(7, BLOCK)),
    )
    for attempt in attempts:
        with pytest.raises(AccessDenied):
            attempt()
    model.action(48, Target(70, RELAY, 1), enum(0))
    assert (model.get(48, Target(70, RELAY)).value, model.get(48, Target(70, RELAY, 3)).value) == (False, 0)


def test_the_public_client_sees_clock_identity_and_counters() -> None:
    model = replayed(saved_once()[0])
    seen = {listed.obis for listed in parse_object_list(model.get(16, Target(15, Obis(0, 0, 40, 0, 0))))}
    assert CLOCK in seen
    assert BLOCK not in seen
    assert model.frame_counter(48) == (model.get(16, Target(1, Obis(0, 0, 43, 1, 3))).integer)


# null-compressed rows


def compressed() -> SavedMeterModel:
    """Rows 11 to 16 of a half-hourly profile, saved with nulls where nothing changed."""
    first = octets(cosem_time.encode(NOW.replace(minute=0)))
    rows = array(
        structure(first, double_long_unsigned(1)),
        structure(NULL, NULL),
        structure(NULL, double_long_unsigned(3)),
        structure(NULL, NULL),
        structure(NULL, NULL),
        structure(NULL, double_long_unsigned(6)),
    )
    columns = array(capture_object(8, CLOCK), capture_object(3, Obis(1, 0, 1, 29, 0)))
    attributes = (
        SavedAttribute(index=2, access=1, value=axdr.encode(rows), first_entry=11),
        SavedAttribute(index=3, access=1, value=axdr.encode(columns)),
        SavedAttribute(index=4, access=1, value=axdr.encode(double_long_unsigned(1800))),
    )
    base = saved_once()[0]
    one = SavedObject(class_id=7, version=1, obis=BLOCK, attributes=attributes)
    return replayed(replace(base, objects=(one,)))


def cells(selection: RangeSelection | EntrySelection) -> list[tuple[datetime | None, int | None]]:
    rows = compressed().get(48, Target(7, BLOCK, 2, selection)).items
    return [
        (cosem_time.decode(a.octets).at if a.octets else None, b.integer)
        for a, b in (row.items for row in rows)
    ]


def test_the_first_row_of_an_answer_has_no_nulls() -> None:
    start = NOW.replace(minute=0)
    half = timedelta(minutes=30)
    low, high = (cosem_time.encode(start + n * half) for n in (3, 4))
    assert cells(RangeSelection(CLOCK, 2, low, high)) == [(start + 3 * half, 3), (None, None)]
    assert cells(EntrySelection(14, 14)) == [(start + 3 * half, 3)]
    assert cells(EntrySelection(16, 0)) == [(start + 5 * half, 6)]
    assert cells(EntrySelection(1, 10)) == []
    with pytest.raises(AccessDenied):
        cells(EntrySelection(0, 1))
    with pytest.raises(AccessDenied):
        cells(RangeSelection(RELAY, 2, low, high))


# walking meters that fail


class Deaf:
    """An exchange whose meter falls silent at the clock's second attribute."""

    def __init__(self, saved: SavedMeter) -> None:
        self._object_list = saved.object_list
        self._meter = replayed(saved)

    async def get_octets(self, target: Target) -> bytes:
        if target.class_id == 15:
            return self._object_list
        if (target.obis, target.index) == (CLOCK, 3):
            raise MeterSilent("no answer within 5 s")
        return axdr.encode(self._meter.get(48, target))

    async def get(self, target: Target) -> Data:
        return axdr.decode(await self.get_octets(target))


def test_a_walk_goes_on_behind_an_attribute_that_silences_the_meter() -> None:
    walk, deaf = Walk(), cast("ResumingExchange", Deaf(saved_once()[0]))
    with pytest.raises(MeterSilent):
        asyncio.run(walk.run(deaf))
    asyncio.run(walk.run(deaf))
    assert walk.finished
    clock = next(one for one in walk.objects() if one.obis == CLOCK)
    assert clock.attribute(3) == SavedAttribute(index=3, access=1, error="no answer within 5 s")
    assert sum(a.error is not None for one in walk.objects() for a in one.attributes) == 1


# hostile files


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(version=2), "`version` 1"),
        (lambda d: d.update(objects=7), "objects: a list"),
        (lambda d: d["objects"][0].update(obis="x"), "not an OBIS code"),
        (lambda d: d["objects"][0]["attributes"][1].update(value="0"), "hex digits"),
        (lambda d: d["association"].update(auth="magic"), "'magic'"),
        (lambda d: d["association"].update(client=True), "client: int"),
        (lambda d: d.update(explored_at="today"), "no time"),
        (lambda d: d.update(meter=[]), "meter is not"),
    ],
)
def test_a_file_that_is_wrong_is_named(change: Callable[[Any], object], says: str) -> None:
    document = json.loads(to_text(saved_once()[0]))
    change(document)
    with pytest.raises(MeterConfigError, match=says):
        from_text(json.dumps(document))


@given(st.text(max_size=60) | st.just("[" * 5000))
@settings(max_examples=60)
def test_any_text_is_a_meter_or_an_error(text: str) -> None:
    with pytest.raises(MeterConfigError):
        from_text(text)


def test_values_that_are_none_and_keys_that_are_missing() -> None:
    saved = saved_once()[0]
    broken = replace(saved.objects[0], attributes=(SavedAttribute(index=2, value=b"\xfd"),))
    with pytest.raises(MeterConfigError, match="#2"):
        replayed(replace(saved, objects=(broken,)))
    with pytest.raises(MeterConfigError, match="object_list"):
        replayed(replace(saved, object_list=b""))
    with pytest.raises(MeterConfigError, match="encryption_key"):
        SavedMeterModel(saved, secret=HLS_KEY)
    with pytest.raises(MeterConfigError, match="secret"):
        SavedMeterModel(saved, encryption_key=EK, authentication_key=AK)
