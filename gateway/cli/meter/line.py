"""The commands of the group `line`: how well a line carries."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Any

import typer

from gateway.cli.exits import Exit
from gateway.cli.meter.access import MeterAccess, find_meter, open_over
from gateway.cli.meter.address import AddressOptions
from gateway.cli.options import CONFIG_FILE, ConfigOption, JsonOption, nearest, purpose
from gateway.cli.output import milliseconds, print_json, print_line, print_problem, print_table
from gateway.cli.plain_parameters import PlainCommand
from gateway.cli.until_signal import until_signal
from gateway.config import file as configuration
from gateway.errors import UsageError
from protocols.errors import ProtocolError
from protocols.line import HasPace, LinePace
from protocols.lines.traced import TracedLine
from protocols.meters.line_quality import LineQuality, Measure, MeterQuality, broken_of
from protocols.unused import unused_frames, unused_of

MAX_COUNT = 1000

line_group = typer.Typer(help="How well a line carries.", no_args_is_help=True, rich_markup_mode=None)


@line_group.command("test", cls=PlainCommand)
def line_test(
    line: Annotated[str, typer.Argument(help="A line of the configuration.")],
    config: ConfigOption = CONFIG_FILE,
    count: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="How often each meter is met.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Meet each meter of a line several times: errors, latencies, the wire's share, and what to look at.

    Each time its identity is read, as a poll does first. Beside a running edge each meeting takes its turn.

    Example: meter-gateway line test bus-1 --config edge.toml
    """
    loaded = configuration.load(config)
    names = [one.name for one in loaded.lines]
    if line not in names:
        raise UsageError(f"there is no line `{line}`." + nearest(line, names))
    meters = [one.meter for one in loaded.meters if one.line == line]
    if not meters:
        raise UsageError(f"line `{line}` has no meters: find them with `scan {line} --config {config}`")
    options = AddressOptions(config=config)
    tested = _LineTest([find_meter(meter, options) for meter in meters], count, quiet=as_json)
    asyncio.run(until_signal(tested.run()))
    _print(tested.quality(), as_json=as_json)


def _print(quality: LineQuality, *, as_json: bool) -> None:
    rows = [_row(one) for one in quality.meters]
    share = None if quality.wire is None else f"{100 * quality.wire:.0f} %"
    if as_json:
        print_json({"meters": rows, "wire": share, "not_used": quality.causes, "advice": quality.advice})
    else:
        print_table(rows, as_json=False, empty="no meter was met")
        if share is not None:
            print_line(f"octets passed in {share} of the time")
        if quality.causes:
            print_line(f"not used: {quality.causes}")
        for advice in quality.advice:
            print_line(f"- {advice}")
    if all(not one.latencies for one in quality.meters):
        raise typer.Exit(Exit.PEER)


def _row(one: MeterQuality) -> dict[str, Any]:
    return {
        "meter": one.meter,
        "asked": one.asked,
        "unanswered": one.unanswered,
        "broken": one.broken,
        "usual": milliseconds(one.latency(0.5)),
        "slow": milliseconds(one.latency(0.95)),
        "slowest": milliseconds(one.latency(1.0)),
        "error": one.error,
    }


class _LineTest:
    """The meetings with all meters of a line, by turns, so that what passes over it touches all alike."""

    def __init__(self, meters: list[MeterAccess], count: int, *, quiet: bool) -> None:
        self._meters = meters
        self._count = count
        self._quiet = quiet
        self._found: dict[str, list[MeterQuality]] = {}
        self._octets = 0
        self._pace: LinePace | None = None
        self._seconds = 0.0
        self._causes: list[str] = []

    async def run(self) -> None:
        """Meet every meter `count` times."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(self._count):
            for access in self._meters:
                await self._meet(access)
            self._seconds = loop.time() - began
            if not self._quiet and self._count > 1:
                left = self._seconds / (number + 1) * (self._count - number - 1)
                print_problem(f"{number + 1} of {self._count} rounds, about {left:.0f} s left")

    async def _meet(self, access: MeterAccess) -> None:
        meter = access.spec.meter or ""
        line = access.way.line(purpose(meter), meter=meter, tell=print_problem)
        self._pace = line.pace if isinstance(line, HasPace) else None
        measure, error = Measure(asyncio.get_running_loop().time, self._pace), None
        traced = TracedLine(line, measure)
        try:
            async with open_over(access, traced) as session:
                await session.identify()
        except ProtocolError as failed:
            error = str(failed)
        unused = unused_of(line)
        broken = broken_of(unused)
        if unused.total() and (causes := str(unused_frames(line))) not in self._causes:
            self._causes.append(causes)
        self._octets += measure.octets_passed
        self._found.setdefault(meter, []).append(measure.take(meter, broken=broken, error=error))
        with suppress(ProtocolError):
            await line.close()

    def quality(self) -> LineQuality:
        """Return what was measured so far."""
        wire = None
        if self._pace is not None and self._seconds:
            wire = min(1.0, self._octets * self._pace.octet / self._seconds)
        meters = tuple(_joined(name, parts) for name, parts in self._found.items())
        return LineQuality(meters=meters, seconds=self._seconds, wire=wire, causes="; ".join(self._causes))


def _joined(meter: str, parts: list[MeterQuality]) -> MeterQuality:
    return MeterQuality(
        meter=meter,
        asked=sum(one.asked for one in parts),
        unanswered=sum(one.unanswered for one in parts),
        broken=sum(one.broken for one in parts),
        latencies=tuple(latency for one in parts for latency in one.latencies),
        error=next((one.error for one in reversed(parts) if one.error), None),
    )
