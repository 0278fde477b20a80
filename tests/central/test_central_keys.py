"""Central's desk for meters' keys: receipts for what is on its disk, keys for trusted boxes, nothing for strangers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from gateway.central.keys.desk import MAX_ESCROWED, KeyDesk, usable_store_secret
from gateway.central.keys.fair_queue import EACH
from gateway.central.keys.giving import in_force, opened_text
from gateway.central.keys.sealed import SealedKeys
from gateway.central.keys.store import MAX_UNPROVED
from gateway.central.ledger.ledger import Ledger
from gateway.contract.central_word import parse_signed
from gateway.contract.envelope import wrap
from gateway.contract.key_text import KeyEntry, KeyText, sealing_context
from gateway.contract.messages import KeysEscrowed, KeysGiven, KeysMissing, KeysReceipt
from gateway.contract.sealing import digest, key_name, new_sealing_pair, public_of, seal
from gateway.contract.topics import Topics
from gateway.edge.keys.change import Stage
from gateway.edge.keys.escrow import Receipts
from gateway.edge.keys.link import KeysLink
from gateway.edge.keys.ring import KeyRing
from gateway.edge.keys.store import Change, KeyStore
from gateway.errors import ConfigError, ContractError, UsageError
from gateway.mqtt.client import MqttMessage
from protocols.dlms.acts.keys import KeySlot
from tests.support.fakes import HandClock, Secrets
from tests.support.keys import PRIVATE, PUBLIC

NOW = datetime(2026, 11, 30, tzinfo=UTC)
TOPICS = Topics("kanpur")
ESCROW, ESCROW_PUBLIC = new_sealing_pair()
STORE, STORE_PUBLIC = new_sealing_pair()
METER = "GEN:1"


class Office:
    """Central's desk over a ledger, and edges before it; nothing travels over a broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger(folder / "ledger.db")
        self.clock = HandClock(NOW)
        self.desk = self.opened()
        self.allocate(METER, "edge-1")

    def opened(self) -> KeyDesk:
        return KeyDesk(
            self.folder / "keys.db",
            self.ledger,
            root="kanpur",
            key=PRIVATE,
            clock=self.clock,
            store_secret=STORE,
            escrow=ESCROW_PUBLIC,
        )

    def allocate(self, meter: str, gateway: str) -> None:
        self.clock.at += timedelta(hours=1)
        at = self.clock.at
        self.ledger.allocations.give([meter], gateway, by="t", note="", since=at, at=at)

    def says(self, topic: str, payload: bytes) -> list[tuple[str, bytes]]:
        async def work(task: Callable[[], Any]) -> Any:
            return task()

        return asyncio.run(self.desk.answers(topic, payload, work))

    def escrow(self, change: Change, gateway: str = "edge-1") -> KeysReceipt:
        _, message = Receipts(gateway, (PUBLIC,), self.clock).question(change)
        ((topic, answer),) = self.says(TOPICS.keys_escrow(gateway), message)
        assert topic == TOPICS.keys_receipts(gateway)
        return parse_signed(answer, KeysReceipt, (PUBLIC,))[0]

    def proved(self, change: Change, gateway: str = "edge-1") -> None:
        message = Receipts(gateway, (PUBLIC,), self.clock).proven(change.key_id, change.meter, change.digest)
        self.says(TOPICS.keys_escrow(gateway), message)

    def close(self) -> None:
        self.desk.close()
        self.ledger.close()


class Box:
    """An edge's box: its key, its file of keys, and its talk with central."""

    def __init__(self, office: Office, folder: Path, gateway: str = "edge-1") -> None:
        self.office = office
        self.gateway = gateway
        self.private, public = new_sealing_pair()
        self.name = key_name(public)
        self.store = KeyStore(folder / "keys.db")
        self.ring = KeyRing(folder / "keys.db", Secrets({}), office.clock)
        self.link = KeysLink(
            gateway, root="kanpur", keys=(PUBLIC,), ring=self.ring, private=self.private, clock=office.clock
        )

    def asks(self) -> list[bytes]:
        """Ask, take what is given, and return the rest of the answers."""
        rest = []
        question = asyncio.run(self.link.question())
        for topic, payload in self.office.says(TOPICS.keys_request(self.gateway), question):
            if topic == TOPICS.keys(self.gateway):
                asyncio.run(self.link.take(payload))
            else:
                rest.append(payload)
        return rest

    def close(self) -> None:
        self.ring.close()
        self.store.close()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.close()


@pytest.fixture
def boxes(office: Office, tmp_path: Path) -> Iterator[Callable[..., Box]]:
    made: list[Box] = []

    def box(name: str, gateway: str = "edge-1") -> Box:
        made.append(Box(office, tmp_path / name, gateway))
        return made[-1]

    yield box
    for one in made:
        one.close()


def change(
    number: int = 1, meter: str = METER, *, to: tuple[bytes, ...] = (ESCROW_PUBLIC, STORE_PUBLIC)
) -> Change:
    """New encryption and authentication keys, sealed; the ones before are numbered one lower."""
    key_id = f"{number:032x}"
    entries = [
        KeyEntry(slot=f"48/{slot}", state=state, octets=bytes((n,) * 16).hex())
        for state, n in (("new", number), ("held", number - 1))
        for slot in ("encryption", "authentication")
    ]
    at = NOW + timedelta(minutes=number)
    text = KeyText(gateway="edge-1", meter=meter, key_id=key_id, keys=tuple(entries), made_at=at)
    sealed = seal(text.model_dump_json().encode(), to=to, context=sealing_context(meter, key_id))
    return Change(
        key_id=key_id,
        meter=meter,
        client=48,
        what="global",
        stage=Stage.MADE,
        sealed=sealed,
        slots=("48/encryption", "48/authentication"),
        made_at=at,
        keys={KeySlot.ENCRYPTION: bytes((number,) * 16), KeySlot.AUTHENTICATION: bytes((number,) * 16)},
        digest=digest(sealed),
    )


def test_a_receipt_says_that_it_is_on_the_disk(office: Office) -> None:
    one = change()
    assert office.escrow(one).refused is None
    office.desk.close()
    office.desk = office.opened()  # another process finds it
    (kept,) = office.desk.store().of_meters([METER])
    assert (kept.sealed, kept.proved_at) == (one.sealed, None)
    assert office.escrow(one).refused is None  # asked again: the same, once
    assert len(office.desk.store().all()) == 1
    assert bytes((1,) * 16) not in (office.folder / "keys.db").read_bytes()


def test_what_is_not_the_gateway_s_own_gets_no_receipt(office: Office) -> None:
    office.escrow(change(1))
    for one, gateway, said in (
        (change(2), "edge-2", "is read by edge-1"),
        (change(3, "GEN:9"), "edge-1", "is read by no gateway"),
        (change(1), "edge-1", "other keys are kept"),
        (change(4, to=(STORE_PUBLIC,)), "edge-1", "not sealed to the escrow key"),
    ):
        assert said in (office.escrow(one, gateway).refused or "")
    assert len(office.desk.store().all()) == 1


def test_a_gateway_that_speaks_for_another_is_not_answered(office: Office) -> None:
    _, message = Receipts("edge-2", (PUBLIC,), office.clock).question(change())
    with pytest.raises(ContractError, match="on the topic of"):
        office.says(TOPICS.keys_escrow("edge-1"), message)


def test_proof_counts_for_just_the_keys_that_were_escrowed(office: Office) -> None:
    one = change()
    with pytest.raises(ContractError, match="no such keys"):
        office.proved(one)
    office.escrow(one)
    office.allocate(METER, "edge-2")
    with pytest.raises(ContractError, match="no such keys"):
        office.proved(one, "edge-2")
    office.proved(one)
    assert office.desk.store().all()[0].proved_at is not None


def test_a_gateway_cannot_fill_the_store(office: Office) -> None:
    for number in range(1, MAX_UNPROVED + 1):
        assert office.escrow(change(number)).refused is None
    assert "wait for proof" in (office.escrow(change(100)).refused or "")
    long = KeysEscrowed(
        gateway="edge-1",
        meter=METER,
        key_id="0" * 32,
        slots=("48/secret",),
        sealed=base64.b64encode(b"MGK1" + bytes(MAX_ESCROWED)).decode(),
        nonce="0" * 32,
        made_at=NOW,
    )
    payload = wrap(long, id="i", source="/edge-1", time=NOW)
    ((_, answer),) = office.says(TOPICS.keys_escrow("edge-1"), payload)
    assert "octets" in (parse_signed(answer, KeysReceipt, (PUBLIC,))[0].refused or "")


def test_a_box_gets_keys_once_a_person_trusts_it(office: Office, boxes: Callable[..., Box]) -> None:
    one = change()
    office.escrow(one)
    office.proved(one)
    box, thief = boxes("new"), boxes("thief")
    assert box.asks() == []
    assert box.store.held(METER, 48) == {}
    office.desk.store().trust("edge-1", box.name, by="t", at=NOW)
    box.asks()
    assert box.store.held(METER, 48) == one.keys
    # Another box with the gateway's login is another box.
    thief.asks()
    assert thief.store.held(METER, 48) == {}
    with pytest.raises(UsageError, match="compare"):
        office.desk.store().trust("edge-1", box.name, by="t", at=NOW)


def test_keys_that_are_not_proved_come_as_what_the_meter_may_hold(
    office: Office, boxes: Callable[..., Box]
) -> None:
    office.escrow(change(1))
    box = boxes("new")
    box.asks()
    office.desk.store().trust("edge-1", box.name, by="t", at=NOW)
    box.asks()
    assert set(box.store.held(METER, 48).values()) == {bytes(16)}
    (maybe,) = box.store.may_hold(METER, 48)
    assert (maybe.given, set(maybe.keys.values())) == (True, {bytes((1,) * 16)})


def test_keys_move_with_the_meter_and_the_former_box_drops_them(
    office: Office, boxes: Callable[..., Box]
) -> None:
    one, here = change(1), change(2, "GEN:2")
    office.allocate("GEN:2", "edge-1")
    for each in (one, here):
        office.escrow(each)
        office.proved(each)
    old, new = boxes("old"), boxes("new", "edge-2")
    for box in (old, new):
        box.asks()
        office.desk.store().trust(box.gateway, box.name, by="t", at=NOW)
        box.asks()
    assert old.store.held(METER, 48) == one.keys
    assert new.store.names() == []
    office.allocate(METER, "edge-2")
    for box in (old, new):
        box.asks()
    assert (old.store.held(METER, 48), old.store.held("GEN:2", 48)) == ({}, here.keys)
    assert new.store.held(METER, 48) == one.keys


def test_a_store_that_was_set_back_gets_again_what_boxes_keep(
    office: Office, boxes: Callable[..., Box]
) -> None:
    one = change()
    office.escrow(one)
    box = boxes("box")
    box.store.make(one)
    box.store.note(one.key_id, Stage.SENT)
    box.store.adopt(one.key_id, one.keys, NOW)
    assert box.asks() == []
    office.desk.close()
    for path in (*office.folder.glob("keys.db*"), office.folder / "keys.copy"):
        path.unlink()
    office.desk = office.opened()
    (answer,) = box.asks()
    missing, _ = parse_signed(answer, KeysMissing, (PUBLIC,))
    assert missing.key_ids == (one.key_id,)
    known = box.store.change(one.key_id)
    assert known is not None
    assert office.escrow(known).refused is None
    assert office.desk.store().all()[0].sealed == one.sealed


def test_a_store_that_was_set_back_is_filled_from_its_second_copy_though_the_box_is_burned(
    office: Office, boxes: Callable[..., Box]
) -> None:
    first, second = change(1), change(2)
    office.escrow(first)
    office.proved(first)
    office.desk.close()
    before = (office.folder / "keys.db").read_bytes()
    office.desk = office.opened()
    office.escrow(second)
    office.desk.close()
    (office.folder / "keys.db").write_bytes(before)
    office.desk = office.opened()
    box = boxes("new")
    assert box.asks() == []
    office.desk.store().trust("edge-1", box.name, by="t", at=NOW)
    box.asks()
    assert box.store.held(METER, 48) == first.keys
    assert [one.keys for one in box.store.may_hold(METER, 48)] == [second.keys]


def test_no_receipt_is_given_while_the_second_copy_cannot_be_written_and_keys_are_given_all_the_same(
    office: Office, boxes: Callable[..., Box]
) -> None:
    first = change(1)
    office.escrow(first)
    office.proved(first)
    (office.folder / "keys.copy").rename(office.folder / "unmounted")
    assert "is gone" in (office.escrow(change(2)).refused or "")
    office.desk.close()
    office.desk = office.opened()
    assert "keys check --anew" in (office.escrow(change(2)).refused or "")
    box = boxes("new")
    box.asks()
    office.desk.store().trust("edge-1", box.name, by="t", at=NOW)
    box.asks()
    assert box.store.held(METER, 48) == first.keys
    (office.folder / "unmounted").rename(office.folder / "keys.copy")
    assert office.escrow(change(2)).refused is None


def test_a_gateway_that_floods_delays_nobody_and_loses_its_newest(office: Office) -> None:
    acked: list[MqttMessage] = []

    class Connection:
        def ack(self, message: MqttMessage) -> None:
            acked.append(message)

        async def offer(self, _topic: str, _payload: bytes) -> bool:
            return True

    served: list[str] = []

    def said(gateway: str, mid: int) -> MqttMessage:
        return MqttMessage(TOPICS.keys_escrow(gateway), b"junk", False, mid, 1)

    async def work(task: Callable[[], Any]) -> Any:
        return task()

    async def story() -> None:
        connection = Connection()
        office.desk.begin()
        flood = [said("edge-2", mid) for mid in range(EACH + 50)]
        other = said("edge-1", 999)
        for message in (*flood, other):
            assert office.desk.takes(message, connection)
        assert acked == flood[EACH:]
        assert not office.desk.takes(MqttMessage("kanpur/v2/edge-1/events", b"", False, 1, 1), connection)
        serving = asyncio.create_task(office.desk.serve(connection, work))
        while other not in acked:
            await asyncio.sleep(0)
        serving.cancel()
        served.extend(m.topic for m in acked[50:])

    asyncio.run(story())
    assert served.index(TOPICS.keys_escrow("edge-1")) <= 1


def test_keys_that_central_lacks_are_brought_before_a_former_box_drops_them(
    office: Office, boxes: Callable[..., Box]
) -> None:
    """Central's store is set back to before a change, and the meter moves on to another gateway."""
    first, lost = change(1), change(61)
    office.escrow(first)
    office.proved(first)
    old, new = boxes("old"), boxes("new", "edge-2")
    for box in (old, new):
        box.asks()
        office.desk.store().trust(box.gateway, box.name, by="t", at=NOW)
        box.asks()
    old.store.make(lost)
    old.store.note(lost.key_id, Stage.SENT)
    old.store.adopt(lost.key_id, lost.keys, NOW)
    office.allocate(METER, "edge-2")  # before central hears of it
    (answer,) = old.asks()
    assert parse_signed(answer, KeysMissing, (PUBLIC,))[0].key_ids == (lost.key_id,)
    assert old.store.held(METER, 48) == lost.keys  # the only copy
    known = old.store.change(lost.key_id)
    assert known is not None
    assert office.escrow(known).refused is None  # it was made while this gateway read the meter
    office.proved(known)
    for box in (old, new):
        box.asks()
    assert (old.store.held(METER, 48), new.store.held(METER, 48)) == ({}, lost.keys)
    # What it would make from now on is not its business.
    assert "is read by edge-2" in (office.escrow(change(200)).refused or "")


def test_a_former_gateway_cannot_use_up_the_room_of_the_present_one(office: Office) -> None:
    office.allocate(METER, "edge-2")
    for number in range(61, 62 + MAX_UNPROVED):
        office.escrow(change(number))
    assert "wait for proof" in (office.escrow(change(100)).refused or "")
    assert office.escrow(change(200), "edge-2").refused is None


def test_the_keys_in_force_are_no_matter_of_a_box_s_clock() -> None:
    """Change 3 began with the keys of 2, which began with those of 1, whatever clocks said when they were made."""
    rows = []
    for number, made in ((1, 50), (2, 10), (3, -900)):
        one = change(number)
        at = NOW + timedelta(days=made)
        row = SealedKeys(
            key_id=one.key_id,
            gateway="edge-1",
            meter=METER,
            slots=one.slots,
            sealed=one.sealed,
            made_at=at,
            proved_at=NOW,
        )
        rows.append((row, opened_text(row, STORE)))
    for order in permutations(rows):
        now = in_force(order)
        assert {entry.key for entry in now.held.values()} == {bytes((3,) * 16)}
        assert now.maybe == []


def test_what_central_did_not_sign_or_another_s_is_not_taken(
    office: Office, boxes: Callable[..., Box]
) -> None:
    office.escrow(change())
    box = boxes("box")
    box.asks()
    office.desk.store().trust("edge-1", box.name, by="t", at=NOW)
    question = asyncio.run(box.link.question())
    ((_, given),) = office.says(TOPICS.keys_request("edge-1"), question)
    parsed, _ = parse_signed(given, KeysGiven, (PUBLIC,))
    with pytest.raises(ContractError):
        asyncio.run(box.link.take(given.replace(b'"jws":"', b'"jws":"x')))
    asyncio.run(box.link.question())  # the one before is forgotten: an old answer says nothing
    with pytest.raises(ContractError, match="nonce"):
        asyncio.run(box.link.take(given))
    with pytest.raises(ContractError, match="sealed to the box"):
        boxes("other").link.take_file(parsed)
    assert box.store.names() == []


def test_a_store_key_that_nobody_could_open_is_said() -> None:
    private, _ = new_sealing_pair(b"words")
    with pytest.raises(ConfigError, match="passphrase"):
        usable_store_secret(private)
    assert public_of(usable_store_secret(STORE)) == STORE_PUBLIC
