"""The command `decode`: DLMS traffic as hex, capture or trace file in, a tree with byte offsets out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.exits import Exit
from gateway.cli.options import JsonOption
from gateway.cli.output import print_json, print_problem
from gateway.errors import UsageError
from protocols.dlms.data.cursor import MAX_OCTETS
from protocols.dlms.trace.frames import decode_trace
from protocols.dlms.trace.state import TraceState

MAX_FILE = 256 << 20
"""Octets of a capture or trace file."""
TITLE_OCTETS = 8
_SEPARATORS = re.compile(r"0x|[\s:,;-]+", re.IGNORECASE)
_HEX = re.compile(r"[0-9A-Fa-f]+")


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
    known = _known(key_file, tuple(_title(text) for text in system_title or ()))
    octets = _from_hex(trace)
    if octets is None:
        content = _file(Path(trace))
        # A recording has two directions and times: it is read by other means, which hex does not wait for.
        from gateway.cli.tools.recording import pieces_of, print_conversations

        if (pieces := pieces_of(content)) is not None:
            print_conversations(pieces, known, as_json=as_json)
            return
        octets = _from_hex(content.decode("ascii", errors="replace")) or content
    if len(octets) > MAX_OCTETS:
        raise UsageError(f"{trace} is too long for one trace")
    found = decode_trace(
        octets, keys=known.keys, titles=known.titles, secret=known.secret, dedicated=known.dedicated
    )
    if as_json:
        print_json(found.document())
    else:
        for line in found.lines():
            typer.echo(line)
    if found.problem is not None:
        print_problem(str(found.problem))
        raise typer.Exit(Exit.FAILED)


def _known(key_file: Path | None, titles: tuple[bytes, ...]) -> TraceState:
    """Return what is known before the first octet."""
    if key_file is None:
        return TraceState(titles=titles)
    from protocols.dlms.security.suites import Keys
    from protocols.meters.key_file import KeyFile

    file = KeyFile(key_file)
    keys = None
    if file.has_keys:
        keys = Keys(
            encryption=file.secret("encryption_key"),
            authentication=file.secret("authentication_key"),
            suite=file.suite,
        )
    return TraceState(
        keys=keys,
        titles=titles,
        secret=file.secret("hls_key") if "hls_key" in file else None,
        dedicated=file.secret("dedicated_key") if "dedicated_key" in file else b"",
    )


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


def _title(text: str) -> bytes:
    octets = _from_hex(text)
    if octets is None or len(octets) != TITLE_OCTETS:
        raise UsageError(f"--system-title must have {TITLE_OCTETS} octets as {2 * TITLE_OCTETS} hex digits")
    return octets
