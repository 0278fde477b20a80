"""Slips follow the directory: one for each account's number at each of its meters, never twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.central.campaign import making, privacy
from gateway.central.campaign import slips as slips_module
from gateway.central.campaign.making import Order, make
from gateway.central.campaign.places import read_book
from gateway.central.campaign.printing import Form, Look
from gateway.central.campaign.slips import Slip, Slips, slip_id, slip_number
from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.ticks import Tick, Ticked, Ticks
from mapping.changes import Change, Install, MoveIn, MoveOut, Name, Remove, SetAttributes
from mapping.directory import AttributeKind, NumberKind, Role
from mapping.errors import FileRefused
from mapping.row_verdicts import Verdict
from mapping.store import DirectoryStore
from tests.support.postgres import PostgreSQL

AT = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 30, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
LOOK = Look(portal="https://portal.example")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with PostgreSQL() as made:
        yield made


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CampaignStore]:
    in_file = request.param == "sqlite"
    where = tmp_path / "campaign.db" if in_file else request.getfixturevalue("server").database()
    with CampaignStore(where) as made:
        yield made


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DirectoryStore]:
    with DirectoryStore(tmp_path / "directory.db") as made:
        people(made, 1, 2, 3)
        yield made


def people(directory: DirectoryStore, *who: int, route: str = "R-1") -> None:
    for one in who:
        directory.apply(
            [
                Install(f"GEN:{10000000 + one}", f"UP-{one}", Role.CONSUMER, AT),
                MoveIn(f"UP-{one}", f"acc-{one}", AT),
                Name(f"acc-{one}", NumberKind.LEGACY, f"KE{one:04}"),
                Name(f"acc-{one}", NumberKind.ACCOUNT, f"{1200000000 + one}"),
                SetAttributes(f"UP-{one}", {AttributeKind.ROUTE: route}, AT),
            ],
            by="test", source="people", at=AT,
        )  # fmt: skip


def every(slips: Slips, *, again: bool = False) -> list[Slip]:
    """All slips to make; they are read as pages are made, so each is noted when it was taken."""
    return [one for sheet in slips.sheets(again=again) for one in sheet]


def test_a_slip_for_each_account_with_a_number_at_its_meter(
    store: CampaignStore, directory: DirectoryStore
) -> None:
    directory.apply(
        [
            Name("acc-old", NumberKind.LEGACY, "KE9"),  # has no new number: nothing to tell
            Name("acc-far", NumberKind.ACCOUNT, "1299999999"),  # has no meter: nowhere to take it
            Install("FDR:1", "FEEDER", Role.FEEDER, AT),
            MoveIn("FEEDER", "acc-1", AT),
            Install("GEN:77", "UP-77", Role.CONSUMER, AT),
            MoveIn("UP-77", "acc-1", AT),  # a second meter of the same account
        ],
        by="test", source="more", at=AT,
    )  # fmt: skip
    slips = Slips(store)
    found = slips.refresh(directory.snapshot(), NOW)
    assert (found.new, found.changed, found.ended, found.nowhere) == (4, 0, 0, 1)
    assert [(s.account_id, s.usage_point, s.meter, s.route) for s in every(slips)] == [
        ("acc-1", "UP-77", "GEN:77", ""),
        ("acc-1", "UP-1", "GEN:10000001", "R-1"),
        ("acc-2", "UP-2", "GEN:10000002", "R-1"),
        ("acc-3", "UP-3", "GEN:10000003", "R-1"),
    ]
    again = slips.refresh(directory.snapshot(), NOW + HOUR)
    assert (again.new, again.changed, again.ended) == (0, 0, 0)
    tokens = {s.token for s in every(slips)}
    assert len(tokens) == 4
    assert all(slips.account_of(s.token) == s.account_id for s in every(slips))
    assert slips.account_of("A" * 16) is None


def test_a_route_is_in_the_reader_s_order(
    store: CampaignStore, directory: DirectoryStore, tmp_path: Path
) -> None:
    book = tmp_path / "book.csv"
    book.write_text("route,usage_point,stop\nB,UP-3,1\nA,UP-1,20\nA,UP-2,3\nA,UP-3,4\nB,UP-3,7\n")
    assert read_book(store, book, names=False).applied == 5
    slips = Slips(store)
    slips.refresh(directory.snapshot(), NOW)
    assert [(s.route, s.stop, s.usage_point) for s in every(slips)] == [
        ("A", 3, "UP-2"),
        ("A", 20, "UP-1"),
        ("B", 7, "UP-3"),  # the last row of a place counts
    ]


@pytest.mark.parametrize("names", [True, False])
def test_names_are_kept_only_where_they_may_be(
    store: CampaignStore, directory: DirectoryStore, tmp_path: Path, names: bool
) -> None:
    book = tmp_path / "book.csv"
    book.write_text("usage_point,route,name\nUP-1,A,कृष्णा\n")
    assert read_book(store, book, names=names).names_left_out == (not names)
    slips = Slips(store)
    slips.refresh(directory.snapshot(), NOW)
    assert every(slips)[0].name == ("कृष्णा" if names else None)


def test_rows_of_a_book_that_cannot_be_are_told(store: CampaignStore, tmp_path: Path) -> None:
    book = tmp_path / "book.csv"
    rows = [
        "UP-1,,",
        "UP-1,A,x",
        "UP-1,A,-1",
        "UP-1,A,99999999999",
        "UP-1,বাংলা,1",
        f"UP-1,{'A' * 81},1",
        "UP-2,A,",
    ]
    book.write_text("usage_point,route,stop\n" + "\n".join(rows) + "\n")
    read = read_book(store, book, names=False)
    assert (read.applied, read.rejected) == (1, 6)
    assert [row.code for row in read.told] == ["EMPTY", "STOP", "STOP", "STOP", "SCRIPT", "TOO_LONG"]
    book.write_text("place,road\n")
    with pytest.raises(FileRefused, match="no column usage_point, route"):
        read_book(store, book, names=False)


def test_a_number_that_changes_ends_its_slip(store: CampaignStore, directory: DirectoryStore) -> None:
    slips, ticks = Slips(store), Ticks(store)
    slips.refresh(directory.snapshot(), NOW)
    (first, *_) = every(slips)
    slips.mark_made([first], NOW)
    directory.apply([Name("acc-1", NumberKind.ACCOUNT, "1200000099")], by="t", source="t", at=NOW)
    found = slips.refresh(directory.snapshot(), NOW + HOUR)
    assert (found.new, found.ended) == (1, 1)
    assert slips.account_of(first.token) is None
    assert [s.number.text for s in every(slips) if s.account_id == "acc-1"] == ["1200000099"]
    said = ticks.put(
        Tick(slip=first.id, verdict=Ticked.DELIVERED, at=None), by="r", source="t", now=NOW + 2 * HOUR
    )
    assert said[:2] == (Verdict.CONFLICT, "NUMBER_CHANGED")
    # Given back, the number is told by the slip that was made.
    directory.apply([Name("acc-1", NumberKind.ACCOUNT, "1200000001")], by="t", source="t", at=NOW)
    assert slips.refresh(directory.snapshot(), NOW + 3 * HOUR).ended == 1
    assert slips.account_of(first.token) == "acc-1"


def test_a_tenant_who_left_is_sent_no_slip(store: CampaignStore, directory: DirectoryStore) -> None:
    slips = Slips(store)
    slips.refresh(directory.snapshot(), NOW)
    directory.apply([MoveOut("UP-1", NOW), MoveIn("UP-1", "acc-9", NOW)], by="t", source="t", at=NOW)
    found = slips.refresh(directory.snapshot(), NOW + HOUR)
    assert (found.new, found.ended, found.nowhere) == (0, 1, 1)  # acc-9 has no new number, acc-1 no meter


def test_a_meter_that_was_changed_is_on_the_slip_until_it_is_made(
    store: CampaignStore, directory: DirectoryStore
) -> None:
    slips = Slips(store)
    slips.refresh(directory.snapshot(), NOW)
    change: list[Change] = [Remove("GEN:10000001", NOW), Install("GEN:555", "UP-1", Role.CONSUMER, NOW)]
    directory.apply(change, by="t", source="t", at=NOW)
    assert slips.refresh(directory.snapshot(), NOW + HOUR).changed == 1
    first = next(s for s in every(slips) if s.account_id == "acc-1")
    assert first.meter == "GEN:555"


def test_files_are_made_by_route_once(
    store: CampaignStore, directory: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slips_module, "MAX_SHEET", 2)
    people(directory, 4, route="R 2/क")
    slips = Slips(store)
    slips.refresh(directory.snapshot(), NOW)
    order = Order(folder=tmp_path / "out", as_html=True)
    made = list(make(slips, LOOK, order, NOW))
    assert [(one.route, one.slips) for one in made] == [("R 2/क", 1), ("R-1", 2), ("R-1", 1)]
    assert {path.name for path in order.folder.iterdir()} == {
        name for one in made for name in (one.file, one.ticks)
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in order.folder.iterdir())
    assert list(make(slips, LOOK, order, NOW)) == []
    assert len(list(make(slips, LOOK, Order(folder=tmp_path / "out", as_html=True, again=True), NOW))) == 3
    only = Order(folder=tmp_path / "one", routes=["R-1"], again=True, as_html=True)
    assert [one.slips for one in make(slips, LOOK, only, NOW)] == [2, 1]


def test_what_broke_off_goes_on_and_makes_the_same_file(
    store: CampaignStore, directory: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slips_module, "MAX_SHEET", 2)
    slips = Slips(store)
    slips.refresh(directory.snapshot(), NOW)
    order = Order(folder=tmp_path / "out", as_html=True)

    def crash(*_: object) -> None:
        raise RuntimeError("killed between the file and its mark")

    with monkeypatch.context() as patch:
        patch.setattr(Slips, "mark_made", crash)
        with pytest.raises(RuntimeError):
            list(make(slips, LOOK, order, NOW))
    (page,) = order.folder.glob("*.html")
    before = page.read_text()
    made = list(make(slips, LOOK, order, NOW))
    assert [one.slips for one in made] == [2, 1]
    assert made[0].file == page.name
    assert page.read_text() == before


def test_slip_numbers_catch_a_wrong_digit() -> None:
    for number in (1, 42, 9_999_999, 10_000_000, 700_000_123):
        printed = slip_number(number)
        assert (
            slip_id(printed)
            == slip_id(printed.replace(" ", ""))
            == slip_id(printed.replace(" ", "-"))
            == number
        )
        for at, digit in enumerate(printed):
            if digit != " ":
                assert slip_id(printed[:at] + str((int(digit) + 1) % 10) + printed[at + 1 :]) is None
    for bad in ("", "1", "0000 042", "x", "०००० ०४२८", "0" * 40):
        assert slip_id(bad) is None


def test_what_readers_say(store: CampaignStore, directory: DirectoryStore, tmp_path: Path) -> None:
    slips, ticks = Slips(store), Ticks(store)
    slips.refresh(directory.snapshot(), NOW)
    one, two, three = every(slips)
    slips.mark_made([one, two], NOW)
    file = tmp_path / "ticks.csv"
    day = "2026-11-29T10:00:00+05:30"
    rows = [
        (one.slip_number, "delivered", day, ""),
        (two.slip_number, "Locked", day, "ताला"),
        (three.slip_number, "delivered", day, ""),  # never printed
        (two.slip_number.replace(" ", ""), "AT-METER", "2026-11-29T17:00:00+05:30", ""),
        (one.slip_number, "locked", "2026-11-29T18:00:00+05:30", ""),  # it was delivered
        (two.slip_number, "refused", "2026-11-29T09:00:00+05:30", ""),  # a later word stands
        ("0000 0018", "delivered", day, ""),
        (slip_number(9999), "delivered", day, ""),
        (one.slip_number, "perhaps", day, ""),
        (one.slip_number, "delivered", "2026-11-29", ""),
        (one.slip_number, "delivered", "2027-01-01T00:00:00Z", ""),
        (one.slip_number, "", "", ""),
        (one.slip_number, "delivered", day, "x" * 201),
    ]
    file.write_text("slip,verdict,at,note\n" + "".join(",".join(row) + "\n" for row in rows))
    read = ticks.read(file, by="reader", now=NOW)
    assert [row.code for row in read.told] == [
        "NOT_MADE", "WAS_TOLD", "LATER_WORD", "SLIP_NUMBER", "UNKNOWN_SLIP", "VERDICT", "AT", "AT", "NOTE",
    ]  # fmt: skip
    assert (read.counts[Verdict.APPLIED], read.counts[Verdict.CONFLICT], read.counts[Verdict.REJECTED]) == (
        3,
        2,
        7,
    )
    (counted,) = slips.counts()
    assert (counted.slips, counted.made, counted.verdicts) == (3, 2, {"delivered": 1, "at_meter": 1})
    again = ticks.read(file, by="reader", now=NOW + HOUR)
    assert again.counts[Verdict.APPLIED] == 0
    assert again.counts[Verdict.UNCHANGED] == 5


def test_a_list_without_times_may_be_sent_in_again(
    store: CampaignStore, directory: DirectoryStore, tmp_path: Path
) -> None:
    slips, ticks = Slips(store), Ticks(store)
    slips.refresh(directory.snapshot(), NOW)
    order = Order(folder=tmp_path / "out", as_html=True)
    (made,) = make(slips, LOOK, order, NOW)
    path = order.folder / made.ticks
    path.write_text(path.read_text().replace(",,,,", ",delivered,,,"))
    assert ticks.read(path, by="r", now=NOW + HOUR).counts[Verdict.APPLIED] == 3
    assert ticks.read(path, by="r", now=NOW + 2 * HOUR).counts[Verdict.UNCHANGED] == 3


def test_stickers_and_pdf_come_from_processes_that_give_memory_back(
    store: CampaignStore, directory: DirectoryStore, tmp_path: Path
) -> None:
    slips = Slips(store)
    slips.refresh(directory.snapshot(), NOW)
    (made,) = make(slips, LOOK, Order(folder=tmp_path, form=Form.STICKERS), NOW)
    assert (tmp_path / made.file).read_bytes().startswith(b"%PDF-")
    assert making.FILES_A_PROCESS <= 2


def test_an_erased_account_has_no_name_and_no_note_on_its_slips(
    store: CampaignStore, directory: DirectoryStore, tmp_path: Path
) -> None:
    book = tmp_path / "book.csv"
    book.write_text("usage_point,route,name\nUP-1,A,कृष्णा\nUP-2,A,Ram\n")
    read_book(store, book, names=True)
    slips, ticks = Slips(store), Ticks(store)
    slips.refresh(directory.snapshot(), NOW)
    first, second, *_ = every(slips)
    slips.mark_made([first, second], NOW)
    for one in (first, second):
        ticks.put(
            Tick(slip=one.id, verdict=Ticked.LOCKED, at=NOW, note="the aunt next door"),
            by="r",
            source="t",
            now=NOW,
        )
    held = privacy.export(store, "acc-1")
    assert (held["slips"][0]["name"], held["reader_said"][0]["note"]) == ("कृष्णा", "the aunt next door")
    assert privacy.forget(store, "acc-1") == 2
    held, other = privacy.export(store, "acc-1"), privacy.export(store, "acc-2")
    assert (held["slips"][0]["name"], held["reader_said"][0]["note"]) == (None, "")
    assert held["slips"][0]["verdict"] == "locked"
    assert (other["slips"][0]["name"], other["reader_said"][0]["note"]) == ("Ram", "the aunt next door")
    assert privacy.forget(store, "acc-1") == 0
