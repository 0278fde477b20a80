"""Which sequence numbers of a journal a consumer has: a contiguous beginning and islands after it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class SeqSet:
    """A set of sequence numbers from 1 on, kept as intervals.

    `contiguous` is the highest n with 1..n all present (0 for none); the islands are the
    closed intervals after it: sorted, apart from each other and from the beginning.
    """

    contiguous: int = 0
    _firsts: list[int] = field(default_factory=list)
    _lasts: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, contiguous: int, islands: Iterable[tuple[int, int]] = ()) -> SeqSet:
        """Rebuild a set from what was stored."""
        made = cls(contiguous)
        for first, last in islands:
            made.add_range(first, last)
        return made

    @property
    def highest(self) -> int:
        """The highest number present, 0 for none."""
        return self._lasts[-1] if self._lasts else self.contiguous

    @property
    def islands(self) -> list[tuple[int, int]]:
        """The intervals after the contiguous beginning."""
        return list(zip(self._firsts, self._lasts, strict=True))

    def holes(self, up_to: int | None = None) -> list[tuple[int, int]]:
        """List the missing intervals up to the highest number present, or to `up_to` where that is more."""
        missing = []
        expected = self.contiguous + 1
        for first, last in self.islands:
            missing.append((expected, first - 1))
            expected = last + 1
        if up_to is not None and up_to >= expected:
            missing.append((expected, up_to))
        return missing

    def __contains__(self, seq: int) -> bool:
        if 1 <= seq <= self.contiguous:
            return True
        place = bisect_right(self._firsts, seq) - 1
        return place >= 0 and seq <= self._lasts[place]

    def add(self, seq: int) -> None:
        """Add one number."""
        self.add_range(seq, seq)

    def add_all(self, seqs: Iterable[int]) -> None:
        """Add numbers in rising order, those that follow each other at once."""
        first = last = None
        for seq in seqs:
            if last is not None and seq == last + 1:
                last = seq
                continue
            if first is not None and last is not None:
                self.add_range(first, last)
            first = last = seq
        if first is not None and last is not None:
            self.add_range(first, last)

    def gone_below(self, first: int) -> None:
        """Count what is below `first` as present: the journal no longer holds it, so it is no hole."""
        if first > 1:
            self.add_range(1, first - 1)

    def add_range(self, first: int, last: int) -> None:
        """Add first..last; numbers present already change nothing. ValueError below 1 or reversed."""
        if first < 1 or last < first:
            raise ValueError(f"{first}..{last} is not a range of sequence numbers")
        if first <= self.contiguous + 1:
            self.contiguous = max(self.contiguous, last)
            while self._firsts and self._firsts[0] <= self.contiguous + 1:
                self.contiguous = max(self.contiguous, self._lasts[0])
                del self._firsts[0], self._lasts[0]
            return
        # Islands that touch first-1 .. last+1 melt into one.
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]
