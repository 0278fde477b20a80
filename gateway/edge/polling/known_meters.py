"""What sessions learned of meters, in one SQLite file: a restarted edge asks for nothing that it knows."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path

import structlog
from pydantic import TypeAdapter

from gateway.edge.polling.clock_corrections import ClockNote
from gateway.edge.polling.descent import Descent
from protocols.dlms.objects.object_list import ObjectEntry
from protocols.dlms.reading.known_meter import KnownMeter
from protocols.dlms.reading.layout_cache import KnownLayout
from protocols.event_marks import TakenLogs
from protocols.modbus.belief.meter_memory import MeterMemory
from protocols.modbus.planning.known_meter import KnownModbusMeter

Key = tuple[str, str, str]
Learned = (
    KnownLayout
    | KnownMeter
    | TakenLogs
    | tuple[ObjectEntry, ...]
    | KnownModbusMeter
    | MeterMemory
    | ClockNote
    | Descent
)
_KINDS: dict[str, TypeAdapter[Learned]] = {
    "layout": TypeAdapter(KnownLayout),
    "meter": TypeAdapter(KnownMeter),
    "events": TypeAdapter(TakenLogs),
    "objects": TypeAdapter(tuple[ObjectEntry, ...]),
    "modbus": TypeAdapter(KnownModbusMeter),
    "memory": TypeAdapter(MeterMemory),
    "clock": TypeAdapter(ClockNote),
    "descent": TypeAdapter(Descent),
}
VERSION = 2
"""Of what the file holds; a file of another version is begun anew."""
MAX_ABSENT = 100_000
"""Keys remembered that the file does not have: ten for each meter of the largest edge."""
log = structlog.get_logger("gateway.edge.polling")


class KnownMeters(MutableMapping[Key, Learned]):
    """Implements `protocols.known.Known`; its bound is kept by whoever puts something in.

    Nothing in it is a reading: a file that is lost, damaged or of another version costs round trips only, and is
    begun anew. What a crash loses of it is asked for again. Layouts carry their age and a fingerprint, and are
    looked at as they are without a restart. One thread uses it.
    """

    def __init__(self, path: Path) -> None:
        self._held: dict[Key, Learned] = {}
        self._absent: set[Key] = set()
        try:
            self._db = _open(path)
        except sqlite3.Error as error:
            log.warning("known_meters_begun_anew", path=str(path), error=str(error))
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                path.with_name(name).unlink(missing_ok=True)
            self._db = _open(path)
        (self._count,) = self._db.execute("select count(*) from known").fetchone()

    def __getitem__(self, key: Key) -> Learned:
        if key not in self._held:
            row = None if key in self._absent else self._read(key)
            if row is None:
                # Asked for again at each visit: nobody else writes the file.
                if len(self._absent) >= MAX_ABSENT:
                    self._absent.clear()
                self._absent.add(key)
                raise KeyError(key)
            self._held[key] = row
        return self._held[key]

    def __setitem__(self, key: Key, learned: Learned) -> None:
        new = key not in self
        self._held[key] = learned
        self._absent.discard(key)
        kind = _kind_of(learned)
        octets = _KINDS[kind].dump_json(learned)
        with suppress(sqlite3.Error):  # a full disk costs round trips after a restart, no reading
            self._db.execute(
                "insert or replace into known values (?, ?, ?, ?, ?, ?)",
                (*key, kind, octets, _checksum(key, kind, octets)),
            )
        self._count += new

    def __delitem__(self, key: Key) -> None:
        if key not in self:
            raise KeyError(key)
        self._held.pop(key, None)
        with suppress(sqlite3.Error):
            self._db.execute("delete from known where meter = ? and firmware = ? and name = ?", key)
        self._count -= 1

    def __iter__(self) -> Iterator[Key]:
        yield from self._db.execute("select meter, firmware, name from known").fetchall()

    def __len__(self) -> int:
        return int(self._count)

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self._db.execute("delete from known")
        self._count = 0

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _read(self, key: Key) -> Learned | None:
        query = "select kind, learned, checksum from known where meter = ? and firmware = ? and name = ?"
        try:
            row = self._db.execute(query, key).fetchone()
            if row is None:
                return None
            kind, octets, checksum = row
            if checksum != _checksum(key, kind, octets):
                raise ValueError("its checksum does not fit")
            return _KINDS[kind].validate_json(octets)
        except (sqlite3.Error, TypeError, ValueError, KeyError) as error:
            log.warning("known_meter_unreadable", meter=key[0], name=key[2], error=str(error))
            return None


def _checksum(key: Key, kind: str, octets: bytes) -> int:
    """A flipped digit would be another scale."""
    return zlib.crc32("\0".join((*key, kind)).encode() + octets)


def _kind_of(learned: Learned) -> str:
    match learned:
        case KnownLayout():
            return "layout"
        case KnownMeter():
            return "meter"
        case TakenLogs():
            return "events"
        case KnownModbusMeter():
            return "modbus"
        case MeterMemory():
            return "memory"
        case ClockNote():
            return "clock"
        case Descent():
            return "descent"
    return "objects"


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = normal")
        (version,) = db.execute("pragma user_version").fetchone()
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError(f"version {version}")
        db.execute(
            "create table if not exists known (meter text, firmware text, name text, kind text, learned blob,"
            " checksum integer, primary key (meter, firmware, name)) without rowid"
        )
        db.execute(f"pragma user_version = {VERSION}")
        db.execute("pragma quick_check").fetchone()
    except sqlite3.Error:
        db.close()
        raise
    return db
