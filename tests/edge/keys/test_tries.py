"""A meter that locks out who guesses: few keys beside those in force in an hour, the likeliest first, remembered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.edge.keys.change import Stage
from gateway.edge.keys.ring import KeyRing
from gateway.edge.keys.store import SLOTS_OF, TRIES, TRIES_IN, Change, KeyStore, slot_name
from protocols.dlms.acts.keys import KeySlot
from protocols.dlms.client.association_opener import AssociationOpener
from protocols.dlms.client.exchange import Exchange
from protocols.dlms.client.line_lease import LineLease
from protocols.errors import MeterError
from protocols.session import Auth, DlmsSettings
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.script import Fault, FaultScript
from tests.support.fakes import HandClock, Secrets
from tests.support.keys_site import keys_site

AT = datetime(2026, 11, 30, tzinfo=UTC)
METER = "GEN:1"
SETTINGS = DlmsSettings(
    client=48,
    auth=Auth.HLS2,
    ciphered=True,
    password_ref="hls",
    encryption_key_ref="ek",
    authentication_key_ref="ak",
)
FIRST = Secrets({"hls": b"h" * 16, "ek": b"e" * 16, "ak": b"a" * 16})


def sent(number: int, what: str, *, given: bool) -> Change:
    slots = SLOTS_OF[what]
    return Change(
        key_id=f"{number:032x}",
        meter=METER,
        client=48,
        what=what,
        stage=Stage.SENT,
        sealed=b"sealed",
        slots=tuple(slot_name(48, slot) for slot in slots),
        made_at=AT + timedelta(seconds=number),
        keys={slot: f"{number} {slot}".encode()[:16].ljust(16, b".") for slot in slots},
        given=given,
    )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("poll"), st.integers(1, 90)),
        st.sampled_from([("restart",), ("clock back",)]),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(("global", "secret")), min_size=1, max_size=3), STEPS)
def test_in_any_hour_a_meter_meets_few_other_keys(whats: list[str], steps: list[tuple]) -> None:  # type: ignore[type-arg]
    """Whatever is under way and whoever restarts; a clock that is set back may cost an hour, and gains nothing."""
    with TemporaryDirectory() as folder:
        path, clock = Path(folder) / "keys.db", HandClock(AT)
        store = KeyStore(path)
        store.give({}, [sent(n, what, given=True) for n, what in enumerate(whats, 1)], (), "d", AT)
        ring, minutes = KeyRing(path, FIRST, clock), 0
        met: list[tuple[int, str]] = []
        for step in steps:
            match step:
                case ("poll", passed):
                    minutes += passed
                    clock.at += timedelta(minutes=passed)
                    _, *others = ring.choices(METER, SETTINGS)
                    met += [(minutes, one.way) for one in others if ring.may_try(METER, SETTINGS, one)]
                case ("restart",):
                    ring.close()
                    ring = KeyRing(path, FIRST, clock)
                case _:
                    clock.at -= timedelta(hours=5)
        for at, _ in met:
            lately = [way for other, way in met if at <= other < at + 60]
            assert len(lately) <= TRIES
            assert len(set(lately)) == len(lately)
        ring.close()
        store.close()


def test_every_way_has_its_turn_and_the_likeliest_each_hour(tmp_path: Path) -> None:
    store, clock = KeyStore(tmp_path / "keys.db"), HandClock(AT)
    store.give({}, [sent(n, what, given=True) for n, what in enumerate(("secret", "global"), 1)], (), "d", AT)
    ring = KeyRing(tmp_path / "keys.db", FIRST, clock)
    likeliest, *rest = [one.way for one in ring.choices(METER, SETTINGS)[1:]]
    assert likeliest == f"{2:032x}/authentication,encryption"
    seen = []
    for _ in rest:
        hour = [one.way for one in ring.choices(METER, SETTINGS)[1:] if ring.may_try(METER, SETTINGS, one)]
        assert hour[0] == likeliest
        seen += hour[1:]
        clock.at += TRIES_IN
    assert sorted(seen) == sorted(rest)
    ring.close()
    store.close()


def test_what_was_tried_is_remembered_for_the_meter_whoever_tries(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    one, other = KeyStore(path), KeyStore(path)
    assert one.may_try(METER, 48, "a", AT)
    assert not other.may_try(METER, 48, "a", AT)  # not the same twice
    assert other.may_try(METER, 32, "b", AT)
    assert not one.may_try(METER, 48, "c", AT + timedelta(minutes=59))
    assert one.may_try("GEN:2", 48, "c", AT)
    assert one.may_try(METER, 48, "c", AT + TRIES_IN)
    one.close()
    other.close()


async def test_a_meter_whose_keys_nobody_has_is_met_with_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = FaultScript(faults=(Fault(kind=FaultKind.KEYS_REFUSED),))
    async with keys_site(tmp_path, script) as site:
        await site.rotate()  # refused: the new keys may be held, for all that is known
        policies = site.meter.household._access.policies
        for client, policy in policies.items():
            policies[client] = replace(policy, encryption_key=b"?" * 16)
        met = []
        opened = AssociationOpener.open

        async def counted(opener: AssociationOpener, lease: LineLease) -> Exchange:
            met.append(opener)
            return await opened(opener, lease)

        monkeypatch.setattr(AssociationOpener, "open", counted)
        for _ in range(4):
            with pytest.raises(MeterError):
                async with site.poll():
                    pass
        assert len(met) == 4 + TRIES


async def test_keys_that_the_meter_said_it_refused_are_not_tried_first(tmp_path: Path) -> None:
    script = FaultScript(faults=(Fault(kind=FaultKind.KEYS_REFUSED),))
    async with keys_site(tmp_path, script) as site:
        change = await site.rotate()
        assert change.stage is Stage.SENT
        assert site.store().tried(change.meter) == {}  # never met with a key that it does not hold
        assert site.held()[KeySlot.ENCRYPTION] not in change.keys.values()
