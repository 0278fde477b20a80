"""Commissioning and replacing meters, with proof.

The serial is read over the line, a reading is delivered, central shows that it has it; then, last, the meter is
bound to its usage point. Whatever fails before that leaves the directory as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import StoredCapture
from gateway.config.file import Config
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks.mqtt import MqttSink
from gateway.errors import GatewayError, PeerUnavailable, UsageError
from gateway.roles.central_files import CentralFiles
from gateway.roles.did_you_mean import did_you_mean
from gateway.roles.hand_over import read_at
from gateway.roles.reach import Tell
from gateway.roles.visit import ENERGY, SECONDS, Reading, Visit, energy_text, opened_visit
from mapping.changes import Change, Install, Replace
from mapping.directory import Role
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from protocols.errors import IdentityMismatch, ProtocolError
from protocols.reading import (
    MissingReason,
    Nameplate,
)
from protocols.session import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the engineer takes away: which reading central holds, since when, under which account."""

    meter: str
    capture_id: str
    energy: str | None
    role: str
    account: str | None
    reason: str | None
    directory_version: int
    seen_at_central: datetime


class FieldWork(Visit):
    """A visit from a box that has central's files: what is done is proved and bound at once."""

    def __init__(
        self,
        config: Config,
        files: CentralFiles,
        clock: Clock,
        journal: Journal,
        store: DirectoryStore,
        *,
        purpose: str,
        tell: Tell,
    ) -> None:
        super().__init__(config, clock, journal, purpose=purpose, tell=tell)
        self._files = files
        self._store = store

    async def directory(self) -> DirectorySnapshot:
        """Return the directory as it is."""
        return await asyncio.to_thread(self._store.snapshot)

    async def would_change(self, *changes: Change, by: str, source: str) -> None:
        """Raise ChangeRefused where the directory would refuse these changes; nothing is changed."""

        def preview() -> None:
            self._store.preview(changes, by=by, source=source, at=self._clock.now(), sure=True)

        await asyncio.to_thread(preview)

    async def change(self, *changes: Change, by: str, source: str) -> DirectorySnapshot:
        """Apply changes to the directory and return it; ChangeRefused says what contradicts it."""

        def apply() -> DirectorySnapshot:
            self._store.apply(changes, by=by, source=source, at=self._clock.now(), sure=True)
            return self._store.snapshot()

        return await asyncio.to_thread(apply)

    async def deliver(self, reading: Reading, *, by: str) -> StoredCapture:
        """Deliver a reading and return it as central's ledger holds it.

        The meter answered on this gateway's line, so it is allocated to this gateway by who does the work: central
        would not believe another's.

        Raises PeerUnavailable when the ledger does not show it within `SECONDS`. The reading stays in the
        visit's journal and is delivered at the next visit.
        """
        await asyncio.to_thread(self._allocate, reading, by)
        capture_id = await self.journal(reading, await self.directory())
        async with self.delivering() as sink:
            return await self._stored(capture_id, sink)

    def _allocate(self, reading: Reading, by: str) -> None:
        ledger = Ledger(self._files.ledger)
        try:
            name, history = self._config.gateway.name, ledger.allocations.history(reading.meter)
            if not history or history[-1].gateway != name or history[-1].origin == "claimed":
                ledger.allocations.give(
                    [reading.meter], name, by=by, note="field work", since=reading.at, at=self._clock.now()
                )
        finally:
            ledger.close()

    async def _stored(self, capture_id: str, sink: MqttSink) -> StoredCapture:
        ledger = Ledger(self._files.ledger, read_only=True)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SECONDS
        try:
            while (stored := await asyncio.to_thread(ledger.captures.get, capture_id)) is None:
                if loop.time() > deadline:
                    fault = sink.statistics().last_error or "is central running?"
                    raise PeerUnavailable(
                        f"central does not show the reading {capture_id} after {SECONDS:g} s ({fault}).\n"
                        "Nothing is bound: the directory is as it was. The reading is kept here and goes out when "
                        "central answers; give the command again then."
                    )
                await asyncio.sleep(0.1)
        finally:
            await asyncio.to_thread(ledger.close)
        return stored


def proof(reading: Reading, stored: StoredCapture, snapshot: DirectorySnapshot) -> Proof:
    """Say what central holds, and whose it is by this directory."""
    whose = snapshot.attributions(reading.meter, None, reading.at)
    first = whose.accounts[0] if whose.accounts else None
    return Proof(
        meter=reading.meter,
        capture_id=stored.capture_id,
        energy=energy_text(reading.taken.value(ENERGY)),
        role=first.role.value if first else "none",
        account=(first.account_number or first.legacy_number) if first else None,
        reason=whose.reason.value if whose.reason else None,
        directory_version=whose.directory_version,
        seen_at_central=stored.ingested_at,
    )


@asynccontextmanager
async def field_work(
    config: Config, files: CentralFiles, *, purpose: str, tell: Tell
) -> AsyncIterator[FieldWork]:
    """Open the visit's journal while the block runs; UsageError when central's files are not there.

    `purpose` (`commission`) is told to who looks at the edge, `tell` is told why we wait for a turn on its line.
    """
    if not files.are_made:
        raise UsageError(f"there is no central at {files.folder}: give its data folder with --central")
    async with opened_visit(config) as (clock, journal):
        with DirectoryStore(files.directory) as store:
            yield FieldWork(config, files, clock, journal, store, purpose=purpose, tell=tell)


async def commission(
    work: FieldWork, *, meter: str, usage_point: str, role: Role, by: str, new_usage_point: bool = False
) -> tuple[Nameplate, Proof]:
    """Bind a meter to its usage point; return its nameplate and the proof of its opening reading.

    Binding is the last step: before it the usage point is known (or said to be new), the directory would take the
    change, the right meter has answered, and central holds its reading. Where one fails nothing is bound.
    """
    _check_usage_point(await work.directory(), usage_point, new=new_usage_point)
    said = {"by": by, "source": "commission"}
    await work.would_change(Install(meter, usage_point, role, work.now()), **said)
    plate, opening = await work.read(meter)
    stored = await work.deliver(opening, by=by)
    snapshot = await work.change(Install(meter, usage_point, role, opening.at), **said)
    return plate, proof(opening, stored, snapshot)


async def replace(
    work: FieldWork, *, old: str, new: str, usage_point: str, by: str, no_final: MissingReason | None
) -> tuple[Proof, Nameplate, Proof]:
    """Hand a usage point from meter `old` to `new`; return proof of the final reading, nameplate and opening proof.

    `no_final` says why the old meter cannot be read. The new one is read first: a visit whose new meter does not
    answer must leave the old one in place. The directory is changed last, when central holds both readings.
    """
    _check_fitted(await work.directory(), old, usage_point, work.now())
    said = {"by": by, "source": "replace"}
    await work.would_change(Replace(old, new, work.now(), usage_point), **said)
    plate, final, opening = await read_both(work, old, new, no_final)
    stored = [await work.deliver(reading, by=by) for reading in (final, opening)]
    snapshot = await work.change(Replace(old, new, opening.at, usage_point), **said)
    return proof(final, stored[0], snapshot), plate, proof(opening, stored[1], snapshot)


async def read_both(
    work: Visit, old: str, new: str, no_final: MissingReason | None
) -> tuple[Nameplate, Reading, Reading]:
    """Return the new meter's nameplate, the old one's final and its own opening reading, of one instant."""
    plate, opening = await work.read(new)
    try:
        final = work.unread(old, no_final) if no_final else (await work.read(old))[1]
    except IdentityMismatch:
        raise
    except ProtocolError as error:
        raise GatewayError(
            f"the final reading of {old} cannot be taken: {error}\n"
            "If the meter is beyond reading, say why: --no-final no_display | meter_silent | meter_refused"
        ) from error
    # One instant for both: energy up to it is the old meter's, energy from it on the new one's.
    at = max(final.at, opening.at)
    opening = Reading(meter=new, at=at, taken=read_at(opening.taken, at))
    final = Reading(meter=old, at=at, taken=read_at(final.taken, at))
    return plate, final, opening


def _check_usage_point(directory: DirectorySnapshot, given: str, *, new: bool) -> None:
    """Refuse a usage point that the directory has never heard of, unless it is said to be new."""
    known = directory.has_usage_point(given)
    if new and known:
        raise UsageError(f"the directory has the usage point `{given}` already: leave out --new-usage-point")
    if not new and not known:
        raise UsageError(
            f"the directory has no usage point `{given}`.{did_you_mean(given, set(directory.usage_points()))} "
            "For a new connection add --new-usage-point"
        )


def _check_fitted(directory: DirectorySnapshot, meter: str, usage_point: str, at: datetime) -> None:
    """Refuse to take a meter away from where it is not."""
    where = directory.usage_point(meter, at)
    if where is None:
        known = {one for one in directory.meters() if directory.usage_point(one, at) is not None}
        raise UsageError(f"the directory has no meter `{meter}` fitted now.{did_you_mean(meter, known)}")
    if where != usage_point:
        raise UsageError(f"{meter} is fitted at `{where}`, not at `{usage_point}`: is this the right house?")
