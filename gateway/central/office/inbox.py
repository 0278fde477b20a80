"""Change sets that master systems send over the broker: signed, each system's in its own order, each done once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from pydantic import ValidationError
from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.central.office.actors import Actor
from gateway.central.office.change_documents import ChangeSetRequest
from gateway.central.office.change_errors import ChangesRefused, MovedOn, OtherChanges
from gateway.central.office.change_records import ChangeSetRecord, ChangeSetState
from gateway.central.office.change_sets import ChangeSetDesk, change_set_id
from gateway.central.office.machines import Machine
from gateway.central.office.office import Office
from gateway.central.office.tables import inbox
from gateway.contract.envelope import MAX_MESSAGE, TYPE_OF, parse, parse_data
from gateway.contract.messages import ChangeRefusal, ChangesAnswered, ChangesAsked, Signed
from gateway.contract.messages.systems import MAX_REFUSALS
from gateway.contract.signing import CHANGES_TYP, verify
from gateway.errors import AccessDenied, ContractError
from mapping.errors import DirectoryFault
from mapping.instants import micros

KEPT: Final = 10_000
"""Answers of one system; of a message before them it is only known that it was answered."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is kept of a system: its last sequence, and the answer to one of them where it is kept."""

    last: int
    digest: str | None
    result: str | None


class SystemsInbox:
    """Takes messages of `{root}/v2/systems/{system}/changes`; every method blocks. One thread at a time."""

    def __init__(
        self, office: Office, desk: ChangeSetDesk, *, root: str, now: Callable[[], datetime]
    ) -> None:
        self._office = office
        self._desk = desk
        self._root = root
        self._now = now

    def answer(self, system: str, payload: bytes) -> ChangesAnswered:
        """Return the answer to a message, when all that it says is on the disk.

        Raises ContractError for octets that are none of ours, that the system's key did not sign, or that speak for
        another system or another root: such a message is answered by nobody.
        """
        machine, asked, digest = self._opened(system, payload)
        known = self._known(system, asked.sequence)
        if asked.sequence <= known.last:
            return self._again(asked, known, digest)
        if asked.sequence > known.last + 1:
            return self._told(asked, "hole", expected=known.last + 1)
        answered = self._done(machine.actor(f"mqtt:{system}"), asked)
        self._keep(asked, digest, answered)
        return answered

    def decided(self) -> list[ChangesAnswered]:
        """Return the answers that are due because a second person decided; each is told once."""
        due = []
        query = select(inbox).where(inbox.c.result.like('%"state":"waiting"%'))
        with self._office.database.reading("looking for decisions") as db:
            waiting = db.execute(query).all()
        for row in waiting:
            held = ChangesAnswered.model_validate_json(row.result)
            record = self._desk.records.get(held.change_set or "")
            if record is None or record.state in (ChangeSetState.WAITING, ChangeSetState.ASKED):
                continue
            answered = self._of_record(held.system, held.sequence, record)
            with self._office.database.writing("noting a decision") as db:
                db.execute(
                    update(inbox)
                    .where(inbox.c.system == row.system, inbox.c.sequence == row.sequence)
                    .values(result=answered.model_dump_json())
                )
            due.append(answered)
        return due

    def _opened(self, system: str, payload: bytes) -> tuple[Machine, ChangesAsked, str]:
        parsed = parse(payload, Signed)
        if parsed.type != TYPE_OF[ChangesAsked]:
            raise ContractError(f"$.type: {parsed.type!r} where {TYPE_OF[ChangesAsked]!r} belongs")
        machine = self._office.machines.with_key(system, self._now())
        if machine is None:
            raise ContractError(
                f"no key of the system {system!r} is known, or no longer (`staff tokens list`)"
            )
        octets = verify(parsed.data.jws, keys=(machine.proof.encode(),), typ=CHANGES_TYP)
        asked = parse_data(octets, ChangesAsked, limit=MAX_MESSAGE)
        if asked.system != system or asked.root != self._root:
            raise ContractError(
                f"$.data: signed for the system {asked.system!r} under {asked.root!r}, and came as {system!r} under"
                f" {self._root!r}"
            )
        return machine, asked, hashlib.sha256(octets).hexdigest()

    def _again(self, asked: ChangesAsked, known: _Known, digest: str) -> ChangesAnswered:
        if known.result is None:
            words = f"sequence {asked.sequence} was answered long ago; the last one is {known.last}"
            return self._told(asked, "refused", refusals=[ChangeRefusal(code="ANSWERED", words=words)])
        if known.digest != digest:
            words = (
                f"sequence {asked.sequence} came with other content before: the next one is {known.last + 1}"
            )
            return self._told(asked, "refused", refusals=[ChangeRefusal(code="SEQUENCE_REUSED", words=words)])
        return ChangesAnswered.model_validate_json(known.result)

    def _done(self, actor: Actor, asked: ChangesAsked) -> ChangesAnswered:
        try:
            request = ChangeSetRequest.model_validate(
                {
                    "changes": asked.changes,
                    "fingerprint": asked.fingerprint,
                    "reference": asked.reference,
                }
            )
            # The same message after a crash has the same id: it is applied once.
            record = self._desk.submit(actor, request, change_set_id(actor.name, f"mqtt {asked.sequence}"))
        except ValidationError as error:
            return self._told(asked, "refused", refusals=_mistakes(error))
        except ChangesRefused as refused:
            faults = [
                ChangeRefusal(place=f.place, code=f.code, words=f.message[:500]) for f in refused.faults
            ]
            return self._told(asked, "refused", refusals=faults)
        except MovedOn as error:
            return self._told(asked, "refused", refusals=[ChangeRefusal(code="MOVED_ON", words=str(error))])
        except OtherChanges as error:
            return self._told(
                asked, "refused", refusals=[ChangeRefusal(code="OTHER_CHANGES", words=str(error))]
            )
        except AccessDenied as error:
            return self._told(
                asked, "refused", refusals=[ChangeRefusal(code="NOT_ALLOWED", words=str(error))]
            )
        return self._of_record(asked.system, asked.sequence, record)

    def _of_record(self, system: str, sequence: int, record: ChangeSetRecord) -> ChangesAnswered:
        states: dict[ChangeSetState, Literal["applied", "waiting", "rejected"]] = {
            ChangeSetState.APPLIED: "applied",
            ChangeSetState.WAITING: "waiting",
            ChangeSetState.REJECTED: "rejected",
        }
        if record.state not in states:
            raise DirectoryFault(f"{record.id} was broken off: it is taken up again")
        return ChangesAnswered(
            system=system,
            sequence=sequence,
            state=states[record.state],
            change_set=record.id,
            directory_version=record.version,
            at=self._now(),
        )

    def _told(
        self,
        asked: ChangesAsked,
        state: Literal["refused", "hole"],
        *,
        expected: int | None = None,
        refusals: Sequence[ChangeRefusal] = (),
    ) -> ChangesAnswered:
        return ChangesAnswered(
            system=asked.system,
            sequence=asked.sequence,
            state=state,
            expected=expected,
            refusals=tuple(refusals)[:MAX_REFUSALS],
            at=self._now(),
        )

    def _known(self, system: str, sequence: int) -> _Known:
        mine = inbox.c.system == system
        with self._office.database.reading("asking how far a system is") as db:
            last = _last(db, system)
            row = db.execute(select(inbox).where(mine, inbox.c.sequence == sequence)).first()
        return _Known(last, None if row is None else row.digest, None if row is None else row.result)

    def _keep(self, asked: ChangesAsked, digest: str, answered: ChangesAnswered) -> None:
        mine = inbox.c.system == asked.system
        with self._office.database.writing("keeping an answer to a system") as db:
            values = {
                "system": asked.system,
                "sequence": asked.sequence,
                "digest": digest,
                "result": answered.model_dump_json(),
                "at": micros(self._now()),
            }
            db.execute(insert(inbox).values(**values))
            db.execute(delete(inbox).where(mine, inbox.c.sequence <= asked.sequence - KEPT))


def _last(db: Connection, system: str) -> int:
    found = db.execute(select(func.max(inbox.c.sequence)).where(inbox.c.system == system)).scalar()
    return 0 if found is None else int(found)


def _mistakes(error: ValidationError) -> list[ChangeRefusal]:
    found = []
    for one in error.errors(include_url=False, include_context=False, include_input=False)[:MAX_REFUSALS]:
        place = one["loc"][1] if len(one["loc"]) > 1 and one["loc"][0] == "changes" else None
        where = ".".join(str(part) for part in one["loc"])
        words = f"{where}: {one['msg'].removeprefix('Value error, ')}"[:500]
        found.append(
            ChangeRefusal(place=place if isinstance(place, int) else None, code="DOCUMENT", words=words)
        )
    return found
