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
