"""The command `read`."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

import typer

from gateway.cli.meter.access import MeterAccess, find_meter, open_meter
from gateway.cli.meter.address import AddressOptions, MeterArgument, meter_command
from gateway.cli.meter.deviation import rows_advice
from gateway.cli.meter.rows import as_document, print_csv, print_rows
from gateway.cli.options import CsvOption, JsonOption, nearest, only_one_form, parse_span
from gateway.cli.output import print_json, print_problem
from gateway.errors import UsageError
from protocols.dlms.client.association_opener import PUBLIC_CLIENT
from protocols.errors import MeterRefused
from protocols.reading import ProfileName, ReadingSet


@meter_command
def read(
    meter: MeterArgument,
    profile: Annotated[str, typer.Argument(help="instantaneous, block_load, daily, billing, …")],
    options: AddressOptions,
    since: Annotated[str | None, typer.Option(help="Stored rows later than this time.")] = None,
    until: Annotated[str | None, typer.Option(help="Stored rows up to this time.")] = None,
    as_csv: CsvOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read one profile of one meter and print it; nothing is stored or delivered.

    An address is tcp://host:port, udp://host:port, rtu+tcp://host:port, serial:///dev/ttyUSB0, or
    optical:///dev/ttyUSB0 for a probe on a meter that wants the mode E opening. Keys and passwords come
    from a file that only you may read (--key-file), never from the command line.

    Example: meter-gateway read tcp://10.0.0.7:4059 block_load --client 48 --key-file keys.toml
    """
    if profile not in list(ProfileName):
        raise UsageError(
            f"there is no profile `{profile}`; profiles: {', '.join(ProfileName)}.{nearest(profile, ProfileName)}"
        )
    low, high = parse_span(since, until)
    only_one_form(as_json=as_json, as_csv=as_csv)
    access = find_meter(meter, options)
    rows = asyncio.run(read_profile(access, ProfileName(profile), low, high))
    if advice := rows_advice(access, rows):
        print_problem(f"advice: {advice}")
    if as_json:
        print_json([as_document(row, access.companion) for row in rows])
    elif as_csv:
        print_csv(rows, access.companion)
    else:
        print_rows(rows, access.companion)


async def read_profile(
    access: MeterAccess, profile: ProfileName, since: datetime | None, until: datetime | None
) -> list[ReadingSet]:
    """Read one profile through a session of its own, oldest row first."""
    async with open_meter(access) as session:
        try:
            return [row async for row in session.read(profile, since, until)]
        except MeterRefused as error:
            if access.spec.dlms is None or access.spec.dlms.client != PUBLIC_CLIENT:
                raise
            hint = f"{error}; the public client ({PUBLIC_CLIENT}) may read little: see --client"
            raise MeterRefused(hint, reason_code=error.reason_code) from error
