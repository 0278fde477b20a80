"""At no instant does a meter hold a key that nobody knows: a model with crashes, lost answers, burned and old boxes.

The meter takes keys, loses answers, takes one of two, or takes them later; the process dies between any two steps; the
box burns or is set back to a copy; central's store is set back, alone, while the box burns, or with its second copy,
where edges bring what is lacked; the second copy is lost or set back. What is asked at every instant: is each key that
the meter holds, or will hold, one that central can name (or the maker's first)?
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.central.keys.giving import in_force
from gateway.central.keys.sealed import SealedKeys
from gateway.central.keys.store import SealedStore, Settled
from gateway.contract.key_text import KeyEntry, KeyText
from gateway.contract.sealing import digest
from gateway.edge.keys import rotate
from gateway.edge.keys.change import Act, Progress, Stage, Told
from gateway.edge.keys.ring import KeyRing
from gateway.edge.keys.store import SLOTS_OF, Change, KeyStore, slot_name
from protocols.dlms.acts.keys import KeySlot
from protocols.errors import MeterSilent
from protocols.session import Auth, DlmsSettings
from tests.support.fakes import HandClock, Secrets

METER, CLIENT = "GEN:1", 48
AT = datetime(2026, 11, 30, tzinfo=UTC)
SLOTS = (KeySlot.ENCRYPTION, KeySlot.AUTHENTICATION, KeySlot.SECRET)
FIRST = {slot: f"first {slot}".encode()[:16].ljust(16, b".") for slot in SLOTS}
SETTINGS = DlmsSettings(
    client=CLIENT,
    auth=Auth.HLS2,
    ciphered=True,
    password_ref="hls",
    encryption_key_ref="ek",
    authentication_key_ref="ak",
)
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where a sync costs nothing
POLLS = 2 * 13
"""Polls, half an hour apart, in which every way in which a meter may have taken keys is tried."""
FATES = ("take", "take unheard", "lose", "refuse", "partly", "later")
EVENTS = st.one_of(
    st.tuples(
        st.just("rotate"),
        st.sampled_from(("global", "secret")),
        st.lists(st.sampled_from(FATES), max_size=3),
        st.one_of(st.none(), st.integers(1, 12)),
    ),
    st.sampled_from(
        [
            ("burn",),
            ("copy box",),
            ("set box back",),
            ("copy central",),
            ("set central back",),
            ("set central back and burn",),
            ("set both copies back",),
            ("set second copy back",),
            ("lose second copy",),
            ("poll",),
        ]
    ),
)


class Dead(BaseException):
    """The process is gone."""


@dataclass
class Meter:
    held: dict[KeySlot, bytes] = field(default_factory=lambda: dict(FIRST))
    later: dict[KeySlot, bytes] = field(default_factory=dict)

    def associate(self, keys: dict[KeySlot, bytes]) -> bool:
        good = keys == self.held
        self.held |= self.later
        self.later = {}
        return good


@dataclass
class World:
    """The meter, the box and central; `now` is called at every instant, and the process may die there."""

    folder: Path
    meter: Meter = field(default_factory=Meter)
    copy: dict[str, bytes] = field(default_factory=dict)
    """What stood in central's two files when they were copied; one is not named that was not there."""
    written: dict[str, tuple[SealedKeys, KeyText]] = field(default_factory=dict)
    """What stands in each sealed text, wherever a copy of it lies."""
    box_copy: bytes | None = None
    behind: bool = False
    clock: HandClock = field(default_factory=lambda: HandClock(AT))
    dies_in: int | None = None
    fates: list[str] = field(default_factory=list)
    store: KeyStore = field(init=False)
    central: SealedStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = KeyStore(self.path)
        self.open_central()

    @property
    def path(self) -> Path:
        return self.folder / "keys.db"

    @property
    def central_files(self) -> tuple[Path, Path]:
        """Central's store and its second copy."""
        return self.folder / "central.db", self.folder / "second.copy"

    @property
    def kept(self) -> list[tuple[SealedKeys, KeyText]]:
        return [(row, self.written[row.key_id][1]) for row in self.central.all()]

    def open_central(self, *, anew: bool = False) -> None:
        self.central = SealedStore(*self.central_files)
        self.central.settle(anew=anew)
        append = self.central.copy.append

        def appended(keys: Iterable[SealedKeys]) -> None:
            append(keys)
            self.instant()  # the second copy has them, and the store not yet

        vars(self.central.copy)["append"] = appended

    def put_back(self, *places: Path) -> None:
        """Put central's files back from their copies; one that was not there then is gone."""
        self.central.close()
        for path in places:
            for old in self.folder.glob(f"{path.name}*"):
                old.unlink()
            if path.name in self.copy:
                path.write_bytes(self.copy[path.name])
        self.open_central(anew=True)

    def instant(self) -> None:
        self.check()
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in <= 0:
                raise Dead

    def check(self) -> None:
        """Every key that the meter holds, or will hold, can be named without the box."""
        named = {e.key for _, text in self.kept for e in text.keys} | set(FIRST.values())
        if self.behind:  # until the edges have brought it, the box is the other copy
            named |= {key for change in self.store.remembered() for key in change.keys.values()}
            named |= set(self.store.held(METER, CLIENT).values())
        for keys in (self.meter.held, self.meter.later):
            assert set(keys.values()) <= named, "a meter holds a key that nobody knows"

    # the ports of a change

    async def deposit(self, change: Change) -> None:
        self.instant()
        old = {**FIRST, **self.store.held(METER, CLIENT)}
        entries = [
            KeyEntry(slot=slot_name(CLIENT, slot), state=state, octets=key.hex())
            for state, keys in (("new", change.keys), ("held", old))
            for slot, key in keys.items()
        ]
        text = KeyText(meter=METER, key_id=change.key_id, keys=tuple(entries), made_at=change.made_at)
        row = SealedKeys(
            key_id=change.key_id,
            gateway="g",
            meter=METER,
            slots=change.slots,
            sealed=change.sealed,
            made_at=change.made_at,
        )
        self.written.setdefault(change.key_id, (row, text))  # sealed once
        self.central.keep([row], AT)
        self.instant()

    def provable(self, _change: Change) -> bool:
        return True

    async def send(self, change: Change) -> Told:
        self.instant()
        if not self.poll():
            raise MeterSilent("it takes none of the keys that are known here")
        fresh = self.store.change(change.key_id)
        if fresh is None or fresh.stage is Stage.PROVEN:
            return Told.UNKNOWN
        fate = self.fates.pop(0) if self.fates else "take"
        keys = dict(change.keys)
        if fate == "partly":
            keys = dict(list(keys.items())[:1])
        if fate == "later":
            self.meter.later |= keys
        elif fate not in ("lose", "refuse"):
            self.meter.held |= keys
        self.instant()
        heard = {
            "take": Told.ACCEPTED,
            "later": Told.ACCEPTED,
            "partly": Told.ACCEPTED,
            "refuse": Told.REFUSED,
        }
        return heard.get(fate, Told.UNKNOWN)

    async def prove(self, change: Change) -> tuple[Told, Iterable[KeySlot]]:
        self.instant()
        held = {**FIRST, **self.store.held(METER, CLIENT)}
        ways = [(Told.NEW_PROVED, tuple(change.keys)), (Told.OLD_PROVED, ())]
        ways += [(Told.PARTLY, (slot,)) for slot in change.keys if len(change.keys) > 1]
        for told, slots in ways:
            if self.meter.associate({**held, **{slot: change.keys[slot] for slot in slots}}):
                self.instant()
                return told, slots
        return Told.NEITHER, ()

    # what happens

    def rotate(self, what: str, fates: list[str], dies_in: int | None) -> None:
        self.fates, self.dies_in = list(fates), dies_in
        try:
            asyncio.run(self._rotate(what))
        except (Dead, MeterSilent):
            self.store.close()
            self.store = KeyStore(self.path)
        finally:
            self.fates, self.dies_in = [], None

    async def _rotate(self, what: str) -> None:
        change = self.store.open_change(METER, CLIENT, what)
        if change is None:
            under_way = next((c for c in self.store.changes(METER) if not c.given), None)
            if under_way is not None:
                change = under_way
            else:
                self.instant()
                if any(c.given for c in self.store.may_hold(METER, CLIENT)) and not self.poll():
                    raise MeterSilent("it takes none of the keys that are known here")
                new = {slot: secrets.token_bytes(16) for slot in SLOTS_OF[what]}
                change = self.store.make(
                    Change(
                        key_id=secrets.token_hex(16),
                        meter=METER,
                        client=CLIENT,
                        what=what,
                        stage=Stage.MADE,
                        sealed=b"sealed",
                        slots=tuple(slot_name(CLIENT, slot) for slot in new),
                        made_at=AT + timedelta(seconds=len(self.written)),
                        keys=new,
                    )
                )
                self.instant()
        await rotate.carry_through(change, store=self.store, escrow=self, meter=self, now=lambda: AT)

    def poll(self) -> bool:
        """Read as the running edge does half an hour later; whether one of its choices is the meter's."""
        self.clock.at += timedelta(minutes=30)
        ring = KeyRing(self.path, Secrets({"hls": FIRST[KeySlot.SECRET], "ek": FIRST[KeySlot.ENCRYPTION],
                                           "ak": FIRST[KeySlot.AUTHENTICATION]}), self.clock)  # fmt: skip
        try:
            for place, choice in enumerate(ring.choices(METER, SETTINGS)):
                if place and not ring.may_try(METER, SETTINGS, choice):
                    continue
                refs = {KeySlot.SECRET: "hls", KeySlot.ENCRYPTION: "ek", KeySlot.AUTHENTICATION: "ak"}
                if self.meter.associate({slot: choice.secret(ref) for slot, ref in refs.items()}):
                    if place:
                        ring.proved(METER, SETTINGS, choice)
                    return True
            return False
        finally:
            ring.close()

    def told(self) -> None:
        """Central hears what was proved."""
        for key_id, meter, name in self.store.untold():
            if self.central.prove("g", meter, key_id, name, AT):
                self.store.told(key_id)

    def give(self) -> None:
        """Central gives what it has."""
        now = in_force(self.kept)
        unproved = {row.key_id for row, _ in now.maybe}
        changes = [given_change(row, None) for row in now.texts if row.key_id not in unproved]
        changes += [given_change(row, text) for row, text in now.maybe]
        held = {(METER, CLIENT, KeySlot(e.slot.partition("/")[2])): e.key for e in now.held.values()}
        self.store.give(held, changes, (), "d", AT)

    def offer_again(self) -> None:
        """The edge brings what central's store lacks since it was set back, and says what of it is proved."""
        for change in self.store.remembered():
            if self.central.missing([change.key_id]):
                row, _ = self.written[change.key_id]
                self.central.keep([row], AT)
                if change.stage is Stage.PROVEN:
                    assert self.central.prove("g", METER, row.key_id, digest(row.sealed), AT)
        self.behind = False

    def happens(self, event: tuple) -> None:  # type: ignore[type-arg]  # its parts differ
        match event:
            case ("rotate", what, fates, dies_in):
                self.rotate(what, fates, dies_in)
            case ("poll",):
                self.poll()
                self.told()
            case ("copy box",):
                self.box_copy = self.path.read_bytes()
            case ("copy central",):
                self.central.close()
                self.copy = {path.name: path.read_bytes() for path in self.central_files if path.exists()}
                self.open_central()
            case ("set central back",):
                self.put_back(self.central_files[0])
                self.check()
                self.offer_again()
            case ("set central back and burn",):
                self.put_back(self.central_files[0])
                self.check()
                self.new_box(None)
            case ("set both copies back",):
                self.behind = True
                self.put_back(*self.central_files)
                self.check()
                self.offer_again()
            case ("set second copy back",):
                self.put_back(self.central_files[1])
            case ("lose second copy",):
                self.central.close()
                self.central_files[1].unlink(missing_ok=True)
                self.open_central(anew=True)
            case ("burn",):
                self.new_box(None)
            case ("set box back",):
                self.new_box(self.box_copy)
        self.check()

    def new_box(self, content: bytes | None) -> None:
        """Put another box in the place of this one, which central gives what it has."""
        self.store.close()
        self.path.unlink()
        if content is not None:
            self.path.write_bytes(content)
        self.store = KeyStore(self.path)
        self.give()

    def close(self) -> None:
        self.store.close()
        self.central.close()


def given_change(row: SealedKeys, text: KeyText | None) -> Change:
    """Return a change as an edge keeps it that was given it: with its new keys where it is not proved."""
    new = (
        {}
        if text is None
        else {KeySlot(e.slot.partition("/")[2]): e.key for e in text.keys if e.state == "new"}
    )
    return Change(
        key_id=row.key_id,
        meter=METER,
        client=CLIENT,
        what=next(name for name, slots in SLOTS_OF.items() if set(new) <= set(slots)) if new else "",
        stage=Stage.SENT if new else Stage.PROVEN,
        sealed=row.sealed,
        slots=row.slots,
        made_at=row.made_at,
        keys=new,
    )


BEGUN_COPIED: list[tuple[object, ...]] = [
    ("rotate", "global", [], 2),
    ("copy box",),
    ("rotate", "global", [], None),
    ("set box back",),
]
"""A copy of the box from the middle of a change is put back when the change is over."""
OLD_CENTRAL_AND_BURNED_BOX: list[tuple[object, ...]] = [
    ("copy central",),
    ("rotate", "global", [], None),
    ("set central back and burn",),
]
"""Central's store is put back to before a change, and the box burns before it can bring what is missing."""


@settings(max_examples=100)
@example([*BEGUN_COPIED, ("set central back",)])
@example(BEGUN_COPIED)
@example(OLD_CENTRAL_AND_BURNED_BOX)
@example([*BEGUN_COPIED, ("set central back and burn",)])
@given(st.lists(EVENTS, max_size=9))
def test_at_no_instant_is_a_meter_s_key_unknown_to_us(events: list[tuple]) -> None:  # type: ignore[type-arg]
    with TemporaryDirectory(dir=MEMORY) as folder:
        world = World(Path(folder))
        try:
            for event in events:
                world.happens(event)
            # And whatever happened, the meter is read again, and its keys can be changed to the end.
            world.give()
            assert any(world.poll() for _ in range(POLLS)), "the meter is locked"
            world.told()
            for _ in range(2):
                world.rotate("global", [], None)
                world.rotate("secret", [], None)
            assert not [c for c in world.store.changes(METER) if not c.given]
            assert world.poll()
        finally:
            world.close()


async def _no_receipt(_world: World, _change: Change) -> None:
    """An escrow that says yes and keeps nothing."""


def _not_settled(_store: SealedStore, *, anew: bool = False) -> Settled:
    """A store that is never filled from its second copy."""
    return Settled()


def _order(wrong: dict[Act, Act]) -> property:
    right: Callable[[Progress], Act] = vars(Progress)["act"].fget
    return property(lambda progress: wrong.get(right(progress), right(progress)))


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (World, "deposit", _no_receipt),
        (Progress, "act", _order({Act.NOTE_SENT: Act.SEND})),
        (Progress, "act", _order({Act.PROVE: Act.ADOPT})),
        (SealedStore, "settle", _not_settled),
    ],
    ids=("sent without escrow", "sent without a note", "believed without proof", "no second copy"),
)
def test_the_model_finds_another_order(
    owner: type, name: str, broken: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same model, with the order of steps broken: it must not pass."""
    monkeypatch.setattr(owner, name, broken)
    stories: list[list[tuple]] = [  # type: ignore[type-arg]
        [("rotate", "global", [fate], dies)] + [("burn",)] * burns
        for fate in ("take unheard", "refuse")
        for dies in (None, 2, 4, 5, 6)
        for burns in (0, 1)
    ]
    stories.append(OLD_CENTRAL_AND_BURNED_BOX)
    failed = 0
    for events in stories:
        with TemporaryDirectory(dir=MEMORY) as folder:
            world = World(Path(folder))
            try:
                for event in events:
                    world.happens(event)
                assert any(world.poll() for _ in range(POLLS))
            except AssertionError:
                failed += 1
            finally:
                world.close()
    assert failed
