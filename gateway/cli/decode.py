"""The command that reads a DLMS trace: hex or a file in, a tree with byte offsets out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.common import Exit, JsonOption, print_json, problems
from gateway.errors import UsageError
from protocols.dlms.axdr import MAX_OCTETS
from protocols.dlms.decode import decode_trace
from protocols.dlms.security import KEY_OCTETS, TITLE_OCTETS, Keys

_SEPARATORS = re.compile(r"0x|[\s:,;-]+", re.IGNORECASE)
_HEX = re.compile(r"[0-9A-Fa-f]+")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(decode)


def decode(
    trace: Annotated[str, typer.Argument(help="Hex (spaces, newlines and colons allowed), or a file.")],
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file", help="TOML with encryption_key and authentication_key, 32 hex digits each."
        ),
    ] = None,
    system_title: Annotated[
        list[str] | None,
        typer.Option("--system-title", help="Sender's title, 16 hex digits; may be given again."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read DLMS traffic: HDLC, wrapper, APDUs and values, deciphered when keys are given.

    Offsets are hexadecimal; `+` marks those in a deciphered or joined text.

    Example: meter-gateway decode "C0 01 C1 00 08 00 00 01 00 00 FF 02 00"
    """
    keys = None if key_file is None else _keys(key_file)
    titles = [_hex(title, TITLE_OCTETS, "--system-title") for title in system_title or ()]
    found = decode_trace(_octets(trace), keys=keys, titles=titles)
    if as_json:
        print_json(found.document())
    else:
        for line in found.lines():
            typer.echo(line)
    if found.problem is not None:
        problems.print(str(found.problem), markup=False)
        raise typer.Exit(Exit.FAILED)


def _octets(given: str) -> bytes:
    octets = _from_hex(given)
    if octets is not None:
        return octets
    path = Path(given)
    try:
        if path.stat().st_size > 4 * MAX_OCTETS:
            raise UsageError(f"{path} is too long for one trace")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError("the trace is neither hex with whole octets nor a file that can be read") from error
    text = content.decode("ascii", errors="replace")
    found = _from_hex(text)
    return content if found is None else found


def _from_hex(text: str) -> bytes | None:
    digits = _SEPARATORS.sub("", text)
    return bytes.fromhex(digits) if _HEX.fullmatch(digits) and len(digits) % 2 == 0 else None


def _keys(path: Path) -> Keys:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # the text is not repeated: it may hold a key
        raise UsageError(f"{path} cannot be read as TOML with two keys") from error
    given = (content.get(name) for name in ("encryption_key", "authentication_key"))
    encryption, authentication = (_hex(key, KEY_OCTETS, f"a key in {path}") for key in given)
    return Keys(encryption=encryption, authentication=authentication)


def _hex(given: object, octets: int, what: str) -> bytes:
    found = _from_hex(given) if isinstance(given, str) else None
    if found is None or len(found) != octets:
        raise UsageError(f"{what} must have {octets} octets as {2 * octets} hex digits")
    return found
