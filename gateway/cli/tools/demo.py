"""The command `demo`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from gateway.central.portal.view_models import MeterRow
from gateway.central.telling.providers import ConsoleProvider
from gateway.cli.exits import Exit
from gateway.cli.output import IST
from gateway.cli.until_signal import until_signal
from gateway.demo.town import Demo, DemoOptions, demonstration
from gateway.errors import UsageError
from gateway.logs import setup_logging

REFRESH = 1.0
"""Seconds between looks at what the table shows."""
STORY_PAUSE = 8.0
"""Seconds to look at the table before the re-key is applied."""


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Poll every meter once, print the table, check it.")
    ] = False,
    meters: Annotated[int, typer.Option(min=10, max=500, help="How many simulated meters.")] = 26,
    seed: Annotated[int, typer.Option(help="Same seed, same neighbourhood.")] = 1,
    speed: Annotated[
        float, typer.Option(min=1, max=3600, help="How fast simulated time runs until now.")
    ] = 60,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the pages; 0: the system chooses.")
    ] = 0,
    keep: Annotated[Path | None, typer.Option(help="Keep the data in this folder.")] = None,
) -> None:
    """Run everything on embedded defaults: meters, broker, edge, central, pages. Ctrl-C ends it.

    With --once it applies the re-key first and exits 0 only if every meter was read, every consumer's
    reading is in the ledger under its account, and nothing is missing.

    Example: meter-gateway demo --once
    """
    if keep is not None and keep.exists() and not keep.is_dir():
        raise UsageError(f"--keep: {keep} is not a folder")
    setup_logging("error")
    with tempfile.TemporaryDirectory(prefix="meter-gateway-demo-") as temporary:
        options = DemoOptions(
            folder=(keep or Path(temporary)).resolve(),
            meters=meters,
            seed=seed,
            speed=1.0 if once else speed,
            behind=timedelta(0) if once else timedelta(hours=2),
            unnamed=None if once else 3,
            poll=not once,
            port=port,
        )
        good = asyncio.run(until_signal(_once(options) if once else _live(options)))
    if good is None:
        typer.echo("stopped")
    elif not good:
        raise typer.Exit(Exit.FAILED)


async def _once(options: DemoOptions) -> bool:
    """Read every meter once, print the table; return whether nothing is missing."""
    console = _console()
    async with demonstration(options, ConsoleProvider(console.print)) as running:
        console.print(f"{len(running.plan.meters)} meters answer on {len(running.plan.lines)} lines")
        console.print(f"re-key applied: {await running.rekey()} accounts got their 10-digit number")
        await running.wait_directory()
        errors = await running.poll_once()
        await running.wait_ledger()
        errors += await running.faults()
        console.print(await _table(running))
        overview = await asyncio.to_thread(running.overview)
        console.print(f"{overview.captures} readings in the ledger, {running.journaled()} entries journaled")
    for error in errors:
        console.print(f"[bold red]fault[/] {error}")
    if not errors:
        console.print(
            "every meter was read, every consumer's reading is under its account, nothing is missing"
        )
    return not errors


async def _live(options: DemoOptions) -> bool:
    """Show the town until it is stopped."""
    console = _console()
    provider = ConsoleProvider(lambda text: console.print(f"[bold magenta]SMS[/] {text}"))
    async with demonstration(options, provider) as running:
        _print_addresses(console, running)
        with Live(await _table(running), console=console, auto_refresh=False, transient=False) as live:
            async with asyncio.TaskGroup() as group:
                group.create_task(_refresh(live, running))
                group.create_task(_story(console, running))
    return True


def _print_addresses(console: Console, running: Demo) -> None:
    example = running.plan.consumers[0]
    console.print(
        f"[bold]operator[/]  {running.url}/operator\n"
        f"[bold]consumer[/]  {running.url}/me  (try the old number {example.legacy_number}; the code appears here)\n"
        f"[bold]commands[/]  --config {running.config_file}\n"
        "Ctrl-C ends it.\n",
        highlight=False,
    )


async def _refresh(live: Live, running: Demo) -> None:
    while True:
        live.update(await _table(running), refresh=True)
        await asyncio.sleep(REFRESH)


async def _story(console: Console, running: Demo) -> None:
    """Tell what the gateway is for: readings do not wait for numbers, and no reading is sent again for one."""
    late = running.late
    names = ", ".join(m.meter for m in late)
    console.print(f"[cyan]1[/] the numbers of {names} are not known yet; their readings do not wait")
    await _wait_for_rows(running, lambda row: row is not None and row.last_at is not None)
    before = await running.repeated()
    console.print("[cyan]2[/] their readings are delivered and kept, under no account: [yellow]no_account[/]")
    await asyncio.sleep(STORY_PAUSE)
    named = await running.rekey()
    console.print(f"[cyan]3[/] the re-key file is applied: {named} accounts got their 10-digit number")
    numbers = {m.meter: m.account_number for m in late}
    await _wait_for_rows(
        running, lambda row: row is not None and row.account_number == numbers.get(row.meter, "")
    )
    again = await running.repeated() - before
    console.print(
        f"[cyan]4[/] the same readings now stand under their accounts; sent again for that: [bold]{again}[/] "
        f"of {running.journaled()} entries"
    )


async def _wait_for_rows(running: Demo, good: Callable[[MeterRow | None], bool]) -> None:
    """Wait until the rows of all late meters are good."""
    while True:
        rows = await running.rows()
        if all(good(rows.get(m.meter)) for m in running.late):
            return
        await asyncio.sleep(REFRESH / 2)


async def _table(running: Demo) -> Table:
    overview = await asyncio.to_thread(running.overview)
    now = overview.now
    table = Table(
        header_style="bold", title=f"{now.astimezone(IST):%d %b %Y %H:%M:%S} IST", title_justify="left"
    )
    for column in ("meter", "protocol", "account", "last reading"):
        table.add_column(column, no_wrap=True)
    table.add_column("energy kWh", justify="right")
    table.add_column("balance ₹", justify="right")
    table.add_column("relay")
    table.add_column("age", justify="right")
    rows = {row.meter: row for row in overview.meters}
    for meter in running.plan.meters:
        row = rows.get(meter.meter)
        protocol = "DLMS" if meter.spec.dlms else "Modbus"
        if row is None or row.last_at is None:
            table.add_row(meter.meter, protocol, "", "not read yet", "", "", "", "")
            continue
        account = row.account_number or f"[yellow]{row.reason or 'no_account'}[/]"
        if meter.role != "consumer":
            account = f"[dim]{meter.role}[/]"
        table.add_row(
            meter.meter,
            protocol,
            account,
            f"{row.last_at.astimezone(IST):%d %b %H:%M:%S}",
            _number(row.energy_kwh),
            _number(row.balance),
            row.relay or "—",
            _age(now, row.last_at),
        )
    return table


def _number(value: Decimal | None) -> str:
    return "—" if value is None else f"{value:.2f}"


def _age(now: datetime, at: datetime) -> str:
    seconds = max(int((now - at).total_seconds()), 0)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=140)
