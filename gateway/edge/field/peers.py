"""Who is at the other end of the edge's socket, by the kernel's word, and what he may do."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from dataclasses import dataclass

_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59
"""Linux's number; Python has no name for it."""
_MOST = 1024
"""Octets that Python's getsockopt takes: 256 groups. Who is in more counts as in none but his first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A process: its user and groups when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]

    @property
    def name(self) -> str:
        """Its user as people write it: `anil (uid 1001)`."""
        try:
            return f"{pwd.getpwuid(self.uid).pw_name} (uid {self.uid})"
        except KeyError:
            return f"uid {self.uid}"

    @property
    def is_ours(self) -> bool:
        """Whether it is root, or runs as the edge itself: it can read the edge's keys and counters anyway."""
        return self.uid in (0, os.geteuid())

    def may_work(self, group: int | None) -> bool:
        """Say whether it may take turns: root, the edge's own user, and who is in the socket's group."""
        return self.is_ours or (group is not None and group in self.groups)


def peer_of(connection: socket.socket) -> Peer:
    """Return who connected; OSError where the system does not tell."""
    octets = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(octets)
    try:
        more = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST)
    except OSError:
        more = b""
    supplementary = struct.unpack(f"{len(more) // 4}I", more)
    return Peer(pid=pid, uid=uid, groups=frozenset({gid, *supplementary}))
