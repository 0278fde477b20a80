"""Files that are whole or not there: a crash at any moment leaves the old content or the new."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write `content` as the file `path` durably; OSError when it cannot, then the old file stands.

    Blocking. Written beside it under the name `{name}.new`, then renamed; `mode` are the new file's rights.
    One writer at a time: whoever owns the file sees to that.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # of a crash: O_EXCL then makes sure that the rights are ours
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # before the rename, which may reach the disk first
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # a rename is durable with its folder alone
    finally:
        os.close(folder)
