"""Which answers may still come on a line without transaction ids, and what may not be asked until then.

Pure: times are given, in seconds of any one clock. An answer tells its unit, its function and its length, nothing
else (Modbus over serial line V1.02, 2.5.1: a master sends one request and waits; no answer is numbered). So after a
timeout a request whose answer would look the same is barred until the answer came, or until `late_answer_max` later.

The same request for the same address is no exception by itself: its late answer is the same register, but of an
earlier instant. It may be repeated within one reading (`since`), whose span of time holds that instant; then one answer
more is owed than was waited for, and the account knows it.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.modbus.framing.requests import Request

MAX_OWED = 32
"""Answers owed by one unit that are told apart; beyond it the whole unit is barred until the last is over."""

Shape = tuple[int, int | None]
"""Function, and octets of data of the answer (None: any)."""


def shape_of(request: Request) -> Shape:
    """Return what an answer to it looks like."""
    return request.function, request.data_octets


@dataclass(frozen=True, slots=True)
class Owed:
    """One answer that may still come: of which request, asked when, expected until when.

    `foreign` was asked by another master.
    """

    request: Request
    asked: float
    until: float
    foreign: bool = False

    def fits(self, function: int, size: int | None) -> bool:
        """Say whether an answer of this function and size may be the one; no size is a refusal."""
        own = shape_of(self.request)
        return own[0] == function and (size is None or own[1] is None or own[1] == size)

    def resembles(self, request: Request) -> bool:
        """Say whether the answers to both could be taken for each other."""
        function, size = shape_of(request)
        return shape_of(self.request)[0] == function and (
            size is None or shape_of(self.request)[1] is None or shape_of(self.request)[1] == size
        )


@dataclass(frozen=True, slots=True)
class Late:
    """An answer that came when nobody waited for it, and how many seconds after it was asked for."""

    owed: Owed
    latency: float


class Outstanding:
    """The account of one line; bounded by 256 units and MAX_OWED each."""

    def __init__(self) -> None:
        self._owed: dict[int, list[Owed]] = {}
        self._all_barred: dict[int, float] = {}
        self.answer_unit: int | None = None
        """The unit that all answers on this line bear, whoever was asked; None where each bears its own."""

    def owe(self, request: Request, *, asked: float, until: float, foreign: bool = False) -> None:
        """Note that an answer to `request`, sent at `asked`, may come until `until`."""
        owed, seen_as = self._now(request.unit, asked), self._seen_as(request.unit)
        owed.append(Owed(request, asked, until, foreign))
        if len(owed) > MAX_OWED:
            self._all_barred[seen_as] = max(one.until for one in owed)
            del owed[0]
        self._owed[seen_as] = owed

    def barred(self, request: Request, now: float, *, since: float | None = None) -> float | None:
        """Return until when `request` may not be sent, None where it may.

        `since` is when the reading began that it is for: an answer to the same request, sent since, is as good.
        """
        if (until := self._all_barred.get(self._seen_as(request.unit), now)) > now:
            return until
        ends = [
            one.until
            for one in self._now(request.unit, now)
            if one.resembles(request)
            and (one.foreign or since is None or one.asked < since or one.request != request)
        ]
        return max(ends, default=None)

    def last_asked(self, request: Request, now: float) -> float | None:
        """Return when an answer that looks like this request's was asked for last, None where none is owed."""
        asked = (one.asked for one in self._now(request.unit, now) if one.resembles(request))
        return max(asked, default=None)

    def takes_refusals(self, request: Request, now: float) -> bool:
        """Say whether a refusal would be this request's: they have no length, so any of the function may owe it."""
        return all(
            one.request == request
            for one in self._now(request.unit, now)
            if one.request.function == request.function
        )

    def came(self, unit: int, function: int, size: int | None, now: float) -> Late | None:
        """Take note of an answer that is not used; return which one it was, None where none like it is owed.

        `size` is its octets of data, None for a refusal. Of several alike the one goes that would be over first; a
        refusal that may be of requests with different answers lets all of them stand: each may still be answered.
        """
        owed = self._now(unit, now)
        fitting = [one for one in owed if one.fits(function, size)]
        if not fitting:
            return None
        if len({shape_of(one.request) for one in fitting}) == 1:
            owed.remove(min(fitting, key=lambda one: one.until))
        return Late(fitting[0], now - fitting[0].asked)

    def repeated(self, request: Request, *, asked: float, until: float) -> bool:
        """Take note that `request` was answered; say whether an earlier sending of it is still owed an answer.

        Which of them was answered is not known, so the one that is left may come as late as the last.
        """
        owed = self._now(request.unit, asked)
        for place, one in enumerate(owed):
            if one.request == request and not one.foreign:
                owed[place] = Owed(request, one.asked, until)
                return True
        return False

    def barred_until(self, unit: int, now: float) -> float | None:
        """Return until when some request to this unit is barred at the longest, None where none is."""
        ends = [one.until for one in self._now(unit, now)]
        if (whole := self._all_barred.get(self._seen_as(unit), now)) > now:
            ends.append(whole)
        return max(ends, default=None)

    def barred_shapes(self, unit: int, now: float) -> frozenset[Shape]:
        """Return the shapes of answers that this unit still owes: a plan avoids them (None: every length)."""
        return frozenset(shape_of(one.request) for one in self._now(unit, now))

    def owes(self, request: Request, now: float) -> bool:
        """Say whether this very request of ours may still be answered."""
        return any(one.request == request and not one.foreign for one in self._now(request.unit, now))

    def _now(self, unit: int, now: float) -> list[Owed]:
        """Return what the unit owes now; what is over is forgotten."""
        unit = self._seen_as(unit)
        owed = self._owed.get(unit)
        if owed is None:
            return []
        owed[:] = [one for one in owed if one.until > now]
        if not owed:
            del self._owed[unit]
        if self._all_barred.get(unit, now) <= now:
            self._all_barred.pop(unit, None)
        return owed

    def _seen_as(self, unit: int) -> int:
        """Return the unit that its answers bear: where all bear one, those of all can be taken for each other."""
        return unit if self.answer_unit is None else self.answer_unit
