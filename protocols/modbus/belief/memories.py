"""The memory of Modbus meters between visits, and when a meter has to prove its identity again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from protocols.known import Known, keep
from protocols.modbus.belief.meter_memory import MeterMemory

PROVE_EVERY = timedelta(hours=6)
"""How long a proof of identity counts while nothing speaks against it.

An exchange takes the power from the meter, and the energy register of another one stands elsewhere: silence, a fault
and every value that does not follow ask for a proof at once. This is for the rest: a meter changed between two reads
for one whose register stands where the old one's did. It bounds what has to be taken back then, and costs less than a
hundredth of the wire at a poll each quarter of an hour.
"""


UNSEEN_FOR = timedelta(hours=2)
"""How long a meter may not have been read without being asked who it is: reading stood still, or it was taken out."""


class Memories:
    """What is remembered of all meters, in `store`, and which of them were met since the program began.

    A meter that was not met yet proves its identity, whatever the store says: who was away saw nothing.
    """

    def __init__(self, store: Known) -> None:
        self._store = store
        self._met: set[str] = set()

    def of(self, meter: str, model: str, vouched_at: datetime | None = None) -> MeterMemory:
        """Return the memory of a meter; an empty one where there is none, or it was read with another model.

        So is one that was begun before somebody vouched, at `vouched_at`, that the meter there is the right one.
        """
        found = remembered(self._store, meter)
        if found is None or found.model != model or (vouched_at and found.vouched_at != vouched_at):
            return MeterMemory(model=model, vouched_at=vouched_at)
        return found

    def keep(self, meter: str, memory: MeterMemory) -> None:
        """Keep what is known of a meter from now on."""
        if remembered(self._store, meter) != memory:
            keep(self._store, _key(meter), memory)

    def proof_due(self, meter: str, memory: MeterMemory, now: datetime) -> bool:
        """Return whether the meter has to prove its identity before anything of it is believed."""
        if self.is_fresh(meter, memory) or memory.asked_at is None:
            return True
        seen = max((one.at for one in memory.believed.values()), default=memory.asked_at)
        if now - max(seen, memory.asked_at) > UNSEEN_FOR:
            return True
        return not timedelta() <= now - memory.asked_at < PROVE_EVERY  # also when the clock was set back

    def is_fresh(self, meter: str, memory: MeterMemory) -> bool:
        """Return whether the meter is met for the first time, or again after silence or a fault."""
        return meter not in self._met or memory.shaken

    def met(self, meter: str, memory: MeterMemory) -> None:
        """Note that the meter has told who it is."""
        self._met.add(meter)
        self.keep(meter, replace(memory, shaken=False))

    def shake(self, meter: str) -> None:
        """Note that a visit failed: another meter may stand there the next time."""
        found = remembered(self._store, meter)
        if found is not None and not found.shaken:
            keep(self._store, _key(meter), replace(found, shaken=True))


def remembered(store: Known, meter: str) -> MeterMemory | None:
    """Return what a store remembers of a meter."""
    found = store.get(_key(meter))
    return found if isinstance(found, MeterMemory) else None


def settled(store: Known, meter: str, model: str, now: datetime) -> None:
    """Note that what was read of a meter until now has been settled, since another one answers."""
    found = remembered(store, meter) or MeterMemory(model=model)
    keep(store, _key(meter), replace(found, settled_at=now))


def _key(meter: str) -> tuple[str, str, str]:
    return meter, "", "memory"
