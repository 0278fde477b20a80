"""The edge's socket in the file system: made with its modes, found, and whether anybody listens there.

The kernel takes about a hundred octets of a path; a longer one is reached through its folder's descriptor.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path

LONGEST = 100
"""Octets of a path that every Unix takes (sun_path has 108 on Linux, one of them the end)."""
BACKLOG = 64


class SocketState(StrEnum):
    """What a command finds at the socket's path."""

    SERVED = "served"
    FORBIDDEN = "forbidden"
    NOBODY = "nobody"


@contextmanager
def _name_of(path: Path) -> Iterator[str]:
    """Yield a name of the path that fits into a socket's address."""
    if len(os.fsencode(path)) <= LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listening_socket(path: Path, group: str | None) -> socket.socket:
    """Return a listening socket at `path`: mode 0600, or 0660 of `group`; OSError says what is wrong.

    One that a dead edge left is replaced: the caller holds the edge's counters, so that no other edge lives.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, f"{path} is there and is no socket")
        path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)  # nobody connects before the group and its mode are set
    try:
        with _name_of(path) as name:
            made.bind(name)
        if group is not None:
            os.chown(path, -1, _group_id(group))
            path.chmod(0o660)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    finally:
        os.umask(before)
    return made


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise OSError(errno.EINVAL, f"there is no group `{name}`") from None


def connected_socket(path: Path) -> socket.socket:
    """Return a blocking socket that is connected to the edge's; OSError when nobody is there, or not for us."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with _name_of(path) as name:
            made.connect(name)
    except OSError:
        made.close()
        raise
    return made


def socket_state(path: Path) -> SocketState:
    """Say whether an edge listens at `path`, and whether we may speak with it."""
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return SocketState.NOBODY  # also a folder that we may not look into: then the port's own lock decides
    if not is_socket:
        return SocketState.NOBODY
    try:
        connected_socket(path).close()
    except PermissionError:
        return SocketState.FORBIDDEN
    except OSError:
        return SocketState.NOBODY
    return SocketState.SERVED
