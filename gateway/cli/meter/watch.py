"""The command `watch`: what others say on a bus, without a word of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway.cli.described_registers import described_by
from gateway.cli.exits import Exit
from gateway.cli.meter.lines import chosen_line
from gateway.cli.options import JsonOption, OptionalConfig, TraceOption, purpose
from gateway.cli.output import IST, milliseconds, print_line, print_problem, print_table
from gateway.cli.until_signal import until_signal
from gateway.roles.reach import Way
from protocols.errors import LineTimeout
from protocols.meters.overheard import Overheard, Said, Talk
from protocols.meters.overheard import Way as Went

SILENCE = 0.05
"""Seconds without an octet after which what was begun is no frame: above t3.5 at 1200 baud."""
_ARROWS = {Went.ASKED: "→", Went.ANSWERED: "←", Went.REFUSED: "← refused:", Went.NOISE: "?"}


def watch(
    line: Annotated[str, typer.Argument(help="A line of the configuration, or an address.")],
    config: OptionalConfig = None,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, help="How long, in seconds; by default until Ctrl-C.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Say what Modbus registers are by this model, or your own file (.toml)."),
    ] = None,
    zone: Annotated[str, typer.Option(help="With --model: the time zone of the meters.")] = "Asia/Kolkata",
    trace: TraceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Listen on a line and print what passes: who is asked, who answers, what is no frame. Nothing is sent.

    Ends with a line for each station: questions, answers, refusals, latencies.

    Example: meter-gateway watch "serial:///dev/ttyUSB0?baud=9600&parity=E" --for 60
    """
    way = chosen_line(line, config, trace)
    described = described_by(model, zone)
    ear = Overheard(describe=None if described is None else lambda f, a, w: list(described(f, a, w)))
    asyncio.run(until_signal(_listen(way, ear, seconds, quiet=as_json)))
    print_table(
        [_row(name, talk) for name, talk in sorted(ear.talks.items())],
        as_json=as_json,
        empty="nothing passed",
    )
    if ear.noise and not as_json:
        print_problem(f"{ear.noise} octets that are no frame: other settings, another protocol, or noise")
    if not ear.talks:
        raise typer.Exit(Exit.PEER)


async def _listen(way: Way, ear: Overheard, seconds: float | None, *, quiet: bool) -> None:
    loop = asyncio.get_running_loop()
    line = way.line(purpose(None), tell=print_problem)
    end = None if seconds is None else loop.time() + seconds
    try:
        async with line.exclusive() as io:
            while end is None or loop.time() < end:
                try:
                    said = ear.feed(await io.receive(SILENCE), loop.time())
                except LineTimeout:
                    said = ear.silence(loop.time())
                if not quiet:
                    for text in _printed(said):
                        print_line(text)
    finally:
        await line.close()


def _printed(said: list[Said]) -> Iterator[str]:
    now = datetime.now(UTC).astimezone(IST)
    for one in said:
        yield f"{now:%H:%M:%S.%f} {one.station or '':<10} {_ARROWS[one.way]} {one.text}"


def _row(name: str, talk: Talk) -> dict[str, Any]:
    return {
        "station": name,
        "asked": talk.asked,
        "answered": talk.answered,
        "refused": talk.refused,
        "unanswered": talk.unanswered,
        "fastest": milliseconds(talk.fastest),
        "slowest": milliseconds(talk.slowest),
    }
