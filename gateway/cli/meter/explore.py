"""The command that shows everything a meter has, and saves it as a file that `simulate --replay` serves."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.meter.access import MeterAccess, find_meter, open_meter
from gateway.cli.meter.address import AddressOptions, MeterArgument, meter_command
from gateway.cli.meter.deviation import saved_advice
from gateway.cli.options import JsonOption
from gateway.cli.output import print_json, print_problem
from gateway.errors import UsageError
from gateway.private_file import write_private
from protocols.dlms.data import axdr
from protocols.dlms.explore.description import attribute_text, object_name, scale_of
from protocols.dlms.explore.saved_meter import SavedAttribute, SavedMeter, SavedObject, to_text
from protocols.dlms.explore.walk import Walk
from protocols.dlms.objects import ObjectEntry, Shown, catalogue, class_name, describe
from protocols.dlms.session import DlmsSession
from protocols.errors import MeterProtocolError, MeterSilent
from protocols.reading import Nameplate, Obis

WIDTH = 100
Named = Callable[[Obis], str]
"""The name of an object by the meter's companion."""
MAX_SESSIONS = 10
"""Sessions of one exploration: a meter that hangs up more often than that is left alone."""
_SCALERS = {3: 3, 4: 3, 5: 4}
"""Which attribute holds the scaler and unit of a register, by class."""
_RIGHTS = {0: "--", 1: "r-", 2: "-w", 3: "rw", 4: "r-", 5: "-w", 6: "rw"}


@meter_command
def explore(
    meter: MeterArgument,
    options: AddressOptions,
    save: Annotated[
        Path | None, typer.Option(help="Write a file that `simulate --replay` serves as this meter.")
    ] = None,
    entries: Annotated[
        int, typer.Option(min=1, max=100_000, help="Newest rows to read of each profile.")
    ] = 4,
    whole: Annotated[bool, typer.Option("--all", help="Read every row of every profile.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Walk a meter's object list and show every object: class, version, access, value, and its name.

    What the meter refuses is shown and the walk goes on. Passwords in objects are never read. The saved
    file is private: it holds a consumer's readings.

    Example: meter-gateway explore tcp://10.0.0.7:4059 --client 48 --key-file keys.toml --save meter.json
    """
    access = find_meter(meter, options)
    if access.spec.dlms is None:
        raise UsageError("only a DLMS meter has objects to explore; `read` shows a Modbus meter's registers")
    named = partial(object_name, companion=access.companion)
    progress = _Progress(named)
    try:
        saved = asyncio.run(_explore(access, None if whole else entries, progress))
    finally:
        progress.end()
    if save is not None:
        try:
            write_private(save, to_text(saved, lambda one: named(one.obis)).encode())
        except OSError as error:
            raise UsageError(f"{save} cannot be written: {error.strerror}") from error
    if as_json:
        print_json(_document(saved, named))
    else:
        for line in _lines(saved, named):
            typer.echo(line)
    _summary(saved, save)
    if advice := saved_advice(access, saved, access.clock.now()):
        print_problem(f"advice: {advice}")


async def _explore(access: MeterAccess, entries: int | None, progress: _Progress) -> SavedMeter:
    """Walk through as many sessions as it takes: an object that makes a meter fall silent costs one."""
    walk = Walk(entries=entries, progress=progress.show)
    plate: Nameplate | None = None
    title = b""
    for attempt in range(MAX_SESSIONS):
        try:
            async with AsyncExitStack() as stack:
                session = await stack.enter_async_context(open_meter(access))
                assert isinstance(session, DlmsSession)
                plate = plate or await session.identify()
                title = session.system_title
                await walk.run(session.exchange)
        except (MeterSilent, MeterProtocolError):
            if not walk.object_list or attempt == MAX_SESSIONS - 1:
                raise
        if walk.finished:
            break
    assert plate is not None
    assert access.spec.dlms is not None
    dlms = access.spec.dlms
    return SavedMeter(
        manufacturer=plate.manufacturer,
        serial=plate.serial,
        firmware=plate.firmware,
        model=plate.model,
        year=plate.year,
        system_title=title,
        client=dlms.client,
        server=dlms.server,
        auth=dlms.auth,
        ciphered=dlms.ciphered,
        explored_at=datetime.now(UTC).replace(microsecond=0),
        object_list=walk.object_list,
        objects=walk.objects(),
    )


class _Progress:
    """One line on standard error that is written over, when a person watches."""

    def __init__(self, named: Named) -> None:
        self._named = named
        self._on_screen = False

    def show(self, done: int, total: int, listed: ObjectEntry, index: int) -> None:
        if not sys.stderr.isatty():
            return
        text = f"{done}/{total}  {listed.obis}#{index} {self._named(listed.obis)}"
        sys.stderr.write(f"\r{text[: WIDTH - 1]:<{WIDTH - 1}}")
        sys.stderr.flush()
        self._on_screen = True

    def end(self) -> None:
        if self._on_screen:
            sys.stderr.write(f"\r{'':<{WIDTH - 1}}\r")
            sys.stderr.flush()


def _lines(saved: SavedMeter, named: Named) -> Iterator[str]:
    for one in saved.objects:
        name = named(one.obis)
        head = f"{one.obis!s:<18} {class_name(one.class_id)}, version {one.version}"
        yield f"{head:<60} {name}".rstrip()
        for attribute in one.attributes:
            if attribute.index > 1:
                yield _attribute_line(one, attribute)
        if one.methods:
            yield from _method_lines(one)


def _method_lines(one: SavedObject) -> Iterator[str]:
    known = catalogue(one.class_id, one.version)
    for method in one.methods:
        name = known.method_name(method.index) if known else ""
        yield f"    m{method.index:<2} {name[:30]:<30} {'x' if method.access else '-'}"


def _attribute_line(one: SavedObject, attribute: SavedAttribute) -> str:
    name = _attribute_name(one, attribute.index)
    rights = "??" if attribute.access is None else _RIGHTS.get(attribute.access, f"{attribute.access:#x}")
    head = f"    #{attribute.index:<2} {name[:30]:<30} {rights}  "
    value = _value(one, attribute)
    return head + (value if len(head) + len(value) <= WIDTH else value[: WIDTH - len(head) - 2] + " …")


def _value(one: SavedObject, attribute: SavedAttribute) -> str:
    if attribute.value is None:
        return f"! {attribute.error}" if attribute.error else "not read"
    scaler = one.attribute(_SCALERS[one.class_id]) if one.class_id in _SCALERS else None
    with_scale = attribute.index == 2 or (one.class_id, attribute.index) == (5, 3)
    scale = scale_of(scaler.value) if scaler is not None and with_scale else None
    text = attribute_text(one.class_id, one.version, attribute.index, attribute.value, scale)
    return f"from row {attribute.first_entry}: {text}" if attribute.first_entry else text


def _document(saved: SavedMeter, named: Named) -> dict[str, Any]:
    return {
        "meter": f"{saved.manufacturer}:{saved.serial}",
        "client": saved.client,
        "objects": [
            {
                "obis": str(one.obis),
                "class": one.class_id,
                "class_name": class_name(one.class_id),
                "version": one.version,
                "name": named(one.obis),
                "attributes": [
                    {
                        "index": a.index,
                        "name": _attribute_name(one, a.index),
                        "access": a.access,
                        "value": None if a.value is None else _value(one, a),
                        "data": _described(one, a),
                        "error": a.error,
                    }
                    for a in one.attributes
                    if a.index > 1
                ],
                "methods": [{"index": m.index, "access": m.access} for m in one.methods],
            }
            for one in saved.objects
        ],
    }


def _attribute_name(one: SavedObject, index: int) -> str:
    known = catalogue(one.class_id, one.version)
    name = known.attribute_name(index) if known else ""
    return "" if name == f"attribute {index}" else name


def _described(one: SavedObject, attribute: SavedAttribute) -> Shown:
    if attribute.value is None:
        return None
    try:
        data = axdr.decode(attribute.value)
    except MeterProtocolError:
        return attribute.value.hex()
    return describe(one.class_id, one.version, attribute.index, data)


def _summary(saved: SavedMeter, save: Path | None) -> None:
    attributes = [a for one in saved.objects for a in one.attributes if a.index > 1]
    read = sum(a.value is not None for a in attributes)
    errors = sum(a.error is not None for a in attributes)
    left = len(attributes) - read - errors
    text = f"{saved.manufacturer}:{saved.serial}: {len(saved.objects)} objects, {read} attributes read"
    text += f", {errors} refused" if errors else ""
    text += f", {left} not readable" if left else ""
    print_problem(text + (f"; saved as {save}" if save else ""))
