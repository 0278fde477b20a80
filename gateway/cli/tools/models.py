"""The commands `models`: which Modbus meters can be read, and whether a model of your own is right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.exits import Exit
from gateway.cli.meter.rows import as_document, print_rows
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_json, print_line, print_problem, print_table
from gateway.cli.plain_parameters import PlainCommand, PlainGroup
from gateway.cli.tools.model_image import image
from protocols.dlms.companion import companion
from protocols.modbus.format.library import ModelEntry, ModelMistakes, all_models, load_model, model_file
from protocols.modbus.format.model import MeterModel
from protocols.modbus.format.registers import RegisterSpec
from protocols.modbus.image import RegisterImage
from protocols.modbus.tryout import Tryout, try_model
from protocols.reading import Quantity, name_of
from protocols.session import MeterSpec

models_group = typer.Typer(cls=PlainGroup)
models_group.command("image", cls=PlainCommand)(image)
FolderOption = Annotated[
    Path | None, typer.Option(help="A folder of your own models, as `models` of [modbus].")
]
_BASES = ("simulated", "unofficial", "published")
"""From what is to be trusted least."""


@models_group.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    folder: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Models of Modbus meters: those that are there, one of them, and your own tried.

    Without a command they are listed, shipped ones and those of the folder; `basis` is how far the least certain of
    their addresses is to be trusted.

    Example: meter-gateway models --folder /etc/meter-gateway/models
    """
    if context.invoked_subcommand is not None:
        return
    entries = list(all_models(folder))
    print_table([_row(entry) for entry in entries], as_json=as_json)
    for entry in entries:
        if entry.problem is not None and not as_json:
            print_problem(str(entry.problem))
    if any(entry.problem is not None for entry in entries):
        raise typer.Exit(Exit.CONFIG)


@models_group.command("show")
def show(
    model: Annotated[str, typer.Argument(help="A model's name, or a file (.toml).")],
    folder: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one model: where it is from, how it is asked, and which register gives which quantity.

    Example: meter-gateway models show sdm120
    """
    found = load_model(model, folder)
    if as_json:
        print_json(found.model_dump(exclude_defaults=True))
        return
    print_fields(dict(_head(found)), as_json=False)
    print_table([_register(found, register) for register in found.registers], as_json=False)
    if found.scales:
        rows = [
            {
                "scale": s.name,
                "function": s.function,
                "address": f"{s.address} ({s.address:#06x})",
                "type": s.type,
            }
            for s in found.scales
        ]
        print_table(rows, as_json=False)


@models_group.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="The model's TOML file.")],
    image: Annotated[
        Path | None, typer.Option(help="A register image (docs/modbus.md): print what the model makes of it.")
    ] = None,
    folder: FolderOption = None,
    zone: Annotated[str, typer.Option(help="The time zone of the meter.")] = "Asia/Kolkata",
    as_json: JsonOption = False,
) -> None:
    """Check a model's file; every mistake is shown where it stands, with the nearest valid name.

    With a register image the reading sets are printed that the model makes of it. The exit code is 1 when a probe
    or a limit of the model says that they cannot be.

    Example: meter-gateway models check mine.toml --image mine.txt
    """
    try:
        model = model_file(file, folder)
    except ModelMistakes as error:
        if not as_json:
            raise
        print_json([asdict(mistake) for mistake in error.mistakes])
        raise typer.Exit(Exit.CONFIG) from error
    tried = _tried(model, image, zone)
    advice = list(_advice(file, model))
    known = companion()
    if as_json:
        document: dict[str, Any] = {"model": model.name, "advice": advice}
        if tried is not None:
            document |= {
                "absent": list(tried.absent),
                "doubts": list(tried.doubts),
                "sets": [as_document(row, known) for row in tried.sets],
            }
        print_json(document)
    else:
        profiles = ", ".join(model.profiles)
        print_line(f"{file}: model {model.name}: {len(model.registers)} registers; profiles: {profiles}")
        for text in advice:
            typer.echo(f"advice: {text}")
        for profile in dict.fromkeys(row.profile for row in tried.sets) if tried is not None else ():
            typer.echo(f"\n{profile}")
            print_rows([row for row in tried.sets if row.profile == profile] if tried else [], known)
        for quantity in tried.absent if tried is not None else ():
            print_problem(
                f"{name_of(Quantity.of(quantity))} ({quantity}): its registers are not in the image"
            )
        for doubt in tried.doubts if tried is not None else ():
            print_problem(doubt)
    if tried is not None and tried.doubts:
        raise typer.Exit(Exit.FAILED)


def _tried(model: MeterModel, image: Path | None, zone: str) -> Tryout | None:
    if image is None:
        return None
    found = MeterSpec(meter=None, zone=zone).time_zone()
    now = datetime.now(UTC).replace(microsecond=0)
    return asyncio.run(try_model(model, RegisterImage.load(image), at=now, zone=found))


def _advice(file: Path, model: MeterModel) -> Iterator[str]:
    """Yield what is no mistake and could be better."""
    if model.name != file.name.removesuffix(".toml"):
        yield f"in a folder of models this file must be called {model.name}.toml"
    if not model.probe:
        yield "there is no [[probe]]: nothing tells when the word order or the whole model is wrong"
    if doubtful := [r.quantity for r in model.registers if r.basis == "unofficial"]:
        yield f"{len(doubtful)} registers are `unofficial`: compare their values with the meter's display"


def _row(entry: ModelEntry) -> dict[str, object]:
    model = entry.model
    return {
        "model": entry.name,
        "title": model.title if model else None,
        "maker": model.manufacturer if model else None,
        "profiles": list(model.profiles) if model else None,
        "registers": len(model.registers) if model else None,
        "basis": next((b for b in _BASES if any(r.basis == b for r in model.registers)), None)
        if model
        else None,
        "file": entry.file,
        "problem": None if entry.problem is None else "has mistakes",
    }


def _head(model: MeterModel) -> Iterator[tuple[str, object]]:
    yield "model", model.name
    yield "title", model.title
    yield "maker", model.manufacturer
    yield "source", model.source
    if model.extends:
        yield "extends", model.extends
    yield "profiles", list(model.profiles)
    yield "most registers of a request", model.max_read
    yield "word order", model.word_order
    if not model.serial:
        yield "serial", "shows none: known again by its fingerprint"
    for name, write in model.writes:
        if write is not None:
            where = f"function {write.function}, register {write.address} ({write.address:#06x})"
            yield (
                f"may be written: {name}",
                where + ("; on trusted lines only" if name in ("relay", "recharge", "balance") else ""),
            )
    if model.log is not None:
        yield "log", f"{model.log.records} records of {model.log.period} s"


def _register(model: MeterModel, register: RegisterSpec) -> dict[str, object]:
    scales = [*register.multiply_by, *(f"1/{name}" for name in register.divide_by)]
    factor = [] if register.factor == 1 else [str(register.factor)]
    power = [f"10^{register.scaler}"] if register.scaler else []
    size = f"{register.type} x {register.count}" if register.count else register.type
    return {
        "quantity": register.quantity,
        "name": name_of(Quantity.of(register.quantity)),
        "profiles": [str(profile) for profile in register.profiles],
        "function": register.function,
        "address": f"{register.address} ({register.address:#06x})",
        "type": size,
        "order": model.order(register),
        "times": " x ".join(factor + power + scales) or None,
        "unit": register.unit or None,
        "basis": register.basis,
    }
