"""Every meter that somebody answers for, with who reads it and how it stands; pure, so that all can be looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.central.ledger.records import MeterHealth
from gateway.central.portal.view_models import ContactState
from mapping.directory import Installation
from mapping.snapshot import DirectorySnapshot

FORGET_AFTER = timedelta(days=7)
"""A meter that no directory and no gateway names leaves the list when it was not heard for so long."""
WELL = frozenset({"ok", "new"})
_LONG_AGO = timedelta.max


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFact:
    """One meter: who reads it and what that gateway says of it, when it was heard, and where it is installed.

    `gateway` is "" where none is known. `code` is ok, new or what is wrong, by its gateway's last word, which
    counts only while it is fresh. `removed`: it was installed once and is not any more.
    """

    meter: str
    gateway: str
    line: str
    code: str
    told_since: datetime | None
    detail: str
    heard_at: datetime | None
    state: ContactState
    role: str | None
    removed: bool


def fleet(
    told: Iterable[MeterHealth],
    heard: Mapping[str, datetime],
    allocated: Mapping[str, str],
    snapshot: DirectorySnapshot,
    *,
    online: Collection[str],
    now: datetime,
    silent_after: timedelta,
) -> Iterator[MeterFact]:
    """Yield every meter that is installed, polled or newly heard, by name.

    `allocated` says which gateway reads a meter; of two that tell of it the allocated one counts, else one that
    is online. A replaced meter that nobody polls any more is left out.
    """
    health: dict[str, MeterHealth] = {}
    for one in told:
        held = health.get(one.meter)
        if held is None or _trust(one, allocated, online) > _trust(held, allocated, online):
            health[one.meter] = one
    for meter in snapshot.each(sorted({*health, *heard, *snapshot.meters()})):
        word, at = health.get(meter), heard.get(meter)
        installed = snapshot.installations(meter)
        current = _current(installed, now)
        removed = bool(installed) and current is None
        if word is None and (removed or not installed):
            age = _LONG_AGO if at is None else now - at
            if removed or age > FORGET_AFTER:
                continue
        gateway = word.gateway if word is not None else allocated.get(meter, "")
        fresh = word is not None and gateway in online
        yield MeterFact(
            meter=meter,
            gateway=gateway,
            line=(word.line or "") if word is not None else "",
            code=word.health if word is not None and fresh else "ok",
            told_since=word.since if word is not None else None,
            detail=(word.detail or "") if word is not None and fresh else "",
            heard_at=at,
            state=_state(at, now, silent_after),
            role=current.role.value if current is not None else None,
            removed=removed,
        )


def _trust(word: MeterHealth, allocated: Mapping[str, str], online: Collection[str]) -> tuple[bool, bool]:
    return allocated.get(word.meter) == word.gateway, word.gateway in online


def _current(installed: Iterable[Installation], now: datetime) -> Installation | None:
    """Return the installation that holds now, or the one that is to come."""
    return next((one for one in installed if one.valid_to is None or one.valid_to > now), None)


def _state(heard_at: datetime | None, now: datetime, silent_after: timedelta) -> ContactState:
    if heard_at is None:
        return ContactState.NEVER
    return ContactState.SILENT if now - heard_at > silent_after else ContactState.HEARD
