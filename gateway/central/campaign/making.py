"""Makes the files of slips, a route at a time; each is noted when it is whole, so that what broke off goes on."""

from __future__ import annotations

import hashlib
import multiprocessing
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from gateway.central.campaign.printing import Form, Look, html, pdf
from gateway.central.campaign.slips import Slip, Slips
from gateway.private_file import write_private
from mapping.errors import FileRefused
from mapping.files import write_table

FILES_A_PROCESS: Final = 2
"""Typst keeps what it laid out: a process makes so many files and gives its memory back."""
TICK_COLUMNS: Final = ("slip", "verdict", "at", "note", "route", "stop", "usage_point", "meter")
_SAFE: Final = re.compile(r"[^A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One file of slips and the list to tick them off in, beside it."""

    route: str
    file: str
    ticks: str
    slips: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to make: into which folder, in which form, of which routes (None: all), also those made before.

    With `campaign` only for those whom it tells by slip, and who were not told yet.
    """

    folder: Path
    form: Form = Form.SLIPS
    as_html: bool = False
    routes: list[str] | None = None
    again: bool = False
    campaign: str | None = None
    jobs: int = 1


def make(slips: Slips, look: Look, order: Order, now: datetime) -> Iterator[Made]:
    """Make the files and yield each when it and its slips' mark are durable. Files have mode 0600.

    Raises FileRefused (UNWRITABLE), ConfigError where the packages for printing are not installed.
    """
    try:
        order.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise FileRefused("UNWRITABLE", f"{order.folder} cannot be made: {error.strerror}") from error
    # A process is started anew, not forked: the threads of the databases are none of its business.
    with ProcessPoolExecutor(
        order.jobs, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=FILES_A_PROCESS
    ) as pool:
        under_way: deque[tuple[list[Slip], Future[bytes]]] = deque()
        for sheet in slips.sheets(routes=order.routes, again=order.again, campaign=order.campaign):
            under_way.append((sheet, pool.submit(printed, sheet, look, order.form, order.as_html, now)))
            if len(under_way) > order.jobs:
                yield _finish(slips, order, *under_way.popleft(), now)
        while under_way:
            yield _finish(slips, order, *under_way.popleft(), now)


def printed(sheet: list[Slip], look: Look, form: Form, as_html: bool, now: datetime) -> bytes:
    """Return the file of some slips; a process of its own runs it."""
    return html(sheet, look, now).encode() if as_html else pdf(sheet, look, form, now)


def _finish(slips: Slips, order: Order, sheet: list[Slip], content: Future[bytes], now: datetime) -> Made:
    # The first slip's number makes the name: made anew after a crash it is the same file, later slips are another.
    stem = f"{order.form}-{_named(sheet[0].route)}-{sheet[0].slip_number.replace(' ', '')}"
    file = order.folder / f"{stem}.{'html' if order.as_html else 'pdf'}"
    ticks = order.folder / f"{stem}.csv"
    write_table(ticks, TICK_COLUMNS, [_tick_row(one) for one in sheet])
    try:
        beside = file.with_name(f".{file.name}.part")
        write_private(beside, content.result())
        beside.replace(file)
    except OSError as error:
        raise FileRefused("UNWRITABLE", f"{file} cannot be written: {error.strerror}") from error
    slips.mark_made(sheet, now)
    return Made(route=sheet[0].route, file=file.name, ticks=ticks.name, slips=len(sheet))


def _named(route: str) -> str:
    """Return a route as part of a file's name; two routes never share one."""
    if not route:
        return "no-route"
    plain = _SAFE.sub("_", route).strip("_")
    return (
        plain if plain == route else f"{plain}-{hashlib.sha256(route.encode()).hexdigest()[:6]}".lstrip("-")
    )


def _tick_row(one: Slip) -> list[str]:
    stop = "" if one.stop is None else str(one.stop)
    return [one.slip_number, "", "", "", one.route, stop, one.usage_point, one.meter]
