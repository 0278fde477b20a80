"""Approvals of a plan by its fingerprint: who looked at exactly this and lets it pass."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert, select

from gateway.central.office.actors import Actor, Proof, Right
from gateway.central.office.office import Office
from gateway.central.office.tables import approval
from gateway.errors import AccessDenied
from mapping.instants import micros


class Approvals:
    """The approvals in an office."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def give(self, actor: Actor, fingerprint: str, *, at: datetime) -> None:
        """Note that somebody approves; AccessDenied for a machine, and for whoever has not the role."""
        actor.need(Right.APPROVE)
        if actor.proof is not Proof.SESSION:
            raise AccessDenied("only a person who has logged in approves: no machine, and no token")
        if actor.name in self.of(fingerprint):
            return
        with self._office.database.writing("approving") as db:
            db.execute(insert(approval).values(fingerprint=fingerprint, by=actor.name, at=micros(at)))
            self._office.trail.add(db, actor, "plan.approved", f"plan:{fingerprint}", at=at)
        self._office.trail.settle()

    def of(self, fingerprint: str) -> list[str]:
        """Return who approved a plan, the earliest first."""
        query = select(approval.c.by).where(approval.c.fingerprint == fingerprint).order_by(approval.c.at)
        with self._office.database.reading("asking for approvals") as db:
            return list(db.execute(query).scalars())

    def second(self, fingerprint: str, who: str) -> str | None:
        """Return somebody else than `who` who approved a plan, None where nobody did."""
        return next((name for name in self.of(fingerprint) if name != who), None)
