"""Whose reading it is: numbers, directory and re-key. Knows no protocol, broker or page.

What is listed in `__all__` is its face; errors lie in `mapping.errors`, other changes (corrections of a history)
in `mapping.changes`. It needs SQLAlchemy (and openpyxl where a file is a workbook), and keeps the directory in one
SQLite file or in a PostgreSQL.

    from mapping import DirectoryStore, apply_import, plan_import

    with DirectoryStore("directory.db") as store:
        plan = plan_import(store.snapshot(), "meters.csv", at=now)
        apply_import(store, plan, by="clerk", at=now)
        whose = store.snapshot().attributions("GEN:12345678", start, end)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mapping.account import AccountNumber, LegacyNumber, MeterId
    from mapping.changes import Install, MoveIn, MoveOut, Name, Remove
    from mapping.directory import NumberKind, Role
    from mapping.imports import apply_import, plan_import
    from mapping.rekey import apply_rekey, plan_rekey
    from mapping.snapshot import DirectorySnapshot
    from mapping.store import DirectoryStore

__all__ = [
    "AccountNumber",
    "DirectorySnapshot",
    "DirectoryStore",
    "Install",
    "LegacyNumber",
    "MeterId",
    "MoveIn",
    "MoveOut",
    "Name",
    "NumberKind",
    "Remove",
    "Role",
    "apply_import",
    "apply_rekey",
    "plan_import",
    "plan_rekey",
]

_HOMES = {
    "AccountNumber": "account",
    "DirectorySnapshot": "snapshot",
    "DirectoryStore": "store",
    "Install": "changes",
    "LegacyNumber": "account",
    "MeterId": "account",
    "MoveIn": "changes",
    "MoveOut": "changes",
    "Name": "changes",
    "NumberKind": "directory",
    "Remove": "changes",
    "Role": "directory",
    "apply_import": "imports",
    "apply_rekey": "rekey",
    "plan_import": "imports",
    "plan_rekey": "rekey",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562): who parses a number need not load a database."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mapping.{_HOMES[name]}"), name)
