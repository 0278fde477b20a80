"""How many attributes one GET with list asks a meter for: found out once, and kept from association to association."""

from __future__ import annotations

from protocols.dlms.apdu.conformance import Conformance

SMALL = 8
"""Attributes that are tried where a longer list was refused; below that lists are given up."""
FAULTS = 2
"""Lists in a row that ended in a fault before a meter counts as one that lists are too much for."""


class ListSize:
    """The size of lists towards one meter, within `most`.

    A meter that refuses a list gets smaller ones, then none. One that falls silent, hangs up or answers nonsense is
    asked one by one from then on in this session, unless lists worked before: then after the second time in a row.
    `learned`, `faults` and `ranges` are what later sessions begin with: 0 while nothing speaks against lists, and
    whether a list may hold a selection of rows.
    """

    def __init__(self, most: int, learned: int = 0, faults: int = 0, *, ranges: bool = True) -> None:
        self._most = most
        self.learned = learned
        self.faults = faults
        self.ranges = ranges
        self._worked = False
        self._given_up = False

    def limit(self, conformance: int) -> int:
        """Return how many attributes go into one request of an association that grants `conformance`.

        Without the bits for multiple references and ACCESS there are no lists; but an association that grants not
        even GET says nothing.
        """
        if self._given_up:
            return 1
        lists = Conformance.MULTIPLE_REFERENCES | Conformance.ACCESS
        if conformance & Conformance.GET and not conformance & lists:
            return 1
        return min(self._most, self.learned or self._most)

    def worked(self) -> None:
        """Note a list that was answered."""
        self._worked, self.faults = True, 0

    def refused(self, count: int, *, ranges: bool = False) -> None:
        """Note that a list of so many was refused as a whole; one with ranges may come through without them."""
        if ranges and self.ranges:
            self.ranges = False
            return
        self.learned = SMALL if count > SMALL else 1

    def failed(self, *, ranges: bool = False, deciphered: bool = True) -> None:
        """Note that a list ended in a fault of the line or of the meter.

        A meter that could not decipher it may have meant our counter: the list is tried once more.
        """
        if deciphered:
            self.ranges = self.ranges and not ranges
        self.faults += 1
        if self.faults >= FAULTS and not self._worked:
            self.learned = 1
        at_once = deciphered and not self._worked
        self._given_up = self._given_up or at_once or self.faults >= FAULTS
