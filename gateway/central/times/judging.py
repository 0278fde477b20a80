"""Central's judgement on times that an edge did not trust; pure: evidence in, findings out.

What is known of a capture: its own time, when the gateway received it by its own clock and by the steady clock of
its machine, how far the meter's clock was from the gateway's at that poll, and for how long it had run evenly. As
soon as anybody tells when that run of the machine began in true time, the receipt is known truly, however wrong the
gateway's clock was; and with it how far the meter's clock was off. Then:

- what was read as it was (a live profile) happened when it was received;
- a stored row of a meter whose clock was right is right, as with any other gateway;
- a stored row of a meter whose clock was off is put right by as much, if the clock had run evenly since the row was
  recorded. That is proved by the polls before, or by an unbroken chain of blocks up to a row of which it is proved.

What is not proved waits: a finding is never a guess.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from protocols.reading import ProfileName

LIVE: Final = frozenset({ProfileName.INSTANTANEOUS, ProfileName.PREPAYMENT, ProfileName.NAMEPLATE})
"""Profiles that are read as they are now."""
SOUND: Final = timedelta(minutes=15)
"""A meter's clock that is off by less is taken as right: half a block (as the edge does)."""
EXACT: Final = timedelta(seconds=60)
"""What two measurements of one clock may differ by; a time is put right to this."""
STEP: Final = timedelta(minutes=15)
"""Clocks that were set wrong by a zone are off by a multiple of this: then the rows lie on whole blocks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtedCapture:
    """A capture whose time its edge did not trust, with all that speaks of it.

    `boot` and `steady` are there where the gateway's own clock had no evidence; `drift`, `held` and `former` (seconds)
    where the meter showed its clock. `flagged`: the meter itself called the time doubtful. `ahead`: its edge
    trusted it, but it was dated ahead of central's own clock. `judged`: there is a verdict; `shift` is what the last
    one said where it settled the time.
    """

    capture_id: str
    meter: str
    profile: str
    journal: str
    seq: int
    at: datetime
    start: datetime | None
    received_at: datetime
    boot: str | None = None
    steady: float | None = None
    drift: float | None = None
    held: float | None = None
    former: float | None = None
    flagged: bool = False
    ahead: bool = False
    judged: bool = False
    shift: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is found of captures first_seq..last_seq of a meter's profile: believed, and moved by `shift`, or not."""

    meter: str
    profile: str
    journal: str
    first_seq: int
    last_seq: int
    shift: timedelta
    evidence: str
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class _Settled:
    shift: timedelta
    why: str


def judge(
    doubted: Sequence[DoubtedCapture],
    runs: Mapping[str, datetime],
    complete_to: int,
    now: datetime,
    lost: Sequence[tuple[int, int]] = (),
) -> list[Finding]:
    """Return what is to be said, at `now`, of one meter's captures in one journal that was not said before.

    `runs` tells when runs of the gateway's machine began, in true time. Numbers up to `complete_to` are all there:
    ranges join over them only, since a capture that comes late must not be judged unseen. Nor over what is `lost`
    (first and last number): a consumer may have it.
    """
    found: dict[str, _Settled] = {}
    stamps = Counter((one.profile, one.at) for one in doubted)
    for one in doubted:
        settled = _judge_ahead(one, now) if one.ahead else _judge_sane(one, runs)
        # A stamp that is there twice was made by a clock that was set: which of the two is which nobody knows.
        once = stamps[one.profile, one.at] == 1 or one.profile == ProfileName.EVENTS
        if settled is not None and (once or not settled.shift or one.profile in LIVE):
            found[one.capture_id] = settled
    _follow_chains(doubted, found)
    found = {
        one.capture_id: found[one.capture_id]
        for one in doubted
        if one.capture_id in found and _stays(one, found[one.capture_id].shift)
    }
    coming = [one for one in doubted if one.ahead and one.capture_id not in found and not one.judged]
    return [*_ranges(doubted, found, complete_to, lost), *(_held(one, now) for one in coming)]


def _judge_ahead(one: DoubtedCapture, now: datetime) -> _Settled | None:
    """Believe what was dated ahead as soon as its time has come: it was we who were behind."""
    return _Settled(timedelta(0), "its time has come") if one.at <= now + EXACT else None


def _held(one: DoubtedCapture, now: datetime) -> Finding:
    days = (one.at - now) / timedelta(days=1)
    return Finding(
        meter=one.meter,
        profile=one.profile,
        journal=one.journal,
        first_seq=one.seq,
        last_seq=one.seq,
        shift=timedelta(0),
        evidence=f"dated {days:.1f} days ahead of central's clock",
        trusted=False,
    )


def _receipt(one: DoubtedCapture, runs: Mapping[str, datetime]) -> datetime | None:
    """Return when a capture was truly received; None while nobody can tell."""
    if one.boot is None or one.steady is None:
        return one.received_at
    began = runs.get(one.boot)
    return None if began is None else began + timedelta(seconds=one.steady)


def _stays(one: DoubtedCapture, shift: timedelta) -> bool:
    """Say whether a capture that is moved by `shift` stays within the years 1 to 9999."""
    try:
        return (one.start or one.at) + shift <= one.at + shift
    except OverflowError:
        return False


def _judge_sane(one: DoubtedCapture, runs: Mapping[str, datetime]) -> _Settled | None:
    """Judge one; evidence that leads out of the years 1 to 9999 proves nothing."""
    try:
        return _judge_one(one, runs)
    except OverflowError:
        return None


def _judge_one(one: DoubtedCapture, runs: Mapping[str, datetime]) -> _Settled | None:
    received = _receipt(one, runs)
    if received is None:
        return None
    slow = received - one.received_at  # so far the gateway was behind
    gateway = "" if one.boot is None else f"the gateway was {_told(slow, 'slow', 'fast')}; "
    if one.profile in LIVE:
        off = received - one.at
        if abs(off) <= EXACT:
            return _Settled(timedelta(0), f"{gateway}read when it was recorded")
        return _Settled(_whole(off), f"{gateway}read when it was recorded")
    if one.drift is None:
        # A meter that shows no clock is believed row by row, as with a gateway that knows the time.
        return None if one.flagged or one.boot is None else _Settled(timedelta(0), f"{gateway}no clock shown")
    ahead = timedelta(seconds=one.drift) - slow
    now = _recorded(one, ahead, received)
    before = one.former is not None and _recorded_before(one, timedelta(seconds=one.former) - slow, received)
    if abs(ahead) <= SOUND:
        if before or (one.flagged and not now) or one.at > received + EXACT:
            return None
        if one.boot is None and not now:
            return None  # its edge knew the time, and doubted the row for a reason that stands
        return _Settled(timedelta(0), f"{gateway}the meter's clock was right")
    if before or not now:
        return None
    return _Settled(-_zone(ahead), f"{gateway}the meter's clock was {_told(ahead, 'fast', 'slow')}")


def _recorded(one: DoubtedCapture, ahead: timedelta, received: datetime) -> bool:
    """Say whether a row was recorded while the clock ran as it did at the poll, `ahead` of the true time."""
    at = one.at - ahead
    sure = timedelta(seconds=one.held or 0.0)
    if one.start is not None and abs(ahead) > one.at - one.start + EXACT:
        # The newest block that there can be. A clock that was set since by more than a block leaves a gap or
        # a repeat, so that no row would end just here.
        sure = max(sure, one.at - one.start + EXACT)
    return received - sure <= at <= received + EXACT


def _recorded_before(one: DoubtedCapture, ahead: timedelta, received: datetime) -> bool:
    """Say whether a row may have been recorded before the meter's clock was set, while it was `ahead`."""
    return one.at - ahead <= received - timedelta(seconds=one.held or 0.0) + EXACT


def _follow_chains(doubted: Sequence[DoubtedCapture], found: dict[str, _Settled]) -> None:
    """Settle what an unbroken chain of blocks joins to a settled one, and what lies within such a chain."""
    blocks = [one for one in doubted if one.start is not None and not one.ahead]
    at: dict[datetime, list[DoubtedCapture]] = defaultdict(list)
    for one in blocks:
        at[one.at].append(one)
    ending = {instant: same[0] for instant, same in at.items() if len(same) == 1}
    spans: list[tuple[datetime, datetime, _Settled, DoubtedCapture]] = []
    for proved in sorted((b for b in blocks if b.capture_id in found), key=lambda b: b.at, reverse=True):
        settled = found[proved.capture_id]
        first = proved
        while (before := ending.get(first.start or first.at)) is not None and _alike(before, proved, settled):
            if before.capture_id in found:
                break  # its own chain goes on from there
            found[before.capture_id] = _Settled(
                settled.shift, f"{settled.why}, by an unbroken chain of blocks"
            )
            first = before
        spans.append((first.start or first.at, proved.at, settled, proved))
    for one in doubted:
        if one.capture_id in found or one.profile in LIVE or one.start is not None or one.ahead:
            continue
        inside = [s for s in spans if s[0] < one.at <= s[1] and _alike(one, s[3], s[2])]
        shifts = {settled.shift for *_, settled, _ in inside}
        if len(shifts) == 1:
            found[one.capture_id] = _Settled(
                inside[0][2].shift, f"{inside[0][2].why}, as the blocks around it"
            )


def _alike(one: DoubtedCapture, proved: DoubtedCapture, settled: _Settled) -> bool:
    """Say whether a chain may go on to a row: by more than a block off, and nothing says the clock was set."""
    if proved.start is None or abs(settled.shift) <= proved.at - proved.start:
        return False
    return one.former is None and not (one.drift is not None and proved.drift is None)


def _ranges(
    doubted: Iterable[DoubtedCapture],
    found: Mapping[str, _Settled],
    complete_to: int,
    lost: Sequence[tuple[int, int]],
) -> list[Finding]:
    """Join settled captures of one profile and shift whose numbers follow each other among the doubted ones."""
    findings: list[Finding] = []
    by_profile: dict[tuple[str, str, str], list[DoubtedCapture]] = defaultdict(list)
    for one in doubted:
        by_profile[one.meter, one.profile, one.journal].append(one)
    for _, ones in sorted(by_profile.items()):
        run: list[DoubtedCapture] = []
        for one in sorted(ones, key=lambda o: o.seq):
            settled = found.get(one.capture_id)
            joins = (
                run
                and settled is not None
                and settled.shift == found[run[-1].capture_id].shift
                and one.seq <= complete_to
                and not any(run[-1].seq < last and first < one.seq for first, last in lost)
            )
            if not joins:
                findings += _finding(run, found)
                run = []
            if settled is not None:
                run.append(one)
        findings += _finding(run, found)
    return findings


def _finding(run: Sequence[DoubtedCapture], found: Mapping[str, _Settled]) -> list[Finding]:
    """Return the finding over a run of captures; none where it was all said before."""
    if not run:
        return []
    shift = found[run[0].capture_id].shift
    news = [one for one in run if one.shift != shift or not one.judged]
    if not news:
        return []
    first = news[0]
    return [
        Finding(
            meter=first.meter,
            profile=first.profile,
            journal=first.journal,
            first_seq=first.seq,
            last_seq=news[-1].seq,
            shift=shift,
            evidence=found[first.capture_id].why,
        )
    ]


def _whole(span: timedelta) -> timedelta:
    return timedelta(seconds=round(span.total_seconds()))


def _zone(span: timedelta) -> timedelta:
    """Return a clock's error, as a multiple of STEP where it is near one: its rows lie on whole blocks then."""
    near = round(span / STEP) * STEP
    return near if abs(span - near) <= EXACT else _whole(span)


def _told(span: timedelta, more: str, less: str) -> str:
    seconds = span.total_seconds()
    if abs(seconds) <= EXACT.total_seconds():
        return "right"
    return f"{abs(seconds):.0f} s {more if seconds > 0 else less}"
