"""A served gateway (data concentrator): meters behind one wPort or station, told apart by the prefix; sans-IO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from protocols.dlms.apdu.services import ExceptionResponse, encode_apdu
from protocols.dlms.framing.gateway import REQUEST, RESPONSE, Behind, parted
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.links import ServedAssociation, ServedMeter
from protocols.dlms.server.services import IMPOSSIBLE, NOT_ALLOWED
from protocols.errors import MeterProtocolError

MAX_CONVERSATIONS = 64
"""Meters that one client may speak with on one connection; a further one gets no answer."""


@dataclass(frozen=True, kw_only=True)
class ServedGateway:
    """Meters by network and address. `reaches` says whether one is there now; a meter that is not is silent."""

    meters: Mapping[Behind, ServedMeter]
    reaches: Callable[[ServedMeter], bool] = lambda _: True
    one_client: bool = False

    def limits(self, common: ServerSettings) -> ServerSettings:
        """A gateway has no limits of its own; each meter has."""
        return common

    def associate(self, client: int, settings: ServerSettings) -> ServedAssociation:
        """Return one client's conversations through the gateway."""
        return _Conversations(self, client, settings)


class _Conversations:
    """One client's association with each meter behind the gateway."""

    def __init__(self, gateway: ServedGateway, client: int, settings: ServerSettings) -> None:
        self._gateway = gateway
        self._client = client
        self._settings = settings
        self._open: dict[Behind, ServedAssociation] = {}

    def handle(self, octets: bytes) -> list[bytes]:
        """Pass an APDU on to its meter; the gateway itself has nothing to say."""
        try:
            tag, name, apdu = parted(octets)
        except MeterProtocolError:
            return [encode_apdu(ExceptionResponse(state=NOT_ALLOWED, service=IMPOSSIBLE))]
        meter = self._gateway.meters.get(name)
        if tag != REQUEST or meter is None or not self._gateway.reaches(meter):
            return []
        known = self._open.get(name)
        if known is None:
            if len(self._open) >= MAX_CONVERSATIONS:
                return []
            known = self._open[name] = meter.associate(self._client, meter.limits(self._settings))
        return [name.prefix(RESPONSE) + answer for answer in known.handle(apdu)]
