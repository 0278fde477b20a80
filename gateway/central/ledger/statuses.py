"""The last status of each gateway and the last balance of each account, as they were told."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from gateway.central.ledger.database import Database, columns, put, records
from gateway.central.ledger.records import StoredBalance, StoredStatus
from gateway.central.ledger.schema import balances, statuses


class Statuses:
    """The last status of every gateway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, gateway: str, body: str, received: datetime) -> None:
        """Keep a status (the contract's Status as JSON) in place of the gateway's former one."""
        with self._database.writing("storing a status") as connection:
            put(connection, statuses, {"gateway": gateway}, {"received_at": received, "body": body})

    def all(self) -> list[StoredStatus]:
        """Return the last status of every gateway, by its name."""
        query = select(*columns(statuses, StoredStatus)).order_by(statuses.c.gateway)
        with self._database.reading("listing statuses") as connection:
            return records(connection, StoredStatus, query)


class Balances:
    """The wallet balance of every account that billing told of."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, account_id: str, as_of: datetime, body: str, received: datetime) -> bool:
        """Keep a balance (the contract's Balance as JSON); False when a later one (by `as_of`) is held."""
        held_at = select(balances.c.as_of).where(balances.c.account_id == account_id)
        with self._database.writing("storing a balance") as connection:
            held = connection.execute(held_at).scalar()
            if held is not None and held > as_of:
                return False
            row = {"as_of": as_of, "received_at": received, "body": body}
            put(connection, balances, {"account_id": account_id}, row)
            return True

    def get(self, account_id: str) -> StoredBalance | None:
        """Return the balance that billing last told, or None: never zero by default."""
        query = select(*columns(balances, StoredBalance)).where(balances.c.account_id == account_id)
        with self._database.reading("reading a balance") as connection:
            return next(iter(records(connection, StoredBalance, query)), None)
