"""A directory change that never ends: `python -m tests.support.mapping.killed_process PATH`, to be killed.

It prints "written" when the rows are in the file and not yet committed, then waits.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from mapping import directory_tables
from mapping.changes import Name
from mapping.directory import ChangeSet, NumberKind
from mapping.store import DirectoryStore

_write = directory_tables.write


def write_and_wait(db: Connection, change: ChangeSet, gone: Any, new: Any) -> None:
    _write(db, change, gone, new)
    print("written", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    directory_tables.write = write_and_wait
    names = [Name(f"acc-{i}", NumberKind.LEGACY, f"L{i}") for i in range(5000)]
    DirectoryStore(sys.argv[1]).apply(names, by="x", source="y", at=datetime.now(UTC))
