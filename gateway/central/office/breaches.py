"""Who could have been seen, when, by whom: out of the audit trail, for who must be told after a breach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.central.office.trail import Entry

ACCOUNT: Final = "account:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one actor saw of one account: when first and last, how often, by which acts."""

    account_id: str
    actor: str
    first: datetime
    last: datetime
    times: int
    acts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exposure:
    """The accounts that could have been seen, and acts that concern many or none by name (imports, change sets)."""

    seen: list[Seen]
    others: Mapping[tuple[str, str, str], int]
    """How often, by actor, act and subject."""

    @property
    def accounts(self) -> int:
        """How many consumers are to be told."""
        return len({one.account_id for one in self.seen})


def exposure(entries: Iterable[Entry], *, session: str | None = None, source: str | None = None) -> Exposure:
    """Sum up entries of the trail; `session` narrows it to one login, `source` to one address or terminal."""
    seen: dict[tuple[str, str], Seen] = {}
    others: dict[tuple[str, str, str], int] = {}
    for one in sorted(entries, key=lambda entry: entry.number):
        if session is not None and one.detail.get("session") != session:
            continue
        if source is not None and one.source != source:
            continue
        if not one.subject.startswith(ACCOUNT):
            key = (one.actor, one.act, one.subject)
            others[key] = others.get(key, 0) + 1
            continue
        account = one.subject.removeprefix(ACCOUNT)
        before = seen.get((account, one.actor))
        seen[account, one.actor] = Seen(
            account_id=account,
            actor=one.actor,
            first=one.at if before is None else before.first,
            last=one.at,
            times=1 if before is None else before.times + 1,
            acts=tuple(sorted({one.act, *(() if before is None else before.acts)})),
        )
    return Exposure(sorted(seen.values(), key=lambda one: (one.first, one.account_id)), others)
