"""The golden scenarios at central: its directory tells just these changes, its ledger ends with the same accounts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.central.directory.messages import change_messages, standing_messages
from gateway.central.history.pages import HistoryPages
from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.ledger.authority import CONFLICT
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.resolve import attributed
from gateway.contract.envelope import parse
from gateway.contract.messages import HistoryRequest, TimeVerdict, rfc3339
from gateway.contract.messages.generation import Generation
from gateway.contract.scenario import FIRST, GATEWAY, METER, SECOND, instant
from gateway.contract.topics import Topics
from mapping.changes import (
    Change,
    CorrectHoldings,
    HoldingSpan,
    Install,
    MoveIn,
    MoveOut,
    Name,
    Remove,
)
from mapping.directory import NumberKind, Role
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from mapping.timeline import MeterTimeline
from protocols.clock import SystemClock
from tests.support.contract_schemas import FOLDER, validate
from tests.support.text_consumer import TextConsumer

Json = dict[str, Any]
NOW = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)
BEGUN = instant("00:00") - timedelta(days=100)
LEGACY, NUMBER = NumberKind.LEGACY, NumberKind.ACCOUNT
NAMES: list[Change] = [
    Name("acc-17", LEGACY, "KE0012345"),
    Name("acc-17", NUMBER, "0012345678"),
    Name("acc-99", LEGACY, "KE0099999"),
    Name("acc-99", NUMBER, "1009876543"),
]
FITTED: list[Change] = [Install(METER, "up-17", Role.CONSUMER, BEGUN), MoveIn("up-17", "acc-17", BEGUN)]


class Office:
    """The directory, and what central tells of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "directory.db"
        self.store = DirectoryStore(self.path)
        self.generation = FIRST
        self.told: list[Json] = []

    @property
    def snapshot(self) -> DirectorySnapshot:
        return self.store.snapshot()

    def change(self, *changes: Change) -> None:
        version = self.store.apply(changes, by="clerk", source="test", at=NOW)
        spans, names = self.store.differences(version - 1, version)
        self.hear(change_messages(spans, names, self.snapshot, NOW, generation=self.generation))

    def others(self, upto: int) -> None:
        """Let changes of other houses raise the version."""
        while self.store.version < upto:
            self.change(Install(f"SEC:{self.store.version}", "elsewhere", Role.FEEDER, BEGUN))

    def restore(self, copy: Path, generation: Generation) -> None:
        self.store.close()
        shutil.copy(copy, self.path)
        self.store, self.generation = DirectoryStore(self.path), generation
        self.hear(standing_messages(METER, self.snapshot, NOW, generation=generation))

    def keep(self, copy: Path) -> None:
        self.store.close()
        shutil.copy(self.path, copy)
        self.store = DirectoryStore(self.path)

    def hear(self, messages: list[bytes]) -> None:
        self.told += [json.loads(octets)["data"] for octets in messages]


def moves(office: Office, at: str) -> None:
    office.change(MoveOut("up-17", instant(at)), MoveIn("up-17", "acc-99", instant(at)))


def holders(office: Office, *spans: tuple[str, datetime, str | None]) -> None:
    told = [HoldingSpan(who, since, None if to is None else instant(to)) for who, since, to in spans]
    office.change(CorrectHoldings("up-17", tuple(told)))


def told_early(office: Office, _: Path) -> None:
    office.change(*FITTED, *NAMES)
    moves(office, "10:10")


def told_late(office: Office, _: Path) -> None:
    office.change(*FITTED, *NAMES)
    moves(office, "10:30")
    holders(office, ("acc-17", BEGUN, "10:40"), ("acc-99", instant("10:40"), None))


def taken_back(office: Office, _: Path) -> None:
    told_early(office, _)
    holders(office, ("acc-17", BEGUN, None))


def vacant_earlier(office: Office, _: Path) -> None:
    office.change(*FITTED, *NAMES)
    office.change(MoveOut("up-17", instant("10:10")))
    holders(office, ("acc-17", BEGUN, "09:00"))


def moved_meter(office: Office, _: Path) -> None:
    office.change(*FITTED, *NAMES, MoveIn("up-18", "acc-17", BEGUN))
    office.change(Remove(METER, instant("10:30")), Install(METER, "up-18", Role.CONSUMER, instant("10:30")))


def paper_later(office: Office, _: Path) -> None:
    office.others(2)
    fitted = Install(METER, "up-17", Role.CONSUMER, instant("00:00"))
    office.change(fitted, MoveIn("up-17", "acc-99", instant("00:00")), NAMES[2])
    office.others(4)
    office.change(Name("acc-99", NUMBER, "1111111111"))
    office.others(8)
    office.change(Name("acc-99", NUMBER, "2222222222"))


def set_back(office: Office, folder: Path) -> None:
    since = instant("00:00")
    fitted: list[Change] = [Install(METER, "up-17", Role.CONSUMER, since), MoveIn("up-17", "acc-17", since)]
    office.change(*fitted, NAMES[0], *NAMES[2:])
    office.others(2)
    office.keep(folder / "copy.db")
    office.change(NAMES[1])
    moves(office, "09:00")
    office.restore(folder / "copy.db", SECOND)
    office.change(Name("acc-17", NUMBER, "0055555555"))


def judged(office: Office, _: Path) -> None:
    since = instant("00:00")
    office.others(1)
    fitted: list[Change] = [Install(METER, "up-17", Role.CONSUMER, since), MoveIn("up-17", "acc-17", since)]
    office.change(*fitted, *NAMES)
    moves(office, "10:10")
    office.hear(standing_messages(METER, office.snapshot, NOW, generation=FIRST))


def at_rest(office: Office, _: Path) -> None:
    office.change(*FITTED, *NAMES)


OFFICES: dict[str, Callable[[Office, Path], None]] = {
    "hand-over-told-early": told_early,
    "hand-over-told-late": told_late,
    "hand-over-taken-back": taken_back,
    "vacant-earlier-than-told": vacant_earlier,
    "moved-between-usage-points": moved_meter,
    "paper-comes-later": paper_later,
    "replay": at_rest,
    "revisions": at_rest,
    "journal-set-back": at_rest,
    "directory-set-back": set_back,
    "verdict-on-time": judged,
    "quarantine": at_rest,
}
"""What the office does in each scenario."""


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.store.close()


def scenario(name: str) -> Json:
    found: Json = json.loads((FOLDER / "scenarios" / f"{name}.json").read_bytes())
    return found


def payload(message: Json) -> bytes:
    return json.dumps(message["payload"]).encode()


def messages(name: str) -> list[Json]:
    return [message for step in scenario(name)["steps"] for message in step["messages"]]


@pytest.mark.parametrize("name", OFFICES)
def test_central_tells_what_the_scenario_says(name: str, office: Office, tmp_path: Path) -> None:
    OFFICES[name](office, tmp_path)
    for message in messages(name):
        if message["topic"].endswith("attributions"):
            assert message["payload"]["data"] in office.told


@pytest.mark.parametrize("name", OFFICES)
def test_the_ledger_ends_with_the_accounts_of_the_scenario(
    name: str, office: Office, tmp_path: Path, ledger: Ledger
) -> None:
    stored(ledger, office, name, tmp_path)
    told = scenario(name)["steps"][-1]["ledger"]["captures"]
    assert [entry(ledger, office.snapshot, one["capture_id"]) for one in told] == [
        {member: one.get(member) for member in ("capture_id", "value_rev", "at", "accounts", "reason")}
        for one in told
    ]
    aside = scenario(name)["steps"][-1]["ledger"].get("set_aside", {})
    kept = [group.entries for group in ledger.quarantine.groups() if group.reason == CONFLICT]
    assert sum(kept) == sum(map(len, aside.values()))


def stored(ledger: Ledger, office: Office, name: str, folder: Path) -> None:
    """Let directory and ledger have all that happens in a scenario."""
    OFFICES[name](office, folder)
    for gateway in (GATEWAY, "edge-2", GATEWAY):
        ledger.allocations.give([METER], gateway, since=BEGUN, by="test", note="", at=BEGUN)
    store = MessageStore(ledger, Topics("kanpur"))
    for message in messages(name):
        if "/readings/" in message["topic"]:
            store.handle([ReceivedMessage(message["topic"], payload(message), NOW)])
    said = [parse(payload(m), TimeVerdict).data for m in messages(name) if m["topic"].endswith("verdicts")]
    for verdict in sorted(said, key=lambda one: one.version):
        ledger.times.give([verdict])


@pytest.mark.parametrize("name", OFFICES)
def test_a_consumer_that_joins_when_all_is_over_ends_with_the_same(
    name: str, office: Office, tmp_path: Path, ledger: Ledger
) -> None:
    stored(ledger, office, name, tmp_path)
    pages = HistoryPages(
        ledger, lambda: (office.snapshot, office.generation), Topics("kanpur"), SystemClock()
    )
    wanted = HistoryRequest(consumer="late", request="all", what="readings")
    late, own = TextConsumer(), Topics("kanpur").history("late")
    while True:
        sent, answer = pages.page(wanted)
        assert [json.loads(octets)["id"] for _, octets in sent] == list(answer.messages)
        for topic, octets in sent:
            gateway = own.parse(topic).gateway
            message = json.loads(octets)
            assert gateway is None or message["data"]["gateway"] == gateway
            validate(octets)
            late.take(message)
        if answer.after is None:
            break
        wanted = wanted.model_copy(update={"after": answer.after})
    assert late.ledger()["captures"] == scenario(name)["steps"][-1]["ledger"]["captures"]


def entry(ledger: Ledger, directory: DirectorySnapshot, capture_id: str) -> Json:
    stored = ledger.captures.get(capture_id)
    assert stored is not None
    accounts = []
    for mine in attributed(stored, MeterTimeline(directory, stored.meter)):
        one = {
            "account_id": mine.account_id,
            "account_number": mine.account_number,
            "legacy_number": mine.legacy_number,
            "usage_point": mine.usage_point,
            "role": mine.role,
            "from": None if mine.since is None else rfc3339(mine.since),
            "to": None if mine.until is None else rfc3339(mine.until),
        }
        accounts.append({name: text for name, text in one.items() if text is not None})
    reason = directory.attributions(stored.meter, stored.start, stored.at).reason
    return {
        "capture_id": capture_id,
        "value_rev": stored.value_rev,
        "at": rfc3339(stored.at),
        "accounts": accounts,
        "reason": reason,
    }
