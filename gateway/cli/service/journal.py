"""The commands for the edge's journal: outbox, replay."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

import typer

from gateway.cli.options import CONFIG_FILE, ConfigOption, JsonOption
from gateway.cli.output import print_fields, print_table
from gateway.config import file as configuration
from gateway.contract.envelope import wrap
from gateway.contract.messages import ReplayRequest
from gateway.contract.topics import Topics
from gateway.edge.journal.view import JournalView, view
from gateway.errors import UsageError
from gateway.mqtt.connection import connect
from gateway.roles.journal import journal_limits
from gateway.roles.mqtt_settings import mqtt_settings, one_time_id, password


def outbox(
    config: ConfigOption = CONFIG_FILE,
    dead: Annotated[
        bool, typer.Option("--dead", help="List what a peer refused for good, with its reason.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the edge's journal holds and how far each delivery is.

    Example: meter-gateway outbox --config edge.toml --dead
    """
    loaded = configuration.load(config)
    journal = _journal(loaded)
    if dead:
        print_table(list(journal.dead_letters), as_json=as_json, empty="no dead letters")
        return
    fields = {k: v for k, v in asdict(journal).items() if k not in ("cursors", "dead_letters")}
    # One that never had an entry has no cursor yet: it waits for all.
    sinks = dict.fromkeys((*journal_limits(loaded).sinks, *journal.cursors))
    waiting = {f"waiting_for_{sink}": journal.backlog(sink) for sink in sinks}
    print_fields({**fields, **waiting, "dead_letters": len(journal.dead_letters)}, as_json=as_json)


def replay(
    first: Annotated[int, typer.Argument(min=1, help="First sequence number wanted again.")],
    last: Annotated[int, typer.Argument(min=1, help="Last sequence number wanted again.")],
    config: ConfigOption = CONFIG_FILE,
    gateway: Annotated[
        str | None, typer.Option(help="Which gateway; by default the configuration's.")
    ] = None,
    journal: Annotated[str | None, typer.Option(help="Journal uuid; by default the local journal's.")] = None,
) -> None:
    """Ask a running edge to send a range of its journal again.

    Example: meter-gateway replay 1200 1300 --config edge.toml
    """
    if last < first:
        raise UsageError(f"the range {first}..{last} is empty")
    loaded = configuration.load(config)
    wanted = ReplayRequest(
        journal=journal or _local_journal(loaded, first, last), first=first, last=last, consumer="operator"
    )
    gateway = gateway or loaded.gateway.name
    asyncio.run(_ask_replay(loaded, gateway, wanted))
    typer.echo(f"asked {gateway} for {first}..{last}")


def _journal(config: configuration.Config) -> JournalView:
    return view(config.edge_folder / "journal.db")


def _local_journal(config: configuration.Config, first: int, last: int) -> str:
    """Return the local journal's uuid; UsageError when it cannot send the range."""
    journal = _journal(config)
    held = (journal.first_seq, journal.last_seq)
    if not held[0] <= first <= last <= held[1]:
        holds = f"{held[0]}..{held[1]}" if held[0] <= held[1] else "nothing more"
        raise UsageError(f"the journal holds {holds}; what everybody acknowledged is gone from it")
    return journal.journal


async def _ask_replay(config: configuration.Config, gateway: str, wanted: ReplayRequest) -> None:
    payload = wrap(
        wanted,
        id=f"replay/{uuid4()}",
        source=f"/{config.gateway.name}/operator",
        time=datetime.now(UTC),
    )
    settings = mqtt_settings(config.mqtt, one_time_id(config, "replay"))
    async with connect(settings, password=password(config)) as connection:
        await connection.publish(Topics(config.mqtt.root).replay(gateway, wanted.consumer), payload)
