"""Many open files in one process, as an edge with thousands of meters has them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def file_limit(wanted: int) -> Iterator[None]:
    """Allow this process `wanted` open files for the time of the block; fail the test where that is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.fail(f"this test needs {wanted} files, the system allows {hard}: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def files_open(count: int) -> Iterator[None]:
    """Hold `count` descriptors: what is opened in the block gets higher numbers."""
    with file_limit(count + 500):
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
        try:
            yield
        finally:
            for descriptor in held:
                os.close(descriptor)
