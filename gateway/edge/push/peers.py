"""Which configured meters may push, how they show themselves, and with which keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protocols.dlms.push.receiver import PushPeer
from protocols.dlms.security.suites import Keys
from protocols.session import SecretSource


@dataclass(frozen=True, slots=True, kw_only=True)
class PushingMeter:
    """One meter that pushes or dials in: its peer, where its keys are, its zone, whose columns to believe."""

    peer: PushPeer
    encryption_key_ref: str | None = None
    authentication_key_ref: str | None = None
    suite: int = 0
    zone: str = "Asia/Kolkata"
    companion_columns: bool = False
    pushes: bool = True


class PushPeers:
    """Implements `KeyRing`. A title or device that two meters share names neither. Keys are read when needed."""

    def __init__(self, meters: Iterable[PushingMeter], secrets: SecretSource) -> None:
        self._secrets = secrets
        self._titles: dict[bytes, PushingMeter | None] = {}
        self._devices: dict[str, PushPeer | None] = {}
        self._names: dict[str, PushPeer] = {}
        for meter in meters:
            peer = meter.peer
            self._names[peer.name] = peer
            if not meter.pushes:
                continue
            if peer.title:
                self._titles[peer.title] = None if peer.title in self._titles else meter
            for device in peer.devices:
                self._devices[device] = None if device in self._devices else peer

    def peer_of_title(self, system_title: bytes) -> PushPeer | None:
        """Find a meter by its system title."""
        meter = self._titles.get(system_title)
        return None if meter is None else meter.peer

    def peer_of_device(self, device: str) -> PushPeer | None:
        """Find a meter by the device id or serial that a body carries."""
        return self._devices.get(device)

    def keys_for(self, system_title: bytes) -> Keys | None:
        """Return the meter's global keys; MeterConfigError when a file is missing or not private."""
        meter = self._titles.get(system_title)
        if meter is None or meter.encryption_key_ref is None or meter.authentication_key_ref is None:
            return None
        return Keys(
            encryption=self._secrets.secret(meter.encryption_key_ref),
            authentication=self._secrets.secret(meter.authentication_key_ref),
            suite=meter.suite,
        )

    def named(self, name: str) -> PushPeer | None:
        """Find a meter by its own name, whether it pushes or only dials in."""
        return self._names.get(name)
