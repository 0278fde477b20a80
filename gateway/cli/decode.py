"""The command that reads a DLMS trace: hex, a capture or a trace file in, a tree with byte offsets out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.common import Exit, JsonOption, print_json, problems
from gateway.cli.key_file import KeyFile
from gateway.errors import UsageError
from protocols.capture.file import is_capture, read_capture
from protocols.capture.streams import chunks
from protocols.capture.trace_file import is_trace, read_trace
from protocols.dlms.data.cursor import MAX_OCTETS
from protocols.dlms.security.suites import TITLE_OCTETS, Keys
from protocols.dlms.trace.conversations import Heard, Talks, decode_talks
from protocols.dlms.trace.frames import decode_trace
from protocols.dlms.trace.state import TraceState
from protocols.errors import MeterProtocolError

MAX_FILE = 256 << 20
"""Octets of a capture or trace file."""
_SEPARATORS = re.compile(r"0x|[\s:,;-]+", re.IGNORECASE)
_HEX = re.compile(r"[0-9A-Fa-f]+")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(decode)


def decode(
    trace: Annotated[
        str,
        typer.Argument(help="Hex, or a file: of hex, of octets, of --trace, or a capture (pcap, pcapng)."),
    ],
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            help="Private TOML file: encryption_key, authentication_key, dedicated_key, hls_key.",
        ),
    ] = None,
    system_title: Annotated[
        list[str] | None,
        typer.Option("--system-title", help="Sender's title, 16 hex digits; may be given again."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read DLMS traffic: HDLC, wrapper, APDUs and values, deciphered when keys are given.

    Offsets are hexadecimal; `+` marks those in a deciphered or joined text. In a capture they are offsets
    in its file, in a trace of --trace they count octets. DLMS is found in a capture on any port. What is
    wrong is said with its offset, and the exit code is 1.

    Example: meter-gateway decode "C0 01 C1 00 08 00 00 01 00 00 FF 02 00"
    """
    known = _known(key_file, [_hex(title, TITLE_OCTETS, "--system-title") for title in system_title or ()])
    octets = _from_hex(trace)
    content = octets if octets is not None else _file(Path(trace))
    if octets is None and is_capture(content):
        _show_talks(_guarded(_captured(content)), known, as_json=as_json)
        return
    text = "" if octets is not None else content.decode("ascii", errors="replace")
    if text and is_trace(text):
        _show_talks(_guarded(_traced(text)), known, as_json=as_json)
        return
    whole = (_from_hex(text) if text else None) or content
    if len(whole) > MAX_OCTETS:
        raise UsageError(f"{trace} is too long for one trace")
    start = known()
    found = decode_trace(
        whole, keys=start.keys, titles=start.titles, secret=start.secret, dedicated=start.dedicated
    )
    if as_json:
        print_json(found.document())
    else:
        for line in found.lines():
            typer.echo(line)
    if found.problem is not None:
        problems.print(str(found.problem), markup=False)
        raise typer.Exit(Exit.FAILED)


class _Start:
    """Makes the state that each conversation begins with."""

    def __init__(self, keys: KeyFile | None, titles: list[bytes]) -> None:
        self._file = keys
        self._titles = tuple(titles)

    def __call__(self) -> TraceState:
        file = self._file
        if file is None:
            return TraceState(titles=self._titles)
        keys = None
        if file.has_keys:
            keys = Keys(
                encryption=file.secret("encryption_key"), authentication=file.secret("authentication_key")
            )
        return TraceState(
            keys=keys,
            titles=self._titles,
            secret=file.secret("hls_key") if "hls_key" in file else None,
            dedicated=file.secret("dedicated_key") if "dedicated_key" in file else b"",
        )


def _known(key_file: Path | None, titles: list[bytes]) -> _Start:
    return _Start(KeyFile(key_file) if key_file is not None else None, titles)


class _Guarded:
    """Pieces up to the first damage of the file itself, which is kept."""

    def __init__(self, pieces: Iterator[Heard]) -> None:
        self._pieces = pieces
        self.problem: MeterProtocolError | None = None

    def __iter__(self) -> Iterator[Heard]:
        try:
            yield from self._pieces
        except MeterProtocolError as error:
            self.problem = error


def _guarded(pieces: Iterator[Heard]) -> _Guarded:
    return _Guarded(pieces)


def _captured(content: bytes) -> Iterator[Heard]:
    for chunk in chunks(read_capture(content)):
        yield Heard(
            talk=chunk.talk,
            sent=chunk.forward,
            octets=chunk.octets,
            offset=chunk.offset,
            at=chunk.at,
            who=f"{chunk.source} → {chunk.destination}",
            where=f"{chunk.source} → {chunk.destination}",
            whole=chunk.datagram,
            missing=chunk.missing,
            sure=False,
        )


def _traced(text: str) -> Iterator[Heard]:
    offset = 0
    for piece in read_trace(text):
        yield Heard(
            talk=0,
            sent=piece.sent,
            octets=piece.octets,
            offset=offset,
            at=piece.at,
            who=f"line {piece.line}",
            where=f"line {piece.line} of the trace",
        )
        offset += len(piece.octets)


def _show_talks(pieces: _Guarded, known: _Start, *, as_json: bool) -> None:
    found: Talks = decode_talks(pieces, known)
    if as_json:
        damage = {"file": str(pieces.problem)} if pieces.problem else {}
        print_json(found.document() | damage)
    else:
        for line in found.lines():
            typer.echo(line)
    for problem in found.problems:
        problems.print(str(problem), markup=False)
    if pieces.problem is not None:
        problems.print(str(pieces.problem), markup=False)
    if not found.parts and not found.problems:
        problems.print(f"no DLMS found; {found.others} other conversations", markup=False)
    elif found.others and not as_json:
        problems.print(f"{found.others} other conversations are not DLMS and left out", markup=False)
    if found.problems or pieces.problem is not None or not found.parts:
        raise typer.Exit(Exit.FAILED)


def _file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE:
            raise UsageError(f"{path} is too long for one trace")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError("the trace is neither hex with whole octets nor a file that can be read") from error


def _from_hex(text: str) -> bytes | None:
    digits = _SEPARATORS.sub("", text)
    return bytes.fromhex(digits) if _HEX.fullmatch(digits) and len(digits) % 2 == 0 else None


def _hex(given: str, octets: int, what: str) -> bytes:
    found = _from_hex(given)
    if found is None or len(found) != octets:
        raise UsageError(f"{what} must have {octets} octets as {2 * octets} hex digits")
    return found
