"""The command `listen`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from gateway.cli.options import CONFIG_FILE, ConfigOption, parse_span
from gateway.cli.service.consumer import listen as listen_to
from gateway.cli.service.history import HistoryWalk
from gateway.cli.until_signal import until_signal
from gateway.config import file as configuration
from gateway.errors import UsageError
from gateway.roles.mqtt_settings import mqtt_settings, one_time_id, password


def listen(
    config: ConfigOption = CONFIG_FILE,
    ack: Annotated[
        bool, typer.Option("--ack", help="Acknowledge what was printed, as billing would.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Ask central for what was before, as one who joins late does.")
    ] = False,
    meter: Annotated[
        list[str] | None, typer.Option("--meter", help="With --history: of this meter; may be repeated.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="With --history: readings from this time on.")] = None,
    until: Annotated[str | None, typer.Option(help="With --history: readings up to this time.")] = None,
) -> None:
    """Print deliveries as billing would take them: the smallest example of a consumer.

    Example: meter-gateway listen --config central.toml
    """
    if not history and (meter or since or until):
        raise UsageError("--meter, --since and --until choose what --history asks for: give --history, too")
    if history and ack:
        raise UsageError(
            "--history with --ack would acknowledge what was not yet heard: leave one of them out"
        )
    loaded = configuration.load(config)
    settings = mqtt_settings(loaded.mqtt, one_time_id(loaded, "listen"))
    begin, end = parse_span(since, until)
    walk = None
    if history:
        name = settings.username or settings.client_id
        walk = HistoryWalk(name, meters=meter or (), since=begin, until=end)
    root, secret = loaded.mqtt.root, password(loaded)
    listening = listen_to(settings, root, typer.echo, ack=ack, walk=walk, password=secret)
    asyncio.run(until_signal(listening))
