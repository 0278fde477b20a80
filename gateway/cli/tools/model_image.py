"""The command `models image`: what stands in a meter's registers, for one whose model is to be written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.meter.lines import chosen_line
from gateway.cli.options import OptionalConfig, TraceOption, purpose
from gateway.cli.output import print_problem
from gateway.config.modbus import usual_framing
from gateway.errors import UsageError
from gateway.roles.reach import Way
from protocols.errors import MeterConfigError
from protocols.modbus.client.account import account_of
from protocols.modbus.client.client import ModbusClient, frames_for
from protocols.modbus.client.unit import MeterUnit
from protocols.modbus.dump import DumpRange, dump_registers


def image(
    line: Annotated[str, typer.Argument(help="A line of the configuration, or an address.")],
    unit: Annotated[int, typer.Argument(min=0, max=255, help="The meter's unit.")],
    ranges: Annotated[
        list[str], typer.Argument(help="FUNCTION:FIRST-LAST each: 3:0-119 4:0x0000-0x0055 17 43:0-6.")
    ],
    config: OptionalConfig = None,
    timeout: Annotated[float, typer.Option(min=0.05, max=60, help="Wait for an answer, seconds.")] = 1.0,
    framing: Annotated[str | None, typer.Option(help="tcp, rtu or ascii; by default the line's.")] = None,
    write: Annotated[Path | None, typer.Option(help="Write the image into this new file.")] = None,
    trace: TraceOption = None,
) -> None:
    """Read ranges of a meter's registers without a model, and print them as a register image.

    `models check --image` tries a model on it. What the meter refuses is left out; nothing is written to it.

    Example: meter-gateway models image serial:///dev/ttyUSB0 7 3:0-119 43:0-6 --write mine.txt
    """
    try:
        wanted = [DumpRange.parse(text) for text in ranges]
        if framing is not None:
            frames_for(framing)
    except MeterConfigError as error:
        raise UsageError(str(error)) from error
    if write is not None and write.exists():
        raise UsageError(f"--write: {write} is there already; give the name of a new file")
    lines = asyncio.run(_read(chosen_line(line, config, trace), unit, wanted, timeout, framing))
    text = "".join(f"{one}\n" for one in lines)
    if write is None:
        typer.echo(text, nl=False)
    else:
        write.write_text(text, encoding="utf-8")
    if not lines:
        print_problem("the meter answers, and has nothing in these ranges")


async def _read(
    way: Way, unit: int, wanted: Sequence[DumpRange], timeout: float, framing: str | None
) -> list[str]:
    line = way.line(purpose(None), tell=print_problem)
    lines: list[str] = []
    try:
        async with line.exclusive() as io:
            client = ModbusClient(
                io,
                frames_for(framing or usual_framing(way.section.kind)),
                timeout=timeout,
                worst_latency=timeout,
                account=account_of(line),
            )
            for one in wanted:
                lines += [text async for text in dump_registers(MeterUnit(client, unit), one)]
    finally:
        await line.close()
    return lines
