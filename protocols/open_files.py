"""How many files this process may hold open at once: each connection and each serial port is one."""

from __future__ import annotations

import resource


def raise_file_limit(wanted: int) -> int:
    """Let this process hold `wanted` descriptors, as far as the system allows; return how many it may hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # a unit's system call filter, which sets LimitNOFILE itself
        return soft
    return most
