"""Receipts read fast: paho makes some sixty objects for each PUBACK, most of what a small message costs us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

_REFUSED = 128
"""The first reason that says no (MQTT 5, 2.4)."""

_Handler = Callable[[Literal["PUBACK", "PUBCOMP"]], MQTTErrorCode]


def read_receipts_fast(client: Any) -> None:
    """Let a client of paho take a PUBACK that says no more than "taken" without making objects of it.

    Its `on_publish` gets the reason as a number, and no properties. All other receipts go paho's own way: those that
    refuse, or carry properties. So does everything where paho has no such handler any more.
    """
    usual: _Handler | None = getattr(client, "_handle_pubackcomp", None)
    if usual is not None:
        client._handle_pubackcomp = _fast(client, usual)  # noqa: SLF001


def _fast(client: Any, usual: _Handler) -> _Handler:
    def handle(command: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet: bytearray = client._in_packet["packet"]  # noqa: SLF001
        size = len(packet)
        # The number of the message; in MQTT 5 a reason, where it is not 0 (MQTT 5, 3.4.2).
        plain = size == 2 or (size == 3 and client.protocol == paho.MQTTv5 and packet[2] < _REFUSED)
        if command != "PUBACK" or not plain:
            return usual(command)
        number = packet[0] << 8 | packet[1]
        done: MQTTErrorCode = MQTTErrorCode.MQTT_ERR_SUCCESS
        with client._out_message_mutex:  # noqa: SLF001
            if number in client._out_messages:  # noqa: SLF001
                done = client._do_on_publish(number, packet[2] if size == 3 else 0, None)  # noqa: SLF001
        return done

    return handle
