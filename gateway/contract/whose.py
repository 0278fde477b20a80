"""Whose a capture is, by statements of different age; pure.

A stamp and a change of attribution are both statements: over a span of a meter's time, as a version of the directory
knew it, this account held the meter, or nobody for a reason. Of each piece of a capture's time the statement of the
highest version counts. The pieces then give the roles:

- an interval of which one account held all is its own (`normal`); else each account has the piece that it held
  (`partial`, with `from` and `to`);
- a snapshot ends what was before it and begins what comes after it: one holder on both sides has it (`normal`), two
  have it as `final` and `opening`.

Without an account the reason is that which holds at the capture's end: just before it for an interval, from it on
for a snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise

from gateway.contract.messages import AttributedAccount, AttributionChanged, Capture, MessageAttribution
from gateway.contract.messages.generation import DirectoryVersion

GRAIN = timedelta(microseconds=1)
"""The grain of all times. An instant is told apart as the grain before it and the grain that begins with it."""
_FIRST, _EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Statement:
    """From `since` until before `until` the meter was `holders`', as `known`; `reason` is why it was nobody's.

    There is one holder at most. Only a `partial` stamp of contract version 1 names several, since it does not say
    who held which piece: it is `vague`.
    """

    since: datetime
    until: datetime
    known: DirectoryVersion
    holders: tuple[AttributedAccount, ...]
    reason: str | None = None
    vague: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """Whom a capture belongs to, or why to nobody; `directory` is the newest state that had a say."""

    accounts: tuple[tuple[MessageAttribution, DirectoryVersion], ...]
    reason: str | None
    directory: DirectoryVersion | None


def stated_by_stamp(capture: Capture) -> list[Statement]:
    """Return what a capture's own stamp says about its own time."""
    begin, end = _around(capture.start, capture.at)
    known = capture.directory
    if not capture.attributions:
        return [Statement(begin, end, known, (), capture.reason)]
    if _is_instant(capture.start, capture.at):
        return _instant_stamp(capture)
    if all(one.role == "partial" and one.since and one.until for one in capture.attributions):
        return _partial_stamp(capture, begin, end)
    holders = tuple(_account(one) for one in capture.attributions)
    vague = any(one.role == "partial" for one in capture.attributions)
    return [Statement(begin, end, known, holders, vague=vague)]


def stated_by_change(change: AttributionChanged) -> Statement:
    """Return what a change says."""
    return Statement(
        change.since or _FIRST, change.until or _EVER, change.directory, change.new, change.reason
    )


def holders_at(start: datetime | None, at: datetime, statements: Iterable[Statement]) -> Held:
    """Return whom a capture of this time belongs to by all that is stated about its meter."""
    begin, end = _around(start, at)
    near = [s for s in statements if s.since < end and begin < s.until]
    edges = {begin, end} | ({at} if _is_instant(start, at) else set())
    edges |= {t for s in near for t in (s.since, s.until) if begin < t < end}
    pieces = [(left, right, _newest(near, left)) for left, right in pairwise(sorted(edges))]
    last = pieces[-1][2]
    heard = [said.known for _, _, said in pieces if said is not None]
    accounts = _instant_roles(pieces) if _is_instant(start, at) else _interval_roles(pieces)
    reason = None if accounts else "no_account" if last is None else last.reason or "no_account"
    return Held(tuple(accounts), reason, max(heard, default=None))


_Piece = tuple[datetime, datetime, Statement | None]
_Roles = list[tuple[MessageAttribution, DirectoryVersion]]


def _newest(statements: Sequence[Statement], at: datetime) -> Statement | None:
    """Return the newest that covers an instant. Two of one version say the same; their text decides, to be sure."""
    covering = [s for s in statements if s.since <= at < s.until]
    return max(covering, key=lambda s: (s.known, str(s.holders), s.reason or ""), default=None)


def _interval_roles(pieces: Sequence[_Piece]) -> _Roles:
    runs = [list(run) for _, run in groupby(pieces, key=lambda piece: _holder_key(piece[2]))]
    if len(runs) == 1 and not any(said is not None and said.vague for *_, said in runs[0]):
        return _of_newest(runs[0], "normal")
    found: _Roles = []
    for run in runs:
        found += _of_newest(run, "partial")
    return found


def _instant_roles(pieces: Sequence[_Piece]) -> _Roles:
    before, after = pieces[:1], pieces[-1:]
    if _holder_key(before[0][2]) == _holder_key(after[0][2]):
        return _of_newest([*before, *after], "normal")
    return _of_newest(before, "final") + _of_newest(after, "opening")


def _of_newest(run: Sequence[_Piece], role: str) -> _Roles:
    """Return the holders of pieces that all have the same ones, under the names that the newest version gave."""
    said = max((said for *_, said in run if said is not None), key=lambda s: s.known, default=None)
    if said is None:
        return []
    span = (run[0][0], run[-1][1]) if role == "partial" and not said.vague else (None, None)
    return [
        (
            MessageAttribution.model_validate(
                {**one.model_dump(), "role": role, "since": span[0], "until": span[1]}
            ),
            said.known,
        )
        for one in said.holders
    ]


def _holder_key(said: Statement | None) -> tuple[tuple[str, str], ...]:
    return () if said is None else tuple((one.account_id, one.usage_point) for one in said.holders)


def _instant_stamp(capture: Capture) -> list[Statement]:
    at, known = capture.at, capture.directory
    before = tuple(_account(a) for a in capture.attributions if a.role in {"normal", "final"})
    after = tuple(_account(a) for a in capture.attributions if a.role in {"normal", "opening"})
    begin, end = _around(None, at)
    return [Statement(begin, at, known, before), Statement(at, end, known, after)]


def _partial_stamp(capture: Capture, begin: datetime, end: datetime) -> list[Statement]:
    """Return the pieces that were held and, between them, those that were nobody's."""
    found, reached = [], begin
    for one in sorted(capture.attributions, key=lambda a: a.since or begin):
        since, until = one.since or begin, one.until or end
        if reached < since:
            found.append(Statement(reached, since, capture.directory, ()))
        found.append(Statement(since, until, capture.directory, (_account(one),)))
        reached = until
    if reached < end:
        found.append(Statement(reached, end, capture.directory, ()))
    return found


def _around(start: datetime | None, at: datetime) -> tuple[datetime, datetime]:
    """Return the span of time that decides whose a capture is."""
    if start is None or start == at:
        return at - min(GRAIN, at - _FIRST), at + min(GRAIN, _EVER - at)
    return start, at


def _is_instant(start: datetime | None, at: datetime) -> bool:
    return start is None or start == at


def _account(one: MessageAttribution) -> AttributedAccount:
    return AttributedAccount.model_validate(one.model_dump(exclude={"role", "since", "until"}))
