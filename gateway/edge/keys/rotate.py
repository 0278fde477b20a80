"""Carries one change of keys through its steps (see `change`), over whatever escrow and meter it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol

import structlog

from gateway.edge.keys.change import Act, Progress, Stage, Told
from gateway.edge.keys.store import Change, KeyStore
from protocols.dlms.acts.keys import KeySlot

log = structlog.get_logger("gateway.edge.keys")


class Escrow(Protocol):
    """Where sealed keys are kept for the day when this box is no more."""

    async def deposit(self, change: Change) -> None:
        """Return when central has proved that it has them on its disk; GatewayError otherwise."""


class KeyedMeter(Protocol):
    """The meter whose keys change; errors of the line and of the meter may leave each method."""

    def provable(self, change: Change) -> bool:
        """Say whether the meter can be asked which keys it holds."""

    async def send(self, change: Change) -> Told:
        """Send the new keys: ACCEPTED, REFUSED or UNKNOWN."""

    async def prove(self, change: Change) -> tuple[Told, Iterable[KeySlot]]:
        """Ask which keys the meter holds: NEW_PROVED, OLD_PROVED, PARTLY with those that are new, or NEITHER."""


async def carry_through(
    change: Change, *, store: KeyStore, escrow: Escrow, meter: KeyedMeter, now: Callable[[], datetime]
) -> Change:
    """Take a change as far as it goes now, from wherever it stands; return it as it then is.

    Whatever ends it, an error, a cancel or a crash, what is on the disk says how to go on.
    """
    progress = Progress(stage=change.stage, provable=meter.provable(change))
    while (act := progress.act) is not Act.NOTHING:
        told = await _do(act, change, store, escrow, meter, now)
        progress = progress.after(told)
        fresh = await asyncio.to_thread(store.change, change.key_id)
        if fresh is None:
            break
        change = fresh
        if change.stage is Stage.PROVEN:  # by this run, or by the edge that read the meter meanwhile
            break
    log.info("keys_changed", meter=change.meter, what=change.what, stage=change.stage, key_id=change.key_id)
    return change


async def _do(
    act: Act,
    change: Change,
    store: KeyStore,
    escrow: Escrow,
    meter: KeyedMeter,
    now: Callable[[], datetime],
) -> Told:
    match act:
        case Act.ESCROW:
            await escrow.deposit(change)
            if change.stage is Stage.MADE:
                await asyncio.to_thread(store.note, change.key_id, Stage.ESCROWED)
            return Told.RECEIPT
        case Act.NOTE_SENT:
            # On the disk before the first octet goes: from here on the meter may hold them.
            await asyncio.to_thread(store.note, change.key_id, Stage.SENT)
            return Told.NOTED
        case Act.SEND:
            return await meter.send(change)
        case Act.PROVE:
            told, slots = await meter.prove(change)
            await asyncio.to_thread(store.adopt, change.key_id, tuple(slots), now())
            return told
        case _:
            await asyncio.to_thread(store.adopt, change.key_id, tuple(change.keys), now())
            return Told.ADOPTED
