"""Files that only this user may read: keys, what a meter recorded, a configuration with the way to both."""

from __future__ import annotations

import os
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Write `content` as the file `path` with mode 0600; OSError when it cannot be written or is a link.

    A file that is there already loses what others may do with it before anything is written into it.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)


def make_private(path: Path) -> None:
    """Make a file with mode 0600 for a database, and its folder, where there is none; OSError when it cannot be made.

    A file that is there, perhaps a copy that somebody put back, loses what others may do with it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
