"""Golden scenarios: what a consumer hears, step by step, and the ledger that it must have after each step.

A scenario is told by a `Teller`: messages as the parties send them, and expectations written by hand. The stories are
in `stories`; `scenario_documents` makes the files that are shipped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from gateway.contract.blocks import (
    READINGS_TYPE,
    BlockTemplate,
    EncodedBlock,
    NumberedBlock,
    Sender,
    assemble_blocks,
    encode_block,
    holders_of,
    interval_of,
    layout_of,
    revised,
)
from gateway.contract.envelope import wrap
from gateway.contract.messages import (
    AllocationChanged,
    AttributedAccount,
    AttributionChanged,
    Message,
    NamingChanged,
    TimeVerdict,
    rfc3339,
)
from gateway.contract.messages.generation import DirectoryVersion, Generation
from mapping.directory import Attribution, AttributionRole, Unattributed
from protocols.reading import Number, ProfileName, Quantity, ReadingSet

ROOT = "kanpur/v2"
GATEWAY = "edge-1"
JOURNAL = "0b9c7a52-4a0e-4f7a-9a53-0d2f3f1e7c11"
METER = "GEN:12345678"
FIRST, SECOND = Generation(1, "5d1e77a0"), Generation(2, "c3904be6")
"""Lives of the directory; the second begins when it was restored from a copy."""
_RUN = Generation(1, "9f2c01ab")
_RECEIVED = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
_HALF_HOUR = timedelta(minutes=30)
_ENERGY = Quantity.of("1-0:1.29.0*255")
_REGISTER = Quantity.of("1-0:1.8.0*255")


def instant(clock: str) -> datetime:
    """Return a time of the day on which all happens: `10:30` in UTC."""
    return datetime.fromisoformat(f"2026-11-23T{clock}:00+00:00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """One account's part of a capture: stamped by an edge, or expected in the ledger."""

    account_id: str
    account_number: str | None = None
    legacy_number: str | None = None
    usage_point: str = "up-17"
    role: AttributionRole = AttributionRole.NORMAL
    since: str | None = None
    until: str | None = None

    def stamp(self) -> Attribution:
        """Return it as the directory answers."""
        return Attribution(
            account_id=self.account_id,
            account_number=self.account_number,
            legacy_number=self.legacy_number,
            usage_point=self.usage_point,
            role=self.role,
            since=None if self.since is None else instant(self.since),
            until=None if self.until is None else instant(self.until),
        )

    def account(self) -> AttributedAccount:
        """Return it as a change names it."""
        return AttributedAccount(
            account_id=self.account_id,
            account_number=self.account_number,
            legacy_number=self.legacy_number,
            usage_point=self.usage_point,
        )

    def expected(self) -> dict[str, str]:
        """Return it as the ledger of a scenario has it; what is not there is left out."""
        told = {
            "account_id": self.account_id,
            "account_number": self.account_number,
            "legacy_number": self.legacy_number,
            "usage_point": self.usage_point,
            "role": self.role.value,
            "from": None if self.since is None else rfc3339(instant(self.since)),
            "to": None if self.until is None else rfc3339(instant(self.until)),
        }
        return {name: text for name, text in told.items() if text is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A capture of the scenario, with the number that its journal gave it.

    `end` is its time as the meter stamped it: of a half hour that ends then, or of a daily register. `accounts` is
    whose it is by the stamp; where there are none, `reason` says why.
    """

    seq: int
    end: str
    value: str
    accounts: tuple[Holds, ...] = ()
    reason: Unattributed | None = None
    daily: bool = False
    directory: tuple[Generation, int] = (FIRST, 1)
    rev: int = 1
    epoch: int = 0

    @property
    def capture_id(self) -> str:
        """The id that the capture has for ever."""
        return f"{METER}/{'daily' if self.daily else 'block_load'}/{rfc3339(instant(self.end))}/0"

    def block(self) -> EncodedBlock:
        """Return it as a block of its own."""
        at = instant(self.end)
        reading = ReadingSet(
            profile=ProfileName.DAILY if self.daily else ProfileName.BLOCK_LOAD,
            at=at,
            start=None if self.daily else at - _HALF_HOUR,
            values=((_REGISTER if self.daily else _ENERGY, Number.from_text(self.value, "Wh")),),
            received_at=_RECEIVED,
        )
        generation, version = self.directory
        template = BlockTemplate(
            meter=METER,
            layout=layout_of(reading),
            received_at=_RECEIVED,
            directory=f"{generation}/{version}",
            holders=holders_of(tuple(one.stamp() for one in self.accounts)),
            reason=self.reason,
            interval=interval_of(reading),
            epoch=self.epoch,
        )
        return encode_block(template, [reading])

    def numbered(self) -> NumberedBlock:
        """Return it as it stands in its journal."""
        block = self.block()
        body = block.rows[0].body
        return NumberedBlock(
            first=self.seq,
            last=self.seq,
            body=block.body([body if self.rev == 1 else revised(body, self.rev)]),
            layout=block.template.layout.keyed,
            holders=block.template.holders,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """Some messages, and the ledger after them; `said` is what happened."""

    said: str
    messages: tuple[tuple[str, bytes], ...]
    ledger: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A story in steps. Where `any_order`, the last ledger follows from all messages in whatever order."""

    name: str
    title: str
    steps: tuple[Step, ...]
    any_order: bool = True


@dataclass(slots=True)
class Teller:
    """Tells one scenario: messages, then `ledger` with what must stand in it, and so on."""

    name: str
    title: str
    any_order: bool = True
    _steps: list[Step] = field(default_factory=list)
    _messages: list[tuple[str, bytes]] = field(default_factory=list)

    def readings(
        self,
        *rows: Row,
        journal: str = JOURNAL,
        gateway: str = GATEWAY,
        damage: tuple[bytes, bytes] | None = None,
    ) -> None:
        """Let an edge send one batch of captures of one profile; `damage` replaces octets on the way."""
        sender = Sender(journal=journal, generation=_RUN, gateway=gateway)
        octets = assemble_blocks(
            [row.numbered() for row in rows], sender, type=READINGS_TYPE, time=rfc3339(_RECEIVED)
        )
        if damage is not None:
            octets = octets.replace(*damage)
        profile = "daily" if rows[0].daily else "block_load"
        self._messages.append((f"{ROOT}/{gateway}/readings/{profile}", octets))

    def changed(
        self,
        version: int,
        since: str | None,
        until: str | None,
        old: Holds | None,
        new: Holds | Unattributed,
        *,
        generation: Generation = FIRST,
    ) -> None:
        """Let central tell whose the meter is in a span by a version of the directory."""
        message = AttributionChanged(
            meter=METER,
            since=None if since is None else instant(since),
            until=None if until is None else instant(until),
            old=() if old is None else (old.account(),),
            new=(new.account(),) if isinstance(new, Holds) else (),
            reason=None if isinstance(new, Holds) else new.value,
            directory=DirectoryVersion(generation, version),
        )
        self._told("attributions", message, f"attribution/{message.directory}/{METER}/{since}")

    def named(self, version: int, account: Holds, number: str, *, generation: Generation = FIRST) -> None:
        """Let central tell that an account has another 10-digit number."""
        message = NamingChanged(
            account_id=account.account_id,
            kind="account_number",
            old=account.account_number,
            new=number,
            directory=DirectoryVersion(generation, version),
        )
        self._told("attributions", message, f"naming/{message.directory}/{account.account_id}")

    def allocated(self, epoch: int, gateway: str, since: str, until: str | None = None) -> None:
        """Let central tell that the meter is read by a gateway."""
        message = AllocationChanged(
            meter=METER,
            epoch=epoch,
            gateway=gateway,
            since=instant(since),
            until=None if until is None else instant(until),
        )
        self._told("attributions", message, f"allocation/{METER}/{epoch}/{until or 'open'}")

    def verdict(self, version: int, first: int, last: int, trust: str, shift: str | None = None) -> None:
        """Let central judge the times of some captures of the journal."""
        message = TimeVerdict.model_validate(
            {
                "verdict_id": f"{METER}/{JOURNAL}/{version}",
                "meter": METER,
                "journal": JOURNAL,
                "first_seq": first,
                "last_seq": last,
                "trust": trust,
                "shift": shift,
                "evidence": "the meter's clock was compared with a clock that is right",
                "version": version,
                "at": _RECEIVED,
            }
        )
        self._told("verdicts", message, message.verdict_id)

    def _told(self, topic: str, message: Message, identity: str) -> None:
        octets = wrap(message, id=identity, source="/central", time=_RECEIVED)
        self._messages.append((f"{ROOT}/{topic}", octets))

    def ledger(
        self,
        said: str,
        *captures: dict[str, Any],
        missing: Sequence[tuple[int, int]] = (),
        set_aside: Sequence[int] = (),
    ) -> None:
        """End a step: what the consumer must have now, what it must ask for, what it keeps aside for a person."""
        expected: dict[str, Any] = {"captures": sorted(captures, key=lambda one: str(one["capture_id"]))}
        if missing:
            expected["missing"] = {JOURNAL: [list(span) for span in missing]}
        if set_aside:
            expected["set_aside"] = {JOURNAL: list(set_aside)}
        self._steps.append(Step(said, tuple(self._messages), expected))
        self._messages = []

    def told(self) -> Scenario:
        """Return the scenario."""
        return Scenario(name=self.name, title=self.title, steps=tuple(self._steps), any_order=self.any_order)


def expected(
    row: Row, *accounts: Holds, reason: str | None = None, shift: str = "0", **other: Any
) -> dict[str, Any]:
    """Return a capture as the ledger must have it: its time put right by `shift` seconds, and whose it is."""
    at = instant(row.end) + timedelta(seconds=int(Decimal(shift)))
    found: dict[str, Any] = {
        "capture_id": row.capture_id,
        "value_rev": row.rev,
        "at": rfc3339(at),
        "values": [row.value],
        "accounts": [one.expected() for one in accounts],
    }
    if not row.daily:
        found["start"] = rfc3339(at - _HALF_HOUR)
    if row.epoch:
        found["epoch"] = row.epoch
    if reason is not None:
        found["reason"] = reason
    return found | other


def document(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario as the JSON document that is shipped."""
    steps = [
        {
            "said": step.said,
            "messages": [
                {"topic": topic, "payload": json.loads(payload)} for topic, payload in step.messages
            ],
            "ledger": step.ledger,
        }
        for step in scenario.steps
    ]
    return {
        "scenario": scenario.name,
        "title": scenario.title,
        "any_order": scenario.any_order,
        "steps": steps,
    }
