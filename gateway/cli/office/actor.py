"""Who gives a command, for the records that it leaves."""

from __future__ import annotations

import getpass


def actor() -> str:
    """Return the name of the user, or `unknown` where the system has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
