"""Captures and trace files for `decode`: conversations with two directions, each octet with its time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import typer

from gateway.cli.exits import Exit
from gateway.cli.output import print_json, print_problem
from protocols.capture.pcap import is_capture, read_capture
from protocols.capture.recorded import RecordedOctets
from protocols.capture.streams import chunks
from protocols.capture.trace_file import is_trace, read_trace
from protocols.dlms.trace.conversations import decode_conversations
from protocols.dlms.trace.state import TraceState
from protocols.errors import MeterProtocolError


class Pieces:
    """Octets of a recording up to the first damage of the file itself, which is kept as `damage`."""

    def __init__(self, pieces: Iterator[RecordedOctets]) -> None:
        self._pieces = pieces
        self.damage: MeterProtocolError | None = None

    def __iter__(self) -> Iterator[RecordedOctets]:
        try:
            yield from self._pieces
        except MeterProtocolError as error:
            self.damage = error


def pieces_of(content: bytes) -> Pieces | None:
    """Return what a capture or a trace file recorded; None when the octets are neither."""
    if is_capture(content):
        return Pieces(_captured(content))
    text = content.decode("ascii", errors="replace")
    return Pieces(_traced(text)) if is_trace(text) else None


def print_conversations(
    pieces: Pieces, known: TraceState, *, as_model: str | None, zone: str, as_json: bool
) -> None:
    """Print what a recording holds; exit with 1 where something is wrong, or nothing is DLMS or Modbus.

    Each conversation begins with what is `known`; registers are said to be what the model says.
    """
    recorded = list(pieces)
    found = decode_conversations(recorded, lambda: replace(known, joined={}))
    if found.others:  # what tells Modbus takes libraries, which plain DLMS does not wait for
        from gateway.cli.described_registers import described_by
        from gateway.cli.tools.modbus_traffic import joined, modbus_conversations

        if modbus := modbus_conversations(recorded, described_by(as_model, zone)):
            found = joined(found, modbus, recorded)
    if as_json:
        damage = {"file": str(pieces.damage)} if pieces.damage else {}
        print_json(found.document() | damage)
    else:
        for line in found.lines():
            typer.echo(line)
    for problem in found.problems:
        print_problem(str(problem))
    if pieces.damage is not None:
        print_problem(str(pieces.damage))
    if not found.parts and not found.problems:
        print_problem(f"no DLMS or Modbus found; {found.others} other conversations")
    elif found.others and not as_json:
        print_problem(f"{found.others} other conversations are neither DLMS nor Modbus and left out")
    if found.problems or pieces.damage is not None or not found.parts:
        raise typer.Exit(Exit.FAILED)


def _captured(content: bytes) -> Iterator[RecordedOctets]:
    for chunk in chunks(read_capture(content)):
        yield RecordedOctets(
            conversation=chunk.conversation,
            sent=chunk.forward,
            octets=chunk.octets,
            offset=chunk.offset,
            at=chunk.at,
            label=f"{chunk.source} → {chunk.destination}",
            where=f"{chunk.source} → {chunk.destination}",
            whole=chunk.datagram,
            missing=chunk.missing,
            always_shown=False,
        )


def _traced(text: str) -> Iterator[RecordedOctets]:
    offset = 0
    for piece in read_trace(text):
        yield RecordedOctets(
            conversation=0,
            sent=piece.sent,
            octets=piece.octets,
            offset=offset,
            at=piece.at,
            label=f"line {piece.line}",
            where=f"line {piece.line} of the trace",
        )
        offset += len(piece.octets)
