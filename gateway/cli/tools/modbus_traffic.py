"""Modbus traffic for `decode`: which conversations are Modbus, and their registers as a model reads them."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from protocols.capture.recorded import Conversations, RecordedOctets
from protocols.modbus.trace import Describe, Framing, ModbusReader


def modbus_of_hex(octets: bytes, describe: Describe | None) -> Conversations:
    """Return the frames of octets without directions, and what is none."""
    piece = RecordedOctets(conversation=0, sent=True, octets=octets, offset=0, whole=True)
    reader = _read([piece], describe)
    return Conversations(parts=tuple(reader.parts), problems=tuple(reader.problems))


def modbus_conversations(
    recorded: Iterable[RecordedOctets], describe: Describe | None
) -> dict[int, ModbusReader]:
    """Return the conversations that are Modbus, by number."""
    by_number: dict[int, list[RecordedOctets]] = defaultdict(list)
    for piece in recorded:
        by_number[piece.conversation].append(piece)
    readers = ((number, _read(own, describe)) for number, own in by_number.items())
    return {
        number: reader for number, reader in readers if reader.parts and 2 * reader.explained >= reader.total
    }


def joined(
    found: Conversations, modbus: Mapping[int, ModbusReader], recorded: Iterable[RecordedOctets]
) -> Conversations:
    """Return what was `found` with these conversations read as Modbus, in the order of the recording."""
    own = sorted(
        (piece.offset, piece.offset + len(piece.octets)) for piece in recorded if piece.conversation in modbus
    )
    begins = [begin for begin, _ in own]

    def of_others(place: int) -> bool:
        before = bisect_right(begins, place) - 1
        return before < 0 or place >= own[before][1]

    parts = [part for part in found.parts if of_others(part.offset)]
    problems = [one for one in found.problems if one.space or of_others(one.offset)]
    for reader in modbus.values():
        parts += reader.parts
        problems += reader.problems
    return Conversations(
        parts=tuple(sorted(parts, key=lambda part: part.offset)),
        problems=tuple(sorted(problems, key=lambda problem: problem.offset)),
        unknown=found.unknown - modbus.keys(),
    )


def _read(pieces: Sequence[RecordedOctets], describe: Describe | None) -> ModbusReader:
    """Return the reader of the framing that explains most of the octets."""
    readers = []
    for framing in Framing:
        reader = ModbusReader(framing, describe)
        for piece in pieces:
            reader.take(piece)
        reader.finish()
        readers.append(reader)
    return max(readers, key=lambda reader: reader.explained)
