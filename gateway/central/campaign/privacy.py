"""One consumer's slips and tellings: given out whole; names and notes erased, the rest kept so that sums stay right."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update

from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.tables import place, slip, target, tick
from mapping.instants import instant


def export(store: CampaignStore, account_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return all that the store holds of an account: its slips with what readers said, and who told it what."""
    with store.db.reading("exporting slips") as db:
        slips = db.execute(
            select(slip, place.c.name)
            .outerjoin(place, place.c.usage_point == slip.c.usage_point)
            .where(slip.c.account_id == account_id)
            .order_by(slip.c.id)
        ).all()
        said = db.execute(
            select(tick)
            .join(slip, slip.c.id == tick.c.slip)
            .where(slip.c.account_id == account_id)
            .order_by(tick.c.id)
        ).all()
        told = db.execute(select(target).where(target.c.account_id == account_id).order_by(target.c.id)).all()
    return {
        "slips": [
            {
                "number": row.number,
                "usage_point": row.usage_point,
                "route": row.route,
                "name": row.name,
                "made_at": None if row.made_at is None else instant(row.made_at),
                "verdict": row.verdict,
            }
            for row in slips
        ],
        "reader_said": [
            {"verdict": row.verdict, "at": instant(row.at), "by": row.by, "note": row.note} for row in said
        ],
        "campaigns": [
            {
                "campaign": row.campaign,
                "number": row.number,
                "state": row.state,
                "told_by": row.told_how,
                "told_at": None if row.told_at is None else instant(row.told_at),
            }
            for row in told
        ],
    }


def forget(store: CampaignStore, account_id: str) -> int:
    """Erase an account's names in the route book and what readers noted beside its slips; return how many."""
    mine = select(slip.c.id).where(slip.c.account_id == account_id)
    points = select(slip.c.usage_point).where(slip.c.account_id == account_id)
    with store.db.writing("erasing names of slips") as db:
        names = db.execute(
            update(place).where(place.c.usage_point.in_(points), place.c.name.is_not(None)).values(name=None)
        ).rowcount
        notes = db.execute(
            update(tick).where(tick.c.slip.in_(mine), tick.c.note != "").values(note="")
        ).rowcount
    return names + notes
