"""A meter's keys changed over a real socket: in order, with every fault of the meter, and cut off at each step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.edge.keys.change import Stage
from gateway.edge.keys.store import KeyStore
from gateway.errors import PeerUnavailable, UsageError
from gateway.roles.keys_wanted import wanted
from protocols.dlms.acts.keys import KeySlot
from protocols.errors import LineError, MeterError, MeterSilent
from protocols.obis import Obis
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.script import Fault, FaultScript, shipped
from tests.support.dlms.trap_site import SECRETS
from tests.support.keys_site import METER, KeysSite, keys_config, keys_site

WHATS = ("global", "secret", "master")
SLOT = {"global": KeySlot.ENCRYPTION, "secret": KeySlot.SECRET, "master": KeySlot.MASTER}
NAME = {"global": "48/encryption", "secret": "48/secret", "master": "0/master"}


class Burned(BaseException):
    """The process is gone."""


async def settled(site: KeysSite, what: str) -> None:
    """The meter holds new keys, we hold just these, and the running edge reads with them."""
    store = site.store()
    held = site.held()
    kept = store.held(METER, 48)
    assert store.changes() == []
    assert kept[SLOT[what]] == held[SLOT[what]]
    assert held[SLOT[what]] in site.escrow.known(NAME[what])
    store.close()
    async with site.poll() as session:
        await session.identify()


@pytest.mark.parametrize("what", WHATS)
async def test_new_keys_are_escrowed_sent_proved_and_in_force(tmp_path: Path, what: str) -> None:
    async with keys_site(tmp_path) as site:
        before = site.held()
        change = await site.rotate(what)
        assert change.stage is Stage.PROVEN
        assert site.held()[SLOT[what]] != before[SLOT[what]]
        text = site.escrow.text(change)
        assert {e.key for e in text.keys if e.state == "held" and e.slot == NAME[what]} == {
            before[SLOT[what]]
        }
        await settled(site, what)


async def test_every_kind_of_key_one_after_the_other(tmp_path: Path) -> None:
    async with keys_site(tmp_path) as site:
        for what in (*WHATS, *WHATS, "broadcast"):
            assert (await site.rotate(what)).stage is Stage.PROVEN
        await settled(site, "global")
        taken = site.meter.household._access.broadcast[48]
        assert {taken} == site.escrow.known("48/broadcast")


async def test_nothing_reaches_the_meter_without_a_receipt(tmp_path: Path) -> None:
    async with keys_site(tmp_path) as site:
        before = site.held()
        site.escrow.fails = PeerUnavailable("no receipt")
        for _ in range(2):
            with pytest.raises(PeerUnavailable):
                await site.rotate()
        assert site.held() == before
        (change,) = site.store().changes()
        site.escrow.fails = None
        assert (await site.rotate()).key_id == change.key_id  # the same keys, not ever new ones
        await settled(site, "global")


KEY_FAULTS = sorted(name for name in shipped() if name.startswith("keys-"))


@pytest.mark.parametrize("script", KEY_FAULTS)
@pytest.mark.parametrize("what", WHATS)
async def test_whatever_the_meter_does_the_keys_are_found_again(
    tmp_path: Path, what: str, script: str
) -> None:
    async with keys_site(tmp_path, script) as site:
        for _ in range(4):
            try:
                if (await site.rotate(what)).stage is Stage.PROVEN:
                    break
            except (LineError, MeterError):
                pass
            assert site.held()[SLOT[what]] in site.escrow.known(NAME[what])
        await settled(site, what)


@pytest.mark.parametrize("late", range(1, 7))
async def test_keys_that_count_later_are_found(tmp_path: Path, late: int) -> None:
    script = FaultScript(faults=(Fault(kind=FaultKind.KEYS_LATE, value=late, times=1),))
    async with keys_site(tmp_path, script) as site:
        for _ in range(4):
            try:
                if (await site.rotate()).stage is Stage.PROVEN:
                    break
            except MeterError:
                pass
        await settled(site, "global")


async def test_a_meter_that_refuses_keeps_its_keys_and_says_why(tmp_path: Path) -> None:
    script = FaultScript(faults=(Fault(kind=FaultKind.KEYS_REFUSED),))
    async with keys_site(tmp_path, script) as site:
        change = await site.rotate()
        assert change.stage is Stage.SENT
        assert "refuses" in change.note
        assert site.held()[KeySlot.ENCRYPTION] == SECRETS["ek"]
        async with site.poll() as session:
            await session.identify()


# ---- the process is gone at each step


def burn(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, before: bool, at: int = 1) -> None:
    """Let the process be gone before or after the `at`-th call of a method, for ever after."""
    whole: Callable[..., object] = getattr(owner, name)
    calls = 0

    def cut(self: object, *given: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls < at:
            return whole(self, *given, **named)
        if not before:
            whole(self, *given, **named)
        raise Burned

    monkeypatch.setattr(owner, name, cut)


STEPS = [
    (name, before, at)
    for name, most in (("make", 1), ("note", 2), ("adopt", 1))
    for at in range(1, most + 1)
    for before in (True, False)
]


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize(("name", "before", "at"), STEPS)
@pytest.mark.parametrize("fault", [None, FaultKind.ACTION_UNANSWERED])
async def test_a_process_that_dies_at_any_step_is_gone_on_with(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    name: str,
    before: bool,
    at: int,
    fault: FaultKind | None,
) -> None:
    faults = () if fault is None else (Fault(kind=fault, times=1),)
    async with keys_site(tmp_path, FaultScript(faults=faults)) as site:
        with monkeypatch.context() as patch:
            burn(patch, KeyStore, name, before=before, at=at)
            with pytest.raises(Burned):
                await site.rotate(what)
        # Whatever became of it: what the meter holds stands in escrow, or was never changed.
        held = site.held()[SLOT[what]]
        assert held in site.escrow.known(NAME[what]) or held in {*SECRETS.values(), b"m" * 16}
        async with site.poll() as session:  # the running edge has not lost the meter
            await session.identify()
        with suppress(MeterSilent):  # a fault that had not struck yet strikes in the proof of a master key
            await site.rotate(what)
        if site.store().changes():
            await site.rotate(what)
        await settled(site, what)


async def test_a_process_that_dies_between_sending_and_the_answer(tmp_path: Path) -> None:
    """The meter took the keys; the running edge finds that out by itself and puts them in force."""
    script = FaultScript(faults=(Fault(kind=FaultKind.ACTION_CUT, times=1),))
    async with keys_site(tmp_path, script) as site:

        async def gone(*_: object) -> object:
            raise Burned

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway.roles.keys.ConfiguredMeter.prove", gone)
            with pytest.raises(Burned):
                await site.rotate()
        assert site.held()[KeySlot.ENCRYPTION] != SECRETS["ek"]
        (change,) = site.store().changes()
        assert change.stage is Stage.SENT
        async with site.poll() as session:
            await session.identify()
        await settled(site, "global")


async def test_what_cannot_be_changed_is_said_before_anything_is(tmp_path: Path) -> None:
    async with keys_site(tmp_path) as site:
        for what, client, said in (("global", 32, "no association of client 32"), ("secret", 99, "99")):
            with pytest.raises(UsageError, match=said):
                site.wanted(what, client)
        assert not (site.config.edge_folder / "keys.db").exists()


async def test_a_second_change_waits_for_the_first(tmp_path: Path) -> None:
    script = FaultScript(faults=(Fault(kind=FaultKind.KEYS_REFUSED),))
    async with keys_site(tmp_path, script) as site:
        assert (await site.rotate("global")).stage is Stage.SENT
        with pytest.raises(UsageError, match="under way"):
            await site.rotate("secret")


async def test_the_file_is_private_and_no_text_shows_a_key(tmp_path: Path) -> None:
    async with keys_site(tmp_path) as site:
        change = await site.rotate()
        path = site.config.edge_folder / "keys.db"
        assert path.stat().st_mode & 0o777 == 0o600
        for key in filter(None, site.held().values()):
            assert key.hex() not in repr(change)
            assert repr(key) not in repr(change)


async def test_dropped_keys_are_overwritten(tmp_path: Path) -> None:
    async with keys_site(tmp_path) as site:
        await site.rotate()
        first = site.held()[KeySlot.ENCRYPTION] or b""
        await site.rotate()
        content = (site.config.edge_folder / "keys.db").read_bytes()
        assert first not in content
        assert (site.held()[KeySlot.ENCRYPTION] or b"") in content


@pytest.mark.parametrize(("name", "acting"), [("is15959", 48), ("idis", 1), ("spodes", 48), ("generic", 20)])
def test_who_changes_keys_and_where_is_the_companion_s(tmp_path: Path, name: str, acting: int) -> None:
    """A meter that is read by client 20, with associations 1 and 48 beside it."""
    other = {"auth": "hls2", "password_ref": "hls", "encryption_key_ref": "e", "authentication_key_ref": "a"}
    more = {"associations": [{"client": 1, **other}, {"client": 48, **other}]}
    config = keys_config(tmp_path, tmp_path, 4059, more)
    (meter,) = config.meters
    assert meter.dlms is not None
    read_with = replace(meter.dlms, client=20, companion=name)
    config = config.model_copy(update={"meters": (meter.model_copy(update={"dlms": read_with}),)})
    own = wanted(config, METER, acting, "global")
    assert own.acting.client == acting
    if acting == 20:
        assert own.places.association == Obis(0, 0, 40, 0, 0)
        return
    # The objects of client 20 are not named: client 1's or 48's must not be taken for them.
    with pytest.raises(UsageError, match=f"keys of client 20 from client {acting}"):
        wanted(config, METER, 20, "global")
