"""Exit codes of every command."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a command's exit code means."""

    GOOD = 0
    FAILED = 1
    """The command ran and found something wrong (it says what)."""
    USAGE = 2
    """Wrong use of the command, or a file or number that was refused."""
    CONFIG = 3
    """The configuration or a secret is wrong."""
    PEER = 4
    """A meter, line, broker or server did not do its part."""
    JOURNAL = 5
    """The journal or a store cannot be used."""
