"""The sign of life that central leaves in its ledger, so that pages tell "no fault" from "nobody hears any"."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from gateway.central.ledger.database import Database, columns, put, records
from gateway.central.ledger.records import CentralSign
from gateway.central.ledger.schema import central_health

_NAME = "central"


class SignsOfLife:
    """When central last worked, when it last had the broker, and what is wrong."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def leave(self, at: datetime, *, connected: bool, fault: str | None) -> None:
        """Note that central works at `at`, whether it has the broker, and what is wrong."""
        heard = {"heard_broker_at": at} if connected else {}
        with self._database.writing("leaving a sign of life") as connection:
            put(connection, central_health, {"name": _NAME}, {"at": at, "fault": fault, **heard})

    def read(self) -> CentralSign | None:
        """Return the last sign, None when central never left one."""
        query = select(*columns(central_health, CentralSign)).where(central_health.c.name == _NAME)
        with self._database.reading("reading central's sign of life") as connection:
            return next(iter(records(connection, CentralSign, query)), None)
