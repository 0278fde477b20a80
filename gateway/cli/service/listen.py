"""The command `listen`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from gateway.cli.options import CONFIG_FILE, ConfigOption
from gateway.cli.service.consumer import listen as listen_to
from gateway.cli.until_signal import until_signal
from gateway.config import file as configuration
from gateway.roles.mqtt_settings import mqtt_settings, one_time_id, password


def listen(
    config: ConfigOption = CONFIG_FILE,
    ack: Annotated[
        bool, typer.Option("--ack", help="Acknowledge what was printed, as billing would.")
    ] = False,
) -> None:
    """Print deliveries as billing would take them: the smallest example of a consumer.

    Example: meter-gateway listen --config central.toml
    """
    loaded = configuration.load(config)
    settings = mqtt_settings(loaded.mqtt, one_time_id(loaded, "listen"))
    listening = listen_to(settings, loaded.mqtt.root, typer.echo, ack=ack, password=password(loaded))
    asyncio.run(until_signal(listening))
