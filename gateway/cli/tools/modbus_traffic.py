"""Modbus traffic for `decode`: which conversations are Modbus, and their registers as a model reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from protocols.capture.recorded import Conversations, RecordedOctets
from protocols.modbus.trace import Describe, Framing, ModbusReader


def modbus_of_hex(octets: bytes, describe: Describe | None) -> Conversations:
    """Return the frames of octets without directions, and what is none."""
    piece = RecordedOctets(conversation=0, sent=True, octets=octets, offset=0, whole=True)
    reader = _read([piece], describe)
    return Conversations(parts=tuple(reader.parts), problems=tuple(reader.problems))


def modbus_conversations(
    recorded: Iterable[RecordedOctets], describe: Describe | None
) -> tuple[dict[int, ModbusReader], list[RecordedOctets]]:
    """Return the conversations that are Modbus, by number, and the octets of all others in order."""
    pieces = list(recorded)
    by_number: dict[int, list[RecordedOctets]] = defaultdict(list)
    for piece in pieces:
        by_number[piece.conversation].append(piece)
    found: dict[int, ModbusReader] = {}
    for number, own in by_number.items():
        reader = _read(own, describe)
        if reader.parts and 2 * reader.explained >= reader.total:
            found[number] = reader
    return found, [piece for piece in pieces if piece.conversation not in found]


def joined(modbus: Iterable[ModbusReader], others: Conversations) -> Conversations:
    """Return all that was found in the order of the recording."""
    parts, problems = list(others.parts), list(others.problems)
    for reader in modbus:
        parts += reader.parts
        problems += reader.problems
    return Conversations(
        parts=tuple(sorted(parts, key=lambda part: part.offset)),
        problems=tuple(sorted(problems, key=lambda problem: problem.offset)),
        others=others.others,
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
