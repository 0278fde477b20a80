"""The last balance of each account, as billing told it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from gateway.central.ledger.database import Database, columns, put, records
from gateway.central.ledger.records import StoredBalance
from gateway.central.ledger.schema import balances
from gateway.central.ledger.times import AHEAD


class Balances:
    """The wallet balance of every account that billing told of."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, account_id: str, as_of: datetime, body: str, received: datetime) -> bool:
        """Keep a balance (the contract's Balance as JSON); False when a later one (by `as_of`) is held.

        One that is dated after `received` was never true, and counts as none.
        """
        held_at = select(balances.c.as_of).where(balances.c.account_id == account_id)
        with self._database.writing("storing a balance") as connection:
            held = connection.execute(held_at).scalar()
            if held is not None and as_of < held <= received + AHEAD:
                return False
            row = {"as_of": as_of, "received_at": received, "body": body}
            put(connection, balances, {"account_id": account_id}, row)
            return True

    def get(self, account_id: str) -> StoredBalance | None:
        """Return the balance that billing last told, or None: never zero by default."""
        query = select(*columns(balances, StoredBalance)).where(balances.c.account_id == account_id)
        with self._database.reading("reading a balance") as connection:
            return next(iter(records(connection, StoredBalance, query)), None)
