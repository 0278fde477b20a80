"""The secrets of a gateway's meters, as every program on its box takes them."""

from __future__ import annotations

from gateway.config.file import Config
from gateway.edge.keys.ring import KeyRing
from gateway.edge.keys.store import FILE
from protocols.meters.secrets import FileSecrets
from protocols.session import Clock


def key_ring(config: Config, clock: Clock) -> KeyRing:
    """Return the secrets of a gateway's meters: what its file of keys holds before the secrets folder."""
    return KeyRing(config.edge_folder / FILE, FileSecrets(config.secrets), clock)
