"""Why a reading stands where it stands: relations with dates, file and row; delivery and its fate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import AttributedCapture, StoredCapture, StoredGap, UnattributedGroup
from gateway.central.ledger.resolve import DirectorySource, attributed, find_account
from gateway.contract.messages import MessageAttribution
from gateway.errors import UsageError
from mapping.account import MeterId
from mapping.directory import AccountNames, ChangeSet, Holding, Installation, Naming
from mapping.errors import NumberRefused
from mapping.snapshot import DirectorySnapshot
from mapping.timeline import MeterTimeline
from protocols.reading import ProfileName


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One row of the directory that bears on the answer; `current` is False when it was superseded.

    installation: `subject` meter, `object` usage point, `detail` role. holding: usage point, account id,
    payment mode. naming: account id, number, kind.
    """

    relation: Literal["installation", "holding", "naming"]
    subject: str
    object: str
    detail: str
    valid_from: datetime
    valid_to: datetime | None
    known_from: datetime
    known_to: datetime | None
    directory_version: int
    by: str
    source: str
    row: int | None

    @property
    def current(self) -> bool:
        """Whether the directory still holds this to be true."""
        return self.known_to is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedCapture:
    """One revision of a capture: whose it is now, as what it was stamped, and how it came.

    `acknowledged`: its journal is stored without a hole up to it, so its edge was told to forget it.
    """

    capture: StoredCapture
    accounts: tuple[AttributedCapture, ...]
    stamped: tuple[MessageAttribution, ...]
    in_force: bool
    acknowledged: bool
    acknowledged_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answer: deliveries are a capture's revisions, or the latest of a meter or account."""

    kind: Literal["capture", "meter", "account"]
    what: str
    directory_version: int
    account: AccountNames | None
    meters: tuple[str, ...]
    relations: tuple[Relation, ...]
    deliveries: tuple[ExplainedCapture, ...]
    open_gaps: tuple[StoredGap, ...]
    unattributed: tuple[UnattributedGroup, ...]


def explain(ledger: Ledger, directory: DirectorySource, what: str) -> Explanation:
    """Explain a capture id, a meter (`GEN:12345678`) or an account (id, 10 digits, legacy number).

    UsageError when it is none of them, with what was looked for.
    """
    snapshot = directory.snapshot()
    capture = ledger.captures.get(what)
    if capture is not None:
        revisions = ledger.captures.revisions(what)
        return _answer(ledger, snapshot, "capture", what, (capture.meter,), None, revisions)
    meter = _meter(ledger, snapshot, what)
    if meter is not None:
        return _answer(ledger, snapshot, "meter", meter, (meter,), None, _latest(ledger, (meter,)))
    try:
        account = find_account(snapshot, what)
    except NumberRefused as refused:
        if refused.code == "AMBIGUOUS":
            raise UsageError(f"{refused}: {refused.suggestion}") from refused
        raise UsageError(f"{what!r} is no capture, no meter and no account that is known here") from refused
    meters = tuple(dict.fromkeys(meter for meter, _ in snapshot.meters_of_account(account)))
    return _answer(ledger, snapshot, "account", what, meters, account, _latest(ledger, meters))


def _meter(ledger: Ledger, snapshot: DirectorySnapshot, what: str) -> str | None:
    try:
        meter = str(MeterId.parse(what))
    except NumberRefused:
        return None
    if snapshot.rows.installations(meter) or ledger.captures.between(meter, limit=1):
        return meter
    return None


def _latest(ledger: Ledger, meters: Sequence[str]) -> list[StoredCapture]:
    profiles = [profile.value for profile in ProfileName]
    found = ledger.captures.latest(meters, profiles)
    return [found[meter][profile] for meter in meters for profile in profiles if profile in found[meter]]


def _answer(
    ledger: Ledger,
    snapshot: DirectorySnapshot,
    kind: Literal["capture", "meter", "account"],
    what: str,
    meters: tuple[str, ...],
    account: str | None,
    captures: list[StoredCapture],
) -> Explanation:
    acknowledged = {j: ledger.journals.state(j).contiguous for j in {c.journal for c in captures}}
    return Explanation(
        kind=kind,
        what=what,
        directory_version=snapshot.version,
        account=None if account is None else snapshot.names(account),
        meters=meters,
        relations=tuple(_relations(snapshot, meters, account)),
        deliveries=tuple(_delivery(ledger, snapshot, c, acknowledged) for c in captures),
        open_gaps=tuple(gap for meter in meters for gap in ledger.gaps.all(meter, "open")),
        unattributed=tuple(ledger.unattributed.groups(meters)),
    )


def _delivery(
    ledger: Ledger, snapshot: DirectorySnapshot, capture: StoredCapture, acknowledged: Mapping[str, int]
) -> ExplainedCapture:
    current = ledger.captures.get(capture.capture_id)
    in_force = current is not None and (current.journal, current.seq) == (capture.journal, capture.seq)
    seq = acknowledged[capture.journal]
    return ExplainedCapture(
        capture=capture,
        accounts=tuple(attributed(capture, MeterTimeline(snapshot, capture.meter))),
        stamped=capture.message.attributions,
        in_force=in_force,
        acknowledged=capture.seq <= seq,
        acknowledged_seq=seq,
    )


def _relations(snapshot: DirectorySnapshot, meters: Iterable[str], account: str | None) -> Iterable[Relation]:
    """Yield every row, superseded ones too, that bears on these meters (of an account: only its own holdings)."""
    rows = snapshot.rows
    fitted = [row for meter in meters for row in rows.installations(meter)]
    points = dict.fromkeys(row.usage_point for row in fitted)
    if account is not None:
        points |= dict.fromkeys(snapshot.usage_points_of(account))
    held = [
        row
        for point in points
        for row in rows.holdings(point)
        if account is None or row.account_id == account
    ]
    owners = dict.fromkeys(row.account_id for row in held)
    if account is not None:
        owners[account] = None
    for one in fitted:
        yield _installation(one)
    for two in held:
        yield _holding(two)
    for owner in owners:
        for three in rows.namings(owner):
            yield _naming(three)


def _installation(row: Installation) -> Relation:
    detail = row.role.value if row.multiplier == 1 else f"{row.role.value}, multiplier {row.multiplier}"
    return _relation("installation", row.meter, row.usage_point, detail, row)


def _holding(row: Holding) -> Relation:
    detail = "" if row.payment_mode is None else row.payment_mode.value
    return _relation("holding", row.usage_point, row.account_id, detail, row)


def _naming(row: Naming) -> Relation:
    return _relation("naming", row.account_id, row.number, row.kind.value, row)


def _relation(
    relation: Literal["installation", "holding", "naming"],
    subject: str,
    target: str,
    detail: str,
    row: Installation | Holding | Naming,
) -> Relation:
    change: ChangeSet = row.recorded
    return Relation(
        relation=relation,
        subject=subject,
        object=target,
        detail=detail,
        valid_from=row.valid_from,
        valid_to=row.valid_to,
        known_from=row.known_from,
        known_to=row.known_to,
        directory_version=change.version,
        by=change.by,
        source=change.source,
        row=row.row,
    )
