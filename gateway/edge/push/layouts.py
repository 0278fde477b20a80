"""How each meter's pushes are read: learned from the meter in its next session, kept while it fits."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from gateway.edge.push.peers import PushingMeter
from protocols.dlms.profile.layouts import Layout
from protocols.dlms.push.layout import companion_layouts
from protocols.errors import MeterProtocolError
from protocols.reading import Obis
from protocols.session import Clock, MeterSession

LEARN_AGAIN = timedelta(hours=6)
"""Age at which a meter is asked anew how its pushes are laid out, as its profiles are."""


@runtime_checkable
class DescribesPushes(Protocol):
    """A session that can tell how its meter's pushes are laid out."""

    async def push_layouts(self) -> dict[Obis, Layout]:
        """Return layouts by push setup."""


class PushLayouts:
    """Layouts by meter and push setup, of the meters that push or dial in.

    Those declared with the companion's columns are believed to follow it, and never asked.
    """

    def __init__(self, clock: Clock, meters: Iterable[PushingMeter] = ()) -> None:
        self._clock = clock
        self._companion_for = {meter.peer.name: meter.companion_columns for meter in meters}
        self._known: dict[str, dict[Obis, Layout]] = {}
        self._learned: dict[str, datetime] = {}

    @property
    def meters(self) -> Collection[str]:
        """The meters' identities, `GEN:12345678`."""
        return self._companion_for.keys()

    async def learn(self, meter: str, session: MeterSession) -> None:
        """Ask the meter, unless what it answered is fresh; raises what the session raises."""
        if self._companion_for.get(meter) or not isinstance(session, DescribesPushes):
            return
        now = self._clock.now()
        if meter in self._known and now < self._learned[meter] + LEARN_AGAIN:
            return
        self._learned[meter] = now
        try:
            self._known[meter] = await session.push_layouts()
        except MeterProtocolError:
            self._known[meter] = {}  # this poll fails; the next one must not
            raise

    def of(self, meter: str, setup: Obis) -> Layout | None:
        """Find the layout of a setup, None while it is not known."""
        known = companion_layouts() if self._companion_for.get(meter) else self._known.get(meter, {})
        return known.get(setup)

    def forget(self, meter: str) -> None:
        """Ask again at the next session: what came did not fit."""
        self._known.pop(meter, None)
