"""The commands of `keys` that are given on the edge's box: rotate, status, box, take."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.exits import Exit
from gateway.cli.meter.meant import ask
from gateway.cli.options import CONFIG_FILE, ConfigOption, JsonOption
from gateway.cli.output import print_fields, print_json, print_problem, print_table
from gateway.config import file as configuration
from gateway.config.file import Config
from gateway.contract.central_word import parse_signed
from gateway.contract.messages import KeysGiven
from gateway.contract.sealing import key_name, public_of, public_text
from gateway.edge.keys.change import Stage
from gateway.edge.keys.link import KeysLink, box_key
from gateway.edge.keys.store import SLOTS_OF, Change
from gateway.errors import UsageError
from gateway.roles.key_ring import key_ring
from gateway.roles.keys import key_work
from gateway.roles.keys_wanted import Wanted, wanted
from protocols.meters.secrets import FileSecrets

MAX_BUNDLE = 64 << 20
ClientOption = Annotated[
    int | None,
    typer.Option(
        "--client", min=1, max=127, help="Whose association: its client address (the one that reads)."
    ),
]
WhatOption = Annotated[
    list[str] | None,
    typer.Option(
        "--what",
        help="global (encryption and authentication key), broadcast, secret (password or HLS secret), master;"
        " repeat for more. global by default.",
    ),
]


def rotate(
    meter: Annotated[str, typer.Argument(help="A meter of the configuration.")],
    what: WhatOption = None,
    client: ClientOption = None,
    config: ConfigOption = CONFIG_FILE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before changing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Give a meter new keys: sealed to escrow, sent, proved by an association; or go on with a change under way.

    Nothing is sent before central has proved that it keeps the new keys, and the old ones go only when the meter has
    proved the new. Whatever cuts it off, give the same command again.

    Example: meter-gateway keys rotate GEN:10000101 --what global --config edge.toml
    """
    loaded = configuration.load(config)
    jobs = [wanted(loaded, meter, client, one) for one in chosen(what)]
    if not yes:
        names = " and ".join(job.what for job in jobs)
        ask(f"Give {meter} new {names} keys for client {jobs[0].client}?")
    changes = asyncio.run(_rotate(loaded, jobs))
    rows = [row(one) for one in changes]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, as_json=False)
    if any(one.stage is not Stage.PROVEN for one in changes):
        if not as_json:
            print_problem(
                "the meter still has its old keys, or does not say which: nothing is lost, and the same command goes on"
            )
        raise typer.Exit(Exit.FAILED)


def chosen(what: list[str] | None) -> list[str]:
    """Return what --what names; UsageError for a name that is none."""
    given = what or ["global"]
    for one in given:
        if one not in SLOTS_OF:
            raise UsageError(f"--what: `{one}` is not one of {', '.join(SLOTS_OF)}")
    return list(dict.fromkeys(given))


async def _rotate(config: Config, jobs: list[Wanted]) -> list[Change]:
    done: list[Change] = []
    async with key_work(config, config.clock()) as work:
        for job in jobs:
            done.append(await work.rotate(job))
            if done[-1].stage is not Stage.PROVEN:
                break
    return done


def row(change: Change) -> dict[str, Any]:
    """Return what is shown of a change: never a key."""
    return {
        "meter": change.meter,
        "client": change.client,
        "what": change.what,
        "stage": str(change.stage),
        "made": change.made_at,
        "key_id": change.key_id,
        "note": change.note or None,
    }


def status(
    meter: Annotated[str | None, typer.Argument(help="Only this meter.")] = None,
    config: ConfigOption = CONFIG_FILE,
    as_json: JsonOption = False,
) -> None:
    """List changes of keys under way, and which keys this box keeps itself and since when. No key is shown.

    `tries_this_hour`: with how many keys beside those in force the meter was met lately; it is met with two an hour.

    Example: meter-gateway keys status --config edge.toml
    """
    loaded = configuration.load(config)
    ring = key_ring(loaded, loaded.clock())
    try:
        store = ring.store()
        changes = [] if store is None else store.changes(meter)
        held = [] if store is None else store.names()
        now = loaded.clock().now()
        tries = {} if store is None else {one.meter: len(store.lately(one.meter, now)) for one in changes}
    finally:
        ring.close()
    under_way = [row(one) | {"given": one.given, "tries_this_hour": tries[one.meter]} for one in changes]
    kept = [
        {"meter": m, "client": client, "key": slot, "key_id": key_id, "since": since}
        for m, client, slot, key_id, since in held
        if meter in (None, m)
    ]
    if as_json:
        print_json({"under_way": under_way, "kept": kept})
        return
    print_table(under_way, as_json=False, title="under way", empty="no change is under way")
    print_table(kept, as_json=False, title="kept", empty="all keys are those of the secrets folder")


def box(config: ConfigOption = CONFIG_FILE, as_json: JsonOption = False) -> None:
    """Show the name and public key of this box, to which central seals its meters' keys.

    Example: meter-gateway keys box --config edge.toml
    """
    loaded = configuration.load(config)
    public = public_of(box_key(loaded.edge_folder))
    print_fields(
        {"gateway": loaded.gateway.name, "box": key_name(public), "public_key": public_text(public)},
        as_json=as_json,
    )


def take(
    file: Annotated[Path, typer.Argument(help="The bundle that `keys bundle` wrote for this box.")],
    config: ConfigOption = CONFIG_FILE,
    as_json: JsonOption = False,
) -> None:
    """Take keys out of a bundle that was carried here, where there is no broker yet.

    Example: meter-gateway keys take edge-1.keys --config edge.toml
    """
    loaded = configuration.load(config)
    refs = loaded.directory.verify_refs()
    if not refs:
        raise UsageError("nobody's bundle can be believed: set [directory] verify_key_ref")
    files = FileSecrets(loaded.secrets)
    trusted = [files.secret(ref) for ref in refs]
    ring = key_ring(loaded, loaded.clock())
    link = KeysLink(
        loaded.gateway.name,
        root=loaded.mqtt.root,
        keys=trusted,
        ring=ring,
        private=box_key(loaded.edge_folder),
        clock=loaded.clock(),
    )
    try:
        parts = 0
        for line in _lines(file):
            given, _ = parse_signed(line, KeysGiven, trusted)
            link.take_file(given)
            parts += 1
    finally:
        ring.close()
    print_fields({"parts": parts}, as_json=as_json)


def _lines(file: Path) -> list[bytes]:
    try:
        if file.stat().st_size > MAX_BUNDLE:
            raise UsageError(f"{file} has more than {MAX_BUNDLE} octets: no bundle")
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    if not lines:
        raise UsageError(f"{file} is empty")
    return lines
