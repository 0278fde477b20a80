"""Settings of pushes: where they are listened for, and what is asked of each meter that sends them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from gateway.config.types import Port, Section


class MeterPushSection(Section):
    """The meter pushes to the [push] port; without this table its pushes come from an unknown sender.

    `protection` is the least that is accepted; with `plain` anybody who knows the device id can speak for
    the meter. `system_title` (16 hex digits) defaults to FLAG letters and the serial as a number;
    `device_id` is what bodies must name it (default: its serial, or maker and serial). Columns are read from
    the `meter`, or taken from the `companion` for meters that cannot be asked.

    `companion` says how its pushes are laid out: a shipped one, one of the folder `companions` of [push], or a file
    (.toml). Without it the one of [meters.dlms] does, or the one that names its maker. `address` is where plain
    pushes that name no meter come from. `confirm` answers pushes that ask for it (`asked`) or none (`never`); the
    companion knows by default.

    `encrypted` as protection loses the proof: whoever can write to the meter's network alters a push on its way, bit
    by bit, without a key. A counter that begins anew after a power cut is taken where the meter's clock in an
    authenticated push is later than in all before (`counter_restarts = "proven"`). With `"believed"` that holds for
    pushes that are encrypted only, too, also for a counter that stays at 0: then somebody can alter the clock in a
    push that he recorded and play it again, and two pushes under one counter show each other's text. With `"never"`
    only `counters reset METER --pushes` lets the meter in again.
    """

    protection: Literal["authenticated-encrypted", "authenticated", "encrypted", "plain"] = (
        "authenticated-encrypted"
    )
    system_title: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{16}$")] | None = None
    device_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    columns: Literal["meter", "companion"] = "meter"
    companion: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    address: str | None = None
    confirm: Literal["asked", "never"] | None = None
    counter_restarts: Literal["proven", "believed", "never"] = "proven"

    @field_validator("address")
    @classmethod
    def _address(cls, address: str | None) -> str | None:
        if address is not None:
            ip_address(address)
        return address

    def check_keys(self, encryption: str | None, authentication: str | None) -> None:
        """Refuse a protection without the keys that it takes, with ValueError."""
        if self.protection == "encrypted" and encryption is None:
            raise ValueError("encrypted pushes need `encryption_key_ref` in [meters.dlms]")
        if self.protection.startswith("authenticated") and None in (encryption, authentication):
            raise ValueError(
                "ciphered pushes need `encryption_key_ref` and `authentication_key_ref` in [meters.dlms]"
            )


class PushSection(Section):
    """Where meters push to and dial in to; nothing listens without this section.

    A port of none is not opened. `networks` are the only sources let in, for example `10.20.0.0/16`, the
    operator's private network; empty lets in everybody. `first_seconds` is the time for the first whole
    push of a connection, `idle_seconds` that between pushes. A connection that says nothing for
    `ask_seconds` is asked who it is through the public client, in the framing that `ask` names. `companions` is a
    folder of your own companions, each a file NAME.toml that says how a make's pushes are laid out.
    """

    host: str = "127.0.0.1"
    tcp_port: Port | None = 4059
    udp_port: Port | None = None
    networks: tuple[str, ...] = ()
    connections: Annotated[int, Field(ge=1, le=65536)] = 4096
    first_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    idle_seconds: Annotated[float, Field(gt=0, le=86400)] = 300.0
    max_push: Annotated[int, Field(ge=256, le=65535)] = 16_384
    queue: Annotated[int, Field(ge=1, le=100_000)] = 1000
    ask: Literal["wrapper", "hdlc", "none"] = "wrapper"
    ask_seconds: Annotated[float, Field(gt=0, le=600)] = 5.0
    companions: Path | None = None

    @field_validator("networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)
        return networks
