"""Explanations, and the independent audit: each must find what was planted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gateway.central.audit import AuditResult, Recorded, audit, by_directory
from gateway.central.explain import explain
from gateway.central.ledger.database import LedgerError
from gateway.central.ledger.ledger import Ledger
from gateway.errors import UsageError
from mapping.changes import Install, MoveIn, MoveOut, Name
from mapping.directory import NumberKind, Role
from mapping.store import DirectoryStore
from tests.support.central.samples import DAY, HALF_HOUR, NOW, T0, batch, capture, gap, received

MOVED = T0 + DAY
Q = "1-0:1.29.0*255"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    with DirectoryStore(tmp_path / "directory.db") as made:
        made.apply(
            [
                Install("GEN:1", "UP-1", Role.CONSUMER, T0 - DAY, row=2),
                MoveIn("UP-1", "acc-1", T0 - DAY, row=2),
                Name("acc-1", NumberKind.LEGACY, "KE-1", row=2),
            ],
            by="clerk",
            source="directory.csv",
            at=NOW,
        )
        made.apply(
            [Name("acc-1", NumberKind.ACCOUNT, "0123456789", row=7)], by="clerk", source="rekey.csv", at=NOW
        )
        made.apply(
            [
                MoveOut("UP-1", MOVED, row=3),
                MoveIn("UP-1", "acc-2", MOVED, row=3),
                Name("acc-2", NumberKind.ACCOUNT, "2222222222", row=3),
            ],
            by="clerk",
            source="moves.csv",
            at=NOW,
        )
        yield made


def test_a_capture_is_explained(ledger: Ledger, store: DirectoryStore) -> None:
    ledger.ingest([received(batch([capture(1), capture(2, number=1, value="9.9", value_rev=2), capture(4)]))])
    answer = explain(ledger, store, capture(1).capture_id)
    assert (answer.kind, answer.meters, answer.directory_version) == ("capture", ("GEN:1",), 3)
    assert [(d.capture.value_rev, d.in_force, d.acknowledged) for d in answer.deliveries] == [
        (1, False, True),
        (2, True, True),
    ]
    assert answer.deliveries[1].accounts[0].account_number == "0123456789"
    assert answer.deliveries[1].capture.ingested_at == NOW
    (late,) = explain(ledger, store, capture(4).capture_id).deliveries
    assert (late.acknowledged, late.acknowledged_seq) == (False, 2)
    rows = {(r.relation, r.object, r.source, r.row, r.current) for r in answer.relations}
    assert ("installation", "UP-1", "directory.csv", 2, True) in rows
    assert ("holding", "acc-1", "directory.csv", 2, False) in rows, "the open holding was superseded"
    assert ("holding", "acc-1", "moves.csv", True) in {(*row[:3], row[4]) for row in rows}
    assert ("naming", "0123456789", "rekey.csv", 7, True) in rows


def test_a_meter_and_an_account_are_explained(ledger: Ledger, store: DirectoryStore) -> None:
    ledger.ingest([received(batch([capture(1), capture(60)], [gap(61)]))])
    meter = explain(ledger, store, " gen:1 ")
    assert (meter.kind, meter.what) == ("meter", "GEN:1")
    assert [d.capture.seq for d in meter.deliveries] == [60]
    assert [g.gap_id for g in meter.open_gaps] == ["gap-1"]
    for name in ("acc-2", "2222222222", "२२२२२२२२२२"):
        account = explain(ledger, store, name)
        assert account.kind == "account"
        assert account.account is not None
        assert account.account.account_id == "acc-2"
        assert {r.object for r in account.relations if r.relation == "holding"} == {"acc-2"}
    with pytest.raises(UsageError, match="no capture, no meter and no account"):
        explain(ledger, store, "GEN:404")


def truth(meter: str, start: datetime | None, at: datetime) -> frozenset[str]:
    """What really happened, written down apart from the directory."""
    first = start is not None and start < MOVED
    second = at > MOVED
    return frozenset(n for n, holds in (("0123456789", first), ("2222222222", second)) if holds)


def memory(*numbers: int, value: str = "1.50") -> list[Recorded]:
    return [
        Recorded(
            meter="GEN:1",
            profile="block_load",
            at=T0 + n * HALF_HOUR,
            start=T0 + (n - 1) * HALF_HOUR,
            values={Q: value},
        )
        for n in numbers
    ]


def check(tmp_path: Path, store: DirectoryStore, recorded: list[Recorded], **over: object) -> AuditResult:
    owners = by_directory(store.snapshot())
    return audit(tmp_path / "ledger.db", recorded, truth, owners, **over)  # type: ignore[arg-type]


def test_the_audit_is_clean_where_nothing_is_wrong(
    ledger_file: Ledger, store: DirectoryStore, tmp_path: Path
) -> None:
    ledger_file.ingest([received(batch([capture(n) for n in range(1, 100)]))])
    result = check(tmp_path, store, memory(*range(1, 100), value="1.5"))
    assert result.clean, str(result)
    assert (result.recorded, result.stored) == (99, 99)


def test_the_audit_finds_what_is_wrong(ledger_file: Ledger, store: DirectoryStore, tmp_path: Path) -> None:
    rows = [capture(n) for n in range(1, 10)]
    rows.append(capture(10, number=5, capture_id="GEN:1/block_load/2026-11-01T02:30:00Z/1"))
    rows.append(capture(11, number=11, value="7"))
    rows.append(capture(12, number=12, reason="untrusted_time"))
    rows.append(capture(13, number=13))
    ledger_file.ingest([received(batch(rows))])
    result = check(tmp_path, store, memory(*range(1, 13)))
    assert (result.lost, result.doubled, result.altered) == (1, 1, 1)
    assert (result.misattributed, result.invented) == (1, 1)
    assert not result.clean
    assert "lost: GEN:1 block_load 2026-11-01T05:00:00Z" in str(result)
    early = check(tmp_path, store, memory(*range(1, 13)), until=T0 + 4 * HALF_HOUR)
    assert early.clean


def test_the_audit_finds_a_wrong_owner(ledger_file: Ledger, store: DirectoryStore, tmp_path: Path) -> None:
    ledger_file.ingest([received(batch([capture(n) for n in range(47, 52)]))])
    wrong = store.snapshot(NOW - timedelta(seconds=1))
    result = audit(tmp_path / "ledger.db", memory(*range(47, 52)), truth, by_directory(wrong))
    assert result.misattributed == 5


def test_the_audit_needs_a_ledger(store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger"):
        check(tmp_path, store, [])
    (tmp_path / "ledger.db").write_bytes(b"x" * 5000)
    with pytest.raises(LedgerError, match="cannot be read"):
        check(tmp_path, store, [])
