"""A served meter read by short names: names for the objects of its list, and READ, whole and in blocks; sans-IO."""

from __future__ import annotations

from protocols.dlms.apdu.lists import Outcome, Target
from protocols.dlms.apdu.short_names import (
    ASSOCIATION,
    OBJECT_LIST,
    STEP,
    NextBlock,
    ReadBlock,
    ReadRequest,
    ReadResponse,
    Variable,
    encode_results,
)
from protocols.dlms.data import axdr
from protocols.dlms.data.cursor import MAX_OCTETS
from protocols.dlms.data.types import Data, array, long, long_unsigned, octets, structure, unsigned
from protocols.dlms.server.model import OBJECT_UNDEFINED, OTHER_REASON, AccessDenied, CosemModel
from protocols.obis import Obis

BLOCK_OVERHEAD = 9
MIN_ROOM = 16
BLOCK_NUMBER_INVALID = 19
FIRST_BASE = 0x0100
_CURRENT = Obis(0, 0, 40, 0, 0)
_ASSOCIATION_LN, _ASSOCIATION_SN = 15, 12
_LEAST = 12
"""Attributes and methods that each object has room for."""


class ShortNames:
    """One association's READ. `room` is the octets that a plain answer may have."""

    def __init__(self, model: CosemModel, client: int, *, room: int) -> None:
        self._model = model
        self._client = client
        self._objects = _named(model.get(client, Target(_ASSOCIATION_LN, _CURRENT, 2)))
        self._left = b""
        self._sent = 0
        self.use_room(room)

    def use_room(self, room: int) -> None:
        """Let plain answers have so many octets from now on."""
        self._room = max(MIN_ROOM, room - BLOCK_OVERHEAD)

    def serve(self, request: ReadRequest) -> ReadResponse:
        """Answer a READ."""
        match request.variables:
            case (NextBlock(number=number),):
                return self._next(number)
        self._left = b""
        results: list[Outcome] = []
        octets_left = MAX_OCTETS
        for variable in request.variables:
            outcome = Outcome(OTHER_REASON) if isinstance(variable, NextBlock) else self._outcome(variable)
            octets_left -= 2 + (0 if outcome.data is None else len(axdr.encode(outcome.data)))
            results.append(outcome if octets_left > 0 else Outcome(OTHER_REASON))
        encoded = encode_results(tuple(results))
        if len(encoded) <= self._room:
            return ReadResponse(tuple(results))
        self._left, self._sent = encoded, 0
        return self._block()

    def _next(self, number: int) -> ReadResponse:
        if not self._left or number != self._sent:
            self._left = b""
            return ReadResponse((Outcome(BLOCK_NUMBER_INVALID),))
        return self._block()

    def _block(self) -> ReadResponse:
        raw, self._left = self._left[: self._room], self._left[self._room :]
        self._sent += 1
        return ReadResponse((ReadBlock(not self._left, self._sent & 0xFFFF, raw),))

    def _outcome(self, variable: Variable) -> Outcome:
        try:
            return Outcome(0, self._read(variable))
        except AccessDenied as denied:
            return Outcome(denied.code)

    def _read(self, variable: Variable) -> Data:
        if variable.name == OBJECT_LIST:
            return self._list()
        for base, (end, class_id, _, obis) in self._objects.items():
            if base <= variable.name < end and not (variable.name - base) % STEP:
                index = (variable.name - base) // STEP + 1
                return self._model.get(self._client, Target(class_id, obis, index, variable.selection))
        raise AccessDenied(OBJECT_UNDEFINED)

    def _list(self) -> Data:
        entries = [
            (base, class_id, version, obis) for base, (_, class_id, version, obis) in self._objects.items()
        ]
        entries.append((ASSOCIATION, _ASSOCIATION_SN, 1, _CURRENT))
        return array(
            *(
                structure(
                    long(base - 0x10000 if base > 0x7FFF else base),
                    long_unsigned(class_id),
                    unsigned(version),
                    octets(obis.to_bytes()),
                )
                for base, class_id, version, obis in entries
            )
        )


def _named(listed: Data) -> dict[int, tuple[int, int, int, Obis]]:
    """Give each object of a list by logical names a base name: its end, class, version and OBIS code."""
    named: dict[int, tuple[int, int, int, Obis]] = {}
    base = FIRST_BASE
    for entry in listed.items:
        match entry.items:
            case (Data(_, int() as class_id), Data(_, int() as version), Data(_, bytes() as name), rights):
                members = sum(len(part.items) for part in rights.items)
                end = base + STEP * max(_LEAST, members + 1)
                if class_id != _ASSOCIATION_LN and end <= ASSOCIATION:
                    named[base] = (end, class_id, version, Obis.from_bytes(name))
                    base = end
    return named
