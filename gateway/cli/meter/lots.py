"""What every kind of lot has on the command line: the options of a plan, and the commands around a run."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from gateway.cli.exits import Exit
from gateway.cli.meter.meant import ask
from gateway.cli.options import CONFIG_FILE, ConfigOption, CsvOption, JsonOption, nearest, only_one_form, user
from gateway.cli.output import print_fields, print_json, print_line, print_table, text
from gateway.cli.until_signal import until_signal
from gateway.config import file as configuration
from gateway.config.file import Config
from gateway.config.meters import MeterSection
from gateway.config.types import NAME
from gateway.errors import UsageError
from gateway.lots import orders, report
from gateway.lots.core import Item, ItemState, Lot, LotState
from gateway.lots.runner import LotRunner, Visitor
from gateway.lots.store import LotStore, owned
from gateway.lots.terms import Terms, Window
from gateway.timekeeping.clock import doubt
from protocols.durable import replace_file
from protocols.session import Clock

LotName = Annotated[str, typer.Argument(help="The lot's name.")]
MAX_LIST_OCTETS = 4 << 20
NOTHING_BESIDE: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """Which meters, and on which terms."""

    meter: Annotated[
        list[str] | None, typer.Option("--meter", help="A meter of the configuration; repeat for more.")
    ] = None
    meters: Annotated[
        Path | None,
        typer.Option("--meters", help="File of meters: one a line, or a CSV with a column `meter`."),
    ] = None
    rate: Annotated[int, typer.Option(help="Visits that begin in an hour, evenly spaced; 0: no limit.")] = 60
    at_once: Annotated[int, typer.Option("--at-once", help="Meters visited at the same time.")] = 4
    window: Annotated[
        list[str] | None,
        typer.Option(
            "--window", help="Local hours of visits: 22:00-05:00, or sat,sun 10:00-16:00; repeatable."
        ),
    ] = None
    attempts: Annotated[int, typer.Option(help="Visits in a row without progress before a meter failed.")] = 3
    pause: Annotated[int, typer.Option(help="Seconds before a meter is tried again.")] = 900
    max_failed: Annotated[
        int | None, typer.Option("--max-failed", help="Stop when more meters than this failed.")
    ] = None
    max_failed_percent: Annotated[
        int | None,
        typer.Option("--max-failed-percent", help="Stop when more of the meters that ended failed."),
    ] = 10
    share_after: Annotated[
        int, typer.Option("--share-after", help="Meters that must have ended before the percentage counts.")
    ] = 10
    stop_on: Annotated[
        list[str] | None,
        typer.Option("--stop-on", help="Stop at the first failure for this reason; repeatable."),
    ] = None
    pilot: Annotated[int, typer.Option(help="Pause after the first N meters; 0: do not.")] = 0


def terms(
    options: PlanOptions, zone: str, *, stop_on: Sequence[str] = (), not_counted: Sequence[str] = ()
) -> Terms:
    """Return the terms that the options give, `stop_on` where they name none; UsageError for what is out of limits."""
    return Terms(
        rate_per_hour=options.rate,
        at_once=options.at_once,
        attempts=options.attempts,
        pause=options.pause,
        windows=tuple(Window.parse(one) for one in options.window or ()),
        zone=zone,
        max_failed=options.max_failed,
        max_failed_percent=options.max_failed_percent,
        share_after=options.share_after,
        stop_on=frozenset(stop_on if options.stop_on is None else options.stop_on),
        not_counted=frozenset(not_counted),
        pilot=options.pilot,
    )


def chosen_meters(config: Config, options: PlanOptions) -> list[MeterSection]:
    """Return the meters that the options name, in their order; UsageError names those that are not configured."""
    names = list(options.meter or ())
    if options.meters is not None:
        names += _listed(options.meters)
    if not names:
        raise UsageError("which meters? name them with --meter, or a file of them with --meters")
    known = {meter.meter: meter for meter in config.meters}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"not in the configuration: {', '.join(unknown[:5])}{' …' if len(unknown) > 5 else ''}."
            + nearest(unknown[0], known)
        )
    return [known[name] for name in names]


def _listed(file: Path) -> list[str]:
    try:
        if file.stat().st_size > MAX_LIST_OCTETS:
            raise UsageError(f"{file} has more than {MAX_LIST_OCTETS} octets")
        content = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    try:
        rows = list(csv.reader(io.StringIO(content, newline=None)))
    except csv.Error as error:
        raise UsageError(f"{file} is no list of meters: {error}") from error
    lines = [row for row in rows if any(row) and not row[0].startswith("#")]
    if not lines:
        raise UsageError(f"{file} names no meter")
    column = lines[0].index("meter") if "meter" in lines[0] else 0
    return [row[column].strip() for row in lines["meter" in lines[0] :] if len(row) > column]


def lot_path(config: Config, name: str) -> Path:
    """Return where the lot of this name is kept; UsageError when it is no name."""
    if NAME.fullmatch(name) is None:
        raise UsageError(f"`{name}` is no name of a lot: letters, digits, `.`, `_` and `-`")
    return config.gateway.data / "lots" / f"{name}.lot"


def open_lot(config: Config, name: str, kind: str) -> LotStore:
    """Open the lot of this name; UsageError when there is none, with the nearest name."""
    path = lot_path(config, name)
    if not path.is_file():
        there = [one.stem for one in path.parent.glob("*.lot")]
        raise UsageError(f"there is no lot `{name}`.{nearest(name, there)}")
    return LotStore(path, kind)


def make_lot(
    config: Config, lot: Lot, meters: Sequence[MeterSection], *, beside: Mapping[str, bytes] = NOTHING_BESIDE
) -> None:
    """Make a lot's file, and files of its own `beside` it by their suffix; none is left where it cannot be made."""
    path = lot_path(config, lot.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    items = [Item(position=n, meter=meter.meter, line=meter.line) for n, meter in enumerate(meters)]
    own = {path.with_suffix(suffix): content for suffix, content in beside.items()}
    with owned(path):
        if path.exists():
            raise UsageError(f"there is a lot `{lot.name}` already")
        try:
            for place, content in own.items():
                replace_file(place, content)
            LotStore.create(path, lot, items).close()
        except BaseException:
            for place in own:
                place.unlink(missing_ok=True)
            raise


def planned(lot: Lot, meters: int, **more: object) -> dict[str, object]:
    """Return what is shown of a lot that was just planned."""
    of = lot.terms
    return {
        "lot": lot.name,
        "meters": meters,
        **more,
        "visits": f"{of.rate_per_hour or 'any number'} an hour, {of.at_once} at once",
        "windows": [str(window) for window in of.windows] or None,
        "pilot": of.pilot or None,
        "stops_on": sorted(of.stop_on),
        "next": f"meter-gateway {lot.kind} run {lot.name}",
    }


def run_lot(
    store: LotStore,
    work: Callable[[], Coroutine[Any, Any, Lot | None]],
    question: str,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Ask, let `work` run the lot to its end or until a signal (None), and print what it has come to."""
    if not yes:
        ask(question)
    ended = asyncio.run(work())
    if ended is None and not as_json:
        lot = store.lot()
        print_line(f"interrupted; `meter-gateway {lot.kind} run {lot.name}` goes on")
    print_end(store, as_json=as_json)


async def work_off(
    store: LotStore, visitor: Visitor, clock: Clock, *, as_json: bool, trust_host: bool, timed: bool = False
) -> Lot | None:
    """Run a lot to its end or until a signal (None), with a line for each step unless `as_json`.

    UsageError where its terms have windows, or its work goes by the clock (`timed`), and nothing proves that the
    clock is right. Where it is in doubt later, nothing begins until it is believed again.
    """
    by_clock = (timed or bool(store.lot().terms.windows)) and not trust_host
    if by_clock and (why := doubt(clock)):
        what = "goes by a time" if timed else "has windows"
        raise UsageError(
            f"the lot {what}, and this computer's clock may be wrong ({why}): start NTP, or say --trust-host"
        )

    def watch(item: Item) -> None:
        begins = item.state is ItemState.VISITED  # what is noted is of the visit before
        note = "" if begins else ": ".join(part for part in (item.reason, item.note) if part)
        if not as_json:
            print_line(f"{text(clock.now())}  {item.meter}  {item.state}{f'  {note}' if note else ''}")

    def tell(why: str) -> None:
        if not as_json:
            said = f"in doubt ({why}): no visit begins" if why else "believed again"
            print_line(f"{text(clock.now())}  this computer's clock is {said}")

    runner = LotRunner(
        store, visitor, clock, watch=watch, doubt=lambda: doubt(clock) if by_clock else "", tell=tell
    )
    return await until_signal(runner.run())


def print_end(store: LotStore, *, as_json: bool) -> None:
    """Print what the lot has come to; exit code 1 unless it is finished without a failure."""
    lot, items = store.lot(), store.items()
    print_fields(report.summary(lot, items), as_json=as_json)
    if lot.state is not LotState.FINISHED or any(item.state == "failed" for item in items):
        raise typer.Exit(Exit.FAILED)


def add_lot_commands(group: typer.Typer, kind: str, *, keeps: orders.Keeps | None = None) -> None:
    """Add `report`, `list`, `pause`, `resume`, `cancel` and `retry` to the group of a kind of lot.

    `keeps` says what is left of a meter's kept facts when it is tried again; None: all.
    """
    more = {} if keeps is None else {"keeps": keeps}

    def command(name: str, function: Callable[..., None], does: str) -> None:
        function.__doc__ = f"{does}\n\nExample: meter-gateway {kind} {name}"
        if name != "list":
            function.__doc__ += " july"
        group.command(name)(function)

    def report_(
        lot: LotName,
        config: ConfigOption = CONFIG_FILE,
        as_csv: CsvOption = False,
        as_json: JsonOption = False,
    ) -> None:
        only_one_form(as_json=as_json, as_csv=as_csv)
        with open_lot(configuration.load(config), lot, kind) as store:
            now, items, words = store.lot(), store.items(), store.words()
        if as_json:
            print_json(report.document(now, items, words))
        elif as_csv:
            print_csv_rows(report.rows(items))
        else:
            print_fields(report.summary(now, items), as_json=False)
            print_table(report.rows(items), as_json=False)

    def list_(config: ConfigOption = CONFIG_FILE, as_json: JsonOption = False) -> None:
        rows = []
        for path in sorted((configuration.load(config).gateway.data / "lots").glob("*.lot")):
            with LotStore(path) as store:
                if (lot := store.lot()).kind == kind:
                    rows.append(report.summary(lot, store.items()))
        shown = [{k: row[k] for k in ("lot", "planned", "by", "state", "meters", "failures")} for row in rows]
        print_table(shown, as_json=as_json, empty=f"no lots of {kind}")

    def pause(lot: LotName, config: ConfigOption = CONFIG_FILE, as_json: JsonOption = False) -> None:
        _tell(config, lot, orders.pause, as_json=as_json)

    def resume(lot: LotName, config: ConfigOption = CONFIG_FILE, as_json: JsonOption = False) -> None:
        _tell(config, lot, orders.resume, as_json=as_json)

    def cancel(lot: LotName, config: ConfigOption = CONFIG_FILE, as_json: JsonOption = False) -> None:
        _tell(config, lot, orders.cancel, as_json=as_json)

    def retry(
        lot: LotName,
        config: ConfigOption = CONFIG_FILE,
        meter: Annotated[str | None, typer.Option("--meter", help="This one only.")] = None,
        as_json: JsonOption = False,
    ) -> None:
        loaded = configuration.load(config)
        with open_lot(loaded, lot, kind) as store:
            again = orders.retry(store, at=loaded.clock().now(), by=user(), meter=meter, **more)
        print_fields({"again": [item.meter for item in again]}, as_json=as_json)

    def _tell(config: Path, name: str, order: orders.Order, *, as_json: bool) -> None:
        loaded = configuration.load(config)
        with open_lot(loaded, name, kind) as store:
            lot = order(store, at=loaded.clock().now(), by=user())
        print_fields({"lot": lot.name, "state": str(lot.state)}, as_json=as_json)

    command("report", report_, "Show what the lot has come to: its state, counts, and a row for each meter.")
    command("list", list_, "List the lots of this kind with where they stand.")
    command(
        "pause",
        pause,
        "Let no further visit begin; a run ends when those that go on have come to a step's end.",
    )
    command(
        "resume", resume, "Let a paused or stopped lot go on at the next `run`; its failures stop it no more."
    )
    command("cancel", cancel, "End the lot for good. What a meter was given already stays in it.")
    command("retry", retry, "Let the meters that failed be visited again at the next `run`.")


def print_csv_rows(rows: Sequence[dict[str, object]]) -> None:
    """Print rows as comma-separated values with a head line, times in UTC."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()} for row in rows
    )
    typer.echo(buffer.getvalue(), nl=False)
