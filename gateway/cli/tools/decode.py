"""The command `decode`: DLMS or Modbus traffic as hex, capture or trace file in, a tree with byte offsets out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.exits import Exit
from gateway.cli.options import JsonOption
from gateway.cli.output import print_json, print_problem
from gateway.cli.tools.octets import from_file, from_hex, of_content, title_given
from gateway.errors import UsageError
from protocols.dlms.data.cursor import MAX_OCTETS
from protocols.dlms.trace.frames import decode_trace
from protocols.dlms.trace.state import TraceState

if TYPE_CHECKING:
    from protocols.dlms.trace.pairs import TracePairs
    from protocols.meters.key_file import KeyFile


def decode(
    trace: Annotated[
        str,
        typer.Argument(help="Hex, or a file: of hex, of octets, of --trace, or a capture (pcap, pcapng)."),
    ],
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            help="Private TOML file: encryption_key, authentication_key, dedicated_key, hls_key, keys of suites 1, 2.",
        ),
    ] = None,
    system_title: Annotated[
        list[str] | None,
        typer.Option("--system-title", help="Sender's title, 16 hex digits; may be given again."),
    ] = None,
    companion: Annotated[
        str | None,
        typer.Option(
            help="Show pushes as this companion reads them: a shipped one, or your own file (.toml)."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Modbus: say what registers are by this model: a known one, or your own file (.toml)."
        ),
    ] = None,
    modbus: Annotated[
        bool, typer.Option("--modbus", help="Take hex as Modbus, though it does not look like it.")
    ] = False,
    zone: Annotated[
        str, typer.Option(help="With --companion or --model: the time zone of the meter.")
    ] = "Asia/Kolkata",
    as_json: JsonOption = False,
) -> None:
    """Read DLMS traffic (frames, APDUs, values, deciphered when keys are given) and Modbus (RTU, TCP, ASCII).

    Offsets are hexadecimal; `+` marks those in a deciphered or joined text. In a capture they are offsets
    in its file, in a trace of --trace they count octets. DLMS and Modbus are found in a capture on any port;
    hex is Modbus where it is whole frames of it. What is wrong is said with its offset, and the exit code is 1.

    Example: meter-gateway decode "C0 01 C1 00 08 00 00 01 00 00 FF 02 00"
    """
    titles = tuple(title_given(text) for text in system_title or ())
    known = _known(key_file, titles)
    octets = from_hex(trace)
    if octets is None:
        content = from_file(Path(trace))
        # A recording has two directions and times: it is read by other means, which hex does not wait for.
        from gateway.cli.tools.recording import pieces_of, print_conversations

        if (pieces := pieces_of(content)) is not None:
            print_conversations(pieces, known, as_model=model, zone=zone, as_json=as_json)
            return
        octets = of_content(content)
    if len(octets) > MAX_OCTETS:
        raise UsageError(f"{trace} is too long for one trace")
    if modbus or model is not None:
        _print_modbus(octets, model, zone, as_json=as_json)
        return
    found = decode_trace(
        octets,
        keys=known.keys,
        titles=known.titles,
        secret=known.secret,
        dedicated=known.dedicated,
        pairs=known.pairs,
    )
    if found.problem is not None and companion is None and is_modbus(octets):
        _print_modbus(octets, model, zone, as_json=as_json)
        return
    if as_json and companion is None:
        print_json(found.document())
    elif not as_json:
        for line in found.lines():
            typer.echo(line)
    if companion is not None:
        from gateway.cli.tools.pushes import print_pushes

        print_pushes(trace, companion, key_file=key_file, titles=titles, zone=zone, as_json=as_json)
    if found.problem is not None:
        print_problem(str(found.problem))
        raise typer.Exit(Exit.FAILED)


def is_modbus(octets: bytes) -> bool:
    """Return whether octets are whole frames of Modbus; what is needed for that, DLMS does not wait for."""
    from protocols.modbus.trace import framing_of

    return framing_of(octets) is not None


def _print_modbus(octets: bytes, model: str | None, zone: str, *, as_json: bool) -> None:
    from gateway.cli.described_registers import described_by
    from gateway.cli.tools.modbus_traffic import modbus_of_hex

    found = modbus_of_hex(octets, described_by(model, zone))
    if as_json:
        print_json(found.document())
    else:
        for line in found.lines():
            typer.echo(line)
    for problem in found.problems:
        print_problem(str(problem))
    if found.problems:
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
        pairs=_pairs(file),
    )


def _pairs(file: KeyFile) -> TracePairs | None:
    """Return the keys of suites 1 and 2 of a key file; None when it has none."""
    if not any(name in file for name in ("master_key", "agreement_key", "signing_key", "meter_signing")):
        return None
    from protocols.dlms.security import curves
    from protocols.dlms.security.certificates import peer_key
    from protocols.dlms.security.key_use import KeyUse
    from protocols.dlms.trace.pairs import TracePairs

    def private(name: str) -> curves.PrivateKey | None:
        return curves.private_key(file.secret(name), name) if name in file else None

    def public(name: str, use: KeyUse) -> curves.PublicKey | None:
        return peer_key(file.secret(name), name, use, None).key if name in file else None

    ours = private("signing_key")
    signers = (public("meter_signing", KeyUse.SIGNING), None if ours is None else ours.public_key())
    return TracePairs(
        master=file.secret("master_key") if "master_key" in file else None,
        agreement=private("agreement_key"),
        agreement_peer=public("meter_agreement", KeyUse.AGREEMENT),
        signers=tuple(key for key in signers if key is not None),
    )
