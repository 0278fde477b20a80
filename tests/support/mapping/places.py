"""Where a test keeps a directory for a moment: a file of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

Place = Callable[[], AbstractContextManager[Path | str]]
"""Makes a place for one directory that goes with the block."""


@contextmanager
def in_a_file() -> Iterator[Path | str]:
    """Yield the path of a file in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "directory.db"
