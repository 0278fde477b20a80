"""Which configured meters may push, how they show themselves, and with which keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from protocols.dlms.companion import PushGrammar
from protocols.dlms.data.cosem_time import INDIA
from protocols.dlms.push.senders import PushPeer
from protocols.dlms.security.ciphered_forms import ENCRYPTED
from protocols.dlms.security.suites import Keys
from protocols.errors import MeterConfigError
from protocols.session import ChangingSecrets, DlmsSettings, SecretSource


@dataclass(frozen=True, slots=True, kw_only=True)
class PushingMeter:
    """One meter that pushes or dials in: its peer, where its keys are, its zone, whose columns to believe."""

    peer: PushPeer
    encryption_key_ref: str | None = None
    authentication_key_ref: str | None = None
    suite: int = 0
    zone: ZoneInfo = INDIA
    companion_columns: bool = False
    pushes: bool = True
    dlms: DlmsSettings | None = None
    """How it is associated with: whose keys its pushes are ciphered with, where they change."""


class PushPeers:
    """Implements `KeyRing`. A title or device that two meters share names neither. Keys are read when needed.

    `dedicated` tells the dedicated keys of the association that stands with a meter of that name.
    """

    def __init__(
        self,
        meters: Iterable[PushingMeter],
        secrets: SecretSource,
        dedicated: Callable[[str], Keys | None] = lambda _name: None,
    ) -> None:
        self._secrets = secrets
        self._dedicated = dedicated
        self._grammars: dict[int, PushGrammar] = {}
        self._titles: dict[bytes, PushingMeter | None] = {}
        self._devices: dict[str, PushPeer | None] = {}
        self._names: dict[str, PushPeer] = {}
        for meter in meters:
            peer = meter.peer
            self._names[peer.name] = peer
            if not meter.pushes:
                continue
            self._grammars.setdefault(id(peer.forms), peer.forms)
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
        return None if meter is None else _keys(meter, self._sources(meter)[0])

    def other_keys(self, system_title: bytes) -> Sequence[Keys]:
        """Return further keys of the meter while they are changed; those that cannot be read are left out."""
        meter = self._titles.get(system_title)
        found = []
        for source in () if meter is None else self._sources(meter)[1:]:
            with suppress(MeterConfigError):
                if meter is not None and (keys := _keys(meter, source)) is not None:
                    found.append(keys)
        return found

    def _sources(self, meter: PushingMeter) -> Sequence[SecretSource]:
        source = self._secrets
        if isinstance(source, ChangingSecrets) and meter.dlms is not None:
            return source.choices(meter.peer.name, meter.dlms)
        return (source,)

    def dedicated_keys(self, system_title: bytes) -> Keys | None:
        """Return the dedicated keys of the association that stands with the meter of this title."""
        peer = self.peer_of_title(system_title)
        return None if peer is None else self._dedicated(peer.name)

    def grammars(self) -> Sequence[PushGrammar]:
        """Return how the meters push, each grammar once."""
        return tuple(self._grammars.values())

    def named(self, name: str) -> PushPeer | None:
        """Find a meter by its own name, whether it pushes or only dials in."""
        return self._names.get(name)


def _keys(meter: PushingMeter, source: SecretSource) -> Keys | None:
    if meter.encryption_key_ref is None:
        return None
    encryption = source.secret(meter.encryption_key_ref)
    if meter.authentication_key_ref is not None:
        authentication = source.secret(meter.authentication_key_ref)
    elif meter.peer.required == ENCRYPTED:
        authentication = bytes(len(encryption))  # which nothing needs
    else:
        return None
    return Keys(encryption=encryption, authentication=authentication, suite=meter.suite)
