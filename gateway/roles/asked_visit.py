"""Commissioning and replacing from a box without central's files: the change is kept as a signed request.

The meters are read over the line and their readings delivered like any other. What the directory shall learn is written
into a file that this box signs; central applies it when it is there (`directory apply FILE --verify-key KEY`). Until a
reading of its time has come to central, the meter is INSTALLED_NOT_PROVEN there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gateway.config.file import Config
from gateway.contract.field_request import FieldRequest, ShownReading, signed_request
from gateway.contract.signing import new_key_pair
from gateway.private_file import write_private
from gateway.roles.fieldwork import read_both
from gateway.roles.reach import Tell
from gateway.roles.visit import ENERGY, Reading, Visit, energy_text, opened_visit
from mapping.change_sets import read_forms, written
from mapping.changes import Change, Install, Replace
from mapping.directory import Role
from mapping.snapshot import DirectorySnapshot
from protocols.reading import MissingReason, Nameplate

SIGNING_KEY: Final = "request-signing"
VERIFY_KEY: Final = "request-verify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was written: the request, whether the broker took the readings, and the key to verify it by."""

    file: Path
    verify_key: Path
    meter: str
    energy: str | None
    delivered: bool


class AskingVisit(Visit):
    """A visit that changes nothing itself."""

    async def ask(
        self,
        file: Path,
        change: Change,
        readings: Sequence[Reading],
        *,
        by: str,
        source: Literal["commission", "replace"],
    ) -> Asked:
        """Deliver the readings as far as the broker is there, and write the signed request to a file (0600)."""
        shown = [
            ShownReading(
                meter=reading.meter,
                at=reading.at,
                energy=energy_text(reading.taken.value(ENERGY)),
                capture_id=await self.journal(reading, DirectorySnapshot()),
            )
            for reading in readings
        ]
        request = FieldRequest(
            gateway=self._config.gateway.name,
            asked_by=by,
            asked_at=self._clock.now(),
            source=source,
            changes=tuple(read_forms(written([change]))),
            readings=tuple(shown),
        )
        signing, verify = request_keys(self._config.gateway.data / "field")
        write_private(file, f"{signed_request(request, signing.read_bytes())}\n".encode())
        delivered = await self.send()
        return Asked(
            file=file, verify_key=verify, meter=shown[-1].meter, energy=shown[-1].energy, delivered=delivered
        )


@asynccontextmanager
async def asking_visit(config: Config, *, purpose: str, tell: Tell) -> AsyncIterator[AskingVisit]:
    """Open the visit while the block runs."""
    async with opened_visit(config) as (clock, journal):
        yield AskingVisit(config, clock, journal, purpose=purpose, tell=tell)


async def ask_to_commission(
    work: AskingVisit, file: Path, *, meter: str, usage_point: str, role: Role, by: str
) -> tuple[Nameplate, Asked]:
    """Read the meter, and ask for it to be bound; nothing is written where another meter answers, or none."""
    plate, opening = await work.read(meter)
    change = Install(meter, usage_point, role, opening.at)
    return plate, await work.ask(file, change, [opening], by=by, source="commission")


async def ask_to_replace(
    work: AskingVisit,
    file: Path,
    *,
    old: str,
    new: str,
    usage_point: str,
    by: str,
    no_final: MissingReason | None,
) -> tuple[Nameplate, Asked]:
    """Read both meters, and ask for the one to be put in the other's place."""
    plate, final, opening = await read_both(work, old, new, no_final)
    change = Replace(old, new, opening.at, usage_point)
    return plate, await work.ask(file, change, [final, opening], by=by, source="replace")


def request_keys(folder: Path) -> tuple[Path, Path]:
    """Return this box's key for requests and the one to verify them by, made when they are first needed."""
    signing, verify = folder / SIGNING_KEY, folder / VERIFY_KEY
    if not signing.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        private, public = new_key_pair()
        write_private(verify, public)  # the private key is last: where it is, the pair is whole
        write_private(signing, private)
    return signing, verify
