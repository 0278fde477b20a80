"""The commands for pushes: try a companion on octets, and list those that there are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from gateway.cli.exits import Exit
from gateway.cli.meter.rows import as_document
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_json, print_line, print_problem, print_table
from gateway.cli.tools.octets import octets_given, title_given
from gateway.config.companions import grammar_named, push_grammars
from gateway.errors import UsageError
from protocols.dlms.companion import PushGrammar
from protocols.dlms.companion import companion as default_companion
from protocols.dlms.push.body import PushedValues
from protocols.dlms.push.explain import ExplainedPush, explained
from protocols.dlms.security.ciphering import KeySet
from protocols.dlms.security.suites import Keys
from protocols.meters.key_file import KeyFile
from protocols.reading import Bits, Instant, Missing, Number, ReadingSet, Text, Value, name_of

push_group = typer.Typer(
    help="What meters push, and the companions that say how it is laid out.", no_args_is_help=True
)
FolderOption = Annotated[
    Path | None, typer.Option(help="A folder of your own companions, as `companions` of [push].")
]


@push_group.command("check")
def check(
    octets: Annotated[
        str, typer.Argument(help="A push as it came, as hex or in a file of hex (# for remarks) or octets.")
    ],
    companion: Annotated[
        str,
        typer.Option("--companion", help="A shipped companion, one of --folder, or your own file (.toml)."),
    ],
    folder: FolderOption = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file", help="Private TOML file: encryption_key, authentication_key, dedicated_key."
        ),
    ] = None,
    system_title: Annotated[
        list[str] | None,
        typer.Option("--system-title", help="Sender's title, 16 hex digits, where the push has none."),
    ] = None,
    zone: Annotated[str, typer.Option(help="The time zone of the meter.")] = "Asia/Kolkata",
    as_json: JsonOption = False,
) -> None:
    """Read a push by a companion and print the reading set that it makes; mistakes name file, line and field.

    The octets are HDLC frames, wrapper headers, M-Bus frames or a bare APDU, plain or ciphered; segments and blocks
    are put together. The exit code is 1 when the push fits no form of the companion.

    Example: meter-gateway push check push.hex --companion acme.toml --zone Asia/Kolkata
    """
    titles = tuple(title_given(text) for text in system_title or ())
    print_pushes(
        octets, companion, folder=folder, key_file=key_file, titles=titles, zone=zone, as_json=as_json
    )


@push_group.command("companions")
def companions(folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """List the companions: whose pushes each reads, in how many forms, and what it was written from.

    Example: meter-gateway push companions --folder /etc/meter-gateway/companions
    """
    rows = [
        {
            "companion": name,
            "makers": ", ".join(sorted(one.makers)),
            "forms": len(one.forms),
            "confirm": one.confirm,
            "source": one.source,
        }
        for name, one in push_grammars(folder).items()
    ]
    print_table(rows, as_json=as_json)


def print_pushes(
    given: str,
    companion: str,
    *,
    folder: Path | None = None,
    key_file: Path | None = None,
    titles: tuple[bytes, ...] = (),
    zone: str,
    as_json: bool,
) -> None:
    """Print the pushes in hex or a file as a companion reads them; exit with 1 where one cannot be read."""
    grammar = grammar_named(companion, push_grammars(folder))
    found = explained(
        octets_given(given),
        grammar,
        keys=None if key_file is None else _keys(key_file),
        titles=titles,
        zone=_zone(zone),
        received_at=datetime.now(UTC),
    )
    if as_json:
        pushes = [_document(push) for push in found.pushes]
        print_json({"framing": found.framing, "pushes": pushes, "mistakes": list(found.mistakes)})
    else:
        for push in found.pushes:
            _print(push, grammar, found.framing)
        for mistake in found.mistakes:
            print_problem(mistake)
    if any(push.mistakes for push in found.pushes) or not found.pushes:
        raise typer.Exit(Exit.FAILED)


def _keys(path: Path) -> KeySet:
    """Return the keys in a file; a push that is encrypted only needs no authentication key."""
    file = KeyFile(path)
    encryption = file.secret("encryption_key")
    authentication = (
        file.secret("authentication_key") if "authentication_key" in file else bytes(len(encryption))
    )
    dedicated = file.secret("dedicated_key") if "dedicated_key" in file else None
    return KeySet(
        keys=Keys(encryption=encryption, authentication=authentication),
        dedicated=None if dedicated is None else Keys(encryption=dedicated, authentication=authentication),
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UsageError(f"--zone: there is no time zone `{name}`; write one like Asia/Kolkata") from error


def _print(push: ExplainedPush, grammar: PushGrammar, framing: str) -> None:
    print_fields(_head(push, grammar, framing), as_json=False)
    for one in push.sets:
        print_line("")
        print_fields(_set(one), as_json=False)
        print_table([_row(str(q), name_of(q), v) for q, v in one], as_json=False, empty="no values")
    for mistake in push.mistakes:
        print_problem(mistake)


def _head(push: ExplainedPush, grammar: PushGrammar, framing: str) -> dict[str, Any]:
    body = push.body
    head: dict[str, Any] = {"companion": grammar.name, "framing": framing}
    if push.title:
        head["system_title"] = f"{push.title.hex().upper()} ({push.title[:3].decode('ascii', 'replace')})"
        head["protection"] = f"{push.control:#04x}, counter {push.counter}"
    if body is not None:
        head["form"] = _form(push)
        if push.also:
            head["would_fit_too"] = ", ".join(push.also)
        head["device"] = body.device or "not named"
        head["setup"] = str(body.setup) if body.setup is not None else "not named"
    return head


def _form(push: ExplainedPush) -> str:
    payload = push.body.payload if push.body is not None else None
    return payload.form.name if isinstance(payload, PushedValues) else "as the push setup says"


def _set(one: ReadingSet) -> dict[str, Any]:
    stamp = one.meter_time
    said = (
        "none: the time of receipt stands" if stamp is None else f"{stamp.wall}, deviation {stamp.deviation}"
    )
    return {"profile": one.profile, "at": one.at, "meter_clock": said}


def _row(quantity: str, name: str, value: Value) -> dict[str, Any]:
    match value:
        case Number():
            said, unit = value.text(), value.unit
        case Text(text=said) | Bits(bits=said):
            unit = ""
        case Instant():
            said, unit = value.at.isoformat(), ""
        case Missing():
            said, unit = f"missing: {value.reason}", ""
    return {"quantity": quantity, "name": name if name != quantity else "", "value": said, "unit": unit}


def _document(push: ExplainedPush) -> dict[str, Any]:
    body = push.body
    return {
        "system_title": push.title.hex().upper() or None,
        "control": push.control or None,
        "counter": push.counter,
        "form": _form(push) if body is not None else None,
        "would_fit_too": list(push.also),
        "device": body.device if body is not None else None,
        "setup": str(body.setup) if body is not None and body.setup is not None else None,
        "captures": [as_document(one, default_companion()) for one in push.sets],
        "mistakes": list(push.mistakes),
    }
