"""Exit codes of every command."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a command ends with; `meaning` says it in words."""

    GOOD = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    PEER = 4
    JOURNAL = 5
    DENIED = 6

    @property
    def meaning(self) -> str:
        """Return what the code means."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.GOOD: "all is well",
    Exit.FAILED: "the command ran and found something wrong; it says what",
    Exit.USAGE: "wrong use, or a file or number that was refused",
    Exit.CONFIG: "the configuration or a secret is wrong",
    Exit.PEER: "a meter, line, broker or server did not do its part",
    Exit.JOURNAL: "the journal or a store cannot be used",
    Exit.DENIED: "nobody is logged in, or whoever is may not do this",
}
