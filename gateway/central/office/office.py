"""The office opened: its database (a file, or tables in a PostgreSQL), its key, and the parts that work on them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path
from types import TracebackType
from typing import Final

from sqlalchemy import Connection, insert, select

from gateway.central.office import tables
from gateway.central.office.machines import Machines
from gateway.central.office.proofs import Seal
from gateway.central.office.staff import Staff
from gateway.central.office.trail import Trail
from gateway.errors import ConfigError, JournalError
from gateway.private_file import make_private
from mapping.database import Database
from protocols.durable import replace_file

KEY_FILE: Final = "office.key"
HEAD_FILE: Final = "office.head"
_OCTETS: Final = 32


class Office:
    """Staff, machines and the trail; safe for threads and processes.

    Every method of its parts may raise JournalError when the store cannot be used.
    """

    def __init__(self, where: Path | str, folder: Path) -> None:
        """Open or make the database at a path or URL; `folder` (0700) has the office's key and the trail's head.

        Raises JournalError when it cannot be opened, ConfigError when the key is not there though the database is,
        WrongStoreVersion when a newer program made it.
        """
        self._db = Database(where, store="office", fault=JournalError)
        try:
            if self._db.is_file:
                make_private(Path(where))
            self._bring_up_to_date()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.uuid, key = self._born(folder / KEY_FILE)
            seal = Seal(key)
        except OSError as error:
            self._db.close()
            raise JournalError(f"the office {self._db.where} cannot be used: {error}") from error
        except BaseException:
            self._db.close()
            raise
        self.database = self._db
        self.seal = seal
        self.trail = Trail(self._db, folder / HEAD_FILE)
        self.staff = Staff(self._db, self.trail, seal)
        self.machines = Machines(self._db, self.trail)

    def _bring_up_to_date(self) -> None:
        with self._db.reading("being opened") as db:
            if tables.VERSIONS.version(db) == tables.VERSIONS.newest:
                return
        with self._db.writing("being opened") as db:
            tables.VERSIONS.bring_up_to_date(db, self._db.where)

    def _born(self, key_file: Path) -> tuple[str, bytes]:
        """Return the office's uuid and key; both are made when it is opened first."""
        with self._db.reading("asking who it is") as db:
            held = _held(db)
        if "uuid" not in held:
            with self._db.writing("being born") as db:
                held = _held(db)
                if "uuid" not in held:
                    key = _read_key(key_file) if key_file.exists() else secrets.token_bytes(_OCTETS)
                    replace_file(key_file, f"{key.hex()}\n".encode())
                    held = {"uuid": secrets.token_hex(16), "key": _print_of(key)}
                    db.execute(insert(tables.life), [{"name": n, "value": v} for n, v in held.items()])
        key = _read_key(key_file)
        if not hmac.compare_digest(_print_of(key), held.get("key", "")):
            raise ConfigError(
                f"{key_file} is not the key of the office in {self._db.where}: restore the one that was kept with it"
            )
        return held["uuid"], key

    def close(self) -> None:
        """Release the database."""
        self._db.close()

    def __enter__(self) -> Office:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _held(db: Connection) -> dict[str, str]:
    return {row.name: row.value for row in db.execute(select(tables.life))}


def _print_of(key: bytes) -> str:
    """Return what tells a key from another and does not tell the key."""
    return hmac.new(key, b"which key", hashlib.sha256).hexdigest()[:16]


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is not there, and the office was made with it: restore it from its copy, or from the box that "
            "uses the same database"
        ) from None
    except ValueError:
        key = b""
    if len(key) != _OCTETS:
        raise ConfigError(f"{path} is damaged: restore it from its copy")
    return key
