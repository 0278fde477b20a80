"""Reading a meter's memory once more: the journal's watermark is set back while the poller leaves the meter alone."""

from __future__ import annotations

from datetime import datetime

from gateway.contract.messages import ReadAgain
from gateway.edge.journal.journal import Journal
from gateway.edge.polling.collect import STORED
from gateway.edge.polling.poller import Poller
from protocols.reading import ProfileName


class PolledRereader:
    """Carries central's orders out; see `gateway.edge.sinks.read_again.Rereader`."""

    def __init__(self, journal: Journal, poller: Poller) -> None:
        self._journal = journal
        self._poller = poller

    async def read_again(self, order: ReadAgain, since: datetime, name: str) -> bool:
        """Set a watermark back and let the profile be due at once; False where it is not read here."""
        if order.profile not in {profile.value for profile in STORED}:
            return False
        profile = ProfileName(order.profile)
        if not self._poller.reads(order.meter, profile):
            return False
        async with self._poller.left_alone(order.meter):
            await self._journal.read_again(order.meter, order.profile, since, order.until, name)
        self._poller.read_soon(order.meter, profile)
        return True

    async def last_order(self, meter: str, profile: str) -> str | None:
        """Return the name of the last order by which a meter's profile was read again."""
        return await self._journal.last_order(meter, profile)
